"""Check the networks of a user's own file before anything is trained with them."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from digits.config import Recipe
from digits.console import BadInput
from digits.model.custom import line_of, write_sources


def check_networks(
    recipe: Recipe, precision: str, input_shape: tuple[int, int, int], classes: int, log: Callable
) -> None:
    """Build each network of the recipe's own files, and see whether it does what training asks of it.

    Args:
        recipe: whose networks are checked.
        precision: in which they compute, float32 or mixed_bfloat16.
        input_shape: height, width and channels of an image.
        classes: how many probabilities there are.
        log: takes a line; not used.

    Raises:
        BadInput: naming the function, what is wrong with it and what was expected.
    """
    from digits.model.backend import load_keras

    load_keras()
    for name in dict.fromkeys(recipe.networks):
        if ":" in name:
            _check(name, recipe, precision, input_shape, classes)


def _check(name: str, recipe: Recipe, precision: str, input_shape: tuple[int, int, int], classes: int) -> None:
    import keras

    from digits.model.networks import build_network, plain
    from digits.model.predict import load_network, predict_probabilities

    def expect(true: bool, expected: str, found: object) -> None:
        if not true:
            raise BadInput(f"{name}: expected {expected}, found {found}.")

    file = name.partition(":")[0]
    try:
        network = build_network(name, precision, recipe.dropout, recipe.sources, classes=classes)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"{line_of(error, file)}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]} "
            f"({name} was called with {input_shape} and {classes})"
        ) from None
    shapes = network.input_shape, network.output_shape
    images = f"images {(None, *input_shape)} to probabilities {(None, classes)}"
    expect(shapes == ((None, *input_shape), (None, classes)), f"a network from {images}", f"{shapes[0]} to {shapes[1]}")
    expect(len(network.trainable_variables) > 0, "weights to train", "none")
    batch = np.random.default_rng(0).integers(0, 256, (8, *input_shape), dtype=np.uint8)
    probabilities = keras.ops.convert_to_numpy(network(batch))
    expect(probabilities.dtype == np.float32, "float32 (give the last layer dtype='float32')", probabilities.dtype)
    sums = probabilities.sum(axis=1)
    whole = np.isfinite(probabilities).all() and (probabilities >= 0).all() and np.allclose(sums, 1, atol=1e-3)
    low, high = f"{sums.min():.3g}", f"{sums.max():.3g}"
    expect(whole, "probabilities that sum to 1 (is the last activation a softmax?)", f"sums from {low} to {high}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            plain(network).save(path)
            write_sources(recipe, Path(folder))
            again = predict_probabilities(load_network(path), batch[..., 0])
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise BadInput(
                f"{name}: cannot be saved and loaded again ({reason}). Build it of Keras's layers; a layer class "
                "of its own needs get_config."
            ) from None
    expect(np.allclose(again, probabilities, atol=0.02), "the same probabilities once saved and loaded", "others")
