"""Look at runs: `python src/report.py` lists all, with RUN writes its report, with RUN RUN … compares them."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
from collections.abc import Sequence
from pathlib import Path

from digits.console import entry_point, flag_parser
from digits.files import SUBMISSIONS, display_path


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, and print what it is about and where it is."""
    parser = flag_parser(
        "report.py",
        "List all runs, the best first, in the terminal and as index.html; or write a run's report.html again; or "
        "compare runs (paired differences, McNemar's test, the images on which they disagree).",
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="*", help="Name or folder of a run; none: list all runs")
    add("--data-dir", type=Path, metavar="DIR", help="Folder of the data, if not where the run found them")
    add("--submissions-dir", type=Path, default=SUBMISSIONS, metavar="DIR", help="Folder of the runs")
    flags = parser.parse_args(argv)
    import shutil

    from digits.report import comparison, html, summary
    from digits.report.leaderboard import leaderboard
    from digits.runs.store import find_run

    runs = [find_run(name, flags.submissions_dir) for name in flags.runs]
    if not runs:
        runs_there = leaderboard(flags.submissions_dir)
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(summary.of_leaderboard(runs_there, width))
        if runs_there.unfinished:
            print(f"Not finished, or not readable: {', '.join(runs_there.unfinished)}.")
        if runs_there.boards:
            print(display_path(html.build_leaderboard(flags.submissions_dir)))
    elif len(runs) == 1:
        print(display_path(html.build_report(runs[0], data_dir=flags.data_dir)))
    else:
        compared = comparison.compare(runs, flags.data_dir)
        print(summary.of_comparison(compared))
        print(display_path(html.build_comparison(compared)))


if __name__ == "__main__":
    sys.exit(main())
