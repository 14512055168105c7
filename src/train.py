"""Train networks on digits and write a checked submission: `python src/train.py --folds 5`."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from digits import config
from digits.config import Execution, Options, Recipe, Settings
from digits.console import entry_point, error_context, flag_parser, typed_command
from digits.files import kit_command


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags; one that is not given is None."""
    parser = flag_parser(
        "train.py",
        "Train networks on digits, score them out of fold, and write a checked submission.",
        "The backend is what KERAS_BACKEND says: tensorflow (default), jax or torch.",
    )
    group = parser.add_argument_group("recipe", "The default of each is the recipe's.")
    recipes = f"{', '.join(config.recipe_names())} (default: standard), or a TOML file"
    group.add_argument("--recipe", metavar="NAME", help=f"Recipe to train: {recipes}")
    changes = "Fields of the recipe: learning_rate=0.005 …"
    group.add_argument("--set", nargs="+", action="extend", metavar="KEY=VALUE", help=changes)
    config.add_flags(group, Recipe)
    group.add_argument("--no-tta", action="store_const", const=True, help="Predict each image once, as it is")
    meanings = "Show each field's value, range and meaning, and train nothing"
    group.add_argument("--list-settings", action="store_true", help=meanings)
    group.add_argument("--save-recipe", type=Path, metavar="FILE", help="Write a recipe file, and train nothing")
    for title, kind in (("data and randomness", Options), ("execution", Execution)):
        config.add_flags(parser.add_argument_group(title), kind)
    return parser.parse_args(argv)


def training_flags(flags: argparse.Namespace) -> list[str]:
    """Return the given flags that say what to train, which a run's record says too."""
    names = {"--recipe": "recipe", "--set": "set", "--no-tta": "no_tta"}
    names |= {option: field.key for kind in (Recipe, Options) for option, field in config.flags_of(kind).items()}
    return [option for option, name in names.items() if getattr(flags, name) is not None]


def settings_of(flags: argparse.Namespace) -> Settings:
    """Return what the flags ask for; BadInput for a value out of range."""
    options = config.read_flags(Options, flags)
    if isinstance(flags.folds, str):
        from digits.data import by_id

        folds = Path(flags.folds)
        with error_context("--folds", fix="Give their number, or a CSV with the columns id and fold"):
            flags.folds = by_id.count_folds(folds)
        options["folds_file"] = str(folds.absolute())
    recipe = config.load_recipe(flags.recipe or "standard")
    recipe = config.override(recipe, config.read_flags(Recipe, flags))
    if flags.no_tta:
        recipe = config.override(recipe, {"tta.shift_pixels": 0.0, "tta.rotation_degrees": 0.0})
    for name, value in options.items():
        if name == "extra" or (name == "groups" and value.endswith(".csv")):
            options[name] = str(Path(value).absolute())  # The run may be resumed from another folder.
    return Settings(config.set_values(recipe, flags.set or ()), **options)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Train, and say what came of it."""
    flags = parse(argv)
    settings = settings_of(flags)
    command = typed_command("src/train.py", argv)
    execution = Execution(**config.read_flags(Execution, flags), command=command)
    if flags.list_settings:
        print(config.describe_settings(settings.recipe))
        return
    from digits.model import custom
    from digits.runs.store import compare_predictions, find_run, repeated_record

    if record := repeated_record(execution, training_flags(flags)):
        settings = record.asked()
        custom.require_trust(record.run, settings.recipe.sources, trusted=execution.trust)
        execution = dataclasses.replace(execution, data_dir=execution.data_dir or record.settings.data_dir)
    if flags.save_recipe:
        config.save_recipe(settings.recipe, flags.save_recipe, command)
        print(f"Saved. Train with it: {kit_command('src/train.py', '--recipe', str(flags.save_recipe))}")
        return
    from digits.report import summary
    from digits.training import pipeline

    run = pipeline.train(settings, execution)
    print(f"\n{summary.of_run(run)}")
    if execution.from_run:
        print(f"\n{compare_predictions(run, find_run(execution.from_run))}")


if __name__ == "__main__":
    sys.exit(main())
