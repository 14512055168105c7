"""Predict the class probabilities of images with a trained network, with or without test-time augmentation."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from digits.config import Tta
from digits.console import BadInput
from digits.files import atomic_write, display_path
from digits.model import custom
from digits.model.augment import affine_transforms
from digits.model.networks import INPUT_SHAPE, augmented_model, plain

BATCH_SIZE = 512


def save_network(network: keras.Model, path: Path) -> None:
    """Write a network as a .keras file of Keras's own layers, which loads without this kit."""
    with atomic_write(path) as temporary:
        plain(network).save(temporary)


def load_network(path: Path) -> keras.Model:
    """Read a network from a .keras file in Keras's safe mode, which runs no code that the file brings.

    In the folder of a run with networks from a user's own files, their copies are run first: they may define layers.

    Raises:
        BadInput: if it is not such a file, or its shapes are not those of the kit's networks.
    """
    for source in sorted((path.parent / custom.FOLDER).glob("*.py")):
        custom.load_module(source.name, source.read_text(encoding="utf-8"))
    try:
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise BadInput(f"{display_path(path)}: not a model that Keras loads safely: {reason}") from None
    if network.input_shape != (None, *INPUT_SHAPE) or len(network.output_shape) != 2:
        raise BadInput(
            f"{display_path(path)}: expected a network from images {INPUT_SHAPE} to probabilities (classes,), "
            f"found {network.input_shape} to {network.output_shape}."
        )
    return network


def tta_transforms(tta: Tta) -> np.ndarray:
    """Return the affine transforms float32 (v, 8) of the views that `tta` averages; the first is the identity."""
    shift, angle = tta.shift_pixels, tta.rotation_degrees
    views: list[tuple[float, float, float]] = [(0, 0, 0)]
    views += [(0, shift, 0), (0, -shift, 0), (0, 0, shift), (0, 0, -shift)] if shift else []
    views += [(angle, 0, 0), (-angle, 0, 0)] if angle else []
    rotation, shift_x, shift_y = np.array(views, float).T
    zeros = np.zeros(len(views))
    return affine_transforms(rotation, np.ones((len(views), 2)), zeros, shift_x, shift_y)


def predict_probabilities(network: keras.Model, images: np.ndarray, tta: Tta = Tta()) -> np.ndarray:  # noqa: B008 frozen
    """Return the mean probabilities float32 (n, classes) of images uint8 (n, side, side) over the views of `tta`."""
    return predict_views(network, [images], tta)[0][0]


def predict_views(
    network: keras.Model, image_sets: Sequence[np.ndarray], tta: Tta
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predict several arrays of images uint8 (n, side, side), and trace the network once for all of them.

    Returns:
        For each array the mean probabilities float32 (n, classes) over the views of `tta`, and those of the images
        as they are.
    """
    augmented, views = augmented_model(network), tta_transforms(tta)
    predictions = []
    for images in image_sets:
        mean, alone = np.empty((2, len(images), network.output_shape[-1]), np.float32)
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE, ..., np.newaxis]
            count = len(batch)
            # The last batch is padded, so that every batch has one shape and nothing is traced twice.
            batch = np.concatenate([batch, np.zeros((BATCH_SIZE - count, *batch.shape[1:]), np.uint8)])
            first = total = network.predict_on_batch(batch)
            for view in views[1:]:
                total = total + tta.weight * augmented.predict_on_batch(
                    [batch, np.repeat(view[np.newaxis], BATCH_SIZE, axis=0)]
                )
            alone[start : start + count] = first[:count]
            mean[start : start + count] = total[:count] / (1 + tta.weight * (len(views) - 1))
        predictions.append((mean, alone))
    return predictions
