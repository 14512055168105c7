"""Measure one thing and print one line of JSON: `python -m bench.child MODULE.FUNCTION OPTIONS`, options as JSON."""

import importlib
import json
import sys
from collections.abc import Sequence

from digits.console import BadInput, entry_point

MODULES = ("reading", "kit", "plain", "pytorch")


def find(peer: str):
    """Return the function that `peer`, "module.name", names.

    Raises:
        BadInput: if there is none.
    """
    module, _, name = peer.partition(".")
    function = getattr(importlib.import_module(f"bench.{module}"), name, None) if module in MODULES else None
    if function is None:
        raise BadInput(f"{peer}: expected a function of one of {', '.join(MODULES)}.")
    return function


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Measure."""
    peer, options = sys.argv[1:] if argv is None else argv
    print(json.dumps(find(peer)(json.loads(options))))


if __name__ == "__main__":
    sys.exit(main())
