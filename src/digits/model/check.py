"""Check the networks of a user's own file before anything is trained with them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digits.config import Recipe, Tta
from digits.console import BadInput
from digits.model.custom import line_of

if TYPE_CHECKING:
    import keras


def check_networks(
    recipe: Recipe, precision: str, input_shape: tuple[int, int, int], classes: int, log: Callable
) -> None:
    """Check each network of the recipe's own files: built, in float32 or mixed_bfloat16, and saved and loaded.

    `log`, which every function in a worker gets, is not used. Raises BadInput, naming the function, what is wrong with
    it and what was expected.
    """
    from digits.model.backend import load_keras

    load_keras()
    from digits.model.networks import build_network

    for name in dict.fromkeys(recipe.networks):
        if ":" not in name:
            continue
        try:
            network = build_network(name, input_shape, precision, recipe.dropout, recipe.sources, classes=classes)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(
                f"{line_of(error, name.partition(':')[0])}: {type(error).__name__}: {_first_line(error)} "
                f"({name} was called with {input_shape} and {classes})"
            ) from None
        images = np.random.default_rng(0).integers(0, 256, (8, *input_shape), dtype=np.uint8)
        probabilities = _checked_probabilities(name, network, images, classes)
        _check_saved(name, network, recipe, images, probabilities)


def _expect(name: str, is_so: bool, expected: str, found: object) -> None:
    if not is_so:
        raise BadInput(f"{name}: expected {expected}, found {found}.")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _checked_probabilities(name: str, network: "keras.Model", images: np.ndarray, classes: int) -> np.ndarray:
    """Return the network's probabilities of images uint8 (n, height, width, channels), if they are such."""
    import keras

    shapes, wanted = (network.input_shape, network.output_shape), ((None, *images.shape[1:]), (None, classes))
    expected = f"a network from images {wanted[0]} to probabilities {wanted[1]}"
    _expect(name, shapes == wanted, expected, f"{shapes[0]} to {shapes[1]}")
    _expect(name, len(network.trainable_variables) > 0, "weights to train", "none")
    probabilities = keras.ops.convert_to_numpy(network(images, training=False))
    is_float32 = probabilities.dtype == np.float32
    _expect(name, is_float32, "float32 (give the last layer dtype='float32')", probabilities.dtype)
    sums = probabilities.sum(axis=1)
    is_distribution = (probabilities >= 0).all() and np.allclose(sums, 1, atol=1e-3)  # Neither is true of NaN.
    expected = "probabilities that sum to 1 (is the last activation a softmax?)"
    _expect(name, is_distribution, expected, f"sums from {sums.min():.3g} to {sums.max():.3g}")
    return probabilities


def _check_saved(
    name: str, network: "keras.Model", recipe: Recipe, images: np.ndarray, probabilities: np.ndarray
) -> None:
    """Check that the network predicts the same once saved and loaded, alone and as an ensemble of one."""
    from digits.model.ensemble import ensemble_model
    from digits.model.predict import load_network, predict_probabilities, save_network

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            save_network(network, path)
            loaded = load_network(path, recipe.sources)
            in_float32 = load_network(path, recipe.sources, "float32")
            alone = predict_probabilities(loaded, images)
            together = ensemble_model([[in_float32]], [Tta()], [1.0]).predict_on_batch(images)
        except Exception as error:
            raise BadInput(
                f"{name}: cannot be saved and loaded again ({_first_line(error)}). Build it of Keras's layers; a layer "
                "class of its own needs get_config."
            ) from None
    # bfloat16 has three digits: where logits are in the hundreds, as without scaled pixels, single images may differ.
    for predicted, tolerance in ((alone, 0.02), (together, 0.1)):
        is_same = bool(np.median(np.abs(predicted - probabilities).max(axis=1)) <= tolerance)
        _expect(name, is_same, "the same probabilities once saved and loaded", "others")
