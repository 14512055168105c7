import tempfile
import unittest.mock
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fuzz
import torn_files
from digits.console import BadInput
from digits.data import csv_reader
from digits.data.folds import split_folds
from digits.data.submission import content_hash, read_submission, write_submission
from digits.kaggle import ledger
from digits.runs import averaging

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")  # a busy machine is no failure
LABELS = arrays.arrays(np.uint8, st.integers(1, 200), elements=st.integers(0, 9))


@given(
    rows=arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.sampled_from([64, 81]))),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    quote=st.sampled_from(["", '"']),
    mark=st.sampled_from([b"", csv_reader.UTF8_BOM]),
    last_ending=st.booleans(),
)
def test_what_is_written_is_read_back(rows, ending, quote, mark, last_ending):
    data = mark + torn_files.csv_bytes(rows, torn_files.PIXEL_COLUMNS[: rows.shape[1]], ending, quote)
    data = data if last_ending else data.removesuffix(ending.encode())
    np.testing.assert_array_equal(torn_files.pixels(csv_reader.parse(data)), rows)


def parsed(data):
    """Return what a CSV is read as, or None where it is refused."""
    try:
        table = csv_reader.parse(data)
    except BadInput:
        return None
    return table.content, table.classes, None if table.ids is None else table.ids.tolist()


@given(
    text=st.text(alphabet='0123456789,\n\r" -.e', max_size=60),
    names=st.lists(st.text(alphabet='07cé .\t"\r\n\0', max_size=4), min_size=1, max_size=5),
    column=st.sampled_from(["label", "id"]),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_fast_path_takes_the_careful_path_reads_alike(text, names, column, ending):
    header = ",".join([column, *(f"p{index}" for index in range(64))])
    rows = [f"{name},{','.join('0' * 64)}" for name in names]
    for lines in ([header, *rows], [header, f"1,{'0,' * 62}{text}"]):
        data = (ending.join(lines) + ending).encode()
        if (found := parsed(data)) is not None:
            with unittest.mock.patch.object(csv_reader, "_parse_fast", return_value=None):
                assert found == parsed(data)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_well_formed_bytes_of_any_header_take_the_fast_path(ending):
    rows = np.arange(3 * 64, dtype=np.uint8).reshape(3, 64)
    names = [f"r{row}c{column}x" for row in range(8) for column in range(8)]
    plain = torn_files.csv_bytes(rows, names, ending)
    identified = b"".join(
        b"%s,%s" % (b"id" if not row else b"%d" % (row + 300), line)
        for row, line in enumerate(plain.splitlines(keepends=True))
    )
    with unittest.mock.patch.object(csv_reader, "_parse_carefully", side_effect=AssertionError):
        without_header = torn_files.csv_bytes(rows[1:], rows[0], ending)
        for data in (plain, without_header, plain.removesuffix(ending.encode()), identified):
            for mark in (b"", csv_reader.UTF8_BOM):
                table = csv_reader.parse(mark + data)
                np.testing.assert_array_equal(torn_files.pixels(table), rows[-len(torn_files.pixels(table)) :])
                assert table.ids is None or table.ids.tolist() == [301, 302, 303]


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(BadInput):
        csv_reader.parse(data)


@given(labels=LABELS, folds=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_folds_split_all_rows_or_are_refused(labels, folds, seed):
    try:
        pairs = split_folds(labels, folds, seed)
    except BadInput:
        rarest = min(np.unique(labels, return_counts=True)[1])
        assert rarest < max(2, folds) or folds == 1
        return
    assert len(pairs) == folds
    for train, validation in pairs:
        assert sorted([*train, *validation]) == list(range(len(labels)))
        assert set(labels[train]) == set(labels[validation]) == set(labels)
    if folds > 1:
        assert sorted(np.concatenate([validation for _, validation in pairs])) == list(range(len(labels)))


@given(labels=LABELS)
def test_a_submission_is_read_back_as_written(labels):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        write_submission(path, np.arange(1, len(labels) + 1), labels)
        np.testing.assert_array_equal(read_submission(path, rows=len(labels)), labels)
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        assert content_hash(read_submission(path, rows=None)) == content_hash(labels)


@given(labels=LABELS, data=st.data())
def test_a_submission_with_a_changed_byte_never_has_other_answers_unseen(labels, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        write_submission(path, np.arange(1, len(labels) + 1), labels)
        text = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] ^= 1 << data.draw(st.integers(0, 6))
        path.write_bytes(text)
        try:
            found = read_submission(path, rows=len(labels))
        except BadInput:
            return
        assert (found != labels).sum() <= 1


@settings(max_examples=3)
@given(seed=st.integers(0, 2**31))
def test_the_fuzzer_finds_no_crash(seed):
    crashes = []
    counts = fuzz.fuzz(cases=150, seed=seed, show=crashes.append)
    assert crashes == []
    assert counts["accepted"] > 0
    assert counts["refused"] > 0


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
SHARES = st.none() | st.floats(0, 1)


@given(
    entries=st.lists(
        st.builds(
            ledger.Entry,
            time=WORDS, sha256=WORDS, run=WORDS, recipe=WORDS, folds=st.none() | st.integers(1, 99), out_of_fold=SHARES,
            standard_error=SHARES, public_score=SHARES, tag=WORDS, ref=WORDS, status=WORDS, reason=WORDS,
        ),
        max_size=5,
    )
)  # fmt: skip
def test_whatever_an_entry_says_the_ledger_gives_it_back_on_one_line(entries):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.csv"
        with ledger.opened(path) as rows:
            rows.extend(entries)
        assert len(path.read_text(encoding="utf-8").split("\n")) == len(entries) + 2 if entries else not path.exists()
        assert [close(entry) for entry in ledger.read_ledger(path)] == [close(entry) for entry in entries]


def close(entry):
    """Return an entry's words, white space as one space, and its numbers."""
    return [" ".join(value.split()) if isinstance(value, str) else value for value in vars(entry).values()]


@given(data=st.data(), members=st.integers(1, 4), rows=st.integers(1, 6), logarithmic=st.booleans())
def test_a_blend_is_a_distribution_between_its_members_in_whatever_order(data, members, rows, logarithmic):
    seed = data.draw(st.integers(0, 2**31))
    said = np.random.default_rng(seed).dirichlet(np.ones(10), (members, rows)).astype(np.float32)
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=members, max_size=members))
    order = data.draw(st.permutations(range(members)))
    blended = averaging.mean(list(said), weights, logarithmic=logarithmic)
    again = averaging.mean([said[i] for i in order], [weights[i] for i in order], logarithmic=logarithmic)
    assert np.allclose(blended, again, atol=1e-6)
    assert np.allclose(blended.sum(axis=1), 1, atol=1e-5)
    if not logarithmic:
        assert (blended >= said.min(axis=0) - 1e-6).all()
        assert (blended <= said.max(axis=0) + 1e-6).all()
