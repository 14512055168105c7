"""Predict with finished runs: a submission, or images of your own: `python src/predict.py RUN [--images FILE …]`."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from digits.console import BadInput, counted, entry_point, flag_parser, styled, typed_command
from digits.files import kit_command

if TYPE_CHECKING:
    from digits.runs.store import Run


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    purpose = "Write a submission from one finished run, or from many blended; or predict your own images."
    parser = flag_parser("predict.py", purpose)
    add = parser.add_argument
    runs = "Name or folder of a run; to blend, also a folder with another program's predictions"
    add("runs", nargs="+", metavar="RUN", help=runs)
    weights = "Weights: equal (default), greedy (found out-of-fold), or a number per run: 2,1,1"
    add("--weights", default="equal", help=weights)
    means = "arithmetic", "logarithmic"
    add("--mean", choices=means, default=means[0], help="Mean of the probabilities (default: arithmetic)")
    add("--from-models", action="store_true", help="Predict again with a single run's saved models, and compare")
    images = (
        "Image files, folders of them, or .csv, .npy, .npz and IDX files to predict; predictions.csv and the page "
        "predictions.html go into the run's folder"
    )
    add("--images", nargs="+", type=Path, metavar="PATH", help=images)
    prepare = "Bring images into MNIST's form first (default: image files yes, .csv, .npy and .npz no)"
    add("--prepare", action=argparse.BooleanOptionalAction, help=prepare)
    labels = "Labels of --images: names of folders, 7/a.png (default), or ends of names, a_7.png"
    add("--labels", choices=("folders", "names"), help=labels)
    data_dir = "Folder of the competition's files (default: where the runs found them)"
    add("--data-dir", type=Path, metavar="DIR", help=data_dir)
    add("--out", type=Path, metavar="FILE", help="File for a copy of the submission, or for --images' predictions")
    add("--run", metavar="NAME", help="Name of the blend")
    add("--trust", action="store_true", help="Execute the run's own network file, if it is new on this machine")
    flags = parser.parse_args(argv)
    flags.blends = flags.weights != "equal" or flags.mean != "arithmetic" or flags.run is not None
    return flags


def predict_own(flags: argparse.Namespace, runs: Sequence["Run"]) -> None:
    """Predict the user's own images; BadInput for flags of something else, and at the end for images of no use."""
    if len(runs) > 1 or flags.from_models or flags.blends or flags.data_dir:
        raise BadInput(
            "--images takes one RUN, and of the other flags --prepare, --no-prepare, --labels and --out. Blend several "
            "runs first: python src/predict.py RUN RUN --run NAME"
        )
    table = flags.out or runs[0].folder / "predictions.csv"
    page = table.with_suffix(".html")
    if table == page:
        raise BadInput(
            f"--out {flags.out}: expected a name for the table, found one for the page of images, which is written "
            "beside it. Use for example --out predictions.csv"
        )
    inputs = {path.resolve() for path in flags.images}
    if not inputs.isdisjoint((table.resolve(), page.resolve(), *page.resolve().parents)):
        raise BadInput(
            f"{page}: expected a place for the table and the page that is no input, nor in a folder of "
            "inputs. Choose another: --out FILE.csv"
        )
    from digits.files import display_path
    from digits.inference import predictions
    from digits.inference.predictor import Predictor

    is_prepared = None if flags.prepare is None else not flags.prepare
    labels = predictions.LabelSource(flags.labels or "folders")
    predictor = Predictor(runs[0], trust=flags.trust)
    form = predictions.form_of(predictor.record)
    reader = predictions.ImageReader(form, predictor.classes, is_prepared, labels)
    results = predictions.predict_images(predictor, flags.images, reader)
    predicted = [result for result in results if isinstance(result, predictions.PredictedImage)]
    refusals = [f"{result.name}: {result.reason}" for result in results if isinstance(result, predictions.Refusal)]
    if predicted:
        replaced = " (replaces the earlier one)" if table.exists() else ""
        predictions.write_predictions(table, results)
        shown = predictions.write_page(page, predicted, runs[0].name, predictor.classes)
        for line in predictions.summarize(predicted):
            print(line)
        if flags.labels and not any(each.image.label for each in predicted):
            print(f"No label was found in the {labels}.")
        if form.note:
            print(form.note)
        link = styled(display_path(page), f"bold link {page.resolve().as_uri()}")
        print(f"Written: {display_path(table)}{replaced}; page of {counted(shown, 'image')}: {link}")
    if refusals:
        for line in refusals[:-1]:
            print(f"error: {line}", file=sys.stderr)
        raise BadInput(refusals[-1])


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Blend runs, predict again with one's models, or predict the user's own images."""
    flags = parse(argv)
    from digits.inference import predictor
    from digits.report import summary
    from digits.runs import blend, foreign
    from digits.runs.store import find_run

    for name in flags.runs:
        if Path(name).is_file() and Path(name).name != "run.json":
            predict = kit_command("src/predict.py", "RUN", "--images", name)
            raise BadInput(f"{name} is a file, not a run. To predict it: {predict}")
    if flags.images:
        predict_own(flags, [find_run(name) for name in flags.runs])
        return
    if flags.prepare is not None or flags.labels:
        raise BadInput("--prepare, --no-prepare and --labels are for --images.")
    if flags.from_models:
        if len(flags.runs) > 1 or flags.blends:
            raise BadInput("--from-models takes one RUN, and of the other flags --data-dir and --out.")
        for line in predictor.predict_again(find_run(flags.runs[0]), flags.data_dir, flags.out, trust=flags.trust):
            print(line)
        return
    options = blend.BlendOptions(
        weights=flags.weights,
        mean=flags.mean,
        name=flags.run,
        data_dir=flags.data_dir,
        out=flags.out,
        command=typed_command("src/predict.py", argv),
    )
    find = find_run if len(flags.runs) == 1 else foreign.find_run_or_folder
    run = blend.blend([find(name) for name in flags.runs], options)
    print(summary.of_run(run))


if __name__ == "__main__":
    sys.exit(main())
