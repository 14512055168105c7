import base64
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from digits.config import Augmentation
from digits.kaggle.ledger import Entry
from digits.model.augment import apply_transforms
from digits.report import charts
from digits.report.analysis import calibration, gather

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture
def run(runs):
    return runs[0]


def test_all_figures_are_drawn_into_the_run_s_folder(run, sample):
    paths = charts.draw_all(run, sample)
    names = {"learning-curves", "confusion-matrix", "class-shares", "calibration", "mistakes", "augmentation"}
    assert {path.stem for path in paths} == names
    for path in paths:
        assert path.parent == run.folder
        picture = np.asarray(Image.open(path).convert("L"))
        assert min(picture.shape) > 200
        assert max(picture.shape) < 3000
        assert picture.std() > 5, f"{path.name} is blank"
    assert not list(run.folder.glob("*.tmp*"))


@pytest.mark.parametrize(
    ("off_by", "title"),
    [pytest.param(0, "No errors", id="none"), pytest.param(1, "The 30 most confident of 600", id="all")],
)
def test_a_gallery_tells_how_many_errors_it_leaves_out(run, sample, off_by, title):
    predicted = np.eye(10, dtype=np.float32)[(sample.train.labels + off_by) % 10]
    figure = charts.mistakes_gallery(replace(gather(run, sample), out_of_fold=predicted))
    assert title in figure.texts[0].get_text()


def test_scipy_warps_digits_as_the_training_layer_does(sample):
    pytest.importorskip("keras")
    from digits.model.augment import draw_transforms, ink_margins
    from digits.model.networks import AffineTransform

    images = sample.train.images[:200]
    wide = Augmentation(rotation_degrees=25, shift_pixels=4.5, zoom=0.3, shear_degrees=15)
    transforms = draw_transforms(np.random.default_rng(1), ink_margins(images), (28, 28), wide)
    trained_on = np.asarray(AffineTransform()(images, transforms))
    assert np.abs(apply_transforms(images, transforms).astype(float) - trained_on).max() <= 0.51


def test_a_chart_for_a_page_is_the_same_each_time_and_has_colours_for_dark_mode():
    uri = charts.svg(charts.draw_class_shares, [10] * 10, [10] * 10, DIGITS)
    assert uri == charts.svg(charts.draw_class_shares, [10] * 10, [10] * 10, DIGITS)
    text = base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")).decode()
    ElementTree.fromstring(text)
    assert "prefers-color-scheme:dark" in text
    for light in (charts.BLUE, charts.MUTED, charts.GRID):
        assert f"{light}" in text.split("</style>", 1)[1], "drawn in a colour that dark mode knows"
    drawn = set(re.findall(r"#[0-9a-f]{6}", text.split("</style>", 1)[1]))
    assert drawn <= set(charts.DARK), "nothing is drawn in a colour that dark mode does not know"


def scored(run, accuracy, score, rows=28_000):
    return Entry(run=run, out_of_fold=accuracy, standard_error=0.0003, public_score=score, rows=rows)


def test_public_scores_are_labelled_and_this_run_stands_out():
    entries = [scored("a", 0.9964, 0.9966), scored("b", 0.9971, 0.997)]
    text = charts.svg(charts.draw_public_scores, entries, "a")
    text = base64.b64decode(text.partition(",")[2]).decode()
    assert ">a</text>" in text
    assert ">b</text>" in text
    assert charts.ORANGE in text.split("</style>", 1)[1]


def test_the_bar_of_a_public_score_is_its_standard_error_on_its_own_test_set():
    entries = [scored("a", 0.99, 0.98), scored("b", 0.991, 0.98, rows=5000)]
    axes = charts.panel(charts.draw_public_scores, entries).axes[0]
    for point, entry in zip(axes.containers, entries, strict=True):
        low, high = point.lines[2][1].get_segments()[0][:, 1]
        assert high - low == pytest.approx(200 * np.sqrt(0.98 * 0.02 / entry.rows))


def test_the_names_of_public_scores_stay_inside_the_figure():
    runs = [("standard-20261126-041500", 0.9964), ("quick-20261126-040000", 0.9912), ("best-cpu-20261126-0500", 0.9972)]
    entries = [scored(name, score, score) for name, score in runs]
    figure = charts.panel(charts.draw_public_scores, entries, size=(6.4, 4.4))
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert figure.bbox.containsx(box.x0), text
        assert figure.bbox.containsx(box.x1), text


def test_calibration_counts_every_row_once_and_finds_certain_errors():
    labels = np.arange(1000) % 10
    certain = np.eye(10, dtype=np.float32)[labels] * 0.9 + 0.01
    right = calibration(certain, labels)
    assert [(each.rows, each.accuracy) for each in right.bins] == [(1000, 1.0)]
    assert right.error == pytest.approx(0.09, abs=1e-5)
    assert not right.overconfident
    wrong = calibration(certain, (labels + 1) % 10)
    assert wrong.error == pytest.approx(0.91, abs=1e-5)
    assert wrong.overconfident


@pytest.mark.filterwarnings("error")
def test_a_class_may_have_any_name_in_a_chart_and_a_long_one_is_cut():
    names = [r"$\frac$", "a$b", "x_1^2", "<b>&", "あ", "a very long name of a class", *DIGITS[6:]]
    text = charts.svg(charts.draw_class_shares, [10] * 10, [10] * 10, names)
    root = ElementTree.fromstring(base64.b64decode(text.partition(",")[2]).decode())
    shown = [name.replace("a very long name of a class", "a very long n…") for name in names]
    assert set(shown) <= {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    charts.svg(charts.draw_confusion, np.eye(10, dtype=int), names)


def test_a_comparison_draws_the_curves_of_its_runs_over_one_another(runs, sample):
    compared = [gather(run, sample) for run in runs[:2]]
    figure = charts.panel(charts.draw_errors_of_runs, compared)
    lines = figure.axes[0].get_lines()
    assert len(lines) == sum(len(data.results) + 1 for data in compared)
    assert figure.axes[0].get_ylabel() == "errors, held-out"


@pytest.mark.parametrize("low", [1e-6, 0.011, 0.3, 0.9, 3])
@pytest.mark.parametrize("factor", [1.3, 2, 7, 1000])
def test_a_logarithmic_axis_has_at_least_two_and_at_most_seven_labelled_ticks(low, factor):
    ticks = charts.log_ticks(low, low * factor)
    assert 2 <= len(set(ticks)) == len(ticks) <= 7
    assert all(0.95 * low <= tick <= 1.05 * low * factor for tick in ticks)
