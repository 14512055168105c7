"""Fuzz-test the readers of the data; many cases: `PYTHONPATH=src:tests python tests/fuzz.py CASES [SEED]`.

Each case breaks a good tiny file at random (bytes flipped, cut, doubled, swapped for troublesome ones) and gives it
to the CSV reader (whose fast and careful paths must agree), the reader of submissions, the gzip and zip readers, the
installer or the reader of mnist.npz. Any exception but BadInput is a crash. Measured: see CONTRIBUTING.md.
"""

import io
import sys
import tempfile
import time
import traceback
import unittest.mock
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import torn_files
from digits.console import BadInput
from digits.data import archive, arrays, csv_reader, submission

COLUMNS = ("label", *(f"pixel{index}" for index in range(64)))
WORDS = (
    rb"""\n \r \r\n , ,, " "" \0 \t ; - + . e / : _ 0 00 0001 255 256 300 999 1e3 nan \n\n PK\x05\x06 PK\x01\x02"""
    rb""" \x1f\x8b \xff \xff\xfe \xef\xbb\xbf \xc2\xb2 \0\0\0\0 \xff\xff\xff\xff"""
)
TROUBLE = (b" ", b"9" * 50, *(word.decode("unicode_escape").encode("latin-1") for word in WORDS.split()))


def broken(data: bytes, random: np.random.Generator) -> bytes:
    """Return the data with one to four things wrong with it (or, now and then, nothing)."""
    for _ in range(random.integers(0, 5)):
        at, length = int(random.integers(0, len(data) + 1)), int(random.integers(0, 9))
        piece = TROUBLE[random.integers(len(TROUBLE))]
        kind = random.integers(6)
        if kind == 0:
            data = data[:at] + piece + data[at:]
        elif kind == 1:
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == 2:
            data = data[:at] + data[at + length :]
        elif kind == 3 and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << random.integers(8))]) + data[at + 1 :]
        elif kind == 4:
            data = data[:at] + data[max(0, at - length) :]
        elif random.random() < 0.2:
            data = data[:at]
    return data


def small_csv(random: np.random.Generator, **form: str) -> bytes:
    rows = random.integers(0, 256, (random.integers(1, 6), len(COLUMNS)), np.uint8)
    rows[:, 0] %= 10
    return torn_files.csv_bytes(rows, COLUMNS, **form)


def fuzz_csv(random: np.random.Generator, folder: Path) -> None:
    """Break a small CSV; what the fast path takes, the careful path must read alike."""
    form = {"ending": ("\n", "\r\n", "\r")[random.integers(3)], "quote": ("", "", "", '"')[random.integers(4)]}
    data = broken(small_csv(random, **form), random)
    found = csv_reader.parse(data, labelled=True)
    with unittest.mock.patch.object(csv_reader, "_parse_fast", return_value=None):
        careful = csv_reader.parse(data, labelled=True)
    if (found.content, found.classes) != (careful.content, careful.classes):
        raise AssertionError(f"the fast and the careful path differ on {data!r}")


def fuzz_packed(random: np.random.Generator, folder: Path) -> None:
    data = small_csv(random)
    packed = torn_files.gzip_bytes(data) if random.random() < 0.5 else torn_files.zip_bytes({"fuzz.csv": data})
    path = folder / "fuzz.csv.packed"
    path.write_bytes(broken(packed, random))
    csv_reader.parse(csv_reader.read_bytes(path), labelled=True)


def fuzz_submission(random: np.random.Generator, folder: Path) -> None:
    path = folder / "submission.csv"
    path.write_bytes(broken(torn_files.sample_bytes(4), random))
    submission.read_submission(path, rows=None)


def fuzz_archive(random: np.random.Generator, folder: Path) -> None:
    """Break a zip of the competition's small files; a refusal must leave the data folder as it was."""
    name = ("test.csv", "sample_submission.csv")[random.integers(2)]
    content = torn_files.predict_bytes(2) if name == "test.csv" else torn_files.sample_bytes(2)
    inner = broken(content, random) if random.random() < 0.3 else content
    path, data_dir = folder / "fuzz.zip", folder / "data"
    path.write_bytes(broken(torn_files.zip_bytes({name: inner}), random))
    before = sorted(data_dir.iterdir()) if data_dir.exists() else []
    try:
        archive.install(path, data_dir)
    except BadInput:
        if before != (sorted(data_dir.iterdir()) if data_dir.exists() else []):
            raise AssertionError("a refused archive changed the data folder") from None
        raise


def fuzz_npz(random: np.random.Generator, folder: Path) -> None:
    """Break a small mnist.npz: the zip, or an array in it."""
    written = torn_files.npz_arrays(1, 1)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name, array in written.items():
            member = io.BytesIO()
            np.save(member, array)
            broken_here = random.random() < 0.2
            # The header of an array is its first 128 bytes, where the trouble is.
            head, rest = member.getvalue()[:128], member.getvalue()[128:]
            opened.writestr(f"{name}.npy", (broken(head, random) if broken_here else head) + rest)
    path = folder / "mnist.npz"
    path.write_bytes(broken(content.getvalue(), random) if random.random() < 0.5 else content.getvalue())
    arrays.read_sets(path)


READERS: tuple[tuple[Callable[[np.random.Generator, Path], None], float], ...] = (
    (fuzz_csv, 0.6),
    (fuzz_submission, 0.1),
    (fuzz_packed, 0.15),
    (fuzz_archive, 0.05),
    (fuzz_npz, 0.1),
)


def fuzz(cases: int, seed: int, show: Callable[[str], None]) -> Counter:
    """Run that many cases, the same for the same seed, and count what became of them."""
    counts: Counter = Counter()
    readers, shares = zip(*READERS, strict=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in range(cases):
            random = np.random.default_rng([seed, case])
            reader = readers[random.choice(len(readers), p=shares)]
            try:
                reader(random, Path(folder))
                outcome = "accepted"
            except BadInput:
                outcome = "refused"
            except Exception:
                outcome = "crashed"
                show(f"case {case}, {reader.__name__}:\n{traceback.format_exc()}")
            counts[outcome] += 1
            counts[f"{reader.__name__} {outcome}"] += 1
    return counts


if __name__ == "__main__":
    cases, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    started = time.perf_counter()
    counts = fuzz(cases, seed, show=print)
    print(f"{cases:,} cases: {dict(sorted(counts.items()))}; {time.perf_counter() - started:.0f} s")
    sys.exit(1 if counts["crashed"] else 0)
