import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from digits.config import Augmentation
from digits.data import dataset
from digits.kaggle.ledger import Entry
from digits.model.augment import apply_transforms, data_uri
from digits.report import charts
from digits.report.analysis import Bin, calibration
from made_run import make_run


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def run(patch, tmp_path_factory):
    return make_run(patch, tmp_path_factory.mktemp("submissions"))


@pytest.fixture(scope="module")
def sample():
    return dataset.load("sample", limit=600)


def test_all_figures_are_drawn_into_the_run_s_folder(run, sample):
    paths = charts.draw_all(run, sample, run.fold_results())
    assert {path.stem for path in paths} == {
        "learning-curves",
        "confusion-matrix",
        "class-shares",
        "calibration",
        "mistakes",
        "augmentation",
    }
    for path in paths:
        assert path.parent == run.folder
        picture = np.asarray(Image.open(path).convert("L"))
        assert min(picture.shape) > 200
        assert max(picture.shape) < 3000
        assert picture.std() > 5, f"{path.name} is blank"
    assert not list(run.folder.glob("*.tmp*"))


def test_no_mistake_is_no_fault(sample):
    labels = sample.train.labels[:50]
    figure = charts.mistakes_gallery(sample.train.images[:50], labels, np.eye(10, dtype=np.float32)[labels])
    assert "No mistake" in figure.texts[0].get_text()


def test_a_gallery_tells_how_many_mistakes_it_leaves_out(sample):
    labels = sample.train.labels[:200]
    wrong = np.eye(10, dtype=np.float32)[(labels + 1) % 10]
    figure = charts.mistakes_gallery(sample.train.images[:200], labels, wrong)
    assert "The 50 most confident of 200" in figure.texts[0].get_text()


def test_scipy_warps_digits_as_the_training_layer_does(sample):
    pytest.importorskip("keras")
    from digits.model.augment import draw_transforms, ink_margins
    from digits.model.networks import AffineTransform

    images = sample.train.images[:200]
    wide = Augmentation(rotation_degrees=25, shift_pixels=4.5, zoom=0.3, shear_degrees=15)
    warps = draw_transforms(np.random.default_rng(1), ink_margins(images), wide)
    trained_on = np.asarray(AffineTransform()(images[..., None], warps))[..., 0]
    assert np.abs(apply_transforms(images, warps).astype(float) - trained_on).max() <= 0.51


def test_an_svg_brings_its_own_ids_and_the_page_s_colours(run):
    ends = [0.99] * len(run.fold_results())
    text = charts.svg(charts.draw_errors, run.fold_results(), ends, name="errors")
    ElementTree.fromstring(text)
    assert text == charts.svg(charts.draw_errors, run.fold_results(), ends, name="errors")
    assert all(found.startswith("errors-") for found in re.findall(r'\bid="([^"]+)"', text))
    referred = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    assert referred
    assert {one or other for one, other in referred} <= set(re.findall(r'\bid="([^"]+)"', text))
    assert "var(--blue)" in text
    assert not any(colour in text for colour in charts.CSS)
    assert not re.search(r"<svg[^>]* (width|height)=", text)
    assert "epoch</text>" in text


def test_the_public_scores_are_drawn_with_and_without_this_run():
    entries = [
        Entry(run="a", out_of_fold=0.9964, standard_error=0.0003, public_score=0.9966),
        Entry(run="b", out_of_fold=0.9971, public_score=0.9970),
    ]
    assert "this run" in charts.svg(charts.draw_public_scores, entries, "a", name="public")
    assert "this run" not in charts.svg(charts.draw_public_scores, entries, "c", name="public")


def test_calibration_counts_every_digit_once_and_knows_a_sure_liar():
    labels = np.arange(1000) % 10
    sure = np.eye(10, dtype=np.float32)[labels] * 0.9 + 0.01
    bins, error = calibration(sure, labels)
    assert [(part.rows, part.right) for part in bins] == [(1000, 1.0)]
    assert error == pytest.approx(0.09, abs=1e-5)
    bins, error = calibration(sure, (labels + 1) % 10)
    assert error == pytest.approx(0.91, abs=1e-5)
    assert isinstance(bins[0], Bin)


def test_a_picture_in_a_page_is_small_and_dark_on_white(sample):
    uri = data_uri(sample.train.images[0])
    assert uri.startswith("data:image/png;base64,")
    assert len(uri) < 1000
