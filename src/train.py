"""Train networks on digits and write a submission: `python src/train.py --folds 5`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from digits.errors import BadInput, front_door
from digits.recipes import RECIPES, Settings


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--recipe", choices=RECIPES, default="standard", help="what to train, and how")
    add("--folds", type=int, default=5, metavar="K", help="stratified folds; 1: one 90/10 split")
    add("--members", type=int, metavar="M", help="networks a fold (default: the recipe's)")
    add("--epochs", type=int, metavar="N", help="times through the data (default: the recipe's)")
    add("--network", metavar="NAME", help="another network than the recipe's")
    add("--seed", type=int, default=0, metavar="S", help="of weights, order and augmentation; folds stay the same")
    add(
        "--source",
        choices=("auto", "kaggle", "keras", "sample"),
        default="auto",
        help="auto: the competition's files where they are, else the sample",
    )
    add("--data-dir", type=Path, metavar="DIR", help="where the competition's files are (default: data/)")
    add("--test", type=Path, metavar="FILE", help="a CSV of images to predict instead of the source's own")
    add("--limit", type=int, metavar="N", help="train on N images only")
    add("--run", metavar="NAME", help="name the run, or go on with the one of that name")
    add("--out", type=Path, metavar="FILE", help="copy the submission here (default: submissions/submission.csv)")
    add("--jobs", type=int, default=1, metavar="J", help="networks trained at a time")
    add("--precision", choices=("auto", "float32", "mixed_bfloat16"), help="(default: the recipe's)")
    add("--deterministic", action="store_true", help="the same bytes from the same command on the same machine")
    add("--no-tta", action="store_true", help="predict each image once, as it is")
    add("--allow-leak", action="store_true", help="train on test images if you must; marked and never submitted")
    return parser.parse_args(argv)


def settings_of(flags: argparse.Namespace) -> Settings:
    """Return what the flags ask for.

    Raises:
        BadInput: for a number out of range or a name that does not exist.
    """
    for name, least in (("folds", 1), ("members", 1), ("epochs", 1), ("seed", 0), ("limit", 1), ("jobs", 1)):
        value = getattr(flags, name)
        if value is not None and value < least:
            raise BadInput(f"--{name} {value}: expected a whole number from {least} up.")
    recipe = RECIPES[flags.recipe].changed(members=flags.members, epochs=flags.epochs, precision=flags.precision)
    return Settings(
        recipe=recipe, folds=flags.folds, seed=flags.seed, source=flags.source, limit=flags.limit,
        deterministic=flags.deterministic, jobs=flags.jobs, allow_leak=flags.allow_leak,
    )  # fmt: skip


@front_door
def main(argv: Sequence[str] | None = None) -> None:
    """Train, and say what came of it."""
    flags = parse(argv)
    settings = settings_of(flags)
    from digits.paths import DATA
    from digits.training import train

    words = [sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    run = train(
        settings,
        command=shlex.join(["python", *words]),
        data_dir=flags.data_dir or DATA,
        test_file=flags.test,
        run_name=flags.run,
        out=flags.out,
    )
    print(run.facts()["out_of_fold"])


if __name__ == "__main__":
    sys.exit(main())
