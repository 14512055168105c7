"""Make a submission from finished runs, without training: `python src/predict.py RUN [RUN …]`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from digits.console import entry_point


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description="Write a submission from one finished run, or from many blended.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a run's name or folder")
    add(
        "--weights",
        default="equal",
        help="equal (default), greedy (found out of fold), or numbers, one a member: 2,1,1",
    )
    add("--mean", choices=("arithmetic", "logarithmic"), default="arithmetic", help="of the probabilities")
    add("--from-models", action="store_true", help="predict again with a single run's saved models, and compare")
    add(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where the competition's files are (default: where the runs found them)",
    )
    add("--out", type=Path, metavar="FILE", help="copy the submission here (default: submissions/submission.csv)")
    add("--run", metavar="NAME", help="name the blend")
    return parser.parse_args(argv)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Blend, or predict again, and say what came of it."""
    flags = parse(argv)
    from digits.report import summary
    from digits.runs import ensemble
    from digits.runs.store import find_run

    runs = [find_run(name) for name in flags.runs]
    if flags.from_models:
        for line in ensemble.predict_again(runs, flags.data_dir, flags.out):
            print(line)
        return
    words = sys.argv[1:] if argv is None else argv
    run = ensemble.blend(
        runs,
        weights=flags.weights,
        logarithmic=flags.mean == "logarithmic",
        data_dir=flags.data_dir,
        out=flags.out,
        name=flags.run,
        command=shlex.join(["python", "src/predict.py", *words]),
    )
    print(summary.of_run(run))


if __name__ == "__main__":
    sys.exit(main())
