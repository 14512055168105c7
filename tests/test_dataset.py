import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import torn_files
from digits.console import BadInput
from digits.data import competition, csv_reader, dataset
from digits.data.competition import TEST, TRAIN


def read(folder, **options):
    return dataset.load("kaggle", folder, folds=2, **options)


@pytest.fixture
def folder(tmp_path):
    return torn_files.write_pair(tmp_path / "data with ünlaut")


@pytest.fixture
def no_parsing(monkeypatch):
    """Make it a failure to read a CSV again."""

    def fail(*_):
        raise AssertionError("the CSV was parsed")

    return lambda: monkeypatch.setattr(csv_reader, "parse", fail)


def test_the_images_labels_and_ids_are_those_of_the_files(folder):
    source = read(folder)
    rows = torn_files.tiny_rows(40)
    assert (source.name, source.leaked) == ("kaggle", False)
    np.testing.assert_array_equal(source.train.images, rows[:, 1:].reshape(40, 28, 28))
    np.testing.assert_array_equal(source.train.labels, rows[:, 0])
    np.testing.assert_array_equal(source.test.images.reshape(6, 784), torn_files.tiny_rows(6, labelled=False))
    assert source.test.labels is None
    assert source.test.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert source.train.images.dtype == source.train.labels.dtype == np.uint8
    assert source.train.ids.dtype == np.int64


def test_the_facts_say_what_was_read(folder):
    facts = read(folder).facts
    sha256 = hashlib.sha256(torn_files.train_bytes()).hexdigest()
    assert facts["files"][0] == {"name": "train.csv", "rows": 40, "sha256": sha256, "form": "different data"}
    assert facts["class_counts"] == [4] * 10
    assert "40 to train on, 6 to predict" in facts["description"]
    assert TRAIN.form(TRAIN.sha256_crlf) == "exact"
    assert TRAIN.form(TRAIN.sha256_lf) == "line ends changed"


def test_the_reader_agrees_with_pandas(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(torn_files.train_bytes(300))
    expected = pd.read_csv(path).to_numpy()
    np.testing.assert_array_equal(csv_reader.read_table(path, TRAIN.header).rows, expected)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_well_formed_bytes_never_take_the_slow_path(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "parse", None)
    monkeypatch.setattr(csv_reader, "CHUNK_BYTES", 9_000)
    data = torn_files.train_bytes(50, ending=ending)
    for content in (data, data.removesuffix(ending.encode()), csv_reader.UTF8_BOM + data):
        np.testing.assert_array_equal(csv_reader.parse(content, TRAIN.header, "x"), torn_files.tiny_rows(50))


def test_every_value_from_0_to_255_is_read_and_256_to_1000_are_refused():
    header = ("pixel0", "pixel1")
    for value in range(256):
        rows = csv_reader.parse(b"pixel0,pixel1\n%d,7\n" % value, header, "x")
        assert rows.tolist() == [[value, 7]]
    for value in range(256, 1001):
        with pytest.raises(BadInput, match=f"line 2, column pixel1: expected an integer 0-255, found '{value}'"):
            csv_reader.parse(b"pixel0,pixel1\n3,%d\n" % value, header, "x")


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_packed_files_are_read_alike(folder, suffix):
    expected = read(folder)
    for known in (TRAIN, TEST):
        plain = folder / known.name
        data = plain.read_bytes()
        packed = torn_files.gzip_bytes(data) if suffix == ".gz" else torn_files.zip_bytes({known.name: data})
        plain.with_name(known.name + suffix).write_bytes(packed)
        plain.unlink()
    for _ in range(2):
        found = read(folder)
        np.testing.assert_array_equal(found.train.images, expected.train.images)
        np.testing.assert_array_equal(found.train.labels, expected.train.labels)
        assert found.facts["files"][0]["sha256"] == expected.facts["files"][0]["sha256"]


def test_the_competitions_zip_is_read_as_it_is(tmp_path):
    torn_files.write_zip(tmp_path)
    for _ in range(2):
        source = dataset.load("auto", tmp_path, folds=2)
        assert source.name == "kaggle"
        np.testing.assert_array_equal(source.train.labels, torn_files.tiny_rows(40)[:, 0])


def test_auto_takes_the_sample_where_no_file_is(tmp_path):
    source = dataset.load("auto", tmp_path)
    assert source.name == "sample"
    assert (len(source.train.images), len(source.test.images)) == (4000, 1000)
    assert np.bincount(source.test.labels).tolist() == [100] * 10
    assert source.facts["class_counts"] == [400] * 10
    assert source.facts["files"][0]["form"] == "exact"


def test_auto_does_not_hide_half_a_pair_behind_the_sample(folder):
    (folder / TEST.name).unlink()
    with pytest.raises(BadInput, match=r"test\.csv: there is no such file.*scripts/download\.sh"):
        dataset.load("auto", folder)


def test_an_unknown_source_is_refused():
    with pytest.raises(BadInput, match="expected one of auto, kaggle, keras, sample, found 'mnist'"):
        dataset.load("mnist")


def test_a_second_read_takes_the_cache(folder, no_parsing):
    expected = read(folder)
    no_parsing()
    found = read(folder)
    np.testing.assert_array_equal(found.train.images, expected.train.images)
    np.testing.assert_array_equal(found.train.labels, expected.train.labels)
    np.testing.assert_array_equal(found.test.images, expected.test.images)
    assert found.facts == expected.facts
    for digits in (expected.train, found.train):
        assert not digits.images.flags.writeable
        assert not digits.labels.flags.writeable


def test_a_changed_file_is_read_again(folder):
    read(folder)
    path = folder / TRAIN.name
    before = path.stat()
    path.write_bytes(torn_files.csv_bytes(torn_files.tiny_rows(40, seed=1), TRAIN.header)[: before.st_size])
    data = torn_files.csv_bytes(torn_files.tiny_rows(40, seed=1), TRAIN.header)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # even with its old time
    np.testing.assert_array_equal(read(folder).train.images.reshape(40, 784), torn_files.tiny_rows(40, seed=1)[:, 1:])


def damage_middle(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        damage_middle,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.unlink(),
        lambda path: np.save(path, np.array([{"a": 1}], object), allow_pickle=True),
        lambda path: path.write_text("[1, 2]"),
        lambda path: path.write_text('{"key": {}}'),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "json"])
def test_a_damaged_cache_is_read_again_and_mended(folder, damage, ending, no_parsing):
    expected = read(folder)
    damage(folder / f".train.csv.cache.{ending}")
    for _ in range(2):
        np.testing.assert_array_equal(read(folder).train.images, expected.train.images)
        np.testing.assert_array_equal(read(folder).train.labels, expected.train.labels)
    no_parsing()
    read(folder)


def test_a_folder_that_cannot_be_written_to_is_read_without_a_cache(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(csv_reader.np, "save", refuse)
    for _ in range(2):
        assert len(read(folder).train.images) == 40
    assert sorted(path.name for path in folder.iterdir()) == ["test.csv", "train.csv"]


def test_the_limit_keeps_the_class_shares_and_leaves_the_test_part_whole(tmp_path):
    rows = torn_files.tiny_rows(200)
    rows[:, 0] = np.repeat(np.arange(10), [38, 2, 20, 20, 20, 20, 20, 20, 20, 20])
    folder = torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN.header))
    source = dataset.load("kaggle", folder, folds=1, limit=199)
    assert sum(source.facts["class_counts"]) == 199
    source = dataset.load("kaggle", folder, folds=1, limit=1000)
    assert sum(source.facts["class_counts"]) == 200
    with pytest.raises(BadInput, match="found 1 of digit 1"):
        dataset.load("kaggle", folder, folds=1, limit=100)
    source = dataset.load("kaggle", torn_files.write_pair(tmp_path / "even", torn_files.train_bytes(200)), limit=105)
    assert max(source.facts["class_counts"]) - min(source.facts["class_counts"]) <= 1
    assert len(source.test.images) == 6
    assert (np.diff(source.train.ids) > 0).all()


@pytest.mark.parametrize("limit", [0, -5, 9, 2.5, True])
def test_a_limit_that_is_none_is_refused(folder, limit):
    with pytest.raises(BadInput, match="limit: expected a whole number from 10 up"):
        read(folder, limit=limit)


def test_a_missing_class_is_refused(tmp_path):
    rows = torn_files.tiny_rows(40)
    rows[:, 0] %= 9
    folder = torn_files.write_pair(tmp_path, torn_files.csv_bytes(rows, TRAIN.header))
    with pytest.raises(BadInput, match="at least 2 of each digit for 2 folds, found 0 of digit 9"):
        read(folder)


def test_fewer_images_of_a_digit_than_folds_are_refused(folder):
    with pytest.raises(BadInput, match="at least 5 of each digit for 5 folds, found 4 of digit 0"):
        dataset.load("kaggle", folder, folds=5)


def test_a_test_image_among_the_training_images_is_refused(tmp_path):
    leaking = torn_files.tiny_rows(40)[[3, 17, 17], 1:]
    clean = torn_files.tiny_rows(5, labelled=False)
    test = torn_files.csv_bytes(np.vstack([clean, leaking]), TEST.header)
    folder = torn_files.write_pair(tmp_path, test=test)
    with pytest.raises(BadInput, match="leak: 3 of 8 test images are, byte for byte, among the 40 training images"):
        read(folder)
    source = read(folder, allow_leak=True)
    assert source.leaked
    assert source.facts["leaked_images"] == 3
    assert not read(folder, test_file=write(tmp_path, torn_files.predict_bytes()), allow_leak=True).leaked


def write(folder, data, name="other.csv"):
    (folder / name).write_bytes(data)
    return folder / name


def test_images_that_only_look_alike_are_no_leak(tmp_path):
    nearly = torn_files.tiny_rows(40)[:4, 1:]
    nearly[:, 0] ^= 1
    folder = torn_files.write_pair(tmp_path, test=torn_files.csv_bytes(nearly, TEST.header))
    assert not read(folder).leaked


def test_another_test_file_is_predicted_instead(folder, tmp_path):
    path = write(tmp_path, torn_files.predict_bytes(11))
    (folder / TEST.name).unlink()
    source = read(folder, test_file=path)
    assert source.test.ids.tolist() == list(range(1, 12))
    assert source.test.labels is None
    assert [file["name"] for file in source.facts["files"]] == ["train.csv", "other.csv"]
    assert not list(tmp_path.glob(".*"))  # no copy is left in a folder that is not the data's


def test_a_missing_test_file_is_refused(folder, tmp_path):
    with pytest.raises(BadInput, match=r"none\.csv: there is no such file. Give a CSV with the columns"):
        read(folder, test_file=tmp_path / "none.csv")


@pytest.mark.parametrize("home", [False, True])
def test_a_local_mnist_npz_is_the_keras_source(tmp_path, monkeypatch, home):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    torn_files.write_npz(tmp_path / "keras/datasets" if home else tmp_path)
    source = dataset.load("keras", tmp_path)
    expected = torn_files.npz_arrays()
    np.testing.assert_array_equal(source.train.images, expected["x_train"])
    np.testing.assert_array_equal(source.train.labels, expected["y_train"])
    np.testing.assert_array_equal(source.test.images, expected["x_test"])
    np.testing.assert_array_equal(source.test.labels, expected["y_test"])
    assert not source.leaked
    assert source.facts["files"][0]["form"] == "different data"


def test_keras_digits_trained_for_a_file_that_holds_them_are_refused(tmp_path):
    torn_files.write_npz(tmp_path)
    path = write(tmp_path, torn_files.csv_bytes(torn_files.npz_arrays()["x_train"][:9].reshape(9, 784), TEST.header))
    with pytest.raises(BadInput, match=r"leak: 9 of 9 test images.*source 'keras'"):
        dataset.load("keras", tmp_path, test_file=path)
    assert dataset.load("keras", tmp_path, test_file=path, allow_leak=True).leaked


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")

    def fail(*_, **__):
        raise Exception("URL fetch failure on …: None -- no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(BadInput, match=r"mnist\.npz: expected to download it from https.*no network.*--source sample"):
        dataset.load("keras", tmp_path)


REAL = os.environ.get("DIGITS_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="DIGITS_DATA names no folder with digit-recognizer.zip")
def test_the_competitions_files_are_read_and_known(tmp_path):
    (tmp_path / competition.ARCHIVE).symlink_to(Path(REAL).resolve() / competition.ARCHIVE)
    source = dataset.load("auto", tmp_path)
    assert [file["form"] for file in source.facts["files"]] == ["exact", "exact"]
    assert source.facts["class_counts"] == [4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188]
    assert source.train.images.shape == (42_000, 28, 28)
    assert source.test.ids[[0, -1]].tolist() == [1, 28_000]
    assert source.train.images.max() == 255
    packed = torn_files.gzip_bytes(csv_reader.read_bytes(tmp_path / competition.ARCHIVE, TEST.name))
    path = write(tmp_path, packed, "packed")
    with pytest.raises(BadInput, match="leak: 1,608 of 28,000 test images"):
        dataset.load("sample", test_file=path)
