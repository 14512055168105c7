"""Fetch the competition's data into data/, checked: `python src/download.py`, or from a file: `--zip FILE`."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
from collections.abc import Sequence
from pathlib import Path

from digits.console import entry_point, flag_parser


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Fetch the data, or take it from a file."""
    parser = flag_parser("download.py", "Fetch a competition's files from Kaggle, check them, and put them into data/.")
    add = parser.add_argument
    add("--zip", type=Path, metavar="FILE", help="File to use instead of the network: zip, tar, folder, CSV")
    add("--data-dir", type=Path, metavar="DIR", help="Folder to put the files into (default: data/)")
    slug = "Competition; another goes to data/SLUG/ (default: %(default)s)"
    add("--competition", default="digit-recognizer", metavar="SLUG", help=slug)
    add("--if-possible", action="store_true", help="Without credentials, print a note and exit with 0")
    flags = parser.parse_args(argv)
    from digits.data.competition import find_competition
    from digits.kaggle import client, download

    competition = find_competition(flags.competition)
    data_dir = flags.data_dir or competition.data_dir
    if flags.zip:
        download.install(flags.zip, data_dir, competition)
    else:
        fetch = download.fetch_if_possible if flags.if_possible else download.fetch
        fetch(data_dir, client.Kaggle(competition=competition))


if __name__ == "__main__":
    sys.exit(main())
