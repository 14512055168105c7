"""Run the kit as a notebook on Kaggle: push it, wait for its run, fetch its submission: `python src/push_kernel.py`."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
import argparse
from collections.abc import Sequence
from pathlib import Path

from digits.console import BadInput, entry_point, flag_parser, seconds
from digits.files import ROOT, SUBMISSIONS

KIT = ROOT / "kernels" / "kit"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = flag_parser(
        "push_kernel.py",
        "Push the notebook in kernels/kit/ as your own, wait for its run, fetch and check its output. It is pushed as"
        " it lies there; the flags change the pushed copy only.",
    )
    add = parser.add_argument
    add("--recipe", metavar="NAME", help="Recipe to train (default: as the notebook says)")
    add("--set", nargs="+", action="extend", metavar="KEY=VALUE", help="Fields of the recipe, see train.py")
    add("--accelerator", metavar="NAME", help="Machine: none, gpu, t4x2 or tpu (default: as the notebook says)")
    add("--public", action="store_true", help="Push it visible to everybody (default: private, whatever it says)")
    add("--title", metavar="TEXT", help="Title of the notebook on Kaggle, from which its address is made")
    add("--folder", type=Path, default=KIT, metavar="DIR", help="Folder of the notebook (default: kernels/kit/)")
    add("--competition", default="digit-recognizer", metavar="NAME", help="Competition of its data (%(default)s)")
    add("--submissions-dir", type=Path, default=SUBMISSIONS, metavar="DIR", help="Folder for its output")
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", type=seconds, default=43_200, metavar="SECONDS", help="Longest wait (default: 12 h)")
    waiting.add_argument("--no-wait", action="store_const", const=0.0, dest="wait", help="End after the push")
    version = "a number, or OWNER/NOTEBOOK/NUMBER; default: the last push"
    for flag, purpose in (("--fetch", "Fetch an earlier push's output"), ("--status", "Print the state of its run")):
        waiting.add_argument(flag, nargs="?", const="", metavar="VERSION", help=f"{purpose} ({version})")
    flags = parser.parse_args(argv)
    changes = flags.recipe or flags.set or flags.accelerator or flags.title or flags.public
    later = flags.fetch is not None or flags.status is not None
    if changes and later:
        parser.error("--fetch and --status push nothing: give them alone")
    return flags


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Make the round trip, or a part of it."""
    flags = parse(argv)
    from digits.config import load_recipe, set_values
    from digits.data.competition import find_competition
    from digits.kaggle import client, kernel

    competition = find_competition(flags.competition)
    if competition.flag and flags.folder.resolve() == KIT and flags.fetch is None and flags.status is None:
        raise BadInput(
            f"the notebook in kernels/kit/ trains on digit-recognizer only. For {competition.slug} train here, then "
            f"publish the run's models and predict with them: scripts/publish.sh RUN{competition.flag}"
        )
    kaggle, folder = client.Kaggle(competition=competition), flags.submissions_dir
    if flags.status is not None:
        pushed = kernel.last_push(folder, flags.status)
        state, failure = kernel.status(kaggle, pushed)
        print(f"{pushed}: {state}{f' ({failure})' if failure else ''}")
        return
    if flags.fetch is not None:
        pushed = kernel.last_push(folder, flags.fetch)
    else:
        arguments = None
        if flags.recipe or flags.set:
            name, assignments = flags.recipe or "standard", flags.set or []
            recipe = set_values(load_recipe(name), assignments)  # A mistake is found before the push.
            if name.endswith(".toml") or recipe.sources:
                raise BadInput("The notebook has the kit's recipes and networks only. Give changes with --set")
            arguments = ["--recipe", name, *(["--set", *assignments] if assignments else [])]
        changes = kernel.Changes(arguments, flags.accelerator, flags.title, public=flags.public)
        pushed = kernel.push(kaggle, flags.folder, changes, folder)
        if not flags.wait:
            print(kernel.fetch_later(kaggle, pushed, folder))
            return
    kernel.wait(kaggle, pushed, folder, flags.wait)
    submission = kernel.fetch(kaggle, pushed, folder)
    print(f"Submit it: {kernel.submit_command(kaggle, pushed, submission)}")


if __name__ == "__main__":
    sys.exit(main())
