"""Predict images that are not the competition's: read, prepare, predict, and write a table and a page."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from PIL import Image

from digits.console import KitError, counted, print_line, progress_bar
from digits.data.arrays import is_array_file, read_sets, set_to_predict
from digits.data.competition import DIGIT_RECOGNIZER, SIDE
from digits.data.csv_reader import Table, positions_among
from digits.data.image_files import as_image, find_images, folder_label, name_label, read_image
from digits.data.image_form import ImageForm, Prepared
from digits.data.preparation import fit
from digits.files import atomic_write, display_path
from digits.inference.predictor import Predictor
from digits.runs.record import FinishedRecord

UNSURE = 0.9
"""A prediction of a lower probability, 0-1, is noted as unsure. With the recipes' label smoothing the highest is about
0.955; networks trained with a label smoothing of 0.1 or more are seldom surer than this."""
MOST_SHOWN = 500
"""The most images on a page; of more, the most doubtful."""
THUMBNAIL = 112
"""The longer side of an image on the page, in pixels, at most."""


class LabelSource(StrEnum):
    """Where the true classes of images come from."""

    FOLDERS = "folders"
    NAMES = "names"
    FILE = "the file"


@dataclass(frozen=True)
class InputImage:
    """An image that was read and prepared; `label` is its true class, where it is known."""

    name: str
    label: str | None
    label_source: LabelSource
    thumbnail: Image.Image
    prepared: Prepared


@dataclass(frozen=True)
class Refusal:
    """An image, or a file of images, that cannot be used."""

    name: str
    reason: str


@dataclass(frozen=True)
class Prediction:
    """The two most probable classes, and their probabilities in 0-1."""

    answer: str
    probability: float
    runner_up: str
    runner_up_probability: float

    @classmethod
    def of(cls, probabilities: np.ndarray, classes: Sequence[str]) -> "Prediction":
        """Return the prediction that probabilities (classes,) amount to."""
        second, first = np.argsort(probabilities, kind="stable")[-2:]
        return cls(classes[first], float(probabilities[first]), classes[second], float(probabilities[second]))

    def notes(self, prepared: Prepared) -> list[str]:
        """Return what was noticed when the image was prepared, and whether the prediction is unsure."""
        return [*prepared.notes, *(["unsure"] if self.probability < UNSURE else [])]


@dataclass(frozen=True)
class PredictedImage:
    """An image and its prediction."""

    image: InputImage
    prediction: Prediction

    @property
    def notes(self) -> list[str]:
        """What was noticed of the image and of its prediction."""
        return self.prediction.notes(self.image.prepared)

    @property
    def is_error(self) -> bool:
        """Whether the true class is known and is another."""
        return self.image.label not in (None, self.prediction.answer)


def form_of(record: FinishedRecord) -> ImageForm:
    """Return the form of a run's training images; of an old run, measured now, or MNIST's where they are gone."""
    data = record.data
    if data.form:
        return data.form
    if data.side == SIDE and (record.source != "kaggle" or data.competition == DIGIT_RECOGNIZER.slug):
        return ImageForm()
    try:
        return replace(record.load_data().summary.form or ImageForm(), side=data.side)
    except (KitError, OSError):
        return ImageForm(data.side, data.factor, is_mnist=data.side == SIDE, is_assumed=True)


@dataclass(frozen=True)
class ImageReader:
    """Read and prepare images for a run, given the form and the classes of its training images."""

    form: ImageForm
    classes: Sequence[str]
    is_prepared: bool | None = None
    """Whether images are as the training images; None: those in .csv, .npy and .npz files are if they have their size,
    others where `ImageForm.is_like` finds them so."""
    labels: LabelSource = LabelSource.FOLDERS
    """Of image files."""

    def read(self, path: Path) -> Iterator[InputImage | Refusal]:
        """Yield the image of a file, all images in a folder, or the rows of an array file."""
        try:
            if is_array_file(path):
                yield from self._rows(path)
            else:
                for file in find_images(path):
                    yield self._file(file)
        except KitError as error:
            error.at = error.at.removeprefix(display_path(path)).lstrip(", ")  # The table of refusals names the file.
            yield Refusal(display_path(path), str(error))

    def _file(self, path: Path) -> InputImage | Refusal:
        name, label_of = display_path(path), name_label if self.labels is LabelSource.NAMES else folder_label
        try:
            pixels = read_image(path)
            prepared = fit(pixels, self.form, is_prepared=self.is_prepared)
            return InputImage(name, label_of(path, self.classes), self.labels, _thumbnail(pixels), prepared)
        except KitError as error:
            return Refusal(name, str(error))

    def _rows(self, path: Path) -> Iterator[InputImage | Refusal]:
        sets, place = read_sets(path, self.form.own_shape), display_path(path)
        split, table = set_to_predict(sets)
        if len(sets) > 1:
            rows = ", ".join(f"{name} ({counted(len(each.images), 'image')})" for name, each in sets.items())
            print_line(f"{place} holds {rows}; {split} is predicted.")
            place += f", {split}"
        pairs = zip(table.images, self._labels(table), strict=True)
        for row, (pixels, label) in enumerate(pairs, start=1):
            name = f"{place}:{row}"
            try:
                if self.is_prepared is not False and self.form.has_size(pixels):
                    prepared = Prepared(self.form.as_trained(pixels))
                else:
                    prepared = fit(pixels, self.form, is_prepared=self.is_prepared)
                yield InputImage(name, label, LabelSource.FILE, _thumbnail(self.form.brightened(pixels)), prepared)
            except KitError as error:
                yield Refusal(name, str(error))

    def _labels(self, table: Table) -> Sequence[str | None]:
        """Return the labels of a file's images, those of the run's classes by the run's names (7.0 is 7)."""
        if table.labels is None:
            return [None] * len(table.images)
        positions = positions_among(table.classes, self.classes)
        pairs = zip(table.classes, positions, strict=True)
        names = [name if position is None else self.classes[position] for name, position in pairs]
        return [names[label] for label in table.labels.tolist()]


def _thumbnail(pixels: np.ndarray) -> Image.Image:
    """Return pixels uint8 (h, w, 1 or 3) as an image as small as the page shows it."""
    image = as_image(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=1.0)
    return image


def predict_images(predictor: Predictor, paths: Sequence[Path], reader: ImageReader) -> list[PredictedImage | Refusal]:
    """Return the predictions of image files, of all images in folders, and of the rows of .csv, .npy and .npz files."""
    inputs: list[InputImage | Refusal] = []
    with progress_bar(lambda: f"{counted(len(inputs), 'image')} read"):
        for path in paths:
            inputs.extend(reader.read(path))
    pixels = [image.prepared.image for image in inputs if isinstance(image, InputImage)]
    with progress_bar(lambda: f"predicting {counted(len(pixels), 'image')}", 1) as count:
        rows = iter(predictor.probabilities(np.stack(pixels), on_part=count) if pixels else ())
    return [
        image if isinstance(image, Refusal) else PredictedImage(image, Prediction.of(next(rows), predictor.classes))
        for image in inputs
    ]


def write_predictions(path: Path, results: Sequence[PredictedImage | Refusal]) -> None:
    """Write predictions.csv: a row for each image, those that could not be used too."""
    header = ["file", "prediction", "probability", "runner_up", "runner_up_probability", "notes"]
    if any(isinstance(result, PredictedImage) and result.image.label for result in results):
        header.append("label")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for result in results:
            if isinstance(result, Refusal):
                row = [result.name, "", "", "", "", result.reason, ""]
            else:
                top = result.prediction
                row = [result.image.name, top.answer, f"{top.probability:.4f}", top.runner_up]
                row += [f"{top.runner_up_probability:.4f}", "; ".join(result.notes), result.image.label or ""]
            writer.writerow(map(_as_text, row[: len(header)]))


def _as_text(cell: str) -> str:
    """Return a cell that a spreadsheet shows as it is: a formula such as "=1+1" gets an apostrophe before it."""
    is_number = cell.lstrip("+-").replace(".", "", 1).isdigit()
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) and not is_number else cell


def write_page(path: Path, predicted: Sequence[PredictedImage], run: str, classes: Sequence[str]) -> int:
    """Write an HTML page of predicted images, the doubtful ones first, and return how many it shows."""
    from digits.report import html

    shown = sorted(predicted, key=lambda each: (not each.notes, each.prediction.probability))[:MOST_SHOWN]
    labels = [each.image.label for each in predicted if each.image.label is not None]
    html.write_page(
        "images.html.jinja",
        path,
        heading=heading(predicted),
        run=run,
        table=path.with_suffix(".csv").name,
        count=len(predicted),
        names=list(dict.fromkeys([*classes, *labels])),
        has_labels=bool(labels),
        shown=[(each, picture(each.image.thumbnail), picture(as_image(each.image.prepared.image))) for each in shown],
    )
    return len(shown)


def picture(image: Image.Image) -> str:
    """Return an image as a data URI of a PNG."""
    from digits.report.html import png_uri

    file = io.BytesIO()
    image.save(file, "PNG")
    return png_uri(file.getvalue())


def heading(predicted: Sequence[PredictedImage]) -> str:
    """Return how many images were predicted, and how many of these are doubtful: "117 images, 12 doubtful"."""
    doubtful = sum(bool(each.notes) for each in predicted)
    return f"{counted(len(predicted), 'image')}, {doubtful:,} doubtful"


def summarize(predicted: Sequence[PredictedImage]) -> list[str]:
    """Return what to print of predictions: a few of them, how many, and the accuracy where labels are known."""
    lines = []
    if len(predicted) <= 20:
        width = max((len(each.image.name) for each in predicted), default=0)
        for each in predicted:
            top = each.prediction
            line = f"{each.image.name:{width}}  {top.answer}  {top.probability:.1%}"
            lines.append(f"{line}  ({'; '.join(each.notes)})" if each.notes else line)
    lines.append(f"Predicted: {heading(predicted)}.")
    labelled = [each for each in predicted if each.image.label is not None]
    if labelled:
        errors = sum(each.is_error for each in labelled)
        sources = " and ".join(dict.fromkeys(each.image.label_source for each in labelled))
        lines[-1] += (
            f" Accuracy on the {len(labelled):,} with a label (from {sources}): "
            f"{1 - errors / len(labelled):.2%} ({counted(errors, 'error')})."
        )
    return lines
