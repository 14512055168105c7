"""Images whose labels are in a CSV of ids, as most competitions of images have them."""

import re

import numpy as np
import pytest
from PIL import Image

import torn_files
from digits.config import Options
from digits.console import BadInput
from digits.data import dataset
from digits.runs.record import RunSettings
from made_run import made_record

KINDS = ("cat", "dog, wild")
IDS = [f"{number:03}" for number in range(12)]
ROWS = [(name, KINDS[index % 2]) for index, name in enumerate(IDS)]
OTHER_ORDER = [(label, row, name) for row, (name, label) in enumerate(ROWS)]
ONE_HOT = [(name, *[("0", "1"), ("1", "0")][index % 2]) for index, name in enumerate(IDS)]
TEST_IDS = ["9", "x1", "10"]
HEADER = ("id", "label")
random = np.random.default_rng(0)


def table(rows, header):
    quoted = [[f'"{field}"' if set(str(field)) & set(', "') else str(field) for field in row] for row in rows]
    return "".join(",".join(row) + "\n" for row in [header, *quoted])


def images(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(path)


def write(folder, rows=ROWS, header=HEADER, train_images="train/{}.png", test_images="test/{}.png", **files):
    """Write a competition as Kaggle serves it: a train.csv of ids, images, and a sample_submission.csv."""
    images(folder, [train_images.format(name) for name in IDS])
    images(folder, [test_images.format(name) for name in TEST_IDS])
    contents = {
        "train": table(rows, header),
        "sample_submission": table([(name, "cat") for name in TEST_IDS], ("id", "label")),
    }
    for name, content in (contents | files).items():
        if content is not None:
            (folder / f"{name}.csv").write_text(content)
    return folder


def load(folder, **options):
    return dataset.load("auto", folder, folds=2, options=Options(**options))


def pixels(path):
    return np.asarray(Image.open(path)).ravel()


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({}, id="names without extension"),
        pytest.param({"rows": [(f"{name}.png", label) for name, label in ROWS]}, id="file names"),
        pytest.param({"rows": [(f"train/{name}.png", label) for name, label in ROWS]}, id="paths"),
        pytest.param({"train_images": "train_images/a/{}.png", "test_images": "test/b/{}.png"}, id="a folder deeper"),
        pytest.param({"train_images": "images/{}.png", "test_images": "images/{}.png"}, id="one folder for both"),
        pytest.param({"header": ("image_id", "what")}, id="columns of other names"),
        pytest.param({"rows": OTHER_ORDER, "header": ("label", "", "path")}, id="columns in another order"),
        pytest.param({"rows": ONE_HOT, "header": ("id", "a", "b")}, id="a column a class"),
    ],
)  # fmt: skip
def test_ids_and_labels_are_found_and_test_images_are_in_the_samples_order(tmp_path, form):
    folder = write(tmp_path, **form)
    data = load(folder)
    shown = form.get("train_images", "train/{}.png"), form.get("test_images", "test/{}.png")
    assert data.train.labels.tolist() == ([1, 0] if "a" in form.get("header", ()) else [0, 1]) * 6
    assert data.classes == (("a", "b") if "a" in form.get("header", ()) else KINDS)
    assert data.test.ids.tolist() == TEST_IDS
    assert data.train.ids[1].removeprefix("train/") in ("001", "001.png")
    np.testing.assert_array_equal(data.train.images[1].ravel(), pixels(folder / shown[0].format("001")))
    np.testing.assert_array_equal(data.test.images[0].ravel(), pixels(folder / shown[1].format("9")))


def test_a_name_in_both_folders_is_that_of_the_tables_own(tmp_path):
    folder = write(tmp_path, [(name, label) for name, (_, label) in zip(IDS, ROWS, strict=True)])
    images(folder, ["test/001.png", "other/notes.png"])
    data = load(folder)
    np.testing.assert_array_equal(data.train.images[1].ravel(), pixels(folder / "train/001.png"))
    assert (
        "train.csv: 2 images that no table lists are left out (other/notes.png, test/001.png)." in data.summary.warnings
    )


def test_flags_name_the_columns_and_assumptions_are_said(tmp_path):
    rows = [(name, label, index % 3) for index, (name, label) in enumerate(ROWS)]
    folder = write(tmp_path, rows, ("id", "kind", "hospital"), sample_submission=None)
    with pytest.raises(BadInput, match=r"train\.csv: .* found kind, hospital\. Name it: --label-column"):
        load(folder)
    with pytest.raises(BadInput, match=r"--label-column kin: expected one of .*Did you mean kind\?"):
        load(folder, label_column="kin")
    assert load(folder, label_column="hospital", id_column="id").classes == ("0", "1", "2")
    data = load(write(tmp_path, header=("id", "kind"), sample_submission=None))
    assert "train.csv: column 'kind' taken as the label." in data.summary.warnings
    assert data.test.ids.tolist() == ["9", "10", "x1"]


def test_test_images_are_those_of_test_csv_and_rows_that_repeat_are_left_out(tmp_path):
    test = table([(name, "cat") for name in TEST_IDS[::-1]], ("id", "label"))
    data = load(write(tmp_path, [*ROWS, ROWS[3]], sample_submission=None, test=test))
    assert data.test.ids.tolist() == TEST_IDS[::-1]
    assert data.test.labels.tolist() == [0, 0, 0]
    assert len(data.train.ids) == len(IDS)
    assert "train.csv: 1 row left out as repeating others." in data.summary.warnings


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        pytest.param([*ROWS, ("004", KINDS[1])], HEADER, "found 'cat' and 'dog, wild' for '004'", id="two labels"),
        pytest.param([*ROWS, ("404", "cat")], HEADER, r"each id, found none for 1 of 13: 404\. Add", id="no image"),
        pytest.param([("", "cat")], HEADER, r"images' names, such as t.*\.png, found id \(\), label", id="no ids"),
        pytest.param([*ROWS, ("003",)], HEADER, "line 14: expected 2 fields, found 1", id="cut off"),
        pytest.param([], HEADER, "expected rows below the header", id="no rows"),
        pytest.param([*ROWS[1:], (IDS[0], "")], HEADER, "a class of each image, found ''", id="a label missing"),
        pytest.param([*ROWS[:-1], (IDS[-1], "cow")], HEADER, r"1 of class cow \(011\)", id="a class of one image"),
        pytest.param(ROWS[1:], ROWS[0], "line 1: expected names of columns, found names of images", id="no header"),
        pytest.param(ROWS, ("id", "id"), "line 1: expected each column once, found 'id' twice", id="a column twice"),
        pytest.param(
            [(f"{number}.png", f"kind {number}") for number in range(101)], HEADER, "at most 100 classes, found 101",
            id="a hundred and one classes",
        ),
        pytest.param([("000", "\u00e9")], HEADER, r"train\.csv, line 2, byte 5: expected text", id="Latin-1"),
    ],
)  # fmt: skip
def test_what_a_table_of_ids_lacks_is_named(tmp_path, rows, header, message):
    images(tmp_path / "train", [name for name, *_ in rows if name.endswith(".png")])
    write(tmp_path, rows, header)
    if "\u00e9" in (text := (tmp_path / "train.csv").read_text(encoding="utf-8")):
        (tmp_path / "train.csv").write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=message):
        load(tmp_path)


def test_images_without_name_or_twice_or_damaged_are_named(tmp_path):
    folder = write(tmp_path / "a", train_images="images/{}.png", test_images="images/{}.png")
    images(folder, ["images/other/004.png"])
    with pytest.raises(BadInput, match=r"found for '004' images/004\.png, images/other/004\.png"):
        load(folder)
    folder = write(tmp_path / "b")
    (folder / "test/10.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(BadInput, match=r"test/10\.png: not an image that"):
        load(folder)
    (folder / "test/10.png").unlink()
    with pytest.raises(BadInput, match=r"sample_submission\.csv: expected an image .* none for 1 of 3: 10"):
        load(folder)


def test_images_in_class_folders_are_tested_in_the_samples_order(tmp_path):
    folder = write(tmp_path, train=None, train_images="train/{}.png")
    for name, kind in ROWS:
        (folder / "train" / kind).mkdir(exist_ok=True)
        (folder / f"train/{name}.png").rename(folder / "train" / kind / f"{name}.png")
    data = load(folder)
    assert (data.classes, data.test.ids.tolist()) == (KINDS, TEST_IDS)
    with pytest.raises(BadInput, match="--id-column id: expected no such flag"):
        load(folder, id_column="id")
    with pytest.raises(BadInput, match="--label-column label: expected no such flag"):
        dataset.load("sample", options=Options(label_column="label"))


def test_packed_images_name_the_command_that_unpacks_them(tmp_path):
    folder = write(tmp_path / "all")
    archive = torn_files.write_zip(tmp_path / "zip", torn_files.everything_in(folder), "cats-1.zip")
    for place in (archive, archive.parent):
        with pytest.raises(BadInput, match=r"scripts/download\.sh --zip .*cats-1\.zip --competition cats-1"):
            load(place)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("id,label\n", r"expected a row for each test image, found none", id="no rows"),
        pytest.param("id,label\n9,cat\n9,cat\n", r"sample_submission\.csv: .* found 9 again", id="an id twice"),
    ],
)
def test_a_sample_without_a_row_for_each_image_is_refused_by_its_name(tmp_path, content, message):
    with pytest.raises(BadInput, match=message):
        load(write(tmp_path, sample_submission=content))


@pytest.mark.parametrize(
    ("label", "options", "note"),
    [
        pytest.param("cat", {"metric": "log-loss"}, "log-loss scores probabilities, but", id="a metric"),
        pytest.param("zebra", {}, r"labels \(zebra\) that are no classes", id="labels"),
    ],
)
def test_what_does_not_go_with_the_sample_is_said(tmp_path, label, options, note):
    sample = table([(name, label) for name in TEST_IDS], ("id", "label"))
    notes = load(write(tmp_path, sample_submission=sample), **options).summary.warnings
    assert [text for text in notes if re.search(note, text)]


def test_test_images_are_read_in_the_size_of_the_training_images_so_that_copies_among_them_are_found(tmp_path):
    folder = write(tmp_path)
    for name in TEST_IDS[1:]:
        Image.new("L", (40, 30)).save(folder / f"test/{name}.png")
    (folder / "test/9.png").write_bytes((folder / "train/001.png").read_bytes())
    with pytest.raises(BadInput, match="leak: 1 of 3 test images"):
        load(folder)


def test_a_run_on_few_images_of_many_classes_reads_them_again(tmp_path):
    folder = write(tmp_path, [(name, str(index % 4)) for index, name in enumerate(IDS)])
    record = made_record(settings=RunSettings(folds=2, members=1, data_dir=str(folder)))
    assert len(record.load_data().train.images) == 12
