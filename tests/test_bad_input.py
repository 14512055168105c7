"""The corpus of broken data files: each is read right, or refused with file, place and remedy, the disk unchanged."""

import io
import os
import re
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

import torn_files
from digits.console import BadInput
from digits.data import archive, csv_reader, dataset
from digits.data.competition import ARCHIVE, TRAIN

GOOD = torn_files.train_bytes()
LINES = GOOD.split(b"\n")[:-1]


def lines(changed: dict[int, bytes]) -> bytes:
    """Return the good train.csv with some lines (counted from 1) changed."""
    return b"".join(changed.get(number, line) + b"\n" for number, line in enumerate(LINES, start=1))


def field(line: int, column: int, value: bytes) -> bytes:
    """Return the good train.csv with one field changed."""
    fields = LINES[line - 1].split(b",")
    fields[column] = value
    return lines({line: b",".join(fields)})


def columns(order: list[int]) -> bytes:
    """Return the good train.csv with its columns in this order."""
    return b"".join(b",".join(line.split(b",")[index] for index in order) + b"\n" for line in LINES)


ALL = list(range(785))
SMALL = torn_files.csv_bytes(torn_files.tiny_rows(40)[:, : 1 + 27 * 27], TRAIN.header[: 1 + 27 * 27])

READ_RIGHT = {
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "classic Mac's CR": GOOD.replace(b"\n", b"\r"),
    "mixed line ends": lines({7: LINES[6] + b"\r", 9: LINES[8] + b"\r"}),
    "all three line ends": GOOD.replace(b"\n", b"\r\n", 5)[::-1].replace(b"\n", b"\r", 3)[::-1],
    "no line end at the end": GOOD[:-1],
    "CRLF, no line end at the end": GOOD.replace(b"\n", b"\r\n")[:-2],
    "empty lines at the end": GOOD + b"\n\r\n\n",
    "every field in quotes": torn_files.train_bytes(quote='"'),
    "a quoted header": lines({1: b",".join(b'"%s"' % name for name in LINES[0].split(b","))}),
    "one quoted field": field(3, 5, b'"7"').replace(b'"7"', b'"%s"' % LINES[2].split(b",")[5]),
    "blanks around numbers": GOOD.replace(b",0,", b", 0 ,"),
    "leading zeros": GOOD.replace(b",0,", b",000,"),
    "all at once": b"\xef\xbb\xbf" + torn_files.train_bytes(quote='"', ending="\r\n") + b"\r\n",
}

REFUSED = {
    "an empty file": (b"", "line 1: expected a header, found an empty file"),
    "only a byte order mark": (b"\xef\xbb\xbf", "line 1: expected a header"),
    "only line ends": (b"\n\n\n", "line 1: expected a header, found an empty line"),
    "a header alone": (LINES[0] + b"\n", "expected rows below the header, found none"),
    "no header": (GOOD.partition(b"\n")[2], "line 1: expected the header label,pixel0,…,pixel783, found numbers"),
    "a test file": (torn_files.predict_bytes(), "line 1: expected 785 columns.* found 784 .*1 missing: 'label'"),
    "cut in a row": (
        GOOD[: len(GOOD) // 2],
        r"line \d+: expected 785 fields, found \d+ \(is the file cut off here\?\)",
    ),
    "cut in the header": (GOOD[:1003], "line 1: expected 785 columns"),
    "a row too short": (lines({5: LINES[4].rpartition(b",")[0]}), "line 5: expected 785 fields, found 784"),
    "a row too long": (lines({5: LINES[4] + b",0"}), "line 5: expected 785 fields, found 786"),
    "a comma at each line's end": (GOOD.replace(b"\n", b",\n"), "line 1: expected 785 columns.*1 not expected: ''"),
    "two rows on one line": (lines({5: LINES[4] + b"," + LINES[5]}), "line 5: expected 785 fields, found 1570"),
    "an empty line between rows": (lines({5: b""}), "line 5: expected 785 fields, found an empty line"),
    "a row of commas": (lines({5: b"," * 784}), "line 5, column label: expected an integer 0-255, found nothing"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "line 1: expected ASCII or UTF-8 text, found UTF-16"),
    "UTF-16 without its mark": (GOOD.decode().encode("utf-16-le"), "line 1, byte 2: .* found the byte 0x00"),
    "semicolons": (GOOD.replace(b",", b";"), "line 1: expected fields separated by commas"),
    "tabs": (GOOD.replace(b",", b"\t"), "line 1: expected fields separated by commas"),
    "a decimal": (field(4, 3, b"12.0"), "line 4, column pixel2: expected an integer 0-255, found '12.0'"),
    "a decimal comma in quotes": (field(4, 3, b'"1,5"'), "line 4, column pixel2: .* found '1,5'"),
    "pixels from 0 to 1": (field(4, 3, b"0.996"), "line 4, column pixel2: .* found '0.996'"),
    "a negative pixel": (field(4, 3, b"-1"), "line 4, column pixel2: .* found '-1'"),
    "a plus sign": (field(4, 3, b"+1"), r"line 4, column pixel2: .* found '\+1'"),
    "256": (field(4, 3, b"256"), "line 4, column pixel2: .* found '256'"),
    "511, which is 255 when it wraps": (field(4, 3, b"511"), "line 4, column pixel2: .* found '511'"),
    "1e3": (field(4, 3, b"1e3"), "line 4, column pixel2: .* found '1e3'"),
    "1e1": (field(4, 3, b"1e1"), "line 4, column pixel2: .* found '1e1'"),
    "0x1f": (field(4, 3, b"0x1f"), "line 4, column pixel2: .* found '0x1f'"),
    "1_0": (field(4, 3, b"1_0"), "line 4, column pixel2: .* found '1_0'"),
    "NaN": (field(4, 3, b"NaN"), "line 4, column pixel2: .* found 'NaN'"),
    "a missing value": (field(4, 3, b""), "line 4, column pixel2: .* found nothing"),
    "a missing last value": (field(4, 784, b""), "line 4, column pixel783: .* found nothing"),
    "a missing label": (field(4, 0, b""), "line 4, column label: .* found nothing"),
    "a word": (field(4, 3, b"ink"), "line 4, column pixel2: .* found 'ink'"),
    "a label of 10": (field(4, 0, b"10"), "line 4, column label: expected a digit 0-9, found 10"),
    "a label as a word": (field(4, 0, b"three"), "line 4, column label: .* found 'three'"),
    "a huge number": (field(4, 3, b"9" * 5_000), "line 4, column pixel2: .* found '9{40}'"),
    "a huge field": (field(4, 3, b"9" * 200_000), "line 4: expected plain CSV fields, found: field larger"),
    "an open quote": (field(4, 3, b'"1'), r"line \d+: expected plain CSV fields, found: unexpected end of data"),
    "a quote in a field": (field(4, 3, b'"1"2'), "line 4: expected plain CSV fields"),
    "a line end in quotes": (field(4, 3, b'"1\n2"'), r"line 5, column pixel2: .* found '1\\n2'"),
    "a NUL byte": (field(4, 3, b"\0"), r"line 4, byte \d+: expected ASCII text, found the byte 0x00"),
    "NUL bytes to the end": (GOOD[:5_000] + b"\0" * 500, r"line \d+, byte \d+: .* the byte 0x00"),
    "a no-break space": (field(4, 3, "7\xa0".encode()), r"line 4, byte \d+: .* the byte 0xc2"),
    "a digit of another script": (field(4, 3, "٣".encode()), r"line 4, byte \d+: .* the byte 0xd9"),
    "a column twice": (columns([*ALL[:-1], 5]), "line 1: expected each column once, found 'pixel4' 2 times"),
    "a column missing": (columns(ALL[:-1]), "found 784 .*1 missing: 'pixel783'"),
    "an index column": (b",".join([b"id", GOOD]), "line 1: .*1 not expected: 'id'"),
    "two columns swapped": (columns([0, 2, 1, *ALL[3:]]), "line 1, column 2: expected 'pixel0', found 'pixel1'"),
    "the label at the end": (
        columns([*ALL[1:], 0]),
        "line 1, column 1: expected 'label', found 'pixel0', out of order",
    ),
    "a header in capitals": (GOOD.replace(b"label", b"Label", 1), "line 1: .*1 missing: 'label'.*'Label'"),
    "pixels of 27 x 27": (SMALL, "found 730 .*55 missing: 'pixel729'"),
    "another competition": (b"PassengerId,Survived\n1,0\n", "found 2 .*not expected: 'PassengerId'"),
    "a web page": (b"<!DOCTYPE html>\n<html>Sign in</html>\n", "line 1: .*not expected: '<!DOCTYPE html>'"),
    "JSON": (b'{"code": 403}\n', "line 1: "),
    "one class missing": (
        lines({n: b"0" + LINES[n - 1][1:] for n in range(2, 42) if LINES[n - 1][:1] == b"9"}),
        "digit 9",
    ),
    "one row": (LINES[0] + b"\n" + LINES[1] + b"\n", "training images: expected at least 2 of each digit"),
    "gzip, cut": (torn_files.gzip_bytes(GOOD)[:-100], "expected a whole archive, found a damaged one"),
    "gzip, damaged": (torn_files.gzip_bytes(GOOD)[:-6] + b"abcdef", "expected a whole archive, found a damaged one"),
    "gzip in gzip": (torn_files.gzip_bytes(torn_files.gzip_bytes(GOOD)), "found an archive in the archive"),
    "a zip of two": (torn_files.zip_bytes({"a.csv": GOOD, "b.csv": GOOD}), r"expected one CSV inside, found \['a.csv'"),
    "random bytes": (np.random.default_rng(0).bytes(5_000), r"train\.csv"),
}


@pytest.mark.parametrize("name", READ_RIGHT)
def test_what_is_plain_is_read_right(name, tmp_path):
    folder = torn_files.write_pair(tmp_path, READ_RIGHT[name])
    train = dataset.load("kaggle", folder, folds=2).train
    np.testing.assert_array_equal(train.labels, torn_files.tiny_rows(40)[:, 0])
    np.testing.assert_array_equal(train.images.reshape(40, 784), torn_files.tiny_rows(40)[:, 1:])


def refused(action, message: str, remedy: str, folder: Path, name: str) -> None:
    """Check that an action is refused with file, message and remedy, in three lines at most, the disk unchanged."""
    before = torn_files.everything_in(folder)
    with pytest.raises(BadInput, match=re.compile(message, re.DOTALL)) as caught:
        action()
    text = str(caught.value)
    assert name in text
    assert re.search(remedy, text), text
    assert len(text) < 600
    assert text.count("\n") < 3
    assert torn_files.everything_in(folder) == before


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_training_file_is_refused_with_its_place_and_remedy(name, tmp_path):
    data, message = REFUSED[name]
    folder = torn_files.write_pair(tmp_path, data)
    place = "training images" if "training images" in message or message == "digit 9" else "train.csv"
    # The copy of the good test.csv beside it may be left: it is no change to what the user has.
    dataset.read_file(folder, dataset.TEST)
    before = torn_files.everything_in(folder)
    if place == "training images":
        with pytest.raises(BadInput, match=message):
            dataset.load("kaggle", folder, folds=2)
        assert torn_files.everything_in(folder).items() >= before.items()
        return
    refused(lambda: dataset.load("kaggle", folder, folds=2), message, r"scripts/download\.sh", folder, place)
    if "one class" not in name:
        target = tmp_path / "target"
        torn_files.write_pair(target)
        refused(
            lambda: archive.install(folder / "train.csv", target), r"train\.csv", "download.sh --zip", target, place
        )


def test_a_test_file_with_labels_is_refused(tmp_path):
    folder = torn_files.write_pair(tmp_path, test=GOOD)
    with pytest.raises(
        BadInput, match=r"test\.csv, line 1: expected a test file without labels, found a column 'label'"
    ):
        dataset.load("kaggle", folder, folds=2)


def place_folder(path: Path) -> None:
    path.mkdir()


def place_loop(path: Path) -> None:
    path.symlink_to(path)


def place_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (place_folder, "expected a file, found a folder or device"),
        (place_pipe, "expected a file, found a folder or device"),
        (place_loop, "there is no such file"),
    ],
)
def test_what_is_no_file_is_refused(make, message, tmp_path):
    folder = torn_files.write_pair(tmp_path)
    (folder / "train.csv").unlink()
    make(folder / "train.csv")
    with pytest.raises(BadInput, match=rf"train\.csv: {message}.*scripts/download\.sh"):
        dataset.load("kaggle", folder, folds=2)


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    folder = torn_files.write_pair(tmp_path)
    opened = Path.open

    def refuse(self, *arguments, **options):
        if self.name == "train.csv":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(zipfile, "is_zipfile", lambda _: False)
    with pytest.raises(BadInput, match=r"train\.csv: cannot be read \(Permission denied\).*scripts/download\.sh"):
        dataset.load("kaggle", folder, folds=2)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_BYTES", 100_000)
    folder = torn_files.write_pair(tmp_path, torn_files.gzip_bytes(b"0" * 100_001))
    with pytest.raises(BadInput, match=r"train\.csv: expected at most 100,000 bytes of CSV, found more"):
        dataset.load("kaggle", folder, folds=2)


def zip_of(infos: list[tuple[str, int, bytes]]) -> bytes:
    """Return a zip of (name, mode of the file system, content)."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name, mode, data in infos:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, data)
    return content.getvalue()


GOOD_ZIP = torn_files.zip_bytes(torn_files.competition_members())
REST = {name: data for name, data in torn_files.competition_members().items() if name != TRAIN.name}
FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


def zip_with(name: str, data: bytes = GOOD, mode: int = FILE) -> bytes:
    """Return the competition's zip with another member in the place of train.csv."""
    return zip_of([*((other, FILE, content) for other, content in REST.items()), (name, mode, data)])


BROKEN_ZIPS = {
    "cut": (GOOD_ZIP[:-30], "expected one of train.csv"),
    "cut in its middle": (GOOD_ZIP[: len(GOOD_ZIP) // 2], "expected one of train.csv"),
    "its directory damaged": (GOOD_ZIP.replace(b"PK\x01\x02", b"PK\x01\x03"), "found a damaged one"),
    "a member's bytes damaged": (zip_with("train.csv").replace(LINES[9], LINES[9][::-1]), "found a damaged one .*CRC"),
    "nothing in it": (torn_files.zip_bytes({}), "inside, found nothing"),
    "a path out of it": (zip_with("../train.csv"), r"found '\.\./train\.csv': a path"),
    "an absolute path": (zip_with("/etc/train.csv"), "found '/etc/train.csv': a path"),
    "a folder": (zip_with("digit-recognizer/train.csv"), "found 'digit-recognizer/train.csv': a path"),
    "only a path out of it": (torn_files.zip_bytes({"../train.csv": GOOD}), r"found '\.\./train\.csv': a path"),
    "a symbolic link": (zip_with("train.csv", b"/etc/passwd", LINK), "found 'train.csv': no regular file"),
    "another competition": (torn_files.zip_bytes({"train.csv": b"PassengerId,Age\n1,2\n"}), "train.csv in .*, line 1"),
    "other files": (torn_files.zip_bytes({"a.csv": b"1", "b.csv": b"2"}), "found 'a.csv': a file of something else"),
    "one more file": (zip_with("virus.exe", b"MZ"), "found 'virus.exe': a file of something else"),
    "a stranger alone": (torn_files.zip_bytes({"notes.txt": b"hello"}), "found a file that begins 'hello'"),
    "labels missing": (torn_files.zip_bytes({"train.csv": torn_files.predict_bytes()}), "1 missing: 'label'"),
    "labels in the test part": (torn_files.zip_bytes({"test.csv": GOOD}), "expected a test file without labels"),
    "a label of 10": (zip_with("train.csv", field(4, 0, b"10")), "train.csv in .*, line 4, column label"),
    "a sample submission cut": (
        torn_files.zip_bytes({"sample_submission.csv": b"ImageId,Label\n1,0\n2"}),
        "line 3: exp",
    ),
    "a sample submission empty": (torn_files.zip_bytes({"sample_submission.csv": b"ImageId,Label\n"}), "found none"),
    "a sample submission of words": (
        torn_files.zip_bytes({"sample_submission.csv": b"ImageId,Label\n1,x\n"}),
        "line 2",
    ),
    "no zip but a web page": (b"<!DOCTYPE html>", "found a file that begins '<!DOCTYPE html>'"),
    "empty": (b"", "found a file that begins ''"),
}


@pytest.mark.parametrize("name", BROKEN_ZIPS)
def test_a_broken_zip_is_refused_and_the_data_folder_stays(name, tmp_path):
    data, message = BROKEN_ZIPS[name]
    path = tmp_path / ARCHIVE
    path.write_bytes(data)
    torn_files.write_pair(tmp_path / "data")
    refused(lambda: archive.install(path, tmp_path / "data"), message, "download.sh --zip", tmp_path, ARCHIVE)


def test_the_same_name_twice_is_refused(tmp_path):
    path = tmp_path / ARCHIVE
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(zip_of([("train.csv", FILE, GOOD), ("train.csv", FILE, GOOD)]))
    refused(lambda: archive.install(path, tmp_path / "data"), "the same name twice", "--zip", tmp_path, ARCHIVE)


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(torn_files.zip_bytes({"train.csv": GOOD}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / ARCHIVE
    path.write_bytes(data)
    refused(lambda: archive.install(path, tmp_path / "data"), "an encrypted file", "--zip", tmp_path, ARCHIVE)


def test_a_zip_bomb_is_refused_by_what_it_says_and_by_what_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_BYTES", 1_000_000)
    path = torn_files.write_zip(tmp_path, {"train.csv": b"0" * 1_000_001})
    refused(lambda: archive.install(path, tmp_path / "data"), "1,000,001 bytes unpacked", "--zip", tmp_path, ARCHIVE)
    lying = path.read_bytes().replace((1_000_001).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(lying)
    refused(lambda: archive.install(path, tmp_path / "data"), "damaged|expected at most", "--zip", tmp_path, ARCHIVE)


def npz_with(**changed: np.ndarray | None) -> bytes:
    """Return a mnist.npz with some arrays changed, or left out."""
    arrays = {name: array for name, array in {**torn_files.npz_arrays(), **changed}.items() if array is not None}
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


IMAGES = torn_files.npz_arrays()["x_train"]
LYING = npz_with().replace(b"(100, 28, 28)", b"(999, 28, 28)")
BROKEN_NPZ = {
    "empty": (b"", "found a damaged one"),
    "no zip": (b"hello", "found a damaged one"),
    "cut": (npz_with()[:-100], "found a damaged one"),
    "a member's bytes damaged": (npz_with().replace(IMAGES[5].tobytes(), IMAGES[6].tobytes()), "damaged one .*CRC"),
    "an array missing": (npz_with(y_test=None), "expected the array y_test, found"),
    "images of floats": (npz_with(x_train=IMAGES / 255), r"x_train: expected uint8 \('n', 28, 28\), found <f8"),
    "images flattened": (npz_with(x_train=IMAGES.reshape(100, 784)), r"x_train: .* found \|u1 \(100, 784\)"),
    "images of 27 x 27": (npz_with(x_train=IMAGES[:, :27, :27]), r"x_train: .* found \|u1 \(100, 27, 27\)"),
    "columns first": (npz_with(x_train=np.asfortranarray(IMAGES)), "x_train: expected uint8"),
    "labels one-hot": (npz_with(y_train=np.eye(10, dtype=np.uint8)[np.arange(100) % 10]), "y_train: expected uint8"),
    "labels as int64": (npz_with(y_train=np.arange(100) % 10), "y_train: expected uint8"),
    "a label of 10": (npz_with(y_test=np.full(20, 10, np.uint8)), "y_test: expected digits 0-9, found 10"),
    "fewer labels than images": (npz_with(y_train=np.zeros(99, np.uint8)), "y_train: .* found 99 for 100"),
    "no images": (npz_with(x_test=IMAGES[:0], y_test=np.zeros(0, np.uint8)), "y_test: .* found 0 for 0"),
    "a pickle": (npz_with(y_train=np.array([os.system] * 100, object)), "y_train"),
    "a header that lies": (LYING, "damaged one .*CRC|expected 783,216 bytes"),
}


@pytest.mark.parametrize("name", BROKEN_NPZ)
def test_a_broken_mnist_npz_is_refused(name, tmp_path):
    data, message = BROKEN_NPZ[name]
    (tmp_path / "mnist.npz").write_bytes(data)
    refused(lambda: dataset.load("keras", tmp_path), message, "Remove the file", tmp_path, "mnist.npz")


def test_an_array_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "MAX_BYTES", 1_000)
    path = torn_files.write_npz(tmp_path)
    refused(lambda: dataset.read_npz(path), "x_train: expected at most 1,000 bytes", "Remove", tmp_path, "mnist.npz")


def test_the_corpus_has_at_least_sixty_broken_inputs():
    assert len(REFUSED) + len(BROKEN_ZIPS) + len(BROKEN_NPZ) >= 60
