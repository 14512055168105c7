"""The corpus of odd and broken files: each is read right, or refused with file, place and how to fix it."""

import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import torn_files
from digits.console import BadInput, error_context
from digits.data import archive, arrays, csv_reader, dataset, submission
from torn_files import ARCHIVE, PIXEL_COLUMNS, TRAIN_COLUMNS

ROWS = torn_files.tiny_rows(40)
GOOD = torn_files.train_bytes()
LINES = GOOD.split(b"\n")[:-1]
BODY = GOOD.partition(b"\n")[2]
ALL = list(range(785))
LETTERS = "abcdefghijklmnopqrstuvwxyzäö"


def lines(changed: dict[int, bytes]) -> bytes:
    return b"".join(changed.get(number, line) + b"\n" for number, line in enumerate(LINES, start=1))


def field(line: int, column: int, value: bytes) -> bytes:
    fields = LINES[line - 1].split(b",")
    fields[column] = value
    return lines({line: b",".join(fields)})


def columns(order: list[int]) -> bytes:
    return b"".join(b",".join(line.split(b",")[index] for index in order) + b"\n" for line in LINES)


def header(*names: str) -> bytes:
    return ",".join(names).encode() + b"\n" + BODY


def numbered(form: str, first: int = 0) -> list[str]:
    return ["label", *(form % number for number in range(first, first + 784))]


def cut(side: int) -> bytes:
    return torn_files.csv_bytes(ROWS[:, : 1 + side * side], TRAIN_COLUMNS[: 1 + side * side])


GRID = ["label", *(f"{row}x{column}" for row in range(1, 29) for column in range(1, 29))]
WITH_INDEX = b"".join(b"%s,%s\n" % (b"" if not row else b"%d" % (row - 1), line) for row, line in enumerate(LINES))
READ_RIGHT = {
    "as it is": GOOD,
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "classic Mac's CR": GOOD.replace(b"\n", b"\r"),
    "CR CR LF": GOOD.replace(b"\n", b"\r\r\n"),
    "a comma at the end of each line": GOOD.replace(b"\n", b",\n"),
    "mixed line ends": lines({7: LINES[6] + b"\r", 9: LINES[8] + b"\r"}),
    "all three line ends": GOOD.replace(b"\n", b"\r\n", 5)[::-1].replace(b"\n", b"\r", 3)[::-1],
    "no line end at the end": GOOD[:-1],
    "empty lines at the end": GOOD + b"\n\r\n\n",
    "an empty line before the header": b"\n" + GOOD,
    "rows of commas at the end, as Excel leaves them": GOOD + (b"," * 784 + b"\n") * 3,
    "every field in quotes": torn_files.train_bytes(quote='"'),
    "R's write.csv: a quoted header": lines({1: b",".join(b'"%s"' % name for name in LINES[0].split(b","))}),
    "one quoted field": field(3, 5, b'"%s"' % LINES[2].split(b",")[5]),
    "blanks around numbers": GOOD.replace(b",0,", b", 0 ,"),
    "leading zeros": GOOD.replace(b",0,", b",000,"),
    "decimals": GOOD.replace(b",0,", b",0.0,"),
    "NumPy's savetxt without fmt": b"".join(
        b"%s,%.18e\n" % (line.rpartition(b",")[0], float(line.rpartition(b",")[2])) for line in LINES[1:]
    ),
    "plus signs": GOOD.replace(b",0,", b",+0,"),
    "semicolons, as R's write.csv2": GOOD.replace(b",", b";"),
    "tabs": GOOD.replace(b",", b"\t"),
    "bars": GOOD.replace(b",", b"|"),
    "UTF-16, as Excel's Unicode text": GOOD.decode().encode("utf-16"),
    "all at once": b"\xef\xbb\xbf" + torn_files.train_bytes(quote='"', ending="\r\n") + b"\r\n",
    "no header": BODY,
    "pandas' header=None written out: 0,1,2…": header(*map(str, range(785))),
    "pixel1 … pixel784": header(*numbered("pixel%d", 1)),
    "1x1 … 28x28": header(*GRID),
    "r0c0 … r27c27": header("label", *(f"r{row}c{column}" for row in range(28) for column in range(28))),
    "px_0 … px_783": header(*numbered("px_%d")),
    "0 … 783 beside a label": header(*numbered("%d")),
    "pixel000 … pixel783": header(*numbered("pixel%03d")),
    "the header in capitals": GOOD.replace(b"label", b"LABEL", 1),
    "a column class": GOOD.replace(b"label", b"class", 1),
    "a column of another name": GOOD.replace(b"label", b"what", 1),
    "pixels without numbers": header("label", *(f"x{row}{column}" for row in LETTERS for column in LETTERS)),
    "the label at the end": columns([*ALL[1:], 0]),
    "the label in the middle": columns([*ALL[1:300], 0, *ALL[300:]]),
    "pixels backwards": columns([0, *ALL[:0:-1]]),
    "an id column": b"".join(
        b"%s,%s\n" % (b"id" if not row else b"%d" % (row + 300), line) for row, line in enumerate(LINES)
    ),
    "pandas' to_csv with its index": WITH_INDEX,
    "read and written twice: Unnamed: 0": b"Unnamed: 0" + WITH_INDEX,
    "labels as decimals": b"".join(
        line.replace(b",", b".0," if row else b",", 1) + b"\n" for row, line in enumerate(LINES)
    ),
}

REFUSED = {
    "an empty file": (b"", "expected a table, found an empty file"),
    "only a byte order mark": (b"\xef\xbb\xbf", "expected a table, found an empty file"),
    "only line ends": (b"\n\n\n", "expected a table, found an empty file"),
    "a header alone": (LINES[0] + b"\n", "expected rows below the header, found none"),
    "a test file": (torn_files.predict_bytes(), "line 1: expected a column 'label' beside 784 pixels, found none"),
    "cut in a row": (GOOD[: len(GOOD) // 2], r"line \d+: expected 785 fields, found \d+ \(is the file cut off here"),
    "cut in the header": (GOOD[:1003], r"line 1: expected .* found 123 pixel columns \('pixel0' .*; 11 × 11 would"),
    "a row too short": (lines({5: LINES[4].rpartition(b",")[0]}), "line 5: expected 785 fields, found 784"),
    "a row too long": (lines({5: LINES[4] + b",0"}), "line 5: expected 785 fields, found 786"),
    "row names without a header, as R's write.table": (
        lines({n: b'"%d",%s' % (n, LINES[n - 1]) for n in range(2, 42)}),
        r"line 2: expected 785 fields, found 786 \(.* row names .*? In R: write.csv\(…, row.names=FALSE\)\)",
    ),
    "two rows on one line": (lines({5: LINES[4] + b"," + LINES[5]}), "line 5: expected 785 fields, found 1570"),
    "an empty line between rows": (lines({5: b""}), "line 5: expected fields, found an empty line. Remove it"),
    "a row of commas": (lines({5: b"," * 784}), "line 5: expected fields, found an empty line"),
    "UTF-16 without its mark": (GOOD.decode().encode("utf-16-le"), "line 1, byte 2: .* found the byte 0x00"),
    "Latin-1": (field(4, 0, "é".encode("latin-1")), r"line 4, byte 1: .* found the byte 0xe9. Save it in UTF-8"),
    "a decimal comma in quotes": (field(4, 3, b'"1,5"'), "line 4, column pixel2: .* found '1,5'"),
    "half a grey": (field(4, 3, b"12.5"), "line 4, column pixel2: expected an integer 0-255, found '12.5'"),
    "pixels from 0 to 1": (field(4, 3, b"0.996"), "line 4, column pixel2: .*'0.996'. Multiply the pixels by 255"),
    "a negative pixel": (field(4, 3, b"-1"), "line 4, column pixel2: .* found '-1'"),
    "256": (field(4, 3, b"256"), "line 4, column pixel2: .* found '256'"),
    "511, which is 255 when it wraps": (field(4, 3, b"511"), "line 4, column pixel2: .* found '511'"),
    "1e3": (field(4, 3, b"1e3"), "line 4, column pixel2: .* found '1e3'"),
    "0x1f": (field(4, 3, b"0x1f"), "line 4, column pixel2: .* found '0x1f'"),
    "1_0": (field(4, 3, b"1_0"), "line 4, column pixel2: .* found '1_0'"),
    "NaN": (field(4, 3, b"NaN"), "line 4, column pixel2: .* found 'NaN'"),
    "infinity": (field(4, 3, b"inf"), "line 4, column pixel2: .* found 'inf'"),
    "a missing value": (field(4, 3, b""), "line 4, column pixel2: .* found ''"),
    "a missing last value": (field(4, 784, b""), "line 4, column pixel783: .* found ''"),
    "a missing label": (field(4, 0, b""), "line 4, column label: expected a label, found nothing"),
    "a word": (field(4, 3, b"ink"), "line 4, column pixel2: .* found 'ink'"),
    "a huge number": (field(4, 3, b"9" * 5_000), "line 4, column pixel2: .* found '9{40}'"),
    "a huge field": (field(4, 3, b"9" * 200_000), "line 4: expected plain CSV fields, found: field larger"),
    "an open quote": (field(4, 3, b'"1'), r"line \d+: expected plain CSV fields, found: unexpected end of data"),
    "a quote in a field": (field(4, 3, b'"1"2'), "line 4: expected plain CSV fields"),
    "a line end in quotes": (field(4, 3, b'"1\n2"'), r"line 5, column pixel2: .* found '1\\n2'"),
    "a NUL byte": (field(4, 3, b"\0"), r"line 4, byte \d+: expected text, found the byte 0x00"),
    "NUL bytes to the end": (GOOD[:5_000] + b"\0" * 500, r"line \d+, byte \d+: .* the byte 0x00"),
    "a column twice": (columns([*ALL[:-1], 5]), "line 1: expected each column once, found 'pixel4' 2 times"),
    "a column missing": (columns(ALL[:-1]), r"found 783 pixel columns .*; 28 × 28 would be 784"),
    "a column missing in the middle": (
        header(*numbered("pixel%d")).replace(b"pixel500", b"pixel999", 1),
        "line 1: expected pixels numbered without a gap",
    ),
    "two labels": (
        GOOD.replace(b"pixel0,", b"class,", 1),
        "expected one column with the label, found 'label', 'class'",
    ),
    "colour": (
        torn_files.csv_bytes(np.zeros((3, 3073), np.uint8), ("label", *(f"p{i}" for i in range(3072)))),
        "found 3072 .* in colour as files",
    ),
    "images of 7 × 7": (cut(7), "line 1: expected the pixels of square images of 8 × 8 to 96 × 96, found 49"),
    "more classes than there can be": (
        torn_files.csv_bytes(np.arange(101)[:, None] * np.ones(65, int), ("label", *PIXEL_COLUMNS[:64])),
        "column label: expected at most 100 classes, found 101",
    ),
    "another competition": (b"PassengerId,Survived\n1,0\n", "line 1: expected .* pixels"),
    "a web page": (b"<!DOCTYPE html>\n<html>Sign in</html>\n", "expected a CSV, found a web page"),
    "JSON": (b'{"code": 403}\n', "expected a CSV, found a JSON file"),
    "a PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "expected a CSV, found an image .PNG"),
    "an .npy": (b"\x93NUMPY\x01\0v\0{}", r"expected a CSV, found an array .*npy"),
    "an IDX file": (b"\0\0\x08\x03\0\0\xea\x60", "expected a CSV, found an array .*IDX"),
    "Parquet": (b"PAR1\x15\x04", "expected a CSV, found a Parquet file"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer"),
    "gzip in gzip": (torn_files.gzip_bytes(GOOD), "found an archive in the archive"),
    "random bytes": (np.random.default_rng(0).bytes(5_000), r"line \d, byte"),
}


@pytest.mark.parametrize("data", READ_RIGHT.values(), ids=READ_RIGHT.keys())
def test_what_is_plain_is_read_right(data):
    table = csv_reader.parse(data, labelled=True)
    assert csv_reader.positions_among(table.classes, tuple("0123456789")) == list(range(10))
    np.testing.assert_array_equal(table.labels, ROWS[:, 0])
    np.testing.assert_array_equal(torn_files.pixels(table), ROWS[:, 1:])


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_plain_is_refused_with_its_place_and_how_to_fix_it(data, message):
    with pytest.raises(BadInput) as caught, error_context("train.csv", "THE CURE"):
        csv_reader.parse(data, labelled=True)
    text = str(caught.value)
    assert text.startswith("train.csv")
    assert re.search(message, text), text
    assert caught.value.fix
    assert len(text) < 400


def test_words_ids_and_sizes_are_read_as_they_are():
    words = [("cat", "dog", "Äpfel, rote")[row % 3] for row in range(40)]
    rows = [f'"{word}",{",".join(map(str, pixels))}' for word, pixels in zip(words, ROWS[:, 1:].tolist(), strict=True)]
    table = csv_reader.parse("\n".join([",".join(TRAIN_COLUMNS), *rows]).encode(), labelled=True)
    assert table.classes == ("cat", "dog", "Äpfel, rote")
    assert [table.classes[label] for label in table.labels] == words
    plain = "\n".join([",".join(TRAIN_COLUMNS), *(row.replace('"', "").replace(", ", " ") for row in rows)]).encode()
    assert csv_reader.parse(plain, labelled=True).classes == ("cat", "dog", "Äpfel rote")
    for ids, expected in ((range(0, 4000, 100), np.int64), ([f"{n:03}.png" for n in range(40)], np.str_)):
        rows = [f"{name},{','.join(map(str, pixels))}" for name, pixels in zip(ids, ROWS[:, 1:].tolist(), strict=True)]
        for first in ([",".join(["id", *PIXEL_COLUMNS])], []):
            table = csv_reader.parse("\n".join([*first, *rows]).encode())
            assert table.ids.tolist() == list(ids)
            assert table.ids.dtype.type is expected
            assert table.labels is None
            np.testing.assert_array_equal(torn_files.pixels(table), ROWS[:, 1:])
    assert torn_files.pixels(csv_reader.parse(cut(8), labelled=True)).shape == (40, 64)
    assert torn_files.pixels(csv_reader.parse(b"label" + cut(9)[5:], labelled=True)).shape == (40, 81)


def test_what_was_understood_is_said():
    assert csv_reader.parse(WITH_INDEX, labelled=True).notes == ("row numbers left out",)
    assert csv_reader.parse(READ_RIGHT["a column of another name"], labelled=True).notes == (
        "column 'what' taken as the label",
    )


PACKED = {
    "gzip": (torn_files.gzip_bytes(GOOD), None),
    "xz": (lzma.compress(GOOD, preset=0), None),
    "zip": (torn_files.zip_bytes({"anything.csv": GOOD}), None),
    "zip, macOS": (torn_files.zip_bytes({"anything.csv": GOOD, "__MACOSX/._anything.csv": b"x"}), None),
    "gzip, cut": (torn_files.gzip_bytes(GOOD)[:-100], "expected a whole archive, found a damaged one"),
    "gzip, damaged": (torn_files.gzip_bytes(GOOD)[:-6] + b"abcdef", "expected a whole archive, found a damaged one"),
    "xz, cut": (lzma.compress(GOOD, preset=0)[:-50], "expected a whole archive, found a damaged one"),
    "zip, cut": (torn_files.zip_bytes({"a.csv": GOOD})[:-100], "expected a whole archive, found a damaged one"),
    "a zip of two": (torn_files.zip_bytes({"a.csv": GOOD, "b.csv": GOOD}), r"expected one CSV inside, found \['a.csv'"),
}


@pytest.mark.parametrize(("data", "message"), PACKED.values(), ids=PACKED.keys())
def test_packed_files_are_read_by_their_content_or_refused(tmp_path, data, message):
    path = tmp_path / "train.csv"
    path.write_bytes(data)
    if message is None:
        assert csv_reader.read_bytes(path) == GOOD
    else:
        with pytest.raises(BadInput, match=rf"train\.csv: {message}"):
            csv_reader.read_bytes(path)


def test_what_is_no_readable_file_is_refused(tmp_path, monkeypatch):
    for number, (make, message) in enumerate(
        [
            (Path.mkdir, "expected a file, found a folder"),
            (os.mkfifo, "expected a file, found a folder, a device or a pipe"),
            (lambda path: path.symlink_to(path), "there is no such file|cannot be read"),
            (lambda path: None, "there is no such file"),
        ]
    ):
        path = tmp_path / f"{number}.csv"
        make(path)
        with pytest.raises(BadInput, match=rf"{number}\.csv: ({message})"):
            csv_reader.read_bytes(path)
    path.write_bytes(GOOD)
    monkeypatch.setattr(csv_reader, "MAX_BYTES", 100)
    with pytest.raises(BadInput, match="expected at most 100 bytes, found more"):
        csv_reader.read_bytes(path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInput, match=r"cannot be read \(Permission denied\)"):
        csv_reader.read_bytes(path)


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


def refused_archive(path: Path, message: str) -> None:
    refused(lambda: archive.install(path, path.parent / "data"), message, "--zip", path.parent, path.name)


def zip_of(infos: list[tuple[str, int, bytes]]) -> bytes:
    """Return a zip of (name, mode of the file system, content)."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name, mode, data in infos:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, data)
    return content.getvalue()


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as opened:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return content.getvalue()


MEMBERS = torn_files.competition_members()
GOOD_ZIP = torn_files.zip_bytes(MEMBERS)
REST = {name: data for name, data in MEMBERS.items() if name != "train.csv"}
FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


def zip_with(name: str, data: bytes = GOOD, mode: int = FILE) -> bytes:
    """Return the competition's zip with another member in the place of train.csv."""
    return zip_of([*((other, FILE, content) for other, content in REST.items()), (name, mode, data)])


ARCHIVES = {
    "Kaggle's": GOOD_ZIP,
    "in a folder": torn_files.zip_bytes({f"digit-recognizer/{name}": data for name, data in MEMBERS.items()}),
    "zipped by macOS": torn_files.zip_bytes(
        MEMBERS | {f"__MACOSX/._{name}": b"\0\5\x16\7" for name in MEMBERS} | {".DS_Store": b"\0"}
    ),
    "with other files": torn_files.zip_bytes(MEMBERS | {"README.md": b"hello", "Dig-MNIST.csv": b"1,2"}),
    "with folders": zip_of(
        [("data/", stat.S_IFDIR | 0o755, b""), *((f"data/{n}", FILE, d) for n, d in MEMBERS.items())]
    ),
    "tar.gz": tar_of(MEMBERS),
    "tar": tar_of(MEMBERS, "w"),
    "tar.xz in a folder": tar_of({f"./digits/{name}": data for name, data in MEMBERS.items()}, "w:xz"),
    "a path out of it, which is not followed": torn_files.zip_bytes(
        {f"../{name}": data for name, data in MEMBERS.items()}
    ),
}


@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_archives_of_any_tool_are_installed_byte_for_byte(tmp_path, data):
    (tmp_path / "archive").write_bytes(data)
    good = torn_files.write_pair(tmp_path / "good", train=b"broken")
    paths = archive.install(tmp_path / "archive", good)
    assert {path.name: path.read_bytes() for path in paths} == MEMBERS
    assert torn_files.everything_in(good) == MEMBERS, "also what was broken is replaced"
    archive.install(good, tmp_path / "new/data")
    assert torn_files.everything_in(tmp_path / "new/data") == MEMBERS, "from a folder"


BROKEN_ZIPS = {
    "cut": (GOOD_ZIP[:-30], "expected a whole archive, found a damaged one"),
    "cut in its middle": (GOOD_ZIP[: len(GOOD_ZIP) // 2], "expected a whole archive, found a damaged one"),
    "its directory damaged": (GOOD_ZIP.replace(b"PK\x01\x02", b"PK\x01\x03"), "found a damaged one"),
    "a member's bytes damaged": (zip_with("train.csv").replace(LINES[9], LINES[9][::-1]), "found a damaged one .*CRC"),
    "a tar.gz, cut": (tar_of(MEMBERS)[:-2_000], "found a damaged one|expected a CSV, found a tar|damaged"),
    "nothing in it": (torn_files.zip_bytes({}), "bytes unpacked, found 0"),
    "a symbolic link": (zip_with("train.csv", b"/etc/passwd", LINK), "found 1 pixel columns .'/etc/passwd'"),
    "another competition": (torn_files.zip_bytes({"train.csv": b"PassengerId,Age\n1,2\n"}), "zip, train.csv, line 1"),
    "other files": (torn_files.zip_bytes({"a.csv": b"1", "b.csv": b"2"}), "inside, found a.csv, b.csv"),
    "one file twice": (
        zip_of([("a/train.csv", FILE, GOOD), ("b/train.csv", FILE, GOOD)]),
        "expected one train.csv inside, found 2",
    ),
    "a stranger alone": (torn_files.zip_bytes({"notes.txt": b"hello"}), "inside, found notes.txt"),
    "labels missing": (torn_files.zip_bytes({"train.csv": torn_files.predict_bytes()}), "expected a column 'label'"),
    "labels in the test file": (torn_files.zip_bytes({"test.csv": GOOD}), "expected test images without labels"),
    "a sample submission cut": (
        torn_files.zip_bytes({"sample_submission.csv": b"ImageId,Label\n1,0\n2"}),
        "line 3: expected 2 fields, found 1",
    ),
    "a sample submission empty": (torn_files.zip_bytes({"sample_submission.csv": b"ImageId,Label\n"}), "found none"),
    "a sample of words": (torn_files.zip_bytes({"sample_submission.csv": b"ImageId,Label\n1,x\n"}), "line 2"),
    "its last member cut": (
        torn_files.zip_bytes(MEMBERS | {"train.csv": GOOD[:-900]}),
        r"zip, train\.csv, line 41: expected 785 fields",
    ),
    "fewer answers than test images": (
        torn_files.zip_bytes(MEMBERS | {"sample_submission.csv": torn_files.sample_bytes(5)}),
        "found 5 and 6",
    ),
    "no zip but a web page": (b"<!DOCTYPE html>", "expected a CSV, found a web page"),
    "empty": (b"", "inside, found digit-recognizer.zip"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN_ZIPS.values(), ids=BROKEN_ZIPS.keys())
def test_a_broken_zip_is_refused_and_the_data_folder_stays(tmp_path, data, message):
    torn_files.write_pair(tmp_path / "data")
    path = tmp_path / ARCHIVE
    path.write_bytes(data)
    refused_archive(path, message)


def test_a_folder_without_the_files_and_none_at_all_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_bytes(b"hello")
    expected = "other: expected train.csv, test.csv, sample_submission.csv inside, found notes.txt"
    refused_archive(tmp_path / "other", expected)
    refused_archive(tmp_path / "none", "there is no such file")


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(torn_files.zip_bytes({"train.csv": GOOD}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / ARCHIVE
    path.write_bytes(data)
    refused_archive(path, "archive without a password")


def test_a_zip_bomb_is_refused_by_what_it_says_and_by_what_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_BYTES", 1_000_000)
    path = torn_files.write_zip(tmp_path, {"train.csv": b"0" * 1_000_001})
    refused_archive(path, "unpacked, found 1,000,001")
    lying = path.read_bytes().replace((1_000_001).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(lying)
    refused_archive(path, "damaged|expected at most")


def npz_with(**changed: np.ndarray | None) -> bytes:
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
    "no training images": (
        npz_with(x_train=None),
        "expected images and labels named as x_train and y_train.*found y_train, x_test",
    ),
    "no test labels": (npz_with(y_test=None), r"expected x_train, x_test \(n, 28, 28\) and y_train, y_test"),
    "images of fractions": (npz_with(x_train=IMAGES / 7), "x_train: expected whole numbers in 0-255, found 0 to 36"),
    "images of 300": (npz_with(x_train=IMAGES.astype(int) + 45), "expected whole numbers in 0-255, found 45"),
    "negative images": (npz_with(x_train=IMAGES.astype(int) - 1), "expected whole numbers in 0-255, found -1"),
    "NaN": (npz_with(x_train=np.full((100, 784), np.nan)), "expected whole numbers in 0-255, found nan"),
    "images not square": (npz_with(x_train=IMAGES[:, :27]), r"expected x_train, x_test \(n, 28, 28\)"),
    "images of 27 x 27": (npz_with(x_train=IMAGES[:, :27, :27]), r"expected x_train, x_test \(n, 28, 28\)"),
    "images in colour": (
        npz_with(x_train=np.stack([IMAGES, IMAGES, IMAGES // 2], -1)),
        r"expected x_train, x_test \(n, 28, 28\)",
    ),
    "a label of 10": (npz_with(y_test=np.full(20, 10, np.uint8)), "expected one of the classes 0-9, found '10'"),
    "labels of fractions": (
        npz_with(y_train=np.full(100, 0.5)),
        r"x_train: expected a label for each .* float64 \(100,\)",
    ),
    "fewer labels than images": (npz_with(y_train=np.zeros(99, np.uint8)), r"x_train: .* found uint8 \(99,\)"),
    "no images": (npz_with(x_test=IMAGES[:0], y_test=np.zeros(0, np.uint8)), r"x_test: .* found uint8 \(0, 28, 28\)"),
    "a file of bytes": (torn_files.zip_bytes({"x_train.npy": b"hello"}), "x_train.npy: .* damaged one, or none"),
    "a pickle": (
        npz_with(y_train=np.array([os.system] * 100, object)),
        "y_train.npy: expected an array of numbers, found Python objects",
    ),
    "a header that lies": (LYING, "damaged one"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN_NPZ.values(), ids=BROKEN_NPZ.keys())
def test_a_broken_mnist_npz_is_refused(tmp_path, data, message):
    (tmp_path / "mnist.npz").write_bytes(data)
    refused(lambda: dataset.load("keras", tmp_path), message, "Remove the file", tmp_path, "mnist.npz")


def test_an_array_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_BYTES", 1_000)
    path = torn_files.write_npz(tmp_path)
    with pytest.raises(BadInput, match=r"x_train.npy: expected at most 1,000"):
        arrays.read_npz(path)


ANSWERS = np.arange(30) % 10
SUBMISSION = "ImageId,Label\n" + "".join(f"{number},{label}\n" for number, label in enumerate(ANSWERS, start=1))
SHUFFLED = SUBMISSION.splitlines()[:1] + SUBMISSION.splitlines()[:0:-1]
SUBMISSIONS_READ = {
    "as it is": SUBMISSION.encode(),
    "R, quoted": SUBMISSION.replace("ImageId,Label", '"ImageId","Label"').encode(),
    "a comma at the end of each line": SUBMISSION.replace("\n", ",\n").encode(),
    "rows in another order": "\n".join(SHUFFLED).encode(),
    "columns in another order": "\n".join(",".join(line.split(",")[::-1]) for line in SUBMISSION.splitlines()).encode(),
    "blank last lines": SUBMISSION.encode() + b"\n\n\r\n",
    "semicolons": SUBMISSION.replace(",", ";").encode(),
    "gzip": torn_files.gzip_bytes(SUBMISSION.encode()),
}
SUBMISSIONS_REFUSED = {
    "empty": ("", "line 1: expected the header 'ImageId,Label', found ''"),
    "with pandas' index": (
        "".join(f"{'' if not n else n - 1},{line}\n" for n, line in enumerate(SUBMISSION.splitlines())),
        r"to_csv\(…, index=False\), or in R: write.csv\(…, row.names=FALSE\)",
    ),
    "no header": (SUBMISSION.partition("\n")[2], "line 1: .* found '1,0'. Put ImageId,Label above the first line"),
    "a third column": (
        SUBMISSION.replace("\n", ",0.5\n").replace("Label,0.5", "Label,p"),
        "Name the columns ImageId,Label",
    ),
    "a header in small letters": (SUBMISSION.lower(), "Name the columns ImageId,Label, letter by letter"),
    "image_id": (SUBMISSION.replace("ImageId", "image_id"), "letter by letter"),
    "other columns": (SUBMISSION.replace("ImageId", "row"), "Name the columns ImageId,Label"),
    "probabilities": ("ImageId,0,1,2\n1,0.1,0.2,0.7\n", r"of probabilities write argmax\(axis=1\)"),
    "labels as decimals": (SUBMISSION.replace(",7\n", ",7.0\n"), r"line 9: .* found '7.0'. .*frame\['Label'\].astype"),
    "labels as probabilities": (SUBMISSION.replace(",7\n", ",0.7\n"), r"line 9: .*argmax"),
    "no label": (SUBMISSION.replace(",7\n", ",\n"), "line 9: .* found ''. Write a class for each image"),
    "NaN": (SUBMISSION.replace(",7\n", ",nan\n"), "line 9: .* found 'nan'. Write a class for each image"),
    "ids as decimals": (SUBMISSION.replace("\n7,", "\n7.0,"), r"line 8: .* found '7.0'. .*\['ImageId'\].astype"),
    "ids from 0": (
        "ImageId,Label\n" + "".join(f"{n},0\n" for n in range(30)),
        "expected the 30 ids 1 to 30 as ImageId; missing: 30; others found: 0. A submission has",
    ),
    "an id twice": (SUBMISSION.replace("\n8,", "\n7,"), r"line 9: .* found 7 again"),
    "an id left out": (SUBMISSION.replace("\n8,", "\n80,"), "missing: 8; others found: 80. .* a line for each"),
    "a row too few": (SUBMISSION.rpartition("30,")[0], "expected 30 rows below the header, as test.csv has, found 29"),
    "cut in a row": (SUBMISSION[:-3], "line 31: expected 2 fields, found 1. Is the file cut off here"),
    "commas below the header": (
        SUBMISSION.replace("\n", ",\n").replace("Label,", "Label"),
        "line 2: .* found 3. .* a comma too many",
    ),
    "a header alone": ("ImageId,Label\n", "expected rows below the header, found none"),
    "a web page": ("<html>", "expected a CSV, found a web page"),
}


@pytest.mark.parametrize("data", SUBMISSIONS_READ.values(), ids=SUBMISSIONS_READ.keys())
def test_a_submission_is_read_as_any_table_is(tmp_path, data):
    path = tmp_path / "answers"
    path.write_bytes(data)
    assert submission.read_submission(path, rows=30).tolist() == ANSWERS.tolist()


@pytest.mark.parametrize(("text", "message"), SUBMISSIONS_REFUSED.values(), ids=SUBMISSIONS_REFUSED.keys())
def test_a_submission_that_kaggle_would_refuse_is_refused_with_how_to_write_it(tmp_path, text, message):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        submission.read_submission(path, rows=30)
    assert re.search(message, str(caught.value))
