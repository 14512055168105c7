import numpy as np
import pytest

from digits.config import Augmentation, Tta
from digits.console import BadInput
from digits.model.augment import affine_transforms, draw_transforms, ink_margins
from digits.model.backend import load_keras

load_keras()

from digits.model import networks, predict
from digits.model.ensemble import EnsembleMember, ensemble_model

SHAPES = [pytest.param((20, 32, 3), id="wide colour"), pytest.param((33, 24, 1), id="tall grey")]


def random_images(shape):
    return np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_ensemble_predicts_images_of_any_shape_as_its_networks_do_one_by_one(shape):
    network, images = networks.build_network("seed", shape, classes=3), random_images(shape)
    tta = Tta(shift_pixels=1.5, rotation_degrees=20, weight=0.7)
    one_by_one = predict.predict_probabilities(network, images, tta)
    together = ensemble_model([EnsembleMember([network], tta)])
    given = images.reshape(-1, *together.input_shape[1:])
    assert given.ndim == (3 if shape[2] == 1 else 4)
    assert np.allclose(together.predict_on_batch(given), one_by_one, atol=1e-5)


def test_images_turn_about_the_centre_of_their_own_height_and_width():
    image = random_images((20, 32, 3))[:1]
    zero = np.zeros(1)
    half_turn = affine_transforms(np.array([180.0]), np.ones((1, 2)), zero, zero, zero, (20, 32))
    turned = np.asarray(networks.AffineTransform()(image, half_turn))
    assert np.allclose(turned[0, 1:-1, 1:-1], image[0, ::-1, ::-1][1:-1, 1:-1], atol=0.1)


def test_shifts_keep_the_ink_of_all_channels_within_a_wide_image():
    images = np.zeros((200, 20, 32, 3), np.uint8)
    images[:, 8:12, 2:6, 0] = images[:, 8:12, 24:28, 2] = 200
    margins = ink_margins(images)
    assert margins[0].tolist() == [2, 4, 8, 8]
    augmentation = Augmentation(shift_pixels=9, keep_ink=True)
    drawn = draw_transforms(np.random.default_rng(0), margins, (20, 32), augmentation)
    moved = np.asarray(networks.AffineTransform()(images, drawn))
    assert np.allclose(moved.sum(axis=(1, 2)), images.sum(axis=(1, 2)), rtol=1e-4)


def test_images_of_another_shape_than_the_network_s_are_refused():
    network = networks.build_network("seed", (28, 28, 1))
    with pytest.raises(BadInput, match=r"expected images of 28×28×1 .* found 28×28×3"):
        predict.predict_probabilities(network, random_images((28, 28, 3)))
