"""Train networks on digits and write a checked submission: `python src/train.py --folds 5`."""

import argparse
import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import digits.environment  # noqa: F401 first: it finds the Python that has the packages
from digits import config
from digits.config import Settings
from digits.console import BadInput, entry_point

if TYPE_CHECKING:
    from digits.training.workers import Slots

WHAT = (
    *("recipe", "set", "folds", "members", "refit", "epochs", "networks", "seed", "no_tta"),
    *("source", "competition", "limit", "allow_leak", "pseudo_labels", "extra", "deterministic"),
)
"""The flags that say what to train, which a run's record says too."""

HOW = ("from_run", "out", "jobs", "cluster", "minutes", "tensorboard", "no_report", "export")
"""The flags that a run's record does not say, so that the command that resumes it must."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train networks on digits, score them out of fold, and write a checked submission.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong use or bad input, 130 interrupted. "
        "The backend is what KERAS_BACKEND says: tensorflow (default), jax or torch.",
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to train").add_argument
    what(
        "--recipe",
        metavar="NAME",
        help=f"one of {', '.join(config.recipe_names())} (default: standard), or a TOML file",
    )
    what(
        "--set", nargs="+", action="extend", metavar="KEY=VALUE", help="any field of the recipe: learning_rate=0.005 …"
    )
    what("--list-settings", action="store_true", help="show each field's value, range and meaning, and train nothing")
    what("--save-recipe", type=Path, metavar="FILE", help="write a recipe of what is asked for, and train nothing")
    what("--folds", type=int, metavar="K", help="stratified folds; 1: one 90/10 split (default: the recipe's)")
    what("--members", type=int, metavar="M", help="networks a fold, averaged (default: the recipe's)")
    what("--refit", type=int, metavar="M", help="after the folds, train M networks on all images for the submission")
    what("--epochs", type=int, metavar="N", help="times through the data (default: the recipe's)")
    what("--networks", nargs="+", metavar="NAME", help=f"members: {', '.join(config.NETWORKS)}, or FILE.py:FUNCTION")
    what("--seed", type=int, metavar="S", help="of weights, batch order and augmentation, not of folds (default: 0)")
    what("--no-tta", action="store_true", help="predict each image once, as it is")
    data = parser.add_argument_group("on what").add_argument
    data(
        "--source",
        choices=("auto", "kaggle", "keras", "sample"),
        help="auto (the default): the files in the data folder, else the sample",
    )
    data("--data-dir", type=Path, metavar="DIR", help="where train.csv and test.csv are (default: data/)")
    data("--competition", metavar="SLUG", help="whose files and submission format are used (docs/data.md)")
    data("--limit", type=int, metavar="N", help="use N training images only")
    data(
        "--allow-leak", action="store_true", help="allow test images among the training images: marked, never submitted"
    )
    data("--pseudo-labels", metavar="RUN", help="also train on test images that RUN (same folds) predicts confidently")
    data("--extra", metavar="FOLDER", help="also train on images of your own (data/own); marked in the record")
    how = parser.add_argument_group("how").add_argument
    how("--run", metavar="NAME", help="name of the run; an unfinished one is resumed, alone with its own settings")
    how("--from-run", metavar="FILE", help="repeat the run that this run.json records, with all its settings")
    how("--out", type=Path, metavar="FILE", help="copy the submission here (default: submissions/submission.csv)")
    how("--jobs", type=int, metavar="J", help="networks trained at a time (default: one a processor or GPU)")
    how("--cluster", metavar="ADDRESS", help="train on the Dask cluster whose scheduler is at tcp://HOST:PORT")
    how("--minutes", type=int, metavar="M", help="train no longer than this, and finish with what is done by then")
    how("--deterministic", action="store_true", help="the same bytes from the same command on the same machine; slower")
    how("--tensorboard", action="store_true", help="also write the finished run for TensorBoard")
    how("--no-report", action="store_true", help="draw no figures and build no page")
    how("--export", choices=("h5",), help="also save the first network as HDF5, mnistModel2.h5")
    return parser.parse_args(argv)


def words_of(name: str, value: object) -> list[str]:
    """Return the words by which a command line gives a flag its value; none for the default."""
    if value is None or value is False:
        return []
    return [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]


def settings_of(flags: argparse.Namespace) -> Settings:
    """Return what the flags ask for.

    Raises:
        BadInput: for a number out of range.
    """
    for name in ("seed", "limit", "jobs", "minutes"):
        least = 0 if name == "seed" else 1
        value = getattr(flags, name)
        if value is not None and value < least:
            raise BadInput(f"--{name} {value}: expected a whole number from {least} up.")
    no_views = {"tta.shift_pixels": 0, "tta.rotation_degrees": 0} if flags.no_tta else {}
    given = {name: getattr(flags, name) for name in ("networks", "folds", "members", "refit", "epochs")}
    recipe = config.override(config.load_recipe(flags.recipe or "standard"), given | no_views)
    recipe = config.set_values(recipe, flags.set or ())
    named = ("seed", "source", "competition", "limit", "deterministic", "jobs", "allow_leak", "pseudo_labels", "extra")
    options = {name: getattr(flags, name) for name in named if getattr(flags, name) is not None}
    if flags.extra:
        options["extra"] = str(Path(options["extra"]).absolute())  # The run may be resumed from another folder.
    return Settings(recipe, **options)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Train, and say what came of it."""
    flags = parse(argv)
    settings = settings_of(flags)
    if flags.list_settings:
        print(config.describe_settings(settings.recipe))
        return
    given = [words[0] for name in WHAT if (words := words_of(name, getattr(flags, name)))]
    command = shlex.join(["python", "src/train.py", *(sys.argv[1:] if argv is None else argv)])
    if flags.save_recipe:
        from digits.runs.store import repeated

        again = repeated(flags.from_run, flags.run, given)
        config.save_recipe(again[0].recipe if again else settings.recipe, flags.save_recipe, command)
        print(f"Saved. Train with it: python src/train.py --recipe {shlex.quote(str(flags.save_recipe))}")
        return
    from digits.training.workers import share_machine

    slots = share_machine(settings.recipe.network_count, settings.jobs, deterministic=settings.deterministic)
    with contextlib.closing(slots):
        if not (flags.from_run or flags.cluster or (flags.run and not given)):
            slots.start_workers()  # They load Keras while this process imports its own packages and reads the data.
        _train(flags, settings, given, slots, command)


def _train(flags: argparse.Namespace, settings: Settings, given: list[str], slots: "Slots", command: str) -> None:
    from digits.report import summary
    from digits.runs.store import compare_answers, find_run, repeated
    from digits.training import pipeline

    again = repeated(flags.from_run, flags.run, given)
    run = pipeline.train(
        dataclasses.replace(again[0], jobs=flags.jobs) if again else settings,
        slots=None if again else slots,
        command=command,
        data_dir=flags.data_dir or (again[1] if again else None),
        run_name=flags.run,
        out=flags.out,
        cluster_address=flags.cluster,
        minutes=flags.minutes,
        tensorboard=flags.tensorboard,
        report=not flags.no_report,
        resume_flags=[word for name in HOW for word in words_of(name, getattr(flags, name))],
    )
    print(f"\n{summary.of_run(run)}")
    if flags.from_run:
        print(f"\n{compare_answers(run, find_run(flags.from_run))}")
    if flags.export:
        pipeline.export_h5(run)


if __name__ == "__main__":
    sys.exit(main())
