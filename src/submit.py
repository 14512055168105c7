"""Submit to Kaggle once, wait for the score, and keep the ledger: `python src/submit.py [RUN|FILE] [-m TEXT]`.

python src/submit.py                    the newest run's submissions/submission.csv
python src/submit.py --dry-run          all but the upload
python src/submit.py --status           bring the ledger up to date and print it, best first
"""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
from collections.abc import Sequence
from pathlib import Path

from digits.console import KitError, entry_point, flag_parser, seconds
from digits.files import SUBMISSIONS


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Submit, or show the ledger."""
    purpose = "Check a file, submit it to Kaggle once, wait for the score and record it in ledger.csv."
    parser = flag_parser("submit.py", purpose)
    add = parser.add_argument
    add("file", nargs="?", metavar="RUN|FILE", help="Run or file to submit (default: submission.csv)")
    add("-m", "--message", default="", metavar="TEXT", help="Message (default: run and accuracy)")
    add("--dry-run", action="store_true", help="Do all but the upload")
    add("--again", action="store_true", help="Submit the same predictions again")
    add("--yes", action="store_true", help="Submit in spite of doubts, without asking")
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", type=seconds, default=600, metavar="SECONDS", help="Longest wait (default: 600)")
    waiting.add_argument("--no-wait", action="store_const", const=0.0, dest="wait", help="End without the score")
    add("--status", action="store_true", help="Update and print the ledger, and submit nothing")
    add("--notebook", metavar="VERSION", help="Version to submit to a code competition, OWNER/NOTEBOOK/NUMBER")
    add("--competition", default="digit-recognizer", metavar="NAME", help="Default: %(default)s")
    add("--submissions-dir", type=Path, default=SUBMISSIONS, metavar="DIR", help="Folder of runs and ledger")
    flags = parser.parse_args(argv)
    if flags.notebook and flags.file:
        parser.error("--notebook submits what that notebook wrote: give no file")
    if flags.status and (flags.file or flags.message or flags.dry_run or flags.again or flags.notebook):
        parser.error("--status submits nothing: give it alone")
    from digits.data.competition import find_competition
    from digits.kaggle import client, kernel, ledger, submit

    competition, folder = find_competition(flags.competition), flags.submissions_dir
    kaggle = client.Kaggle(competition=competition)
    if flags.status:
        try:
            entries = ledger.refresh(folder, kaggle)
        except KitError:
            print(ledger.ledger_table(ledger.read_ledger(folder / competition.ledger)))
            raise
        print(ledger.ledger_table(entries))
        return
    if flags.notebook:
        notebook = kernel.last_push(folder, flags.notebook)
        file = kernel.fetch(kaggle, notebook, folder)
    else:
        notebook, file = None, submit.submission_file(flags.file, folder, competition)
    options = submit.Options(flags.message, flags.again, flags.yes, flags.dry_run, flags.wait, notebook)
    submit.submit(file, folder, kaggle, options)


if __name__ == "__main__":
    sys.exit(main())
