"""Predict images that are not the competition's: read, prepare, predict, and write a table and a contact sheet."""

import csv
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digits.console import BadInput
from digits.data.images import NotADigitImage, find_images, label_of, prepare, read_array_file, read_image, squeeze
from digits.files import atomic_write, display_path
from digits.model.backend import cpu_count
from digits.runs.saved import Predictor

UNSURE = 0.7
"""An answer of a lower probability, 0-1, is noted as unsure."""
SHOWN = 200
"""The most images on a contact sheet; of more, those with the least certain answers."""
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


def predict_images(predictor: Predictor, paths: Sequence[Path], *, is_prepared: bool | None = None) -> list[Prediction]:
    """Return the predictions of image files, of all images in folders, and of the rows of .csv, .npy and .npz files.

    Args:
        predictor: of a run.
        paths: files and folders.
        is_prepared: whether the images are as MNIST's are; None: those in .csv, .npy and .npz files are, others not.
    """
    classes = predictor.classes

    def read(path: Path) -> Prediction:
        name, label = display_path(path), label_of(path, classes)
        try:
            pixels = read_image(path)
            thumbnail = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
            thumbnail.thumbnail((CELL, CELL))
            if is_prepared:
                return Prediction(name, label, thumbnail, squeeze(pixels))
            prepared = prepare(pixels)
            return Prediction(name, label, thumbnail, prepared.image, prepared.notes)
        except NotADigitImage as error:
            return Prediction(name, label, problem=str(error))

    def read_rows(path: Path) -> Iterable[Prediction]:
        name = display_path(path)
        try:
            images, labels = read_array_file(path)
        except BadInput as error:
            yield Prediction(name, None, problem=str(error).removeprefix(f"{name}: "))
            return
        for row, image in enumerate(images, start=1):
            label = None if labels is None else str(labels[row - 1])
            notes: tuple[str, ...] = ()
            thumbnail = Image.fromarray(image)
            if is_prepared is False or image.shape != (28, 28):
                try:
                    prepared = prepare(image[..., np.newaxis])
                except NotADigitImage as error:
                    yield Prediction(f"{name}:{row}", label, problem=str(error))
                    continue
                image, notes = prepared.image, prepared.notes
            yield Prediction(f"{name}:{row}", label, thumbnail, image, notes)

    found: list[Prediction] = []
    with ThreadPoolExecutor(cpu_count()) as threads:
        for path in paths:
            files, arrays, problem = find_images(path)
            found += [Prediction(display_path(path), None, problem=problem)] if problem else threads.map(read, files)
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
        wanted = f" (is {each.label})" if is_wrong else ""
        text = f"{each.answer}  {each.probability:.1%}{wanted}   {each.runner_up} {each.runner_up_probability:.1%}"
        draw.text((x + 6, y + CELL + 10), text, fill=frame if is_wrong else "#1f2430", font=large)
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
