"""Fetch the competition's data into data/, checked: `python src/download.py`, or from a file: `--zip FILE`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import digits.environment  # noqa: F401 first: it finds the Python that has the packages
from digits.console import entry_point
from digits.files import DATA


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        prog="download.py",
        description="Fetch the competition's three CSV files from Kaggle, check them, and put them into data/.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong use or bad file, 3 Kaggle refused, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--zip", type=Path, metavar="FILE", help="use this file (zip, .csv, .csv.zip, .csv.gz); no network"
    )
    parser.add_argument("--data-dir", type=Path, default=DATA, metavar="DIR", help="where to put the files")
    parser.add_argument("--if-possible", action="store_true", help="without credentials, say so and end well")
    return parser.parse_args(argv)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Fetch the data, or take it from a file."""
    flags = parse(argv)
    from digits.kaggle import client, download

    if flags.zip:
        download.install(flags.zip, flags.data_dir)
    else:
        fetch = download.fetch_if_possible if flags.if_possible else download.fetch
        fetch(flags.data_dir, client.Kaggle())


if __name__ == "__main__":
    sys.exit(main())
