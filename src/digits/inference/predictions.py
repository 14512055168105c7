"""Predict images that are not the competition's: read, prepare, predict, and write a table and a contact sheet."""

import contextlib
import csv
import functools
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digits.console import BadInput, KitError
from digits.data.arrays import read_array_file
from digits.data.competition import SIDE
from digits.data.dataset import resized
from digits.data.image_files import NotADigitImage, find_images, gray, label_of, read_image
from digits.data.preparation import BOX, Prepared, ink_box, prepare, squeeze
from digits.files import atomic_write, display_path
from digits.inference.predictor import Predictor
from digits.model.backend import cpu_count
from digits.runs.record import FinishedRecord

UNSURE = 0.7
"""An answer of a lower probability, 0-1, is noted as unsure."""


SHOWN = 200
"""The most images on a contact sheet; of more, those with the least certain answers."""


MANY = 200
"""Of so many image files on, each processor reads its share in a process of its own."""


CELL, CAPTION, COLUMNS = 112, 54, 5


@dataclass(frozen=True)
class Prediction:
    """One image and its answer; `problem` says why there is none."""

    name: str
    label: str | None
    """The true class, where the name or the folder tells."""
    thumbnail: Image.Image | None = None
    image: np.ndarray | None = None
    """What the network sees, uint8 (28, 28)."""
    notes: tuple[str, ...] = ()
    problem: str | None = None
    answer: str = ""
    probability: float = 0.0
    runner_up: str = ""
    runner_up_probability: float = 0.0


class Preparation:
    """How an image becomes what a run's networks take: in MNIST's form, or that of the run's own training data."""

    def __init__(self, record: FinishedRecord):
        """Measure the training images where they are not of MNIST's size; without them MNIST's form is taken."""
        self.side, self.factor, self.box = record.data.side, record.data.factor, BOX
        if self.side != SIDE:
            with contextlib.suppress(KitError, OSError):
                self.box = ink_box(record.load_data().train.images[:1000])

    def brightened(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels multiplied as the training images were, unless they have been."""
        return pixels * np.uint8(self.factor) if int(pixels.max()) * self.factor <= 255 else pixels

    def as_trained(self, pixels: np.ndarray) -> Prepared | None:
        """Return an image uint8 (side, side, channels) of the training images' own size as they were read, or None."""
        if pixels.shape[:2] != (self.side, self.side):
            return None
        return Prepared(resized(self.brightened(gray(pixels)).reshape(1, -1), 1)[0])

    def prepared(self, pixels: np.ndarray, *, simply: bool = False) -> Prepared:
        """Return pixels uint8 (h, w, 1 or 3) of any size prepared; `simply`: only grey, inverted and resized."""
        made = Prepared(squeeze(pixels)) if simply else prepare(pixels, self.box)
        if self.side >= SIDE:
            return made
        # As blurred as what the networks were trained on.
        small = Image.fromarray(made.image).resize((self.side, self.side), Image.Resampling.BOX)
        return replace(made, image=resized(np.asarray(small).reshape(1, -1), 1)[0])


def _thumbnail(pixels: np.ndarray) -> Image.Image:
    """Return pixels uint8 (h, w, 1 or 3) as an image that fills a cell of the contact sheet."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((CELL, CELL), Image.Resampling.BOX, reducing_gap=1.0)
    scale = CELL // max(image.size)
    return image if scale < 2 else image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _read(path: Path, classes: Sequence[str], preparation: Preparation, is_prepared: bool | None) -> Prediction:
    """Return an image file read and prepared, not yet predicted."""
    name, label = display_path(path), label_of(path, classes)
    try:
        pixels = read_image(path)
        # An image of 28 × 28 may be any; one of another run's own size is taken as one of its images.
        own = preparation.as_trained(pixels) if is_prepared is not False and preparation.side != SIDE else None
        prepared = own or preparation.prepared(pixels, simply=bool(is_prepared))
        return Prediction(name, label, _thumbnail(pixels), prepared.image, prepared.notes)
    except NotADigitImage as error:
        return Prediction(name, label, problem=str(error))


def _mapped(read: Callable[[Path], Prediction], files: Sequence[Path]) -> list[Prediction]:
    """Return read(file) of all files, computed by all processors where starting them takes less time than it saves."""
    if len(files) < MANY:
        return [read(file) for file in files]
    with ProcessPoolExecutor(cpu_count(), multiprocessing.get_context("spawn")) as processes:
        return list(processes.map(read, files, chunksize=16))


def predict_images(predictor: Predictor, paths: Sequence[Path], *, is_prepared: bool | None = None) -> list[Prediction]:
    """Return the predictions of image files, of all images in folders, and of the rows of .csv, .npy and .npz files.

    Args:
        predictor: of a run.
        paths: files and folders.
        is_prepared: whether the images are as the training images; None: those in .csv, .npy and .npz files are, and
            files of the training images' own size where that is not 28 × 28, others not.
    """
    classes, preparation = predictor.classes, Preparation(predictor.record)

    read = functools.partial(_read, classes=classes, preparation=preparation, is_prepared=is_prepared)

    def read_rows(path: Path) -> Iterable[Prediction]:
        name = display_path(path)
        try:
            images, labels = read_array_file(path)
        except BadInput as error:
            yield Prediction(name, None, problem=str(error).removeprefix(f"{name}: "))
            return
        for row, pixels in enumerate(images[..., np.newaxis], start=1):
            label = None if labels is None else str(labels[row - 1])
            try:
                own = None if is_prepared is False else preparation.as_trained(pixels)
                prepared = own or preparation.prepared(pixels, simply=bool(is_prepared))
            except NotADigitImage as error:
                yield Prediction(f"{name}:{row}", label, problem=str(error))
                continue
            thumbnail = _thumbnail(preparation.brightened(pixels))
            yield Prediction(f"{name}:{row}", label, thumbnail, prepared.image, prepared.notes)

    found: list[Prediction] = []
    for path in paths:
        files, arrays, problem = find_images(path)
        found += [Prediction(display_path(path), None, problem=problem)] if problem else _mapped(read, files)
        for array in arrays:
            found += read_rows(array)
    images = [prediction.image for prediction in found if prediction.image is not None]
    answers = iter(predictor.probabilities(np.stack(images)) if images else ())
    return [
        prediction if prediction.image is None else _answered(prediction, next(answers), classes)
        for prediction in found
    ]


def _answered(prediction: Prediction, probabilities: np.ndarray, classes: Sequence[str]) -> Prediction:
    second, first = np.argsort(probabilities, kind="stable")[-2:]
    unsure = ("unsure",) * bool(probabilities[first] < UNSURE)
    return replace(
        prediction,
        answer=classes[first],
        probability=float(probabilities[first]),
        runner_up=classes[second],
        runner_up_probability=float(probabilities[second]),
        notes=prediction.notes + unsure,
    )


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions.csv: a row for each image, those that could not be used too."""
    labelled = any(prediction.label for prediction in predictions)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        header = ["file", "answer", "probability", "runner_up", "runner_up_probability", "notes"]
        writer.writerow([*header, "label"] if labelled else header)
        for each in predictions:
            answer = (each.answer, f"{each.probability:.4f}", each.runner_up, f"{each.runner_up_probability:.4f}")
            row = [each.name, *(answer if each.image is not None else ("",) * 4), each.problem or "; ".join(each.notes)]
            writer.writerow([*row, each.label or ""] if labelled else row)


def draw_contact_sheet(path: Path, predictions: Sequence[Prediction]) -> int:
    """Write a PNG that shows each image, the 28×28 pixels that the network saw, and the answer; return how many.

    Wrong answers have a red frame, answers with notes an orange one.
    """
    import matplotlib

    shown = [each for each in predictions if each.image is not None]
    if len(shown) > SHOWN:
        shown = sorted(shown, key=lambda each: each.probability)[:SHOWN]
    font_file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    large, small = ImageFont.truetype(font_file, 15), ImageFont.truetype(font_file, 10)
    width, height = 2 * CELL + 24, CELL + CAPTION
    columns = min(COLUMNS, max(1, len(shown)))
    sheet = Image.new("RGB", (columns * width + 8, -(-max(1, len(shown)) // columns) * height + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for index, each in enumerate(shown):
        assert each.image is not None
        assert each.thumbnail is not None
        x, y = index % columns * width + 8, index // columns * height + 8
        is_wrong = each.label is not None and each.label != each.answer
        frame = "#c0392b" if is_wrong else "#d98200" if each.notes else "#dfe3ea"
        draw.rectangle((x, y, x + width - 8, y + height - 8), outline=frame, width=3 if is_wrong or each.notes else 1)
        own = each.thumbnail.convert("RGB")
        sheet.paste(own, (x + 6 + (CELL - own.width) // 2, y + 6 + (CELL - own.height) // 2))
        sheet.paste(Image.fromarray(each.image).resize((CELL, CELL), Image.Resampling.NEAREST), (x + CELL + 10, y + 6))
        text = f"{each.answer}  {each.probability:.1%}" + f" (is {each.label})" * is_wrong
        runner_up = f"   {each.runner_up} {each.runner_up_probability:.1%}"
        text += runner_up * (large.getlength(text + runner_up) <= width - 20)
        font = large if large.getlength(text) <= width - 20 else small
        draw.text((x + 6, y + CELL + 10), text, fill=frame if is_wrong else "#1f2430", font=font)
        caption = "; ".join((Path(each.name).name, *each.notes))
        draw.text((x + 6, y + CELL + 32), caption[:42], fill="#5d6675", font=small)
    with atomic_write(path) as temporary:
        sheet.save(temporary, "PNG")
    return len(shown)


def summarize(predictions: Sequence[Prediction]) -> list[str]:
    """Return what to print of predictions: a few answers, how many, and the accuracy where labels are known."""
    answered = [each for each in predictions if each.image is not None]
    lines = []
    if len(answered) <= 20:
        width = max((len(each.name) for each in answered), default=0)
        for each in answered:
            notes = f"  ({'; '.join(each.notes)})" if each.notes else ""
            lines.append(f"{each.name:{width}}  {each.answer}  {each.probability:.1%}{notes}")
    lines.append(f"{len(answered):,} image{'s' * (len(answered) != 1)} predicted.")
    labelled = [each for each in answered if each.label is not None]
    if labelled:
        right = sum(each.answer == each.label for each in labelled)
        lines[-1] += (
            f" Accuracy on the {len(labelled):,} whose label the folder, the name or the file tells: "
            f"{right / len(labelled):.2%} ({len(labelled) - right:,} error{'s' * (len(labelled) - right != 1)})."
        )
    return lines
