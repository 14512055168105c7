"""Look at a finished run, or compare two: `python src/report.py RUN [RUN]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from digits.console import entry_point
from digits.files import SUBMISSIONS, display_path


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        prog="report.py",
        description="Write report.html of a run again, or a page that compares two (which rows changed, McNemar).",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong use or bad input.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run's name or folder")
    add("other", metavar="RUN", nargs="?", help="the run to compare it with")
    add("--data-dir", type=Path, metavar="DIR", help="where the competition's files are, if not where they were")
    add("--submissions-dir", type=Path, default=SUBMISSIONS, metavar="DIR", help="where the runs are")
    return parser.parse_args(argv)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, and say where it is."""
    flags = parse(argv)
    from digits.report import html
    from digits.runs.store import find_run

    run = find_run(flags.run, flags.submissions_dir)
    if flags.other is None:
        print(display_path(html.build_report(run, data_dir=flags.data_dir)))
        return
    compared = html.compare(run, find_run(flags.other, flags.submissions_dir), flags.data_dir)
    print(compared.sentence)
    print(compared.answers)
    print(display_path(html.build_comparison(compared)))


if __name__ == "__main__":
    sys.exit(main())
