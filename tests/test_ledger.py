import contextlib
import csv
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from digits import files
from digits.console import BadInput, KitError
from digits.files import file_lock
from digits.kaggle.ledger import COLUMNS, Entry, ledger_table, opened, read_ledger, record

FULL = Entry(
    time="2026-01-02T03:04:05Z", sha256="ab" * 32, run='a, "quoted" run', recipe="standard", folds=5,
    out_of_fold=0.9964, standard_error=0.0003, public_score=0.99571, tag="digits:abababababab", ref="123",
    status="complete", reason='a row, "quoted"',
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "submissions" / "ledger.csv"


def test_the_difference_counts_the_errors_of_both_figures(path):
    assert FULL.difference == pytest.approx((0.99571 - 0.9964) / (0.0003**2 + 0.9964 * 0.0036 / 28_000) ** 0.5)
    assert Entry(public_score=0.99).difference is None
    record(path, FULL)
    with path.open(newline="") as file:
        row = next(csv.DictReader(file))
    assert list(row) == COLUMNS
    assert row["difference"] == "-1.48"
    path.with_name("land-cover.csv").write_text("id,label\n" + "a,1\n" * 700)
    for slug, rows in (("kannada-mnist", 5_000), ("land-cover", 700)):
        path = path.with_name(f"ledger-{slug}.csv")
        record(path, replace(FULL, rows=rows))
        (entry,) = read_ledger(path)
        assert entry.difference == pytest.approx((0.99571 - 0.9964) / (0.0003**2 + 0.9964 * 0.0036 / rows) ** 0.5)


def test_the_table_is_a_line_a_row_in_any_terminal_and_shows_each_text_as_it_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    reason = f"[red] :smile: {'x' * 300}"
    heading, row = ledger_table([replace(FULL, reason=reason)]).splitlines()
    assert heading.split()[0] == "public"
    assert row.endswith(f"complete  {FULL.run}: {reason}")


def test_an_entry_takes_the_place_of_its_own_unsettled_row_and_of_no_other(path):
    record(path, Entry(tag="digits:a", status="unconfirmed"))
    record(path, Entry(tag="digits:a", ref="1", status="pending"))
    record(path, Entry(tag="digits:a", ref="2", status="pending"))
    record(path, Entry(tag="digits:a", ref="1", status="complete", public_score=0.99))
    assert [(entry.ref, entry.status) for entry in read_ledger(path)] == [("1", "complete"), ("2", "pending")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: expected the columns"),
        ("run,score\nx,1\n", "found run,score"),
        (",".join(COLUMNS) + "\n1,2\n", r"line 2: expected 14 columns"),
        (",".join(COLUMNS) + "\n" + "," * 14 + "\n", r"line 2: expected 14 columns"),
        (",".join(COLUMNS) + "\n,,,,five,,,,,,,,,\n", "line 2: .*five"),
        ("\x00\x01", "line 1: expected the columns"),
        (",".join(COLUMNS) + "\na\rb,,,,,,,,,,,,,\n", "line 2: "),
    ],
)
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(path, text, words):
    path.parent.mkdir()
    path.write_bytes(text.encode())
    with pytest.raises(BadInput, match=words):
        record(path, FULL)
    assert path.read_bytes() == text.encode()


def test_a_failure_while_the_ledger_is_open_leaves_it_as_it_was(path):
    assert read_ledger(path) == []
    record(path, FULL)
    before = path.read_bytes()
    with contextlib.suppress(ZeroDivisionError), opened(path) as entries:
        entries.clear()
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {"ledger.csv", ".ledger.csv.lock"}


WRITE_TEN = """
import sys
from pathlib import Path
from digits.kaggle.ledger import Entry, record
for number in range(10):
    record(Path(sys.argv[1]), Entry(tag=f"digits:{sys.argv[2]}-{number}", status="pending"))
"""


def test_rows_of_processes_that_write_at_once_are_all_kept(path):
    environment = {"PYTHONPATH": ":".join(sys.path)}
    processes = [subprocess.Popen([sys.executable, "-c", WRITE_TEN, path, name], env=environment) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len({entry.tag for entry in read_ledger(path)}) == 20


def test_a_held_lock_is_waited_for_as_long_as_is_said(tmp_path):
    with file_lock(tmp_path / "lock"):
        started = time.monotonic()
        with pytest.raises(KitError, match="Another process holds"), file_lock(tmp_path / "lock", 0.2):
            pass
        assert 0.2 < time.monotonic() - started < 5
    with file_lock(tmp_path / "lock", 5):
        pass


def test_without_fcntl_there_is_no_lock_and_all_else_works(path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    record(path, FULL)
    assert read_ledger(path) == [FULL]
