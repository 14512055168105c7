import re

import numpy as np
import pytest

from digits import config
from digits.model import networks
from digits.model.backend import load_keras
from digits.report.layers import read_layers

load_keras()

import keras

from digits.model.predict import save_network


@pytest.mark.parametrize("name", config.NETWORKS)
def test_a_network_says_ten_probabilities_and_docstring_and_report_its_weights_and_multiply_adds(name, tmp_path):
    said = re.search(r"([\d,]+) weights, ([\d.]+) M multiply-adds", networks.NETWORKS[name].__doc__)
    network = networks.build_network(name, (28, 28, 1))
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    probabilities = network.predict_on_batch(images)
    assert probabilities.shape == (2, 10)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    save_network(network, tmp_path / "network.keras")
    layers = read_layers(tmp_path / "network.keras", 10)
    assert int(said[1].replace(",", "")) == network.count_params() == sum(each.weights for each in layers)
    assert float(said[2]) == config.NETWORKS[name] == round(sum(each.multiply_adds for each in layers) / 1e6, 1)
    assert (layers[0].output, layers[-1].output) == ((28, 28, 1), (10,))


def test_recipes_know_the_networks_names():
    assert [name for name in networks.NETWORKS if name != "tiny"] == list(config.NETWORKS)


def test_a_network_in_bfloat16_still_gives_float32_and_leaves_the_policy_as_it_was():
    network = networks.build_network("compact", (28, 28, 1), "mixed_bfloat16")
    assert network.predict_on_batch(np.zeros((1, 28, 28, 1), np.uint8)).dtype == np.float32
    assert keras.config.dtype_policy().name == "float32"


def test_the_fused_norm_trains_as_keras_own_does():
    inputs = np.random.default_rng(0).normal(3, 2, (8, 5, 5, 4)).astype(np.float32)
    fused, own = networks.FusedBatchNormalization(), keras.layers.BatchNormalization()
    said = [keras.ops.convert_to_numpy(layer(inputs, training=True)) for layer in (fused, own)]
    assert np.allclose(said[0], said[1], atol=1e-4)
    assert np.allclose(fused.moving_mean, own.moving_mean, atol=1e-6)
    # The fused op's variance is that of a sample, n / (n - 1) times Keras's.
    assert np.allclose(fused.moving_variance, own.moving_variance, rtol=0.01)


def test_byte_dropout_drops_at_its_rate_keeps_the_mean_and_draws_anew_each_time():
    inputs, dropout = np.ones((64, 7, 7, 5), np.float32), networks.ByteDropout(0.2, seed=1)
    first, second = (keras.ops.convert_to_numpy(dropout(inputs, training=True)) for _ in range(2))
    for outputs in (first, second):
        assert abs((outputs == 0).mean() - 51 / 256) < 0.015  # Four standard errors of 15,680 values.
        assert np.allclose(outputs[outputs > 0], 256 / 205)
    assert (first != second).mean() > 0.2
    # No value depends on its neighbours: of two adjacent ones, both are dropped as often as by chance.
    assert abs(((first == 0)[:, 1:] & (first == 0)[:, :-1]).mean() - (51 / 256) ** 2) < 0.01
    assert np.array_equal(dropout(inputs, training=False), inputs)


def test_the_factor_on_dropout_reaches_every_dropout_layer_and_nothing_else():
    for factor, rates in ((1.0, [0.2, 0.2, 0.4]), (0.5, [0.1, 0.1, 0.2]), (0.0, [0, 0, 0])):
        layers = networks.build_network("compact", (28, 28, 1), dropout=factor).layers
        assert [layer.rate for layer in layers if hasattr(layer, "rate")] == rates


def test_a_plain_network_predicts_as_before_and_is_of_keras_layers_alone():
    network = networks.build_network("compact", (28, 28, 1))
    images = np.random.default_rng(1).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    before = network.predict_on_batch(images)
    assert all(type(layer).__module__.startswith("keras.") for layer in networks.plain(network).layers)
    assert np.array_equal(network.predict_on_batch(images), before)


def test_the_3x3_convolutions_of_compact_pass_their_channels_on_at_first():
    kernels = [
        keras.ops.convert_to_numpy(layer.kernel)
        for layer in networks.build_network("compact", (28, 28, 1)).layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3)
    ]
    assert len(kernels) == 4
    for kernel in kernels:
        channels, filters = kernel.shape[2:]
        passed = np.zeros((3, 3, channels, channels))
        passed[1, 1] = np.eye(channels)
        assert np.array_equal(kernel[..., :channels], passed)
        assert filters == channels or np.unique(kernel[..., channels:]).size > 1000  # The others start at random.
