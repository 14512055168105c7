"""Data of one's own: IDX files, NumPy archives, folders of images, other classes, sizes and forms of an answer."""

import dataclasses
import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import torn_files
from digits.config import Options
from digits.console import BadInput
from digits.data import arrays, competition, csv_reader, dataset, folder, submission
from digits.data.competition import DIGIT_RECOGNIZER, KANNADA_MNIST
from digits.data.image_form import ImageForm
from digits.inference.predictions import ImageReader
from torn_files import PIXEL_COLUMNS, TRAIN_COLUMNS

ROWS = torn_files.tiny_rows(60)
IMAGES, LABELS = ROWS[:, 1:].reshape(60, 28, 28), ROWS[:, 0]
TEST = torn_files.tiny_rows(7, labelled=False).reshape(7, 28, 28)


def load(folder, **options):
    return dataset.load("auto", folder, folds=2, **options)


def assert_read(data):
    np.testing.assert_array_equal(data.train.images[..., 0], IMAGES)
    np.testing.assert_array_equal(data.train.labels, LABELS)
    np.testing.assert_array_equal(data.test.images[..., 0], TEST)


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.tobytes()


def test_idx_files_are_read_plain_or_packed(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx(TEST))
    data = load(tmp_path)
    assert_read(data)
    assert data.test.labels is None
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx(LABELS[:7]))
    np.testing.assert_array_equal(load(tmp_path).test.labels, LABELS[:7])


def write_images(folder, images, names, **options):
    for image, name in zip(images, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name, **options)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    else:
        path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))


@pytest.mark.parametrize(
    "arrays_by_name",
    [
        pytest.param({"x_train": IMAGES, "y_train": LABELS, "x_test": TEST}, id="x_train, y_train"),
        pytest.param({"X_train": IMAGES[:, None], "y_train": LABELS.astype(str), "X_test": TEST}, id="channels first"),
        pytest.param(
            {
                "train_images": IMAGES[..., None].astype(np.int64), "train_labels": LABELS[:, None].astype(np.int32),
                "test_images": TEST, "val_images": TEST,
            },
            id="a channel, labels (n, 1)",
        ),
        pytest.param(
            {"x_train": IMAGES.reshape(60, 784) / 255, "y_train": np.eye(10)[LABELS], "x_test": TEST.astype(float)},
            id="rows of 0 to 1, one-hot",
        ),
    ],
)  # fmt: skip
def test_one_reader_takes_numpy_archives_of_the_usual_names_shapes_and_types(tmp_path, arrays_by_name):
    np.savez_compressed(tmp_path / "a.npz", **arrays_by_name)
    assert_read(load(tmp_path))
    sets = arrays.read_sets(tmp_path / "a.npz", (28, 28, 1))
    split, table = arrays.set_to_predict(sets)
    assert split == "test"
    np.testing.assert_array_equal(table.images[..., 0], TEST)
    labels = [sets["train"].classes[label] for label in sets["train"].labels]
    assert [float(label) for label in labels] == LABELS.tolist()


ARRAY_FILES = [
    pytest.param(("x_train.npy", "y_train.npy", "x_test.npy"), id="one .npy each"),
    pytest.param(("k49-train-imgs.npz", "k49-train-labels.npz", "k49-test-imgs.npz"), id="the .npz of K49"),
    pytest.param(
        [f"MNIST/raw/{name}-ubyte" for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3")],
        id="torchvision's MNIST/raw",
    ),
]


@pytest.mark.parametrize("names", ARRAY_FILES)
def test_arrays_in_a_file_each_are_read_by_the_files_names(tmp_path, names):
    for name, array in zip(names, (IMAGES, LABELS, TEST), strict=True):
        save(tmp_path / name, array)
        if "raw" in name:
            save(tmp_path / f"{name}.gz", array)
    assert_read(load(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("mnist/train.csv", "mnist/test.csv"), id="a folder deeper"),
        pytest.param(("sign_train/sign_train.csv", "sign_test/sign_test.csv"), id="in a folder each"),
        pytest.param(("digits.csv",), id="a single file of another name"),
    ],
)
def test_csvs_of_other_names_and_places_are_found(tmp_path, names):
    for name, content in zip(names, (torn_files.train_bytes(60), torn_files.predict_bytes(7)), strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    data = load(tmp_path)
    assert len(data.train.images) + len(data.test.images) == (67 if len(names) == 2 else 60)
    assert data.summary.files[0].name == names[0]


IMAGE_FOLDERS = {
    "test beside the classes": ("", "test", ()),
    "training and testing": ("training", "testing", ()),
    "Train and Test, a folder deeper": ("mnist_png/Train", "mnist_png/Test", ()),
    "unlabelled beside the classes": ("", "test", ("unlabelled",)),
    "val beside train": ("train", "test", ("val",)),
    "validation beside the classes": ("", "test", ("validation",)),
}


@pytest.mark.parametrize(("train", "test", "others"), IMAGE_FOLDERS.values(), ids=IMAGE_FOLDERS.keys())
def test_folders_of_sets_are_no_classes(tmp_path, train, test, others):
    write_images(tmp_path / train, IMAGES[:40], [f"{label}/{row}.png" for row, label in enumerate(LABELS[:40])])
    write_images(tmp_path / test, TEST, [f"{row}.png" for row in range(7)])
    for other in others:
        folders = ["" if other == "unlabelled" else f"{label}/" for label in LABELS[40:]]
        write_images(tmp_path / other, IMAGES[40:], [f"{folder}v{row}.png" for row, folder in enumerate(folders)])
    data = load(tmp_path)
    assert data.classes == tuple("0123456789")
    assert len(data.test.images) == 7
    assert len(data.train.images) == (60 if {"val", "validation"} & set(others) else 40)
    notes = " ".join(data.summary.warnings)
    assert ("20 images without labels are left out" in notes) == ("unlabelled" in others)
    assert ("20 images for validation join those to train on" in notes) == (len(data.train.images) == 60)


EMNIST = [f"emnist-{name}-train-images-idx3-ubyte" for name in ("letters", "digits")]
TRAIN = {"train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx(LABELS)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({"train-images-idx3-ubyte": idx(IMAGES)}, "found none, and train-images-.*ubyte wi", id="images"),
        pytest.param({"t10k-images-idx3-ubyte": idx(IMAGES)}, "images to train on, found t10k-images-idx3", id="test"),
        pytest.param({"train-labels-idx1-ubyte": idx(LABELS)}, "expected images and labels named", id="labels"),
        pytest.param(dict.fromkeys(EMNIST, idx(IMAGES)), "one array of .*, found emnist-digits-.*, emnist-l", id="two"),
        pytest.param(TRAIN | {"train-images.idx3-ubyte": b""}, "one array of .*, found train-i.*, train", id="twice"),
        *(
            pytest.param(TRAIN | {"t10k-images-idx3-ubyte": data}, message, id=name)
            for name, data, message in [
                ("cut", idx(IMAGES)[:-5], "47,040 bytes of 60 × 28 × 28, found 47,035. Is the file cut off"),
                ("labels as images", idx(LABELS), r"expected numbers .* found uint8 \(60,\)"),
                ("floats", b"\0\0\x0d\x03" + bytes(12), "expected an IDX file of bytes .* found 00 00 0d 03"),
                ("empty", b"", "expected an IDX file"),
            ]
        ),
    ],
)  # fmt: skip
def test_idx_files_that_are_no_sets_are_refused_with_what_is_there_and_missing(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        load(tmp_path)


def test_without_test_images_a_fifth_of_the_labelled_ones_is_held_out(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.repeat(IMAGES, 2, axis=0), y=np.repeat(LABELS, 2))
    data = load(tmp_path)
    assert (len(data.train.images), len(data.test.images)) == (96, 24)
    assert data.test.labels is not None
    assert not data.leaked  # Copies of an image are on one side.
    assert "there are no test images: a fifth of the labelled ones (24) is held out" in data.summary.warnings[0]
    assert sorted([*data.train.ids, *data.test.ids]) == list(range(1, 121))


def test_a_folder_of_images_gives_the_bytes_of_its_csv(tmp_path):
    write_images(tmp_path / "train", IMAGES, [f"{label}/{row}.png" for row, label in enumerate(LABELS)])
    write_images(tmp_path / "test", TEST, [f"{row}.png" for row in range(7, 14)])
    data = load(tmp_path)
    order = [int(name.removesuffix(".png")) for name in data.train.ids.tolist()]
    np.testing.assert_array_equal(data.train.images[..., 0], IMAGES[order])
    np.testing.assert_array_equal(data.train.labels, LABELS[order])
    np.testing.assert_array_equal(data.test.images[..., 0], TEST)
    assert data.test.ids.tolist() == [f"{row}.png" for row in range(7, 14)]
    write_images(tmp_path / "words", IMAGES, [f"{'ab'[label % 2]}/{row}.bmp" for row, label in enumerate(LABELS)])
    data = load(tmp_path / "words")
    assert data.classes == ("a", "b")
    assert len(data.test.images) == 12
    write_images(tmp_path / "words", [np.zeros((28, 20), np.uint8)], ["a/wide.png"])
    warnings = load(tmp_path / "words").summary.warnings
    assert warnings[0] == "train images: 1 of 61 images of other sizes (20 × 28) are resized to 28 × 28."
    (tmp_path / "words/a/wide.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadInput, match=r"wide\.png: not an image that"):
        load(tmp_path / "words")


def test_images_of_any_depth_with_and_without_transparency_give_one_table(tmp_path):
    clear = np.stack([np.full_like(IMAGES, 255)] * 3 + [IMAGES], axis=-1)  # White ink on nothing.
    forms = {
        "8 bits.png": IMAGES,
        "16 bits.png": IMAGES.astype(np.uint16) * 257,
        "8 bits in 16.png": IMAGES.astype(np.uint16),
        "0 to 1.tiff": (IMAGES / 255).astype(np.float32),
        "transparent.png": clear,
        "lossless.webp": IMAGES,
    }
    contents = set()
    for name, images in forms.items():
        names = [f"{label}/{row}{Path(name).suffix}" for row, label in enumerate(LABELS)]
        write_images(tmp_path / name, images, names, lossless=True)
        contents.add(folder.read_folder(tmp_path / name, None, Options())["train"].content)
    assert len(contents) == 1


def test_images_whose_names_repeat_in_each_class_have_ids_of_their_own(tmp_path):
    names = [f"{label}/{row // 10}.png" for row, label in enumerate(LABELS)]
    write_images(tmp_path / "train", IMAGES, names)
    write_images(tmp_path / "test", TEST[:4], ["0/0.png", "0/1.png", "1/0.png", "1/1.png"])
    assert load(tmp_path).test.ids.tolist() == ["0/0.png", "0/1.png", "1/0.png", "1/1.png"]
    data = load(tmp_path / "train")  # Held out, as there are no test images.
    assert sorted([*data.train.ids, *data.test.ids]) == sorted(names)


def test_classes_ids_and_the_form_of_the_answer_are_the_folders_own(tmp_path):
    lines = [["what", *PIXEL_COLUMNS], *([("no", "yes")[row % 2], *ROWS[row, 1:]] for row in range(60))]
    (tmp_path / "train.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    (tmp_path / "test.csv").write_bytes(torn_files.predict_bytes(3))
    (tmp_path / "sample_submission.csv").write_text("image,answer\nc,no\na,no\nb,no\n")
    data = load(tmp_path)
    assert (data.classes, data.form.columns, data.test.ids.tolist()) == (
        ("no", "yes"),
        ("image", "answer"),
        ["c", "a", "b"],
    )
    assert data.summary.warnings == [
        "train.csv: column 'what' taken as the label.",
        "sample_submission.csv has labels: the metric is accuracy (another: --metric).",
    ]
    path = tmp_path / "answers.csv"
    submission.write_submission(path, data.test.ids, np.array([1, 0, 1]), data.form)
    assert path.read_text() == "image,answer\nc,yes\na,no\nb,yes\n"
    (tmp_path / "sample_submission.csv").write_text("image,answer\nc,no\na,no\n")
    with pytest.raises(BadInput, match="expected 3 different ids, found 2"):
        load(tmp_path)


def test_labels_in_both_files_are_used_to_score(tmp_path):
    rows = torn_files.tiny_rows(20, seed=5)
    for header in (True, False):
        train, test = torn_files.train_bytes(60), torn_files.csv_bytes(rows, TRAIN_COLUMNS)
        folder = torn_files.write_pair(
            tmp_path, *(data if header else data.partition(b"\n")[2] for data in (train, test))
        )
        data = load(folder)
        np.testing.assert_array_equal(data.test.labels, rows[:, 0])
        assert data.test.ids.tolist() == list(range(1, 21))


def test_images_keep_their_size_and_are_brightened_and_test_images_of_another_size_are_resized(tmp_path):
    small = np.random.default_rng(0).integers(0, 17, (60, 64))
    header = ("label", *(f"pixel_{row}_{column}" for row in range(8) for column in range(8)))
    torn_files.write_pair(
        tmp_path,
        torn_files.csv_bytes(np.column_stack([LABELS, small]), header),
        torn_files.csv_bytes(small[::-1] ^ 1, header[1:]),
    )
    data = load(tmp_path, allow_leak=True)
    assert data.train.images.shape == (60, 8, 8, 1)
    assert data.train.images.max() > 200
    assert data.summary.factor == 15
    assert data.summary.warnings[0] == "no pixel is above 17: all are multiplied by 15."
    torn_files.write_pair(tmp_path, torn_files.train_bytes(60), torn_files.csv_bytes(small * 15, header[1:]))
    data = load(tmp_path)
    assert data.test.images.shape == (60, 28, 28, 1)
    assert "the test images: 8 × 8 pixels in grey, brought to 28 × 28 pixels in grey." in data.summary.warnings
    data = load(tmp_path, options=Options(image_size=12))
    assert data.train.images.shape[1:] == data.test.images.shape[1:] == (12, 12, 1)
    with pytest.raises(BadInput, match=r"--image-size 97: expected images of 8 to 96 pixels a side"):
        load(tmp_path, options=Options(image_size=97))


def test_test_images_a_little_brighter_than_the_training_images_do_not_overflow(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=IMAGES // 4, y_train=LABELS, x_test=TEST // 4 + TEST // 200)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.train.images[..., 0], IMAGES // 4 * 3)
    np.testing.assert_array_equal(data.test.images[..., 0], (TEST // 4 + TEST // 200) * 3)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        pytest.param(IMAGES // 128, TEST, "0-1 as .* found up to 255", id="brighter"),
        pytest.param(IMAGES, np.tile(TEST, (9, 1, 1)) // 200, "0-255 as .* found up to 1", id="darker"),
    ],
)
def test_test_images_of_another_range_than_the_training_images_are_refused(tmp_path, train, test, message):
    np.savez(tmp_path / "data.npz", x_train=train, y_train=LABELS, x_test=test)
    with pytest.raises(BadInput, match=rf"expected images with pixels {message}\. Write both"):
        load(tmp_path)


def test_another_competition_has_its_folder_header_and_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(competition, "DATA", tmp_path)
    folder = tmp_path / "kannada-mnist"
    assert KANNADA_MNIST.data_dir == folder
    assert DIGIT_RECOGNIZER.data_dir == tmp_path
    with pytest.raises(
        BadInput, match=r"train\.csv: there is no such file.*scripts/download\.sh --competition kannada-mnist"
    ):
        dataset.load("auto", competition=KANNADA_MNIST)
    test = torn_files.csv_bytes(np.column_stack([np.arange(7), TEST.reshape(7, 784)]), ("id", *PIXEL_COLUMNS))
    torn_files.write_zip(folder, {"train.csv": torn_files.train_bytes(60), "test.csv": test}, "kannada-mnist-part.zip")
    data = dataset.load("auto", competition=KANNADA_MNIST)
    assert (data.competition, data.summary.competition, data.expected) == (None, None, KANNADA_MNIST)
    assert "test.csv (7 of 5,000 rows): this run's predictions are no submission" in data.summary.warnings[0]
    small = dataclasses.replace(KANNADA_MNIST, test=competition.KnownFile(7))
    data = dataset.load("auto", competition=small)
    assert (data.competition, data.form.columns, data.test.ids.tolist()) == (small, ("id", "label"), [*range(7)])
    assert [file.text for file in data.summary.files] == [
        "60 of 60,000 rows",
        "no fewer rows than Kaggle's file, not verified",
    ]
    assert data.summary.competition == "kannada-mnist"


def test_a_competition_is_named_by_slug_or_address_and_a_mistyped_one_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(competition, "DATA", tmp_path)
    for address in ("", "https://www.kaggle.com/competitions/", "kaggle.com/c/"):
        assert competition.find_competition(f"{address}kannada-mnist/overview") is KANNADA_MNIST
    unknown = competition.find_competition("digit-recognizer-2")
    assert not unknown.is_known
    assert (unknown.data_dir, unknown.ledger) == (tmp_path / unknown.slug, f"ledger-{unknown.slug}.csv")
    with pytest.raises(BadInput, match=r"Did you mean kannada-mnist\?.* --competition kanada-mnist"):
        dataset.load("auto", competition=competition.find_competition("kanada-mnist"))
    for wrong in ("..", "", "kaggle.com/datasets/x", "a b"):
        with pytest.raises(BadInput, match="expected the last part of its address"):
            competition.find_competition(wrong)


def test_the_files_of_an_unknown_competition_say_what_is_to_be_submitted(tmp_path, monkeypatch):
    monkeypatch.setattr(competition, "DATA", tmp_path)
    slug = competition.find_competition("letters")
    torn_files.write_pair(slug.data_dir, torn_files.train_bytes(60))
    (slug.data_dir / "sample_submission.csv").write_bytes(torn_files.sample_bytes().replace(b"Label", b"letter"))
    data = dataset.load("auto", competition=slug, folds=2)
    assert (data.competition, data.form.columns) == (slug, ("ImageId", "letter"))
    assert data.test.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert data.summary.description.endswith("(train.csv not verified; test.csv not verified)")
    (slug.data_dir / "test.csv").unlink()
    assert dataset.load("auto", competition=slug, folds=2).competition is None


def test_arrays_that_are_no_images_are_refused(tmp_path):
    for images in (np.zeros((0, 28, 28)), np.zeros(()), np.zeros((3, 4, 4)), np.zeros((3, 9, 9, 4)), np.array(["a"])):
        with pytest.raises(BadInput, match=r"expected numbers|expected images of at least 8 × 8 pixels, found 4 × 4"):
            arrays.table_of(images)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(BadInput, match=r"bad\.npy: expected a NumPy array"):
        arrays.read_sets(tmp_path / "bad.npy", (28, 28, 1))


def test_the_sets_of_a_file_and_the_one_that_is_predicted_are_named(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", train_images=IMAGES, train_labels=LABELS, test_images=TEST)
    images = list(ImageReader(ImageForm(), classes=tuple("0123456789")).read(tmp_path / "a.npz"))
    assert len(images) == len(TEST)
    assert "a.npz holds train (60 images), test (7 images); test is predicted." in capsys.readouterr().out


@pytest.mark.parametrize("names", [("data", "target"), ("x", "y"), ("images", "labels"), ()], ids=str)
def test_an_archive_of_one_set_or_without_names_is_read_with_its_labels(tmp_path, names):
    named = dict(zip(names, (IMAGES, LABELS), strict=True)) if names else {"arr_0": IMAGES, "arr_1": LABELS}
    np.savez(tmp_path / "a.npz", **named)
    [table] = arrays.read_sets(tmp_path / "a.npz", (28, 28, 1)).values()
    np.testing.assert_array_equal(table.labels, LABELS)
    np.savez(tmp_path / "a.npz", data=np.zeros((20, 64)), target=np.arange(20) % 10)
    assert arrays.read_sets(tmp_path / "a.npz", (28, 28, 1))["images"].images.shape == (20, 8, 8, 1)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("has_header", [True, False])
def test_a_csv_to_predict_is_read_with_its_labels(tmp_path, suffix, has_header):
    data = torn_files.train_bytes(60) if has_header else torn_files.train_bytes(60).partition(b"\n")[2]
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert arrays.is_array_file(tmp_path / f"a{suffix}")
    [table] = arrays.read_sets(tmp_path / f"a{suffix}", (28, 28, 1)).values()
    np.testing.assert_array_equal(table.labels, LABELS)
    np.testing.assert_array_equal(table.images[..., 0], IMAGES)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param((256, 256), (1, 256, 256, 1), id="a square picture"),
        pytest.param((480, 640, 3), (1, 480, 640, 3), id="a picture in colour"),
        pytest.param((480, 640, 4), (1, 480, 640, 3), id="with transparency"),
        pytest.param((5, 784), (5, 28, 28, 1), id="rows of the run's size"),
        pytest.param((784,), (1, 28, 28, 1), id="one row"),
        pytest.param((5, 40, 30), (5, 40, 30, 1), id="pictures"),
        pytest.param((5, 40, 30, 3), (5, 40, 30, 3), id="pictures in colour"),
        pytest.param((5, 1, 28, 28), (5, 28, 28, 1), id="channels first"),
    ],
)
def test_an_array_to_predict_is_one_picture_unless_its_rows_are_images(tmp_path, shape, expected):
    np.save(tmp_path / "a.npy", np.full(shape, 9, np.uint8))
    assert arrays.read_sets(tmp_path / "a.npy", (28, 28, 1))["images"].images.shape == expected


def test_names_of_classes_are_text_in_a_submission(tmp_path):
    classes = ("=1+1", "<script>", "a,b", 'say "a"', "$\\frac$")
    path = tmp_path / "submission.csv"
    submission.write_submission(path, np.arange(5), np.arange(5), submission.SubmissionForm(("id", "label"), classes))
    assert [fields[1] for _, fields in csv_reader.records(path.read_bytes())] == ["label", *classes]


def photographs(count, size=(16, 24), seed=0):
    """Return colourful images uint8 (count, height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype(np.uint8)


def test_images_in_colour_keep_their_shape_from_files_and_arrays(tmp_path):
    images, test = photographs(20), photographs(5, seed=1)
    write_images(tmp_path / "files" / "train", images, [f"{row % 2}/{row:02}.png" for row in range(20)])
    write_images(tmp_path / "files" / "test", test, [f"{row}.png" for row in range(5)])
    (tmp_path / "arrays").mkdir()
    labels = np.arange(20) % 2
    np.savez(tmp_path / "arrays/a.npz", x_train=np.moveaxis(images, 3, 1), y_train=labels, x_test=test)
    for name, order in (("files", [*range(0, 20, 2), *range(1, 20, 2)]), ("arrays", range(20))):
        data = load(tmp_path / name)
        np.testing.assert_array_equal(data.train.images, images[list(order)])
        np.testing.assert_array_equal(data.test.images, test)
        assert (data.summary.form.shape, data.summary.form.is_drawn) == ((16, 24, 3), False)
        assert data.summary.warnings == []


def test_grey_images_among_those_in_colour_are_read_as_rgb_and_equal_channels_as_grey(tmp_path):
    grey, coloured = photographs(20)[..., 0], photographs(20)
    names = [f"{row % 2}/{row:02}.png" for row in range(20)]
    write_images(tmp_path / "grey", [np.stack([each] * 3, -1) for each in grey], names)
    assert load(tmp_path / "grey").train.images.shape[1:] == (16, 24, 1)
    write_images(tmp_path / "mixed", [*grey[:4], *coloured[4:]], names)
    data = load(tmp_path / "mixed")
    assert data.train.images.shape[1:] == (16, 24, 3)
    assert "train images: 4 of 20 images in grey are read as RGB, as the others are." in data.summary.warnings


def save_animation(path):
    frames = [Image.fromarray(image) for image in photographs(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("save", "note"),
    [
        pytest.param(lambda path: Image.new("CMYK", (24, 16), 9).save(path.with_suffix(".jpg")), None, id="CMYK"),
        pytest.param(lambda path: Image.new("P", (24, 16), 3).save(path), None, id="a palette"),
        pytest.param(lambda path: Image.new("I;16", (24, 16), 999).save(path), "have 16 bits or more", id="16 bits"),
        pytest.param(lambda path: save_animation(path.with_suffix(".gif")), "animations: the first frame", id="a GIF"),
        pytest.param(
            lambda path: Image.new("RGBA", (24, 16), (9, 9, 200, 255)).save(path), "may be transparent", id="alpha"
        ),
        pytest.param(
            lambda path: Image.new("RGB", (2400, 1600), "red").save(path), r"of other sizes \(2400 × 1600\)", id="large"
        ),
        pytest.param(lambda path: Image.new("RGB", (3, 2), "red").save(path), r"of other sizes \(3 × 2\)", id="small"),
    ],
)  # fmt: skip
def test_image_files_of_any_kind_join_the_others_and_what_is_changed_is_said(tmp_path, save, note):
    write_images(tmp_path, photographs(20), [f"{row % 2}/{row:02}.png" for row in range(20)])
    save(tmp_path / "1" / "odd.png")
    data = load(tmp_path)
    assert len(data.train.images) + len(data.test.images) == 21
    assert data.train.images.shape[1:] == (16, 24, 3)
    notes = [warning for warning in data.summary.warnings if "1 of 21 images" in warning]
    assert bool(notes) == bool(note)
    assert note is None or re.search(note, notes[-1])


def test_images_below_8_pixels_are_refused_and_large_ones_fit_into_96(tmp_path):
    write_images(tmp_path / "large", photographs(20, (50, 200)), [f"{row % 2}/{row:02}.png" for row in range(20)])
    assert load(tmp_path / "large").train.images.shape[1:] == (24, 96, 3)
    before = load(tmp_path / "large", options=Options(image_shape=ImageForm().shape))
    assert before.train.images.shape[1:] == (28, 28, 1), "as a run of an earlier version had them"
    write_images(tmp_path / "small", photographs(20, (7, 20)), [f"{row % 2}/{row:02}.png" for row in range(20)])
    with pytest.raises(BadInput, match="expected images of at least 8 × 8 pixels, found 20 × 7"):
        load(tmp_path / "small")
