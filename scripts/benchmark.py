"""Measure the kit beside what else one could run: `python scripts/benchmark.py --json FILE --figure FILE`.

What is measured and how to read it: docs/benchmark.md. Parts can be run one by one into the same --json file: the
parts that are there already stay, and the figure shows all of them.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from bench import parts
from bench.data import prepare
from bench.measuring import describe_run
from digits.console import BadInput, entry_point, typed_command
from digits.files import atomic_write

SMALL = dict.fromkeys(("repeats", "seeds", "epochs", "original_epochs", "deotte_epochs"), 1) | {"quick_epochs": (1,)}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".", allow_abbrev=False)
    add = parser.add_argument
    add("--part", choices=[*parts.PARTS, "all", "none"], default="all", help="none: only show --json (default: all)")
    add("--data-dir", type=Path, metavar="DIR", help="its data, else the sample (default: data/)")
    add("--repeats", type=int, default=5, metavar="N", help="of the parts train and command (default: 5)")
    add("--seeds", type=int, default=3, metavar="N", help="of the part accuracy (default: 3)")
    add("--deotte-epochs", type=int, default=12, metavar="N", help="of Deotte's 45; 0: none of them (default: 12)")
    add(
        "--train",
        metavar="FLAGS",
        default="--recipe quick --epochs 3",
        help="of the part command (default: %(default)s)",
    )
    add("--against", type=Path, metavar="DIR", help="another checkout, for the part command (default: none)")
    add("--json", type=Path, metavar="FILE", help="keep the figures here, also those of earlier parts")
    add("--figure", type=Path, metavar="FILE", help="draw the figures here (.svg, .png)")
    add("--small", action="store_true", help="a few images of the sample and no repetition: shows only that it works")
    flags = parser.parse_args(argv)
    for name, least in (("repeats", 1), ("seeds", 1), ("deotte_epochs", 0)):
        if getattr(flags, name) < least:
            raise BadInput(f"--{name.replace('_', '-')} {getattr(flags, name)}: expected a number from {least} up.")
    return flags


def measure(flags: argparse.Namespace, command: str, kept: dict) -> dict:
    """Return the parts `kept`, with those that the flags ask for measured, each written to --json when it is done."""
    wanted = {"all": list(parts.PARTS), "none": []}.get(flags.part, [flags.part])
    sizes = SMALL if flags.small else {name: getattr(flags, name) for name in ("repeats", "seeds", "deotte_epochs")}
    words = [*shlex.split(flags.train), *(("--data-dir", str(flags.data_dir.absolute())) if flags.data_dir else ())]
    if flags.small:
        words = ["--recipe", "small", "--epochs", "1", "--limit", "300", "--source", "sample", "--no-report"]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        plan = parts.Plan(Path(folder), words=tuple(words), against=flags.against, **sizes)
        data = prepare(plan.folder, flags.data_dir, small=flags.small).description if wanted else ""
        for part in wanted:
            print(f"{part} …")
            run = describe_run(command)
            kept = kept | {part: parts.PARTS[part](plan) | {"data": data, "run": run}}
            if flags.json:
                with atomic_write(flags.json) as temporary:
                    temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return kept


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Measure, keep, show."""
    flags = parse(argv)
    kept = json.loads(flags.json.read_text(encoding="utf-8")) if flags.json and flags.json.exists() else {}
    kept = measure(flags, typed_command("scripts/benchmark.py", argv), kept)
    for name in (name for name in parts.PARTS if name in kept):
        part, run = kept[name], kept[name]["run"]
        print(f"\n{parts.render(name, part)}")
        print(f"{run['created'][:10]}, {run['machine']['processors']} × {run['machine']['processor']}; {part['data']}")
    if flags.figure and kept:
        from bench.figure import draw

        draw(kept, flags.figure)
        print(f"\nFigure: {flags.figure}")


if __name__ == "__main__":
    sys.exit(main())
