import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from digits.config import Augmentation, Recipe, Tta
from digits.console import BadInput
from digits.model.backend import load_keras

load_keras()

import keras
from keras import layers

from digits.model import networks, predict, trainer
from digits.model.augment import draw_transforms, identity_transforms, ink_margins
from digits.model.networks import AffineTransform


def tiny(input_shape, classes):
    """Build a network with norm and dropout and next to no work."""
    images, x = networks._images(input_shape)
    x = networks._block(layers.MaxPooling2D(2)(x), 8, 5, pool=True)
    x = networks.ByteDropout(0.1)(layers.Flatten()(x))
    return networks._classifier("tiny", images, layers.Dense(classes)(x))


networks.NETWORKS["tiny"] = tiny

TINY = Recipe(
    name="tiny",
    networks=("tiny",),
    epochs=4,
    batch_size=32,
    learning_rate=2e-2,
    weight_decay=0.01,
    label_smoothing=0.05,
    augmentation=Augmentation(rotation_degrees=5, shift_pixels=1),
    ema=0.9,
)


def made_digits(count, seed=0):
    """Return images of ten plain patterns with noise, uint8 (count, 28, 28, 1), and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    images = random.integers(0, 40, (count, 28, 28, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 2 * label : 8 + 2 * label, 4:24] = 220
    return images, labels


def fitted(recipe=TINY, epochs=4, seed=(0, 1, 1)):
    fit = trainer.Trainer(recipe, recipe.networks[0], *made_digits(320), seed)
    while fit.epochs_done < epochs:
        fit.history.append(fit.run_epoch())
    return fit


@pytest.fixture(scope="module")
def whole():
    return fitted()


def test_an_epoch_reports_its_images_once_takes_one_step_a_batch_and_ends_otherwise_with_another_seed(whole):
    fit, reported = trainer.Trainer(TINY, "tiny", *made_digits(350), (1, 1, 1)), []
    fit.run_epoch(reported.append)
    assert sum(reported) == fit.images_per_epoch == 320
    assert min(reported) > 0
    assert int(fit._optimizer.iterations) == 10
    images, _ = made_digits(20, seed=2)
    first, other = (predict.predict_probabilities(one.network, images) for one in (whole, fit))
    assert not np.allclose(first, other, atol=1e-3)


def test_a_resumed_training_ends_as_another_of_its_seed_and_its_averaged_weights_do_well(whole, tmp_path):
    interrupted = fitted(epochs=3)
    interrupted.save(tmp_path / "state.npz")
    again = trainer.Trainer(TINY, "tiny", *made_digits(320), (0, 1, 1))
    again.load(tmp_path / "state.npz")
    images, labels = made_digits(100, seed=1)
    assert again.score(images[:70], labels[:70]) > 0.5
    again.history.append(again.run_epoch())
    assert [epoch.epoch for epoch in again.history] == [1, 2, 3, 4]
    expected, found = (predict.predict_probabilities(fit.network, images) for fit in (whole, again))
    assert np.allclose(expected, found, atol=1e-5)
    assert (expected.argmax(axis=1) == labels).mean() > 0.9
    assert expected.dtype == np.float32
    last = [weight.copy() for weight in again.network.get_weights()]
    averaged = again.finish()
    assert any(not np.allclose(*pair) for pair in zip(last, averaged.get_weights(), strict=True))
    assert (predict.predict_probabilities(averaged, images).argmax(axis=1) == labels).mean() > 0.9


def test_a_loss_that_is_no_number_stops_training_and_says_when():
    wild = TINY.changed(learning_rate=1e30, schedule="constant", optimizer="sgd", ema=0.0)
    with pytest.raises(trainer.TrainingFailedError, match="the loss was nan in epoch"):
        fitted(wild)


def test_clean_epochs_see_the_images_as_they_are():
    fit = trainer.Trainer(TINY.changed(clean_epochs=1), "tiny", *made_digits(64), (0,))
    order = np.arange(64)
    assert not np.array_equal(fit._draw_transforms(np.random.default_rng(0), order), identity_transforms(64))
    fit.epochs_done = 3
    assert np.array_equal(fit._draw_transforms(np.random.default_rng(0), order), identity_transforms(64))


def test_tta_averages_its_views(whole):
    network = whole.network
    images, _ = made_digits(7)
    tta = predict.predict_probabilities(network, images, Tta(shift_pixels=1))
    alone = predict.predict_probabilities(network, images)
    assert len(predict.tta_transforms(Tta(shift_pixels=1, rotation_degrees=8), (28, 28))) == 7
    assert tta.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(tta, alone, atol=1e-4)
    half = predict.predict_probabilities(network, images, Tta(shift_pixels=1, weight=0.5))
    assert half == pytest.approx((2.5 * tta + 0.5 * alone) / 3, abs=1e-5)


@pytest.mark.parametrize(
    ("above", "weight"),
    [pytest.param(0, 1, id="unsure"), pytest.param(0.5, 0.5, id="between"), pytest.param(2, 0, id="sure")],
)
def test_only_images_of_a_small_largest_probability_have_augmented_copies(whole, above, weight):
    images, _ = made_digits(1)
    largest = float(predict.predict_probabilities(whole.network, images).max())
    tta = Tta(shift_pixels=1, below=largest - above * predict.FADING)
    expected = predict.predict_probabilities(whole.network, images, Tta(shift_pixels=1, weight=weight))
    assert predict.predict_probabilities(whole.network, images, tta) == pytest.approx(expected, abs=1e-5)


def test_one_cycle_rises_to_its_peak_and_falls_to_nothing_others_begin_at_it_and_unknown_ones_are_refused():
    rates = np.array([float(trainer.OneCycle(1.0, 100, 0.2)(step)) for step in range(100)])
    assert rates[0] < 0.06
    assert rates.max() == pytest.approx(1, abs=0.02)
    assert rates.argmax() in (19, 20)
    assert rates[-1] < 0.001
    for schedule in ("constant", "exponential"):
        rates = trainer.learning_rates(TINY.changed(schedule=schedule, epochs=20), steps_per_epoch=10)
        assert float(rates if isinstance(rates, float) else rates(0)) == pytest.approx(2e-2)
    for unknown in ({"schedule": "wild"}, {"optimizer": "wild"}):
        with pytest.raises(ValueError, match="'wild'; expected"):
            trainer.build_optimizer(TINY.changed(**unknown), 10)


def test_the_other_optimizers_train_too():
    for optimizer in ("adam", "muon"):
        fit = fitted(TINY.changed(optimizer=optimizer, learning_rate=1e-3, epochs=2), epochs=2)
        assert fit.history[1].loss < fit.history[0].loss


def test_a_saved_network_that_is_none_or_has_a_changed_bit_or_another_shape_is_refused(tmp_path):
    path = tmp_path / "fold-1.keras"
    predict.save_network(networks.build_network("seed", (28, 28, 1)), path)
    content = bytearray(path.read_bytes())
    content[content.index(b"class_name")] ^= 1
    for broken, reason in ((bytes(content), ": Bad CRC-32"), (b"not a model", "")):
        path.write_bytes(broken)
        with pytest.raises(BadInput, match=rf"fold-1\.keras: not a model that Keras loads safely{reason}"):
            predict.load_network(path)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    with pytest.raises(BadInput, match="expected a network from images"):
        predict.load_network(path)


def test_a_model_that_brings_code_is_refused_and_its_code_not_run(tmp_path, monkeypatch):
    monkeypatch.delenv("CODE_RAN", raising=False)
    inputs = keras.Input((28, 28, 1))
    outputs = layers.Lambda(lambda x: (__import__("os").environ.update(CODE_RAN="1"), x)[1])(inputs)
    keras.Model(inputs, layers.Dense(10)(layers.Flatten()(outputs))).save(tmp_path / "code.keras")
    monkeypatch.delenv("CODE_RAN", raising=False)
    with pytest.raises(BadInput, match=r"code\.keras: not a model that Keras loads safely"):
        predict.load_network(tmp_path / "code.keras")
    assert "CODE_RAN" not in os.environ


ON_ANOTHER_BACKEND = """
import json, sys
from digits.model.backend import load_keras
load_keras()
import keras, test_trainer as own, numpy as np
from digits.model import predict
from digits.model.augment import draw_transforms, ink_margins
from digits.model.networks import AffineTransform
images, labels = own.made_digits(320)
transforms = draw_transforms(np.random.default_rng(3), ink_margins(images[:4]), (28, 28), own.TINY.augmentation)
transformed = np.asarray(AffineTransform()(images[:4], transforms))
fit = own.fitted()
probabilities = predict.predict_probabilities(fit.finish(), own.made_digits(100, seed=1)[0])
accuracy = float((probabilities.argmax(axis=1) == own.made_digits(100, seed=1)[1]).mean())
settings = keras.config.image_data_format(), keras.config.floatx(), keras.config.epsilon()
json.dump({"transformed": transformed.tolist(), "accuracy": accuracy, "settings": settings}, sys.stdout)
"""


def test_jax_transforms_to_the_same_pixels_and_learns_as_well_whatever_keras_json_says(tmp_path):
    pytest.importorskip("jax")
    settings = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 1e-4, "max_epochs": 1}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    paths = os.pathsep.join(str(Path(__file__).parents[1] / name) for name in ("src", "tests"))
    environment = os.environ | {"KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path), "PYTHONPATH": paths}
    run = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    assert found["settings"] == ["channels_last", "float32", 1e-7]
    images, _ = made_digits(320)
    transforms = draw_transforms(np.random.default_rng(3), ink_margins(images[:4]), (28, 28), TINY.augmentation)
    own = np.asarray(AffineTransform()(images[:4], transforms))
    assert np.allclose(own, np.array(found["transformed"]), atol=0.05)
    assert found["accuracy"] > 0.9


def test_an_older_keras_without_muon_still_trains_with_the_others(monkeypatch):
    """Kaggle's image had Keras 3.8, and Muon came with 3.10."""
    monkeypatch.delattr(trainer.keras.optimizers, "Muon")
    assert trainer.build_optimizer(TINY, 10) is not None
    with pytest.raises(BadInput, match=r"has no Muon\. Use --set optimizer=adamw"):
        trainer.build_optimizer(dataclasses.replace(TINY, optimizer="muon"), 10)


def test_halves_of_a_batch_train_one_network_whose_state_continues_without_halves(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "computes_halves", lambda: True)
    fit = fitted(TINY.changed(batch_size=64), epochs=1)
    assert [type(layer).__name__ for layer in fit._model.layers][-1] == "_Halves"
    assert fit.score(*made_digits(320)) > 0.1
    fit.save(tmp_path / "state.npz")
    images, _ = made_digits(7)
    whole = np.asarray(fit.network(images))
    np.testing.assert_allclose(networks.in_halves(fit.network).predict_on_batch(images), whole, rtol=1e-5)
    monkeypatch.setattr(networks, "computes_halves", lambda: False)
    again = trainer.Trainer(fit.recipe, "tiny", *made_digits(320), (0, 1, 1))
    again.load(tmp_path / "state.npz")
    np.testing.assert_allclose(np.asarray(again.network(images)), whole, rtol=1e-5)


def test_each_half_of_a_batch_is_normalised_by_its_own_moments(monkeypatch):
    monkeypatch.setattr(networks, "computes_halves", lambda: True)
    shape = (2, 2, 1)
    norm = networks.keras.Sequential([networks.keras.Input(shape), networks.FusedBatchNormalization()])
    images = np.random.default_rng(0).normal(3, 2, (8, *shape)).astype(np.float32)
    outputs = np.asarray(networks.in_halves(norm)(images, training=True))
    for half in (outputs[:4], outputs[4:]):
        np.testing.assert_allclose([half.mean(), half.std()], [0, 1], atol=1e-2)
