"""Networks from a user's own file: read, checked before training, kept with the run, resumed without the original."""

import dataclasses
import os

import numpy as np
import pytest

from digits import config
from digits.console import BadInput
from digits.inference.predictor import Predictor
from digits.model import check, custom
from digits.model.backend import load_keras
from digits.report.layers import read_layers
from digits.runs.record import FoldScore, RunSettings
from digits.runs.store import Run
from made_run import SCORE, made_record
from train_process import finish, start, wait_for

load_keras()

import keras

from digits.inference.predictor import Ensemble, SavedMember
from digits.model.networks import all_layers, build_network
from digits.model.predict import load_network, predict_probabilities, save_network

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


HALVED = network("Halve(), layers.Flatten(), layers.Dense(classes, activation='softmax')")


TWO_OUTPUTS = f"{HEAD}def net(s, c):\n    i = keras.Input(s)\n    return keras.Model(i, [i, layers.Flatten()(i)])\n"
NESTED = f"""{LENET}
def net(input_shape, classes):
    inputs = Input(input_shape)
    return __import__('keras').Model(inputs, lenet(input_shape, classes)(inputs))
"""
LAMBDA = network("layers.Conv2D(10, 28), layers.Flatten(), layers.Lambda(lambda x: x * 0 + 0.1)")
REFUSED = [
    pytest.param("def nett(a, b): ...", "own.py defines no function net. Did you mean nett?", id="no such function"),
    pytest.param("def net(:", "own.py, line 1: SyntaxError: invalid syntax", id="no Python"),
    pytest.param("def net(a, b):\n    return 1 / 0\n", "line 2: ZeroDivisionError: division by zero (", id="an error"),
    pytest.param("import not_there\ndef net(a, b): ...", "line 1: there is no module 'not_there'. Put", id="an import"),
    pytest.param("def net(classes): ...", "own.py: TypeError: net() takes 1 positional argument", id="one argument"),
    pytest.param("def net(a, b):\n    return 3\n", "returns a keras.Model, found int.", id="no model"),
    pytest.param(TWO_OUTPUTS, "expected one output, the probabilities, found 2.", id="two outputs"),
    pytest.param(network("layers.Flatten(), layers.Dense(7)"), "probabilities (None, 10), found", id="other classes"),
    pytest.param(dense(inputs=(28, 28)), "(None, 28, 28) to (None, 10).", id="another input"),
    pytest.param(dense(), "(is the last activation a softmax?), found sums from", id="no softmax"),
    pytest.param(network("layers.UpSampling1D()"), "line 7: ValueError: ", id="a layer's error"),
    pytest.param(LAMBDA, "cannot be saved and loaded", id="lambda layer"),
    pytest.param(network("layers.Lambda(lambda x: x[:, 0, :10, 0] * 0 + 0.1)"), "train, found none.", id="no weights"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_a_network_that_cannot_be_trained_is_refused_with_what_was_expected(source, message):
    with pytest.raises(BadInput) as refusal:
        checked(source)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "function", ["net = lambda input_shape, classes: lenet(input_shape, classes)", "class net: ..."]
)
def test_a_lambda_or_a_class_is_found_as_a_function_is(function, tmp_path):
    (tmp_path / "own.py").write_text(f"{LENET}\n{function}\n")
    recipe = config.override(config.load_recipe("quick"), {"networks": [f"{tmp_path / 'own.py'}:net"]})
    assert recipe.networks == ("own.py:net",)


def test_dropout_and_batch_norm_of_nested_networks_are_found():
    built = build_network("own.py:net", (28, 28, 1), dropout=0.5, sources={"own.py": NESTED})
    kinds = {type(layer).__name__: layer for layer in all_layers(built)}
    assert kinds["Dropout"].rate == 0.125
    assert "BatchNormalization" in kinds


def test_a_network_of_layers_of_ones_own_is_loaded_with_the_text_of_the_run_s_record(tmp_path):
    recipe = recipe_with(HALVED)
    built = build_network("own.py:net", (28, 28, 1), sources=recipe.sources)
    save_network(built, tmp_path / "fold-1.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    expected = predict_probabilities(built, images)
    custom.load_module.cache_clear()
    keras.saving.get_custom_objects().clear()
    with pytest.raises(BadInput, match="not a model that Keras loads safely"):
        load_network(tmp_path / "fold-1.keras")
    loaded = load_network(tmp_path / "fold-1.keras", recipe.sources)
    assert np.allclose(predict_probabilities(loaded, images), expected)


@pytest.fixture
def strange_run(monkeypatch, tmp_path):
    """A run with a layer class of its own that was not trained here, and with a file that its models do not need."""
    recipe = dataclasses.replace(recipe_with(HALVED), tta=config.Tta())
    score = FoldScore(fold=1, member=1, network="own.py:net", epochs=1, seconds=1.0, **vars(SCORE))
    run = Run(tmp_path / "strange")
    (run.folder / "networks").mkdir(parents=True)
    (run.folder / "networks" / "evil.py").write_text("import os\nos.environ['EVIL'] = 'ran'\n")
    run.write_record(made_record(recipe=recipe, folds=[score], settings=RunSettings(folds=1, members=1)))
    save_network(build_network("own.py:net", (28, 28, 1), sources=recipe.sources), run.model_path(1, 1))
    custom.load_module.cache_clear()
    monkeypatch.setattr(custom, "TRUSTED", tmp_path / "trusted")
    return run


def test_code_of_a_run_from_elsewhere_is_run_where_trusted_and_files_beside_it_never(strange_run, monkeypatch):
    monkeypatch.setattr(custom, "load_module", lambda *_: pytest.fail("run without being asked"))
    with pytest.raises(BadInput, match=r"code of its own that was not run here before: own\.py\. .* add --trust"):
        Predictor(strange_run)
    monkeypatch.undo()
    monkeypatch.setattr(custom, "TRUSTED", strange_run.folder / "trusted")
    images = np.zeros((2, 28, 28, 1), np.uint8)
    assert Predictor(strange_run, trust=True).probabilities(images).shape == (2, 10)
    assert Predictor(strange_run).classes == tuple("0123456789"), "what was trusted once is not asked for again"
    assert "EVIL" not in os.environ


def test_what_was_trained_with_here_is_trusted(monkeypatch, tmp_path):
    monkeypatch.setattr(custom, "TRUSTED", tmp_path / "trusted")
    custom.write_sources(recipe_with(LENET), tmp_path)
    custom.require_trust("mine", recipe_with(LENET).sources, trusted=False)
    with pytest.raises(BadInput, match="not run here before"):
        custom.require_trust("mine", {"own.py": LENET + "# changed"}, trusted=False)


OWN_KINDS = {
    "sequential": "return keras.Sequential([keras.Input(input_shape), *body, *head(classes)])",
    "sequential without an input": "return keras.Sequential([*body, *head(classes)])",
    "functional with operations": "i = keras.Input(input_shape)\n    x = keras.Sequential(body)(i / 255)\n"
    "    x = keras.ops.relu(x + x)\n    return keras.Model(i, keras.Sequential(head(classes))(x))",
    "one output in a list": "i = keras.Input(input_shape)\n    x = i\n    for layer in body + head(classes):\n"
    "        x = layer(x)\n    return keras.Model([i], [x])",
    "one output in a dict": "i = keras.Input(input_shape)\n    x = i\n    for layer in body + head(classes):\n"
    "        x = layer(x)\n    return keras.Model(i, {'p': x})",
    "nested": "i = keras.Input(input_shape)\n    inner = keras.Sequential([keras.Input(input_shape), *body])\n"
    "    return keras.Model(i, keras.Sequential(head(classes))(inner(i)))",
    "model class": "return Net(classes)",
    "adapted normalization": "n = layers.Normalization()\n    n.adapt(np.arange(4 * 784.0).reshape(4, 28, 28, 1))\n"
    "    return keras.Sequential([keras.Input(input_shape), n, *body, *head(classes)])",
    "random layers": "body = [layers.RandomRotation(0.5), *body]\n"
    "    return keras.Sequential([keras.Input(input_shape), *body, *head(classes)])",
    "dataclass and function as activation": "body = [layers.Conv2D(Settings().width, 9, activation=twice)]\n"
    "    return keras.Sequential([keras.Input(input_shape), *body, *head(classes)])",
    "tf.function": "return keras.Sequential([keras.Input(input_shape), Signed(), *body, *head(classes)])",
}
OWN_HEAD = """
import dataclasses
from pathlib import Path
import keras, numpy as np
from keras import layers
HERE = Path(__file__).parent
@dataclasses.dataclass
class Settings:
    width: int = 3
def twice(x):
    return 2 * x
class Signed(layers.Layer):
    def call(self, x):
        import tensorflow as tf
        @tf.function
        def signed(x):
            if tf.reduce_sum(x) > 0:
                return x / 255
            return -x / 255
        return signed(x)
class Net(keras.Model):
    def __init__(self, classes, **settings):
        super().__init__(**settings)
        self.classes, self.inner = classes, keras.Sequential([*parts(), *head(classes)])
    def call(self, x, training=None):
        return self.inner(x, training=training)
    def get_config(self):
        return super().get_config() | {"classes": self.classes}
def parts():
    return [layers.Rescaling(1 / 255), layers.Conv2D(2, 9), layers.BatchNormalization()]
def head(classes):
    return [layers.Flatten(), layers.Dense(classes, activation="softmax")]
def net(input_shape, classes):
    body = parts()
    """


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", OWN_KINDS)
def test_what_the_check_accepts_is_predicted_with_as_it_was_trained(kind, precision, tmp_path):
    source = OWN_HEAD + OWN_KINDS[kind] + "\n"
    checked(source, precision)
    trained = build_network("own.py:net", (28, 28, 1), precision, sources={"own.py": source})
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    expected = predict_probabilities(trained, images)
    save_network(trained, tmp_path / "fold-1.keras")
    assert sum(each.weights for each in read_layers(tmp_path / "fold-1.keras", 10)) == trained.count_params()
    member = SavedMember([tmp_path / "fold-1.keras"], config.Tta(), {"own.py": source})
    assert np.allclose(Ensemble([member]).probabilities(images), expected, atol=0.1 if "16" in precision else 1e-5)
    assert np.allclose(Ensemble([member], precision=None).probabilities(images, one_by_one=True), expected, atol=1e-2)


def test_two_versions_of_a_file_do_not_mix_in_one_process(tmp_path):
    """A blend may be of two runs, between which the file was changed."""
    images, saved = np.full((1, 28, 28, 1), 99, np.uint8), []
    for number, factor in enumerate(("2", "3")):
        source = HALVED.replace("x / 2", f"x / {factor}")
        network = build_network("own.py:net", (28, 28, 1), sources={"own.py": source})
        save_network(network, tmp_path / f"fold-{number}.keras")
        saved.append((tmp_path / f"fold-{number}.keras", source, predict_probabilities(network, images)))
    for path, source, expected in saved:
        assert np.allclose(predict_probabilities(load_network(path, {"own.py": source}), images), expected, atol=1e-5)


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
    assert "To resume it with its own settings: python src/train.py --run mine" in err
    file.unlink()
    code, out, err = finish(tmp_path, "--run", "mine", real=True)
    assert code == 0, err
    assert "after epoch" in out
    assert (run.folder / "networks" / "own.py").read_text() == LENET
    assert run.record().recipe.sources == {"own.py": LENET}
