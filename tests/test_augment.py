import keras
import numpy as np
import pytest

from digits.config import Augmentation
from digits.model.augment import affine_transforms, draw_transforms, ink_margins
from digits.model.networks import AffineTransform


@pytest.fixture
def bar():
    """One image of a bar of ink, 20 rows high and 4 columns wide, in the middle."""
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 4:24, 12:16] = 255
    return image


def transformed(images, **moves):
    count = len(images)
    zero = np.zeros(count)
    still = {"rotation": zero, "zoom": np.ones((count, 2)), "shear": zero, "x": zero, "y": zero}
    transforms = affine_transforms(*(still | moves).values(), images.shape[1:3])
    return keras.ops.convert_to_numpy(AffineTransform()(images, transforms))


def test_a_transform_moves_ink_right_and_down_makes_it_larger_and_turns_it(bar):
    assert np.allclose(transformed(bar), bar, atol=1e-3)
    moved = transformed(bar, x=np.array([2.0]), y=np.array([3.0]))
    assert np.allclose(moved[0, 7:27, 14:18], 255, atol=1e-2)
    assert moved.sum() == pytest.approx(bar.sum())
    assert transformed(bar, zoom=np.array([[1.2, 1.2]])).sum() == pytest.approx(1.44 * bar.sum(), rel=0.02)
    turned = transformed(bar, rotation=np.array([90.0]))[0]
    assert np.allclose(turned[12:16, 4:24], 255, atol=0.1)
    assert turned.sum() == pytest.approx(bar.sum(), rel=1e-3)


def test_a_positive_turn_is_counter_clockwise():
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 13:15, 20:24] = 255  # Ink on the right, level with the middle.
    turned = transformed(image, rotation=np.array([90.0]))[0]
    assert turned[4:8, 13:15].sum() == pytest.approx(image.sum(), rel=1e-3)


def test_a_positive_shear_slants_the_top_to_the_right(bar):
    slanted = transformed(bar, shear=np.array([15.0]))[0]
    columns = np.arange(28)
    top, bottom = (float((row * columns).sum() / row.sum()) for row in (slanted[6, :, 0], slanted[21, :, 0]))
    assert top - bottom == pytest.approx(15 * np.tan(np.deg2rad(15)), abs=0.2)


def test_margins_count_the_empty_columns_and_rows_and_are_zero_without_ink(bar):
    assert ink_margins(bar).tolist() == [[12, 12, 4, 4]]
    assert ink_margins(np.zeros_like(bar)).tolist() == [[0, 0, 0, 0]]


def test_draws_stay_within_their_ranges():
    images = np.full((2000, 28, 28, 1), 255, np.uint8)
    transforms = draw_transforms(
        np.random.default_rng(1), ink_margins(images), (28, 28), Augmentation(rotation_degrees=10)
    )
    angles = np.rad2deg(np.arctan2(transforms[:, 3], transforms[:, 0]))
    assert np.abs(angles).max() <= 10
    assert np.abs(angles).max() > 9.5
    assert abs(angles.mean()) < 0.5


def test_the_same_seed_draws_the_same_transforms():
    margins = np.zeros((5, 4), int)
    augmentation = Augmentation(rotation_degrees=5, shift_pixels=2, zoom=0.1, shear_degrees=5)
    first, second = (draw_transforms(np.random.default_rng(7), margins, (28, 28), augmentation) for _ in range(2))
    assert np.array_equal(first, second)
