"""Let a trained network say what images are, each in one view or in several."""

from pathlib import Path

import keras
import numpy as np

from digits.config import Tta
from digits.console import BadInput
from digits.files import display_path
from digits.model import custom
from digits.model.augment import affine_transforms
from digits.model.networks import CLASSES, INPUT_SHAPE, augmented_model

PREDICT_BATCH = 512


def load_network(path: Path) -> keras.Model:
    """Read a network from a .keras file, in Keras's safe mode, which runs no code that the file brings.

    In the folder of a run with networks from a user's own files, their copies are run first: they may define layers.

    Raises:
        BadInput: if it is no such file, or not one of ours by its shapes.
    """
    for source in sorted((path.parent / custom.FOLDER).glob("*.py")):
        custom.load_module(source.name, source.read_text(encoding="utf-8"))
    try:
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise BadInput(f"{display_path(path)}: not a model that Keras loads safely: {reason}") from None
    if network.input_shape != (None, *INPUT_SHAPE) or network.output_shape != (None, CLASSES):
        raise BadInput(
            f"{display_path(path)}: expected a network from images {INPUT_SHAPE} to {CLASSES} probabilities, "
            f"found {network.input_shape} to {network.output_shape}."
        )
    return network


def tta_transforms(tta: Tta) -> np.ndarray:
    """Return the warps float32 (v, 8) of the views that `tta` averages; the first changes nothing."""
    far, turned = tta.shift_pixels, tta.rotation_degrees
    views: list[tuple[float, float, float]] = [(0, 0, 0)]
    views += [(0, far, 0), (0, -far, 0), (0, 0, far), (0, 0, -far)] if far else []
    views += [(turned, 0, 0), (-turned, 0, 0)] if turned else []
    rotation, shift_x, shift_y = np.array(views, float).T
    nothing = np.zeros(len(views))
    return affine_transforms(rotation, np.ones((len(views), 2)), nothing, shift_x, shift_y)


def predict_probabilities(network: keras.Model, images: np.ndarray, tta: Tta = Tta()) -> np.ndarray:  # noqa: B008 frozen
    """Return the mean probabilities float32 (n, 10) of images uint8 (n, 28, 28) over the views of `tta`."""
    warped = augmented_model(network)
    views = tta_transforms(tta)
    probabilities = np.empty((len(images), CLASSES), np.float32)
    for start in range(0, len(images), PREDICT_BATCH):
        batch = images[start : start + PREDICT_BATCH, ..., np.newaxis]
        count = len(batch)
        # The last batch is filled up, so that every batch has one shape and nothing is compiled twice.
        batch = np.concatenate([batch, np.zeros((PREDICT_BATCH - count, *INPUT_SHAPE), np.uint8)])
        total = network.predict_on_batch(batch)
        for view in views[1:]:
            total = total + tta.weight * warped.predict_on_batch(
                [batch, np.repeat(view[np.newaxis], PREDICT_BATCH, axis=0)]
            )
        probabilities[start : start + count] = total[:count] / (1 + tta.weight * (len(views) - 1))
    return probabilities
