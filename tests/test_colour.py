import numpy as np
import pytest

from digits.config import Augmentation, Recipe, Tta
from digits.console import BadInput
from digits.model.augment import affine_transforms, apply_transforms, draw_transforms, ink_margins
from digits.model.backend import load_keras

load_keras()

from digits.model import networks, predict, trainer
from digits.model.ensemble import ensemble_model

SHAPES = [pytest.param((20, 32, 3), id="wide colour"), pytest.param((33, 24, 1), id="tall grey")]


def random_images(shape):
    return np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("below", [1, 0.4])
def test_an_ensemble_predicts_images_of_any_shape_as_its_networks_do_one_by_one(shape, below):
    network, images = networks.build_network("seed", shape, classes=3), random_images(shape)
    flips = {"flip_left_right": True, "flip_up_down": True}
    tta = Tta(shift_pixels=1.5, rotation_degrees=20, **flips, weight=0.7, below=below)
    assert tta.copies == len(predict.tta_transforms(tta, shape[:2])) == 28
    one_by_one = predict.predict_probabilities(network, images, tta)
    together = ensemble_model([[network]], [tta], [1.0])
    given = images.reshape(-1, *together.input_shape[1:])
    assert given.ndim == (3 if shape[2] == 1 else 4)
    assert np.allclose(together.predict_on_batch(given), one_by_one, atol=1e-5)


def test_images_turn_about_the_centre_of_their_own_height_and_width():
    image = random_images((20, 32, 3))[:1]
    zero = np.zeros(1)
    half_turn = affine_transforms(np.array([180.0]), np.ones((1, 2)), zero, zero, zero, (20, 32))
    turned = np.asarray(networks.AffineTransform()(image, half_turn))
    assert np.allclose(turned[0, 1:-1, 1:-1], image[0, ::-1, ::-1][1:-1, 1:-1], atol=0.1)


def network_input(images, transforms, augmentation):
    """What a network sees of images in training, float32."""
    keras = networks.keras
    inputs = keras.Input(images.shape[1:])
    identity = keras.Model(inputs, keras.layers.Identity()(inputs))
    return np.asarray(networks.augmented_model(identity, augmentation)([images, transforms]))


@pytest.mark.parametrize("flips", [{}, {"flip_left_right": True, "flip_up_down": True}], ids=["plain", "flipped"])
def test_shifts_keep_the_ink_of_all_channels_within_a_wide_image(flips):
    images = np.zeros((300, 20, 32, 3), np.uint8)
    images[:, 8:12, 2:6, 0] = images[:, 8:12, 24:28, 2] = 200
    margins, augmentation = ink_margins(images), Augmentation(shift_pixels=9, keep_ink=True, **flips)
    assert margins[0].tolist() == [2, 4, 8, 8]
    drawn = draw_transforms(np.random.default_rng(0), margins, (20, 32), augmentation)
    moved = network_input(images, drawn, augmentation)
    assert np.allclose(moved.sum(axis=(1, 2)), images.sum(axis=(1, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    ("augmentation", "flipped"),
    [
        pytest.param(Augmentation(flip_left_right=True), lambda images: images[:, :, ::-1], id="left to right"),
        pytest.param(Augmentation(flip_up_down=True), lambda images: images[:, ::-1], id="top to bottom"),
    ],
)
def test_every_other_training_image_is_flipped_and_the_others_stay(augmentation, flipped):
    images = np.repeat(random_images((9, 12, 3))[:1], 200, axis=0)
    drawn = draw_transforms(np.random.default_rng(0), ink_margins(images), (9, 12), augmentation)
    shown = network_input(images, drawn, augmentation)
    is_flipped = np.isclose(shown, flipped(images), atol=0.1).all(axis=(1, 2, 3))
    assert np.allclose(shown[~is_flipped], images[~is_flipped], atol=0.1)
    assert 70 < is_flipped.sum() < 130


def test_brightness_and_contrast_change_within_their_ranges_and_stay_in_0_to_255():
    images = np.full((500, 8, 8, 1), 200, np.uint8)
    augmentation = Augmentation(brightness=0.1, contrast=0.5)
    drawn = draw_transforms(np.random.default_rng(0), ink_margins(images), (8, 8), augmentation)
    values = network_input(images, drawn, augmentation)[:, 4, 4, 0]
    # 127.5 + 72.5 × (0.5 to 1.5), and 25.5 up or down; at most 255.
    assert 138 <= values.min() < 175
    assert 240 < values.max() <= 255
    assert np.abs(apply_transforms(images, drawn)[:, 4, 4, 0] - values).max() <= 0.51


def test_mirrored_edges_fill_a_shift_with_the_image_in_the_network_and_in_the_report():
    images, augmentation = random_images((12, 10, 3)), Augmentation(shift_pixels=4, mirror_edges=True)
    drawn = draw_transforms(np.random.default_rng(0), ink_margins(images), (12, 10), augmentation)
    shown = network_input(np.full_like(images, 90), drawn, augmentation)
    assert np.allclose(shown, 90, atol=0.01)
    pictures = apply_transforms(images, drawn, mirror_edges=True)
    assert np.abs(pictures - network_input(images, drawn, augmentation)).max() <= 0.51


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 30, 3), (96, 96, 3)], ids=str)
def test_resnet_takes_images_from_8_to_96_pixels(shape):
    network = networks.build_network("resnet", shape, classes=3)
    assert np.asarray(network(random_images(shape))).shape == (5, 3)


def test_balanced_classes_count_alike_in_the_loss():
    labels = np.array([0] * 6 + [1] * 2)
    weights = trainer._class_weights(Recipe(name="", class_weights="balanced"), labels)
    assert weights == pytest.approx({0: 2 / 3, 1: 2})
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)
    assert trainer._class_weights(Recipe(name=""), labels) is None


def test_a_recipe_with_all_changes_of_images_trains():
    augmentation = Augmentation(
        rotation_degrees=5, flip_left_right=True, mirror_edges=True, brightness=0.1, contrast=0.1
    )
    recipe = Recipe(name="", epochs=1, batch_size=4, ema=0.9, augmentation=augmentation, class_weights="balanced")
    images = np.concatenate([random_images((12, 10, 3)), 255 - random_images((12, 10, 3))])
    fit = trainer.Trainer(recipe, "resnet", images, np.array([0, 1] * 5, np.uint8), (0,))
    fit.run_epoch()
    assert predict.predict_probabilities(fit.finish(), images, Tta(flip_up_down=True)).sum(axis=1) == pytest.approx(1)


def test_images_and_networks_that_do_not_fit_are_refused():
    for name in ("compact", "vgg", "deotte"):
        message = f"the network {name} cannot take images of 8 × 8 pixels. Use --recipe photo"
        with pytest.raises(BadInput, match=message):
            networks.build_network(name, (8, 8, 3), classes=3)
    with pytest.raises(BadInput, match=r"expected images of 28×28×1 .* found 28×28×3"):
        predict.predict_probabilities(networks.build_network("seed", (28, 28, 1)), random_images((28, 28, 3)))
    sizes = [[networks.build_network("seed", (side, side, 3))] for side in (16, 20)]
    with pytest.raises(BadInput, match="expected networks that take images of one size, found"):
        ensemble_model(sizes, [Tta()] * 2, [0.5, 0.5])
