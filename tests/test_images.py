import contextlib
import dataclasses
import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn.neighbors import KNeighborsClassifier

import handwriting
import made_run
import predict
import torn_files
from digits.console import BadInput
from digits.data import dataset
from digits.data.image_files import NotADigitImage, as_image, find_images, folder_label, name_label, read_image
from digits.data.image_form import ImageForm, Prepared, in_shape
from digits.data.preparation import fit, load_extra, prepare
from digits.inference import predictions, predictor
from digits.inference.predictions import (
    ImageReader,
    InputImage,
    LabelSource,
    PredictedImage,
    Prediction,
    form_of,
    predict_images,
    write_page,
)
from digits.kaggle.ledger import title_of
from digits.report import summary
from digits.runs.store import Run
from made_run import made_record


@pytest.fixture(scope="module")
def sample():
    return dataset.load("sample")


@pytest.fixture(scope="module")
def neighbours(sample):
    """A classifier that knows MNIST's form alone: one nearest neighbour by pixels."""
    return KNeighborsClassifier(1).fit(sample.train.images.reshape(-1, 784), sample.train.labels)


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def prepared(image, kind="PNG", **options):
    return prepare(read_image(file_of(image, kind, **options)))


def likeness(first, second):
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_mnists_own_digits_are_left_as_they_are(sample):
    for image in sample.test.images[:200]:
        assert np.array_equal(prepared(as_image(image)).image, image)


def test_preparation_brings_handwriting_near_to_mnist_a_tenth_smaller_and_in_its_place(neighbours):
    pixels, labels = [], []
    for number, style in enumerate(handwriting.STYLES):
        for digit in ((number + step) % 10 for step in range(4)):  # Each digit four times, to spare time.
            pixels.append(read_image(file_of(handwriting.drawn(style, digit, seed=3))))
            labels.append(digit)
    with_it = np.stack([prepare(each).image for each in pixels])
    for image, digit in zip(with_it[..., 0], labels, strict=True):
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert 17 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 18, digit
        assert np.abs(np.array(ndimage.center_of_mass(image)) - 14).max() < 1, digit
        assert image.max() > 200, digit
    without = np.stack([fit(each, ImageForm(), is_prepared=True).image for each in pixels])
    assert neighbours.score(with_it.reshape(-1, 784), labels) >= 0.85
    assert neighbours.score(without.reshape(-1, 784), labels) <= 0.6


def test_a_1_with_an_upstroke_is_seldom_taken_for_another_digit(neighbours):
    pixels = [read_image(file_of(handwriting.with_upstroke(seed))) for seed in range(40)]
    assert neighbours.score(np.stack([prepare(each).image.ravel() for each in pixels]), [1] * 40) >= 0.75


INK = handwriting.stroked(5, np.random.default_rng(0), size=(280, 280), height=180, width=14)
GRAY = Image.fromarray((255 * (1 - INK)).astype(np.uint8))
EXIF = Image.Exif()
EXIF[0x0112] = 6  # Shown turned by 90° clockwise.
TURNED = GRAY.transpose(Image.Transpose.ROTATE_90)


def with_alpha(mode, colour, alpha):
    image = Image.new(mode, GRAY.size, colour)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        pytest.param(TURNED, "JPEG", id="turned as its EXIF says"),
        pytest.param(Image.eval(GRAY, lambda value: 255 - value), "PNG", id="inverted"),
        pytest.param(GRAY.convert("1", dither=Image.Dither.NONE), "PNG", id="1 bit"),
        pytest.param(GRAY.convert("P"), "GIF", id="palette"),
        pytest.param(with_alpha("RGBA", (0, 0, 0), (255 * INK).astype(np.uint8)), "PNG", id="RGBA"),
        pytest.param(with_alpha("LA", 255, (255 * INK).astype(np.uint8)), "PNG", id="LA"),
        pytest.param(GRAY.convert("CMYK"), "JPEG", id="CMYK"),
        pytest.param(Image.fromarray((65535 * (1 - INK)).astype(np.uint16)), "PNG", id="16 bits"),
        pytest.param(Image.fromarray((980 * (1 - INK) + 20).astype(np.uint16)), "PNG", id="10 bits in 16"),
        pytest.param(Image.fromarray((980 * INK + 20).astype(np.uint16)), "PNG", id="10 bits in 16, inverted"),
        pytest.param(Image.fromarray(1 - INK), "TIFF", id="32 bits"),
        pytest.param(GRAY.convert("RGB"), "WEBP", id="WebP"),
        pytest.param(GRAY, "BMP", id="BMP"),
        pytest.param(Image.fromarray((220 - 30 * INK).astype(np.uint8)), "PNG", id="faint"),
    ],
)
def test_the_digit_is_the_same_whatever_the_file_and_its_mode(image, kind):
    options = {"exif": EXIF} if image is TURNED else {}
    assert likeness(prepared(image, kind, **options).image, prepared(GRAY).image) > 0.97


@pytest.mark.parametrize("kind", handwriting.SURROUNDINGS)
def test_what_surrounds_a_digit_is_left_out(kind):
    pairs = [handwriting.surrounded(kind, digit) for digit in range(0, 10, 2)]
    assert np.mean([likeness(prepared(image).image, prepared(ink).image) for image, ink in pairs]) > 0.78


def test_what_surrounds_nothing_is_the_digit_and_a_shadow_no_sheet_of_paper(neighbours):
    for digit, draw_inside in ((0, lambda draw: draw.ellipse((122, 140, 138, 156), fill=0)), (8, lambda draw: None)):
        image = handwriting.drawn("pen", digit, seed=3)
        draw_inside(ImageDraw.Draw(image))
        assert neighbours.predict(prepared(image).image.reshape(1, -1)) == [digit]
    for digit in (2, 4, 9):
        image = np.asarray(handwriting.drawn("pen", digit), np.float32)
        image *= np.where(np.arange(300) > 150, 0.75, 1)[:, np.newaxis]
        assert neighbours.predict(prepare(image.astype(np.uint8)).image.reshape(1, -1)) == [digit]


def test_what_was_noticed_is_noted():
    two = Image.new("L", (400, 200), 255)
    for x, digit in ((10, 1), (210, 7)):
        two.paste(handwriting.drawn("pen", digit).convert("L").resize((180, 180)), (x, 10))
    assert "more than one digit?" in prepared(two).notes
    assert "touches the edge" in prepared(handwriting.drawn("huge", 5, seed=1)).notes
    tiny = Image.new("L", (60, 60), 255)
    tiny.paste(0, (30, 30, 33, 38))
    assert "very small" in prepared(tiny).notes
    assert prepared(handwriting.drawn("pen", 5)).notes == ()


def bomb() -> bytes:

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bad_files():
    """Return the bytes of files that cannot be used, and what is said of each."""
    digit = handwriting.drawn("photo", 3)
    frames = [Image.new("L", (20, 20), shade) for shade in (0, 255)]
    page = Image.fromarray(np.random.default_rng(0).normal(230, 3, (200, 200)).clip(0, 255).astype(np.uint8))
    return {
        "text.png": (
            b"Not an image, whatever its name says.",
            "not an image that Pillow can read; expected a PNG or JPEG",
        ),
        "bomb.png": (bomb(), "too many pixels"),
        "cut.jpg": (file_of(digit, "JPEG")[:2000], "damaged or cut short"),
        "moves.gif": (file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]), "an animation"),
        "page.png": (file_of(page), "empty: nothing stands out from the page"),
        "white.png": (file_of(Image.new("RGB", (50, 80), "white")), "empty: nothing stands out from the page"),
        "glass.png": (file_of(Image.new("RGBA", (50, 80), (0, 0, 0, 0))), "empty: wholly transparent"),
        "nothing.png": (b"", "not an image that Pillow can read; expected a PNG or JPEG"),
    }


@pytest.mark.parametrize(("content", "reason"), [pytest.param(*case, id=name) for name, case in bad_files().items()])
def test_an_image_that_cannot_be_used_says_why(content, reason):
    with pytest.raises(NotADigitImage, match=reason):
        prepare(read_image(content))


def test_odd_shapes_neither_fail_nor_take_long():
    random = np.random.default_rng(0)
    for size in ((1, 1), (1, 300), (3000, 2), (28, 28), (17, 5), (5000, 300)):
        for pixels in (np.zeros((*size, 1)), np.full((*size, 3), 255), random.integers(0, 256, (*size, 3))):
            with contextlib.suppress(NotADigitImage):  # Empty ones.
                assert prepare(pixels.astype(np.uint8)).image.shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("name", "by_folder", "by_name"),
    [
        pytest.param("7/a.png", "7", None, id="folder"),
        pytest.param("x_7.png", None, "7", id="underscore"),
        pytest.param("x-7.png", None, "7", id="hyphen"),
        pytest.param("7.png", None, None, id="only a number"),
        pytest.param("IMG_0007.png", None, None, id="a camera's number"),
    ],
)
def test_labels_come_from_the_folder_or_the_end_of_the_name(tmp_path, name, by_folder, by_name):
    classes = tuple("0123456789")
    assert folder_label(tmp_path / name, classes) == by_folder
    assert name_label(tmp_path / name, classes) == by_name


class Neighbours:
    classes = tuple("0123456789")

    def __init__(self, neighbours):
        self.neighbours, self.record = neighbours, made_record()

    def __call__(self, run, *, trust=False):
        return self

    def probabilities(self, images, on_part=None):
        return self.neighbours.predict_proba(images.reshape(len(images), -1)) * 0.9 + 0.01


@pytest.fixture
def command(monkeypatch, tmp_path, neighbours, capsys):
    """Run predict.py on a run whose networks are nearest neighbours; returns code, output and errors."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("digits.runs.store.find_run", lambda name: Run(tmp_path / name))
    monkeypatch.setattr(predictor, "Predictor", Neighbours(neighbours))

    def run(*words):
        code = predict.main(["run", *words])
        return code, *capsys.readouterr()

    return run


NO_INPUT = "expected a place for the table and the page that is no input"


def test_images_are_predicted_and_scored_and_shown(command, tmp_path):
    for style in ("pen", "photo"):
        for digit in (0, 1, 4):
            (tmp_path / "own" / str(digit)).mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / str(digit) / f"{style}.png").write_bytes(file_of(handwriting.drawn(style, digit)))
    code, out, err = command("--images", "own")
    assert (code, err) == (0, "")
    assert "Predicted: 6 images, 0 doubtful. Accuracy on the 6 with a label (from folders)" in out
    lines = (tmp_path / "run" / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "file,prediction,probability,runner_up,runner_up_probability,notes,label"
    assert lines[1].startswith("own/0/pen.png,0,0.9100,")
    assert lines[1].endswith(",,0")
    page = (tmp_path / "run" / "predictions.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 6
    assert page.count("<img") == 12


def test_bad_images_are_one_line_each_and_the_others_are_predicted(command, tmp_path):
    bad = bad_files()
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good_4.png").write_bytes(file_of(handwriting.drawn("pen", 4)))
    (tmp_path / "empty").mkdir()
    words = ("--images", *bad, "good_4.png", "empty", "missing.png", "--out", "out.csv")
    code, out, err = command(*words, "--labels", "names")
    assert code == 2
    assert "Predicted: 1 image, 0 doubtful. Accuracy on the 1" in out
    lines = err.splitlines()
    assert len(lines) == len(bad) + 2
    for line, (name, (_, reason)) in zip(lines, bad.items(), strict=False):
        assert line.startswith(f"error: {name}: ")
        assert reason in line
    assert "error: empty: a folder without images" in lines[-2]
    assert lines[-1] == "error: missing.png: there is no such file"
    table = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert table[1] == "text.png,,,,,not an image that Pillow can read; expected a PNG or JPEG,"
    assert len(table) == len(bad) + 4


def test_a_csv_of_new_images_is_predicted_row_by_row(command, tmp_path, sample):
    rows = np.column_stack([sample.test.labels, sample.test.images.reshape(-1, 784)])[:8]
    (tmp_path / "new.csv").write_bytes(torn_files.csv_bytes(rows, torn_files.TRAIN_COLUMNS))
    code, out, err = command("--images", "new.csv")
    assert (code, err) == (0, "")
    assert "Predicted: 8 images, 0 doubtful. Accuracy on the 8" in out
    assert (tmp_path / "run" / "predictions.csv").read_text(encoding="utf-8").splitlines()[8].startswith("new.csv:8,")


def test_images_for_a_run_on_other_data_become_what_its_networks_were_trained_on(tmp_path, neighbours):
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    predictor = Neighbours(neighbours)
    predictor.classes = tuple(words)
    form = ImageForm(side=8, factor=15, box=22, is_light=None, is_mnist=False)
    digits = np.random.default_rng(0).integers(0, 17, (4, 64)).astype(np.uint8)
    header = ",".join(["label", *(f"pixel{index}" for index in range(64))])
    rows = [f"{word},{','.join(map(str, row))}" for word, row in zip(words, digits, strict=False)]
    (tmp_path / "new.csv").write_text("\n".join([header, *rows]) + "\n", encoding="ascii")
    for word, row in zip(words, digits, strict=False):
        (tmp_path / word).mkdir()
        Image.fromarray((row * 15).reshape(8, 8)).save(tmp_path / word / "bright.png")
        Image.fromarray(row.reshape(8, 8)).save(tmp_path / word / "dark.png")
    wanted = in_shape(digits.reshape(4, 8, 8, 1) * np.uint8(15), form.shape)
    for paths, repeats in (([tmp_path / "new.csv"], 1), ([tmp_path / word for word in words[:4]], 2)):
        images = [each.image for each in predict_images(predictor, paths, ImageReader(form, words))]
        assert [image.label for image in images] == np.repeat(words[:4], repeats).tolist()
        assert np.array_equal([image.prepared.image for image in images], np.repeat(wanted, repeats, axis=0))
    (tmp_path / "page").mkdir()
    handwriting.drawn("pen", 4).save(tmp_path / "page" / "a_four.png")
    reader = ImageReader(form, words, labels=LabelSource.NAMES)
    (page,) = predict_images(predictor, [tmp_path / "page"], reader)
    assert page.image.label == "four"
    assert page.prediction.answer == "four"
    assert (
        0.7 < likeness(page.image.prepared.image, prepare(read_image(tmp_path / "page" / "a_four.png")).image) < 0.98
    ), "blurred"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda images: images, ImageForm(), id="MNIST's"),
        pytest.param(lambda images: 255 - images, {"is_light": True, "is_mnist": False}, id="dark on light"),
        pytest.param(lambda images: images.swapaxes(1, 2), {"turn": 4, "is_mnist": False}, id="mirrored as EMNIST"),
        pytest.param(lambda images: np.rot90(images, 1, (1, 2)), {"turn": 1, "is_mnist": False}, id="turned"),
        pytest.param(lambda images: images[:, 4:24, 4:24], {"shape": (20, 20, 1), "is_mnist": False}, id="cut"),
        pytest.param(lambda images: images | np.roll(images, 9, 1) | np.roll(images, 9, 2) | ndimage.grey_dilation(
            images, (1, 11, 11, 1)), {"is_drawn": False, "is_mnist": False}, id="no drawings"),
    ],
)  # fmt: skip
def test_images_take_the_form_of_a_runs_training_images(tmp_path, sample, change, expected):
    train = sample.train
    order = np.random.default_rng(0).permutation(len(train.labels))[:1600]
    images, labels = np.ascontiguousarray(change(train.images[order])), train.labels[order]
    np.savez(tmp_path / "own.npz", x_train=images[:1500], y_train=labels[:1500], x_test=images[1500:])
    data = dataset.load("kaggle", tmp_path)
    form = data.summary.form
    expected = expected if isinstance(expected, dict) else dataclasses.asdict(expected)
    assert {name: getattr(form, name) for name in expected} == expected
    own = fit(read_image(file_of(as_image(images[1500]))), form).image
    assert np.array_equal(own, data.test.images[0]), "an image of the run's own kind is taken as trained"
    if form.is_drawn:
        nearest = KNeighborsClassifier(1).fit(data.train.images.reshape(len(data.train.labels), -1), data.train.labels)
        pens = np.stack([fit(read_image(file_of(handwriting.drawn("pen", digit))), form).image for digit in range(10)])
        assert nearest.score(pens.reshape(10, -1), range(10)) >= 0.7


def test_a_form_that_was_not_measured_is_assumed_and_it_is_said(tmp_path):
    record = made_record()
    data = dataclasses.replace(record.data, form=None, competition=None)
    settings = dataclasses.replace(record.settings, data_dir=str(tmp_path / "gone"))
    record = dataclasses.replace(record, data=data, source="kaggle", settings=settings)
    assert "MNIST's form is assumed" in str(form_of(record).note)
    assert form_of(dataclasses.replace(record, source="sample")).note is None


def test_the_page_shows_doubtful_images_first_with_each_note_on_its_line(tmp_path):
    image = np.zeros((28, 28, 1), np.uint8)
    certain = InputImage("a.png", "four <b>", LabelSource.FOLDERS, as_image(image), Prepared(image))
    doubtful = dataclasses.replace(certain, name="b.png", prepared=Prepared(image, ("touches the edge",)))
    predicted = [
        PredictedImage(certain, Prediction("x y", 0.9, "z", 0.1)),
        PredictedImage(doubtful, Prediction("four <b>", 0.89, "z", 0.1)),
    ]
    assert write_page(tmp_path / "one.html", predicted, "run", ["x y", "z"]) == 2
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert "<h1>2 images, 1 doubtful</h1>" in page
    assert page.index("b.png") < page.index("a.png")
    assert re.findall(r'class="note">(.*?)<', page) == ["touches the edge", "unsure"]
    assert re.findall(r'data-true="(.*?)" data-predicted="(.*?)" data-kind="(.*?)"', page) == [
        ("2", "2", "doubtful"), ("2", "0", "certain error")
    ]  # fmt: skip


def test_a_number_at_the_end_of_a_name_is_a_label_only_where_a_flag_says_so(command, tmp_path):
    handwriting.drawn("pen", 4).save(tmp_path / "photo_1.png")
    code, out, err = command("--images", "photo_1.png")
    assert (code, err) == (0, "")
    assert "Accuracy" not in out
    out = command("--images", "photo_1.png", "--labels", "names")[1]
    assert "Accuracy on the 1 with a label (from names): 0.00% (1 error)" in out
    (tmp_path / "photo_1.png").rename(tmp_path / "photo.png")
    assert "No label was found in the names" in command("--images", "photo.png", "--labels", "names")[1]


def test_nothing_is_written_where_nothing_was_predicted(command, tmp_path):
    handwriting.drawn("pen", 4).save(tmp_path / "four.png")
    command("--images", "four.png")
    table, sheet = tmp_path / "run" / "predictions.csv", tmp_path / "run" / "predictions.html"
    before = table.read_bytes(), sheet.read_bytes()
    (tmp_path / "empty").mkdir()
    code, out, err = command("--images", "nothere.png", "empty")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 2
    assert (table.read_bytes(), sheet.read_bytes()) == before
    assert "predictions.csv (replaces the earlier one)" in command("--images", "four.png")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param("--images four.html --out four.csv", NO_INPUT, id="the page"),
        pytest.param("--images rows.csv --out rows.csv", NO_INPUT, id="the table"),
        pytest.param("--images photos --out photos/table.csv", NO_INPUT, id="a folder of inputs"),
        pytest.param("--images x.png --weights greedy", "--images takes one RUN", id="weights"),
        pytest.param("--images x.png --out t.html", "--out t.html: expected a name for the table", id="no table"),
    ],
)
def test_predictions_replace_no_input_and_flags_of_no_use_are_refused(command, tmp_path, words, message):
    handwriting.drawn("pen", 4).save(tmp_path / "four.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "rows.csv").touch()
    code, _, err = command(*words.split())
    assert code == 2
    assert message in err


def test_an_image_given_as_a_run_is_told_how_to_be_predicted(tmp_path, capsys):
    (tmp_path / "a.png").touch()
    assert predict.main([str(tmp_path / "a.png")]) == 2
    assert "is a file, not a run. To predict it: python src/predict.py RUN --images" in capsys.readouterr().err


def own_images(folder, digits=(4, 7)):
    for digit in digits:
        (folder / str(digit)).mkdir(parents=True)
        (folder / str(digit) / "a.png").write_bytes(file_of(handwriting.drawn("pen", digit)))
    return folder


def test_extra_images_need_labels_and_must_not_be_the_datasets_own(tmp_path, sample):
    classes = tuple("0123456789")
    known = np.concatenate([sample.train.images, sample.test.images])
    form = ImageForm()
    images, labels = load_extra(own_images(tmp_path / "own"), classes, known, form)
    assert images.shape == (2, 28, 28, 1)
    assert labels.tolist() == [4, 7]
    as_image(sample.test.images[0]).save(tmp_path / "own" / "4" / "leak.png")
    with pytest.raises(BadInput, match=r"own/4/leak\.png: one of the dataset's images, which would be scored"):
        load_extra(tmp_path / "own", classes, known, form)
    (tmp_path / "own" / "4" / "leak.png").rename(tmp_path / "own" / "leak_4.png")
    with pytest.raises(BadInput, match=r"own/leak_4\.png: expected it in a folder named after its class"):
        load_extra(tmp_path / "own", classes, known, form)
    with pytest.raises(BadInput, match=r"there is no such file.*python src/draw\.py"):
        load_extra(tmp_path / "none", classes, known, form)
    (tmp_path / "own.csv").touch()
    with pytest.raises(BadInput, match=r"own\.csv: expected a folder of images, found a file"):
        load_extra(tmp_path / "own.csv", classes, known, form)


def test_extra_images_join_training_in_every_fold_and_are_marked_but_not_scored(tmp_path, monkeypatch, capsys):
    tasks = []
    stub = made_run.cross_validate

    def cross_validate(plan, *more):
        labels = plan.train.labels
        tasks.extend((len(labels), labels[task.train_rows[-2:]].tolist(), task.validation_rows) for task in plan.tasks)
        return stub(plan, *more)

    monkeypatch.setattr(made_run, "cross_validate", cross_validate)
    folder = own_images(tmp_path / "own")
    run = made_run.make_run(monkeypatch, tmp_path / "runs", extra=str(folder))
    record = run.finished_record()
    assert all(rows == 602 and last == [4, 7] and validation.max() < 600 for rows, last, validation in tasks)
    assert record.extra.images == 2
    assert record.extra.class_counts == [0, 0, 0, 0, 1, 0, 0, 1, 0, 0]
    assert record.out_of_fold.rows == 600
    assert sum(record.data.class_counts) == 600
    assert "extra" in record.identity
    assert "joins training in every fold (2 images), and is not scored" in capsys.readouterr().out
    assert "trained on 2 extra images" in summary.of_run(run)
    assert title_of(run).endswith("trained on 2 extra images")
    assert record.asked().extra == str(folder)


def test_a_file_s_name_is_text_in_a_spreadsheet_too(tmp_path):
    refusals = [predictions.Refusal(name, "no image") for name in ("=1+1.png", "@SUM(A1)", "-1", "plain.png")]
    predictions.write_predictions(tmp_path / "predictions.csv", refusals)
    lines = (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == ["'=1+1.png", "'@SUM(A1)", "-1", "plain.png"]


def test_images_in_hidden_folders_are_left_out(tmp_path):
    for folder in (tmp_path, tmp_path / ".ipynb_checkpoints"):
        folder.mkdir(exist_ok=True)
        Image.new("L", (28, 28)).save(folder / "a.png")
    assert find_images(tmp_path) == [tmp_path / "a.png"]


def test_a_refused_array_file_is_named_once(tmp_path):
    np.save(tmp_path / "a.npy", np.full((2, 28, 28), -1.0))
    [refusal] = ImageReader(ImageForm(), classes=("0", "1")).read(tmp_path / "a.npy")
    assert refusal.reason.startswith("expected whole numbers")
