"""Measure the kit beside what else one could run: `python scripts/benchmark.py --json FILE --figure FILE`.

What is measured and how to read it: docs/benchmark.md. Parts can be run one by one into the same --json file: the
parts that are there already stay, and the figure shows all of them.
"""

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from bench import parts, tables
from bench.measuring import describe_run
from digits.console import BadInput, entry_point
from digits.files import DATA, atomic_write
from digits.runs.store import find_run

SMALL = {
    "repeats": 1,
    "seeds": 1,
    "epochs": 1,
    "quick_epochs": (1,),
    "original_epochs": 2,
    "deotte_epochs": 1,
    "folds": 2,
}
SMALL_TRAIN, SMALL_TEST = 600, 100


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".", allow_abbrev=False)
    add = parser.add_argument
    add("--part", choices=[*parts.PARTS, "all", "none"], default="all", help="none: only show --json (default: all)")
    add("--data-dir", type=Path, default=DATA, metavar="DIR", help="its data, else the sample (default: data/)")
    add("--repeats", type=int, default=5, metavar="N", help="of each measurement (default: 5)")
    add("--seeds", type=int, default=3, metavar="N", help="of the part accuracy (default: 3)")
    add("--deotte-epochs", type=int, default=12, metavar="N", help="of Deotte's 45; 0: none of them (default: 12)")
    add("--torch-python", metavar="FILE", help="a Python with PyTorch and Keras (default: this one, if it has them)")
    add("--standard-run", type=Path, metavar="DIR", help="a finished run of `standard` to compare with Deotte's")
    add("--json", type=Path, metavar="FILE", help="keep the figures here, also those of earlier parts")
    add("--figure", type=Path, metavar="FILE", help="draw the figures here (.svg, .png)")
    add("--small", action="store_true", help="a few images of the sample and no repetition: shows only that it works")
    flags = parser.parse_args(argv)
    for name, least in (("repeats", 1), ("seeds", 1), ("deotte_epochs", 0)):
        if getattr(flags, name) < least:
            raise BadInput(f"--{name.replace('_', '-')} {getattr(flags, name)}: expected a number from {least} up.")
    return flags


def plan_of(flags: argparse.Namespace, folder: Path) -> parts.Plan:
    """Return what the flags ask for.

    Raises:
        BadInput: if the run of `standard` or the Python with PyTorch is none.
    """
    sizes = SMALL if flags.small else {name: getattr(flags, name) for name in ("repeats", "seeds", "deotte_epochs")}
    standard = find_run(str(flags.standard_run)).finished_record() if flags.standard_run else None
    return parts.Plan(folder, torch_python=_torch_python(flags.torch_python), standard_run=standard, **sizes)


def _torch_python(asked: str | None) -> str:
    """Return an interpreter with PyTorch: the one asked for, this one, or "" for none."""
    if asked is None:
        return sys.executable if importlib.util.find_spec("torch") else ""
    check, environment = [asked, "-c", "import torch, keras"], {**os.environ, "KERAS_BACKEND": "torch"}
    if shutil.which(asked) is None or subprocess.run(check, capture_output=True, env=environment).returncode:
        raise BadInput(
            f"--torch-python {asked}: expected a Python that imports torch and keras, and this one does not."
        )
    return asked


def prepare_data(folder: Path, data_dir: Path, small: bool, limit: int | None = None) -> tuple[str, str]:
    """Fill `folder` with the data, and return what it is, in words and as a hash."""
    from bench.reading import prepare
    from digits.data import dataset
    from digits.data.dataset import Split
    from digits.runs.identity import data_hash

    data = dataset.load(
        "sample" if small else "auto", None if data_dir == DATA else data_dir, limit=SMALL_TRAIN if small else limit
    )
    plain = data.source == "kaggle" and all((data_dir / name).exists() for name in ("train.csv", "test.csv"))
    test = data.test
    if small:
        test = Split(test.images[:SMALL_TEST], None, test.ids[:SMALL_TEST])
    prepare(folder, data.train, test, data_dir if plain else None)
    return f"{data.summary.description}{', cut small: the figures mean nothing' if small else ''}", data_hash(data)


def measure(flags: argparse.Namespace, command: str, known: dict) -> dict:
    """Return the parts `known`, with those that the flags ask for measured, each kept in --json when it is done."""
    wanted = {"all": list(parts.PARTS), "none": []}.get(flags.part, [flags.part])
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        plan = plan_of(flags, folder)
        data = prepare_data(folder, flags.data_dir, flags.small)[0] if wanted else ""
        for part in wanted:
            print(f"{part} …")
            run = describe_run(command)
            known = known | {part: parts.PARTS[part](plan) | {"data": data, "run": run}}
            known = {part: known[part] for part in parts.PARTS if part in known}
            if flags.json:
                with atomic_write(flags.json) as temporary:
                    temporary.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Measure, keep, show."""
    flags = parse(argv)
    words = sys.argv[1:] if argv is None else argv
    known = json.loads(flags.json.read_text(encoding="utf-8")) if flags.json and flags.json.exists() else {}
    known = measure(flags, shlex.join(["python", "scripts/benchmark.py", *words]), known)
    for name, part in known.items():
        run = part["run"]
        print(f"\n{tables.render(name, part)}")
        print(f"{run['created'][:10]}, {run['machine']['processors']} × {run['machine']['processor']}; {part['data']}")
    if flags.figure and known:
        from bench.figure import draw

        draw(known, flags.figure)
        print(f"\nFigure: {flags.figure}")


if __name__ == "__main__":
    sys.exit(main())
