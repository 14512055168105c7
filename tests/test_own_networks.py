"""Networks from a user's own file: read, checked before training, kept with the run, resumed without the original."""

import dataclasses

import numpy as np
import pytest

from digits import config
from digits.console import BadInput
from digits.model import check, custom
from digits.model.backend import load_keras
from digits.runs.store import Run
from train_process import finish, start, wait_for

load_keras()

LENET = """
from keras import Input, Sequential, layers

def lenet(input_shape, classes):
    return Sequential([
        Input(input_shape), layers.Rescaling(1 / 255),
        layers.Conv2D(6, 5, activation="relu"), layers.BatchNormalization(), layers.MaxPooling2D(), layers.Flatten(),
        layers.Dropout(0.25), layers.Dense(classes, activation="softmax"),
    ])
"""
HEAD = (
    "import keras\nfrom keras import layers\nclass Halve(layers.Layer):\n    def call(self, x):\n        return x / 2\n"
)


def recipe_with(source, precision="float32"):
    recipe = config.load_recipe("quick")
    return dataclasses.replace(recipe, networks=("own.py:net",), sources={"own.py": source}, precision=precision)


def checked(source, precision="float32"):
    check.check_networks(recipe_with(source, precision), precision, (28, 28, 1), 10, print)


def network(layers_, inputs="input_shape"):
    return f"{HEAD}def net(input_shape, classes):\n    return keras.Sequential([keras.Input({inputs}), {layers_}])\n"


def dense(activation="None", inputs="input_shape"):
    return network(f"layers.Flatten(), layers.Dense(classes, activation={activation})", inputs)


REFUSED = {
    "def net(input_shape, classes):\n    return 1 / 0\n": "own.py, line 2: ZeroDivisionError: division by zero (",
    "x = 1\nimport not_there\ndef net(a, b): ...": "own.py, line 2: there is no module 'not_there'. Put what",
    "def net(classes): ...": "own.py: TypeError: net() takes 1 positional argument but 2 were given",
    "def net(input_shape, classes):\n    return 3\n": "expected a function that returns a keras.Model, found int.",
    network(
        "layers.Flatten(), layers.Dense(7)"
    ): "expected a network from images (None, 28, 28, 1) to probabilities (None,",
    dense(inputs=(28, 28)): "(None, 28, 28) to (None, 10).",
    dense(): "expected probabilities that sum to 1 (is the last activation a softmax?), found sums from",
    network("layers.GlobalAveragePooling2D(), layers.UpSampling1D()"): "own.py, line 7: ValueError: ",
    network(
        "layers.Conv2D(10, 28), layers.Flatten(), layers.Lambda(lambda x: x * 0 + 0.1)"
    ): "cannot be saved and loaded",
    network("layers.Lambda(lambda x: x[:, 0, :10, 0] * 0 + 0.1)"): "expected weights to train, found none.",
}


def test_a_network_that_cannot_be_trained_is_refused_with_what_was_expected():
    for source, message in REFUSED.items():
        with pytest.raises(BadInput) as refusal:
            checked(source)
        assert message in str(refusal.value)


def test_networks_of_layers_nested_or_of_ones_own_are_good_in_both_precisions():
    nested = f"{LENET}\ndef net(input_shape, classes):\n    inputs = Input(input_shape)\n"
    nested += "    return __import__('keras').Model(inputs, lenet(input_shape, classes)(inputs))\n"
    own = network("Halve(), layers.Conv2D(4, 28), layers.Flatten(), layers.Dense(classes, activation='softmax')")
    unbuilt = network("layers.Flatten(), layers.Dense(classes, activation='softmax')").replace(
        "keras.Input(input_shape), ", ""
    )
    for source in (nested, own, unbuilt, LENET.replace("def lenet", "def net")):
        for precision in ("float32", "mixed_bfloat16"):
            checked(source, precision)


def test_dropout_and_batch_norm_of_nested_networks_are_found():
    from digits.model.networks import all_layers, build_network

    nested = f"{LENET}\ndef net(input_shape, classes):\n    inputs = Input(input_shape)\n"
    nested += "    return __import__('keras').Model(inputs, lenet(input_shape, classes)(inputs))\n"
    built = build_network("own.py:net", dropout=0.5, sources={"own.py": nested})
    kinds = {type(layer).__name__: layer for layer in all_layers(built)}
    assert kinds["Dropout"].rate == 0.125
    assert "BatchNormalization" in kinds


def test_a_network_of_layers_of_ones_own_is_loaded_with_the_text_of_the_run_s_record(tmp_path):
    import keras

    from digits.model.networks import build_network
    from digits.model.predict import load_network, predict_probabilities, save_network

    recipe = recipe_with(network("Halve(), layers.Flatten(), layers.Dense(classes, activation='softmax')"))
    built = build_network("own.py:net", sources=recipe.sources)
    save_network(built, tmp_path / "fold-1.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    expected = predict_probabilities(built, images)
    custom.load_module.cache_clear()
    keras.saving.get_custom_objects().clear()
    with pytest.raises(BadInput, match="not a model that Keras loads safely"):
        load_network(tmp_path / "fold-1.keras")
    loaded = load_network(tmp_path / "fold-1.keras", recipe.sources)
    assert np.allclose(predict_probabilities(loaded, images), expected)


@pytest.mark.slow
def test_a_killed_run_of_ones_own_network_resumes_without_the_original_and_is_not_mixed_with_another(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(LENET)
    flags = ["--source", "sample", "--recipe", "quick", "--limit", "300", "--no-tta", "--run", "mine"]
    flags += ["--networks", f"{file}:lenet", "--epochs", "30"]
    run = Run(tmp_path / "mine")
    process = start(tmp_path, *flags, real=True)
    wait_for(run.checkpoint_path(1, 1).exists, process)
    process.kill()
    process.communicate()
    file.write_text(LENET.replace("0.25", "0.5"))
    code, _, err = finish(tmp_path, *flags, real=True)
    assert code == 2
    assert "network own.py was" in err
    assert "To resume it with its own settings: python src/train.py --run mine." in err
    file.unlink()
    code, out, err = finish(tmp_path, "--run", "mine", real=True)
    assert code == 0, err
    assert "after epoch" in out
    assert (run.folder / "networks" / "own.py").read_text() == LENET
    assert run.record().recipe.sources == {"own.py": LENET}
