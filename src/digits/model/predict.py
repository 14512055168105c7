"""Save and load trained networks, and predict with them, with or without test-time augmentation."""

import itertools
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from digits.config import Tta
from digits.console import DISK_FULL, BadInput
from digits.files import atomic_write, display_path
from digits.model import custom
from digits.model.augment import affine_transforms
from digits.model.networks import augmented_model, in_halves, plain

BATCH_SIZE = 512
"""Of images of 28×28 pixels; of larger ones fewer, so that their maps take no more memory."""
LEAST_HALVED_BATCHES = 10
"""For fewer, tracing the network twice takes longer than computing halves of batches at the same time saves."""
FADING = 0.01
"""Over so much of the largest probability the weight of augmented copies falls to 0: a jump would enlarge the small
differences between two machines' probabilities."""
NEWER_SETTINGS: dict[str, Any] = {
    "antialias": False,
    "input_axes": None,
    "lora_alpha": None,
    "output_axes": None,
    "quantization_config": None,
    "ragged": False,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "sliding_window": None,
    "use_gate": False,
}
"""Settings of layers and initializers that came after Keras 3.8 (Kaggle's image had that), with their defaults: all
that the signatures of 3.15.1 have beyond those of 3.8.0. An older Keras refuses a file that names one."""


def save_network(network: keras.Model, path: Path) -> None:
    """Write a network, whose layers become Keras's own, as a .keras file for Keras 3.8 and later without this kit."""
    with tempfile.TemporaryDirectory() as folder, atomic_write(path) as temporary:
        saved = Path(folder) / "model.keras"
        plain(network).save(saved)
        _copy_with_config(saved, temporary)


def load_network(path: Path, sources: Mapping[str, str] | None = None, precision: str | None = None) -> keras.Model:
    """Read a network from a .keras file in Keras's safe mode, which runs no code that the file brings.

    `sources`, texts of the user's own files by name, are run first: they may define layers. It computes in `precision`;
    None: the one it was trained in.

    Raises:
        BadInput: if it is not such a file, or its shapes are not those of the kit's networks.
    """
    try:
        custom.register(sources or {})
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "model.keras"
            _copy_with_config(path, copy, precision)
            network = keras.models.load_model(copy, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        if getattr(error, "errno", None) in DISK_FULL:
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise BadInput(
            f"{display_path(path)}: not a model that Keras loads safely: {reason} "
            f"(saved by Keras {_keras_version(path)}, this is Keras {keras.__version__})"
        ) from None
    if len(network.input_shape) != 4 or len(network.output_shape) != 2:
        raise BadInput(
            f"{display_path(path)}: expected a network from images (height, width, channels) to probabilities "
            f"(classes,), found {network.input_shape} to {network.output_shape}."
        )
    return network


def _copy_with_config(path: Path, target: Path, precision: str | None = None) -> None:
    """Copy a .keras file without what older versions of Keras refuse, in another precision where one is given."""
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "config.json":
                content = json.dumps(_portable(json.loads(content), precision)).encode()
            after.writestr(name, content)


def _portable(value: Any, precision: str | None) -> Any:
    """Return a part of a model's configuration as `_copy_with_config` writes it."""
    if isinstance(value, list):
        return [_portable(item, precision) for item in value]
    if not isinstance(value, dict):
        return value
    if precision is not None and value.get("class_name") == "DTypePolicy":
        return value | {"config": {"name": precision}}
    if str(value.get("module")).startswith("keras.src.ops"):  # In 3.8 an operation has no name of its own.
        value = value | {"config": {key: item for key, item in value["config"].items() if key != "name"}}
    missing = object()
    return {key: _portable(item, precision) for key, item in value.items() if NEWER_SETTINGS.get(key, missing) != item}


def _keras_version(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return "of an unknown version"


def tta_transforms(tta: Tta, size: tuple[int, int]) -> np.ndarray:
    """Return the affine transforms float32 (c, 8) of the augmented copies that `tta` averages; the first: identity.

    Each of its flips doubles their number. `size` is height and width of the images in pixels.
    """
    shift, angle = tta.shift_pixels, tta.rotation_degrees
    copies: list[tuple[float, float, float]] = [(0, 0, 0)]
    copies += [(0, shift, 0), (0, -shift, 0), (0, 0, shift), (0, 0, -shift)] if shift else []
    copies += [(angle, 0, 0), (-angle, 0, 0)] if angle else []
    flips = itertools.product([1, -1] if tta.flip_left_right else [1], [1, -1] if tta.flip_up_down else [1])
    zoom = np.repeat(np.array(list(flips), float), len(copies), axis=0)
    rotation, shift_x, shift_y = np.tile(np.array(copies, float), (len(zoom) // len(copies), 1)).T
    return affine_transforms(rotation, zoom, np.zeros(len(zoom)), shift_x, shift_y, size)


def copy_weight(tta: Tta, largest: Any, clip: Callable) -> Any:
    """Return the weight (n, 1) of an augmented copy beside 1 of the image, whose `largest` probability is (n, 1).

    Above `tta.below` it falls to 0, over `FADING`; `clip` is that of NumPy or Keras.
    """
    return tta.weight * clip((tta.below - largest) / FADING + 1, 0, 1)


def predict_probabilities(network: keras.Model, images: np.ndarray, tta: Tta = Tta()) -> np.ndarray:  # noqa: B008 frozen
    """Return the mean probabilities float32 (n, classes) of images uint8 (n, height, width, channels) over `tta`."""
    return predict_image_sets(network, [images], tta)[0][0]


def check_shape(network: keras.Model, images: np.ndarray) -> None:
    """Refuse images (n, height, width, channels) of another shape than the network's.

    Raises:
        BadInput: naming both.
    """
    if network.input_shape[1:] != images.shape[1:]:
        expected, given = ("×".join(map(str, shape)) for shape in (network.input_shape[1:], images.shape[1:]))
        raise BadInput(f"expected images of {expected} (height×width×channels), found {given}")


def predict_image_sets(
    network: keras.Model, image_sets: Sequence[np.ndarray], tta: Tta
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predict several arrays of images uint8 (n, height, width, channels), and trace the network once for all.

    Returns:
        For each array the mean probabilities float32 (n, classes) over the augmented copies of `tta`, and those of the
        images as they are.
    """
    height, width = network.input_shape[1:3]
    augmented, transforms = augmented_model(network), tta_transforms(tta, (height, width))
    batch_size = max(1, min(BATCH_SIZE, BATCH_SIZE * 28**2 // (height * width)))
    if sum(map(len, image_sets)) >= LEAST_HALVED_BATCHES * batch_size:
        network, augmented = in_halves(network), in_halves(augmented)

    def predict(images: np.ndarray, transform: np.ndarray | None = None) -> np.ndarray:
        """Return the probabilities of the images, or of their copies after one transform."""
        probabilities = np.empty((len(images), network.output_shape[-1]), np.float32)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            count = len(batch)
            # The last batch is padded, so that every batch has one shape and nothing is traced twice.
            batch = np.concatenate([batch, np.zeros((batch_size - count, *batch.shape[1:]), np.uint8)])
            if transform is None:
                predicted = network.predict_on_batch(batch)
            else:
                predicted = augmented.predict_on_batch([batch, np.repeat(transform[np.newaxis], batch_size, axis=0)])
            probabilities[start : start + count] = predicted[:count]
        return probabilities

    predictions = []
    for images in image_sets:
        check_shape(network, images)
        alone = predict(images)
        weight = copy_weight(tta, alone.max(axis=1, keepdims=True, initial=0), np.clip)
        mean, unsure = alone.copy(), np.flatnonzero(weight)
        total, weight = alone[unsure], weight[unsure]
        for transform in transforms[1:]:
            total = total + weight * predict(images[unsure], transform)
        mean[unsure] = total / (1 + weight * (len(transforms) - 1))
        predictions.append((mean, alone))
    return predictions
