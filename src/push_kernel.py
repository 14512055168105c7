"""Push the Kaggle notebook, wait for its run, and fetch its submission: `python src/push_kernel.py`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from digits.console import entry_point
from digits.files import ROOT, SUBMISSIONS


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        prog="push_kernel.py",
        description="Push kernels/ to Kaggle as your own notebook, wait for its run, fetch and check its output.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong use or bad input, 3 Kaggle refused, 130 interrupted.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--folder", type=Path, default=ROOT / "kernels", metavar="DIR", help="the notebook (default: kernels/)")
    add("--output", type=Path, default=SUBMISSIONS / "kernel", metavar="DIR", help="default: submissions/kernel/")
    add("--wait", type=float, default=6 * 3600, metavar="SECONDS", help="for the run's end (default %(default)s)")
    add("--no-wait", action="store_const", const=0.0, dest="wait", help="leave after the push")
    flags = parser.parse_args(argv)
    if not 0 <= flags.wait <= 86_400:
        parser.error(f"--wait: expected 0 to 86400 seconds, found {flags.wait:g}")
    return flags


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Make the round trip."""
    flags = parse(argv)
    from digits.kaggle import client, kernel

    kernel.push(client.Kaggle(), flags.folder, flags.output, flags.wait)


if __name__ == "__main__":
    sys.exit(main())
