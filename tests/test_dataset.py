import hashlib
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import torn_files
from digits.console import BadInput
from digits.data import competition, csv_reader, dataset
from digits.data.competition import DIGIT_RECOGNIZER, KANNADA_MNIST, Form
from torn_files import PIXEL_COLUMNS, TRAIN_COLUMNS


def read(folder, **options):
    return dataset.load("kaggle", folder, folds=2, **options)


@pytest.fixture
def folder(tmp_path):
    return torn_files.write_pair(tmp_path / "data with ünlaut")


@pytest.fixture
def default_folder(folder, monkeypatch):
    monkeypatch.setattr(competition, "DATA", folder)
    return folder


def test_the_images_labels_and_ids_are_those_of_the_files(folder):
    data = read(folder)
    rows = torn_files.tiny_rows(40)
    assert (data.source, data.leaked, data.groups) == ("kaggle", False, None)
    np.testing.assert_array_equal(data.train.images, rows[:, 1:].reshape(40, 28, 28, 1))
    np.testing.assert_array_equal(data.train.labels, rows[:, 0])
    np.testing.assert_array_equal(data.test.images.reshape(6, 784), torn_files.tiny_rows(6, labelled=False))
    assert data.test.labels is None
    assert data.test.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert data.train.images.dtype == data.train.labels.dtype == np.uint8
    assert data.train.ids.dtype == np.int64


def test_the_summary_says_what_was_read(folder):
    summary = read(folder).summary
    sha256 = hashlib.sha256(torn_files.train_bytes()).hexdigest()
    assert summary.files[0] == dataset.DataFile("train.csv", 40, sha256, Form.OWN)
    assert summary.class_counts == [4] * 10
    assert "40 to train on, 6 to predict" in summary.description
    known = DIGIT_RECOGNIZER.train
    assert known.form(known.sha256, "", 1) is Form.IDENTICAL
    assert known.form("another", known.content, 1) is Form.SAME_CONTENT
    assert known.form("another", "another", 42_000) is Form.DIFFERENT
    earlier = ["exact", "same data", "different data", "not verified", "30 of 5,000 rows", "own data"]
    assert {Form(text) for text in earlier} == set(Form) - {Form.PUBLISHED}
    unknown = KANNADA_MNIST.train
    assert [unknown.form("", "", rows) for rows in (60_000, 8_000)] == [Form.UNVERIFIED, Form.PARTIAL]


def test_every_value_from_0_to_255_is_read_and_256_to_1000_are_refused():
    def text(value):
        return b",".join([*(b"p%d" % index for index in range(64))]) + b"\n%d" % value + b",7" * 63 + b"\n"

    for value in range(256):
        assert torn_files.pixels(csv_reader.parse(text(value)))[0, :2].tolist() == [value, 7]
    for value in range(256, 1001):
        with pytest.raises(BadInput, match=f"line 2, column p0: expected an integer 0-255, found '{value}'"):
            csv_reader.parse(text(value))


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_packed_files_are_read_alike(folder, suffix):
    expected = read(folder)
    for name in ("train.csv", "test.csv"):
        plain = folder / name
        data = plain.read_bytes()
        packed = torn_files.gzip_bytes(data) if suffix == ".gz" else torn_files.zip_bytes({name: data})
        plain.with_name(name + suffix).write_bytes(packed)
        plain.unlink()
    found = read(folder)
    np.testing.assert_array_equal(found.train.images, expected.train.images)
    np.testing.assert_array_equal(found.train.labels, expected.train.labels)
    assert found.summary.files[0].sha256 == expected.summary.files[0].sha256


@pytest.mark.parametrize(("inner", "others"), [("", {}), ("digit-recognizer/", {"__MACOSX/._train.csv": b"\0"})])
def test_the_competitions_zip_is_read_as_it_is_whatever_else_is_in_it(tmp_path, inner, others):
    members = {f"{inner}{name}": data for name, data in torn_files.competition_members().items()}
    torn_files.write_zip(tmp_path, members | others)
    data = dataset.load("auto", tmp_path, folds=2)
    assert data.source == "kaggle"
    np.testing.assert_array_equal(data.train.labels, torn_files.tiny_rows(40)[:, 0])


def test_files_of_other_names_are_found(tmp_path):
    (tmp_path / "mnist_train.csv").write_bytes(torn_files.train_bytes())
    (tmp_path / "mnist_test.csv").write_bytes(torn_files.predict_bytes())
    assert len(read(tmp_path).train.images) == 40
    (tmp_path / "my_train.csv").write_bytes(torn_files.train_bytes())
    with pytest.raises(BadInput, match=r"expected one file train.csv, found mnist_train.csv, my_train.csv. Name one"):
        read(tmp_path)


def test_only_an_empty_default_folder_stands_for_the_sample(default_folder):
    for name in ("train.csv", "test.csv"):
        (default_folder / name).unlink()
    data = dataset.load("auto")
    assert (data.source, data.competition) == ("sample", None)
    assert (len(data.train.images), len(data.test.images)) == (4000, 1000)
    assert np.bincount(data.test.labels).tolist() == [100] * 10
    assert data.summary.class_counts == [400] * 10
    assert data.summary.files[0].form is Form.PUBLISHED


def test_a_folder_that_was_named_is_used_or_refused_saying_what_is_there(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "idx").mkdir()
    (tmp_path / "idx/notes.txt").write_bytes(b"hello")
    torn_files.write_pair(tmp_path / "other")
    archive = torn_files.write_zip(tmp_path / "zips")
    for path, message in {
        tmp_path / "none": "none is no folder",
        tmp_path / "empty": "The folder holds nothing",
        tmp_path / "idx": r"The folder holds notes\.txt",
        tmp_path: r"expected one file train\.csv, found data with ünlaut/train\.csv, other/train\.csv",
        archive: r"digit-recognizer\.zip is no folder\. Unpack it: scripts/download\.sh --zip",
    }.items():
        with pytest.raises(BadInput, match=message):
            dataset.load("auto", path)
    with pytest.raises(BadInput, match="expected one of auto, kaggle, keras, sample, found 'mnist'"):
        dataset.load("mnist")


def test_half_a_pair_is_not_hidden_behind_the_sample(default_folder):
    (default_folder / "test.csv").unlink()
    with pytest.raises(BadInput, match=r"test\.csv: there is no such file.*scripts/download\.sh"):
        dataset.load("auto")


def test_only_the_competitions_own_test_images_are_the_competitions(default_folder, monkeypatch):
    test = torn_files.tiny_rows(6, labelled=False)
    known = dataset.replace(DIGIT_RECOGNIZER.test, content=hashlib.sha256(test).hexdigest())
    monkeypatch.setattr(dataset, "DIGIT_RECOGNIZER", dataset.replace(DIGIT_RECOGNIZER, test=known))
    data = dataset.load("kaggle", folds=2)
    assert (data.competition.slug, data.summary.warnings) == ("digit-recognizer", [])
    assert data.summary.files[1].form is Form.SAME_CONTENT
    (default_folder / "test.csv").write_bytes(torn_files.csv_bytes(test[::-1], PIXEL_COLUMNS))
    data = dataset.load("kaggle", folds=2)
    assert data.competition is None
    [warning] = data.summary.warnings
    assert "test.csv (not Kaggle's file): this run's predictions are no submission" in warning
    assert read(default_folder).summary.warnings == []  # Named, it is a folder of one's own.


def test_copies_of_an_image_go_into_one_fold(tmp_path):
    rows = torn_files.tiny_rows(100)[np.repeat(np.arange(100), 2)]
    folder = torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN_COLUMNS))
    data = read(folder)
    assert data.summary.duplicates == 100
    [warning] = data.summary.warnings
    assert warning.startswith("100 training images are copies of others")
    for folds in (1, 2, 4):
        pairs = dataset.split_folds(data.train.labels, folds, 0, data.groups)
        assert len(pairs) == folds
        for train, validation in pairs:
            assert not set(data.groups[train]) & set(data.groups[validation])
            assert sorted([*train, *validation]) == list(range(200))
            assert len(set(data.train.labels[validation])) == 10
    with pytest.raises(
        BadInput, match="--folds 11 needs at least 11 different images of each class, found 10 of class 0"
    ):
        dataset.load("kaggle", folder, folds=11)


def test_the_limit_keeps_the_class_shares_and_leaves_the_test_images_whole(tmp_path):
    rows = torn_files.tiny_rows(200)
    rows[:, 0] = np.repeat(np.arange(10), [38, 2, 20, 20, 20, 20, 20, 20, 20, 20])
    folder = torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN_COLUMNS))
    data = dataset.load("kaggle", folder, folds=1, limit=199)
    assert sum(data.summary.class_counts) == 199
    data = dataset.load("kaggle", folder, folds=1, limit=1000)
    assert sum(data.summary.class_counts) == 200
    with pytest.raises(BadInput, match="found 1 of class 1"):
        dataset.load("kaggle", folder, folds=1, limit=100)
    data = dataset.load("kaggle", torn_files.write_pair(tmp_path / "even", torn_files.train_bytes(200)), limit=105)
    assert max(data.summary.class_counts) - min(data.summary.class_counts) <= 1
    assert len(data.test.images) == 6
    assert (np.diff(data.train.ids) > 0).all()


@pytest.mark.parametrize("limit", [0, -5, 9])
def test_a_limit_that_is_none_is_refused(folder, limit):
    with pytest.raises(BadInput, match="limit: expected a whole number from 10 up"):
        read(folder, limit=limit)


def test_classes_that_the_competition_does_not_have_and_lacks_are_refused(tmp_path):
    rows = torn_files.tiny_rows(40)
    rows[:, 0] %= 9
    folder = torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN_COLUMNS))
    with pytest.raises(BadInput, match="--folds 2 needs at least 2 different images of each class, found 0 of class 9"):
        read(folder, competition=DIGIT_RECOGNIZER)
    assert read(folder).classes == tuple("012345678")
    rows[3, 0] = 11
    folder = torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN_COLUMNS))
    with pytest.raises(BadInput, match=r"train\.csv, row 4: expected one of the classes 0-9, found '11'"):
        read(folder, competition=DIGIT_RECOGNIZER)


MISTYPED = r"\. Correct mistyped labels"


@pytest.mark.parametrize(
    ("labels", "folds", "message"),
    [
        pytest.param(["O"] + [0, 1] * 20, 1, rf"found 1 of class O \(1\){MISTYPED}", id="O"),
        pytest.param([0, 1] * 20 + ["3.5"], 2, rf"found 1 of class 3\.5 \(41\){MISTYPED}", id="3.5"),
        pytest.param([7, 7] + [0, 1] * 20, 5, r"class 7 \(1, 2\)", id="fewer folds"),
        *(
            pytest.param(
                [0, 1, text, *range(3, 7), text, 8, 9, *[*range(10)] * 3], 2,
                rf"train\.csv, column label: .*{re.escape(repr(text))} in 2 of 40 rows \(3, 8\)", id=text,
            )
            for text in ("nan", "NA", "?", "-1", "None", "null")
        ),
    ],
)  # fmt: skip
def test_missing_labels_and_a_class_of_too_few_images_are_named_with_their_rows(tmp_path, labels, folds, message):
    with pytest.raises(BadInput, match=message):
        dataset.load("kaggle", write_labels(tmp_path, labels), folds=folds)


def write_labels(folder, labels, test_labels=None):
    files = {"train": (labels, 0), "test": (test_labels or [], 9)}
    for name, (texts, seed) in files.items():
        rows = torn_files.tiny_rows(len(texts) or 12, labelled=False, seed=seed).tolist()
        lines = [(label, *row) for label, row in zip(texts, rows, strict=True)] if texts else rows
        first = TRAIN_COLUMNS if texts else PIXEL_COLUMNS
        (folder / f"{name}.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in [first, *lines]))
    return folder


def test_a_rare_class_is_doubted_with_its_rows(tmp_path):
    data = read(write_labels(tmp_path, [0, 1] * 60 + ["O", "O"]))
    assert data.classes == ("0", "1", "O")
    [note] = data.summary.warnings
    assert note == "class 'O' has 2 training images (121, 122), others 60: mistyped?"


@pytest.mark.parametrize("placeholder", [0, "?", "nan", -1])
def test_a_constant_test_label_is_a_placeholder(tmp_path, placeholder):
    data = read(write_labels(tmp_path, [*range(10)] * 4, [placeholder] * 12))
    assert data.test.labels is None
    assert f"test.csv: all labels are '{placeholder}': a placeholder, not used." in data.summary.warnings


@pytest.mark.parametrize(
    ("labels", "test_labels", "classes"),
    [
        pytest.param(["00", "01"], ["01", "00"], ("00", "01"), id="padded"),
        pytest.param(["7.0", "8.0"], ["8", "7"], ("7.0", "8.0"), id="decimals, whole in the test file"),
        pytest.param(["3", "4"], ["04", "03"], ("3", "4"), id="padded in the test file"),
    ],
)
def test_a_class_keeps_its_name(tmp_path, labels, test_labels, classes):
    data = read(write_labels(tmp_path, labels * 10, test_labels * 6))
    assert data.classes == classes
    assert data.train.labels.tolist() == [0, 1] * 10
    assert data.test.labels.tolist() == [1, 0] * 6


def test_one_number_written_in_two_ways_is_two_classes_and_is_said_but_not_of_the_competition_s_own(tmp_path):
    data = read(write_labels(tmp_path, ["1", "01", "2"] * 10))
    assert data.classes == ("01", "1", "2")
    assert "the classes 01, 1 are taken as different." in data.summary.warnings
    assert read(write_labels(tmp_path, [-1, 1] * 10)).classes == ("1", "-1")
    data = read(write_labels(tmp_path, [f"{label}.0" for label in range(10)] * 4), competition=DIGIT_RECOGNIZER)
    assert data.classes == tuple("0123456789")
    assert data.train.labels.tolist() == [*range(10)] * 4


def test_an_image_in_two_classes_and_images_that_are_all_the_same_are_named(tmp_path):
    rows = np.vstack([torn_files.tiny_rows(40), torn_files.tiny_rows(40)[:1]])
    rows[-1, 0] = 5
    [copies, note] = read(torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN_COLUMNS))).summary.warnings
    assert note == "1 of the copies are labelled as another class than the first (41)."
    assert copies.startswith("1 training images are copies")
    rows[:, 1:] = 255
    with pytest.raises(BadInput, match="expected different ones, found 41 that are all the same"):
        read(torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN_COLUMNS)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda pixels: 255 - pixels, "test images look inverted", id="inverted"),
        pytest.param(
            lambda pixels: pixels // 8 * (pixels < 250) + pixels * (pixels > 249), "of another brightness", id="dark"
        ),
    ],
)
def test_test_images_that_look_otherwise_are_noted_before_training(tmp_path, change, message):
    test = change(torn_files.tiny_rows(60, labelled=False))
    notes = read(torn_files.write_pair(tmp_path, test=torn_files.csv_bytes(test, PIXEL_COLUMNS))).summary.warnings
    assert message in notes[0]


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_a_label_at_the_end_without_a_header_is_refused_as_ambiguous(tmp_path, name):
    rows = np.random.default_rng(0).integers(0, 17, (100, 65))
    rows[:, 0], rows[:, -1] = 0, np.arange(100) % 10
    names = [f"p{index}" for index in range(64)]
    folder = torn_files.write_pair(
        tmp_path, torn_files.csv_bytes(rows, (*names, "label")), torn_files.csv_bytes(rows[:50, :-1] + 1, tuple(names))
    )
    (folder / name).write_bytes(torn_files.csv_bytes(rows, ()).lstrip(b"\n"))
    with pytest.raises(BadInput, match=r"the last column looks like labels as well\. Put a line of names above"):
        read(folder)


def test_the_competitions_train_csv_alone_says_that_its_test_csv_is_missing(tmp_path, monkeypatch):
    (tmp_path / "train.csv").write_bytes(torn_files.train_bytes(60))
    known = csv_reader.parse(torn_files.train_bytes(60), labelled=True)
    train = dataset.replace(DIGIT_RECOGNIZER.train, content=known.content)
    monkeypatch.setattr(dataset, "DIGIT_RECOGNIZER", dataset.replace(DIGIT_RECOGNIZER, train=train))
    notes = read(tmp_path).summary.warnings
    assert "digit-recognizer's test.csv is missing, so this run makes no submission: scripts/download.sh" in notes[1]


def test_a_test_image_among_the_training_images_is_refused_and_one_that_only_looks_alike_is_not(tmp_path):
    leaking, nearly = torn_files.tiny_rows(40)[[3, 17, 17], 1:], torn_files.tiny_rows(40)[:5, 1:]
    nearly[:, 0] ^= 1
    assert not read(torn_files.write_pair(tmp_path, test=torn_files.csv_bytes(nearly, PIXEL_COLUMNS))).leaked
    test = torn_files.csv_bytes(np.vstack([nearly, leaking]), PIXEL_COLUMNS)
    folder = torn_files.write_pair(tmp_path, test=test)
    with pytest.raises(BadInput, match="leak: 3 of 8 test images are, byte for byte, among the 40 training images"):
        read(folder)
    data = read(folder, allow_leak=True)
    assert data.leaked
    assert data.summary.leaked_images == 3


@pytest.mark.parametrize("home", [False, True])
def test_a_local_mnist_npz_is_the_keras_source(tmp_path, monkeypatch, home):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    torn_files.write_npz(tmp_path / "keras/datasets" if home else tmp_path)
    data = dataset.load("keras", tmp_path)
    expected = torn_files.npz_arrays()
    np.testing.assert_array_equal(data.train.images[..., 0], expected["x_train"])
    np.testing.assert_array_equal(data.train.labels, expected["y_train"])
    np.testing.assert_array_equal(data.test.images[..., 0], expected["x_test"])
    np.testing.assert_array_equal(data.test.labels, expected["y_test"])
    assert (data.leaked, data.competition) == (False, None)
    assert data.summary.files[0].form is Form.DIFFERENT


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure on …: None -- no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(utils=types.SimpleNamespace(get_file=fail)))
    with pytest.raises(BadInput, match=r"mnist\.npz: expected to download it from https.*no network.*--source sample"):
        dataset.load("keras", tmp_path)


REAL = os.environ.get("DIGITS_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="DIGITS_DATA names no folder with digit-recognizer.zip")
def test_the_competitions_files_are_read_and_known(tmp_path):
    (tmp_path / DIGIT_RECOGNIZER.archive).symlink_to(Path(REAL).resolve() / DIGIT_RECOGNIZER.archive)
    data = dataset.load("auto", tmp_path)
    assert [file.form for file in data.summary.files] == [Form.IDENTICAL] * 2
    assert data.competition is DIGIT_RECOGNIZER
    assert data.summary.class_counts == [4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188]
    assert data.train.images.shape == (42_000, 28, 28, 1)
    assert data.test.ids[[0, -1]].tolist() == [1, 28_000]
    assert data.train.images.max() == 255
    assert data.summary.duplicates == 0
