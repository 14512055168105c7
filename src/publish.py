"""For a code competition: publish a run's models and predict with them in an offline notebook on Kaggle.

python src/publish.py RUN               a private dataset, then a notebook that loads it, predicts and is checked
"""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from digits.console import entry_point, flag_parser, seconds
from digits.files import ROOT, SUBMISSIONS


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Publish, predict, check."""
    parser = flag_parser(
        "publish.py",
        "Upload a run's models as a private Kaggle dataset, run the notebook that predicts with them, without "
        "internet, on Kaggle, and fetch and check its submission.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="Name or folder of a run")
    add("--competition", default="digit-recognizer", metavar="NAME", help="Competition to predict (%(default)s)")
    add("--accelerator", default="none", metavar="NAME", help="Machine: none (the default), gpu, t4x2 or tpu")
    add("--dataset-only", action="store_true", help="Publish the models, and push no notebook")
    add("--submissions-dir", type=Path, default=SUBMISSIONS, metavar="DIR", help="Folder of the runs")
    add("--wait", type=seconds, default=43_200, metavar="SECONDS", help="Longest wait (default: 12 h)")
    flags = parser.parse_args(argv)
    from digits.data.competition import find_competition
    from digits.kaggle import client, kernel, publish
    from digits.runs.store import find_run

    kaggle, folder = client.Kaggle(competition=find_competition(flags.competition)), flags.submissions_dir
    run = find_run(flags.run, folder)
    changes = kernel.Changes(accelerator=flags.accelerator, title=publish.notebook_title(run.name))
    dataset = publish.publish(kaggle, run)
    if flags.dataset_only:
        return
    changes = replace(changes, datasets=[dataset])
    pushed = kernel.push(kaggle, ROOT / "kernels" / "predict", changes, folder)
    kernel.wait(kaggle, pushed, folder, flags.wait)
    submission = kernel.fetch(kaggle, pushed, folder)
    print(f"Submit it: {kernel.submit_command(kaggle, pushed, submission)}")


if __name__ == "__main__":
    sys.exit(main())
