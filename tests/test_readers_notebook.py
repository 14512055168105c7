"""The notebook for readers: it runs, and its network, schedule and augmentation are those of the kit."""

import re

import numpy as np
import pytest

import build_kernel
from digits import config
from digits.model.augment import affine_transforms, ink_margins

CONSTANTS = "EPOCHS, FOLDS, BATCH_SIZE, SEED = "
STANDARD = config.load_recipe("standard")


@pytest.fixture(scope="module")
def code():
    return "\n".join(text for kind, text in build_kernel.cells(build_kernel.READ, []) if kind == "code")


@pytest.fixture(scope="module")
def executed(code, tmp_path_factory):
    """The names that the notebook leaves after one epoch of two folds on 600 of the sample's digits."""
    import matplotlib

    from digits.model.backend import load_keras

    load_keras()
    matplotlib.use("Agg")
    short = re.sub(f"{CONSTANTS}.*", f"{CONSTANTS}1, 2, 50, 0", code).replace("4000", "500")
    short = short.replace("images[500:]", "images[500:600]")
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        exec(compile(short, "digit-recognizer.ipynb", "exec"), names)
        names["written"] = open("submission.csv").read().splitlines()  # noqa: PTH123, SIM115 in the folder above
    return names


def test_it_runs_and_writes_a_submission(executed):
    assert executed["written"][0] == "ImageId,Label"
    assert len(executed["written"]) == 101
    assert not np.isnan(executed["out_of_fold"]).any()


def test_it_trains_as_the_recipe_standard_says(code):
    found = re.search(f"^{CONSTANTS}(.*)$", code, re.MULTILINE)
    assert found
    assert [int(number) for number in found[1].split(",")] == [STANDARD.epochs, STANDARD.folds, STANDARD.batch_size, 0]
    assert (STANDARD.networks, STANDARD.members, STANDARD.optimizer, STANDARD.dropout) == (("compact",), 1, "adamw", 1)
    assert STANDARD.schedule == "one-cycle"
    for setting in (f"weight_decay={STANDARD.weight_decay}", f"label_smoothing={STANDARD.label_smoothing}"):
        assert setting in code


def test_its_network_is_compact(executed):
    import keras

    from digits.model.networks import build_network, plain

    def described(network):
        for layer in network.layers:
            sizes = [getattr(layer, name, None) for name in ("filters", "units", "kernel_size", "padding", "momentum")]
            shapes = [tuple(weight.shape) for weight in layer.weights]
            dropout = round(getattr(layer, "rate", 0), 4)
            if not isinstance(layer, keras.layers.InputLayer | keras.layers.ReLU | keras.layers.Softmax):
                yield type(layer).__name__, sizes, dropout, shapes

    assert list(described(executed["compact"]())) == list(described(plain(build_network("compact", (28, 28, 1)))))
    kernel = next(layer for layer in executed["compact"]().layers if getattr(layer, "filters", 0) == 64).get_weights()[
        0
    ]
    np.testing.assert_array_equal(kernel[1, 1, :, :32], np.eye(32))


def test_its_learning_rate_and_weight_average_are_the_kit_s(executed):
    from digits.model.trainer import build_optimizer, learning_rates

    ours, schedule = learning_rates(STANDARD, 100), executed["OneCycle"](100 * STANDARD.epochs)
    for step in (0, 500, 1500, 3599):
        assert float(schedule(step)) == pytest.approx(float(ours(step)), rel=1e-5)
    optimizers = build_optimizer(STANDARD, 100), executed["AveragedAdamW"](schedule, use_ema=True)
    for step in (0, 100, 20_000):
        for optimizer in optimizers:
            optimizer.iterations.assign(step)
        first, second = (float(optimizer.ema_momentum) for optimizer in optimizers)
        assert first == pytest.approx(second, abs=1e-6)


def test_its_augmentation_has_the_kit_s_transforms_and_limits(executed):
    augmentation = STANDARD.augmentation
    limits = [augmentation.rotation_degrees, augmentation.zoom, augmentation.zoom, augmentation.shear_degrees]
    assert executed["RandomAffine"]().limits == [*limits, augmentation.shift_pixels, augmentation.shift_pixels]
    random = np.random.default_rng(0)
    rotation, shear, x, y = random.uniform(-10, 10, (4, 5))
    zoom = random.uniform(0.8, 1.2, (5, 2))
    arguments = [np.float32(values) for values in (rotation, zoom[:, 0], zoom[:, 1], shear, x, y)]
    np.testing.assert_allclose(
        executed["affine"](*arguments), affine_transforms(rotation, zoom, shear, x, y, (28, 28)), atol=1e-4
    )


def test_its_augmentation_keeps_all_ink_of_images_that_are_only_shifted(executed):
    image = np.zeros((200, 28, 28, 1), np.uint8)
    image[:, 1:9, 20:27] = 255
    shifted = np.asarray(executed["RandomAffine"](rotation=0, shift=5, zoom=0, shear=0)(image, training=True))
    np.testing.assert_allclose(shifted.sum(axis=(1, 2, 3)), image[0].sum(), rtol=1e-4)
    assert ink_margins(image[:1]).tolist() == [[20, 1, 1, 19]]


def test_it_averages_the_copies_of_the_recipe(executed):
    from digits.model.predict import tta_transforms

    expected = {tuple(np.round(row, 4)) for row in tta_transforms(STANDARD.tta, (28, 28))}
    copies = np.float32(executed["COPIES"]).T
    assert {tuple(np.round(row, 4)) for row in np.asarray(executed["affine"](*copies))} == expected
    assert STANDARD.tta.weight == 1


def test_no_cell_of_it_hides_a_failure(code):
    assert not re.search(r"\bexcept\b|suppress|errors=.ignore|!pip|subprocess", code)
