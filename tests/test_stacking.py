"""Folds and groups of the user's own, and blends with the predictions of other programs."""

import numpy as np
import pytest

import train
from digits.config import Execution
from digits.console import BadInput
from digits.data import fold_files
from digits.runs.store import repeated_record
from made_run import make_run


def write_table(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def folds_of(run):
    """Return the fold of each row as the run's folds.csv says it."""
    return [line.split(",") for line in (run.folder / "folds.csv").read_text(encoding="utf-8").splitlines()[1:]]


def make(monkeypatch, folder, name, *flags):
    """Return a finished run with made-up networks of what flags of train.py ask for."""
    command = ["--recipe", "quick", "--epochs", "2", *map(str, flags)]
    settings = train.settings_of(train.parse(command))
    options = {key: value for key, value in vars(settings).items() if key not in ("recipe", "source")}
    return make_run(monkeypatch, folder, name, recipe=settings.recipe, **options)


@pytest.fixture
def fold_csv(sample, tmp_path):
    """A CSV of three folds, named from 0, of the sample's rows in reverse order, and the folds from 1 by row."""
    folds = np.arange(len(sample.train.ids)) // 7 % 3
    rows = list(zip(sample.train.ids, folds, strict=True))
    return write_table(tmp_path / "folds of mine.csv", "ID,fold", rows[::-1]), folds + 1


def test_the_folds_of_a_file_are_the_run_s_and_its_own_copy_resumes_it(fold_csv, sample, data, tmp_path, monkeypatch):
    path, folds = fold_csv
    run = make(monkeypatch, tmp_path / "submissions", "made", "--folds", path)
    expected = [[str(name), str(fold)] for name, fold in zip(sample.train.ids, folds, strict=True)]
    assert folds_of(run) == expected
    record = run.finished_record()
    assert (record.settings.folds, record.settings.folds_file) == (3, str(path))
    assert [fold.rows for fold in record.folds] == np.bincount(folds)[1:].tolist()
    path.unlink()
    for execution in (Execution(run="made"), Execution(from_run="made")):
        execution = Execution(run=execution.run, from_run=execution.from_run, submissions=tmp_path / "submissions")
        asked = repeated_record(execution, []).asked()
        options = {key: value for key, value in vars(asked).items() if key != "source"}
        again = make_run(monkeypatch, tmp_path / "submissions", execution.run or "again", **options)
        assert folds_of(again) == expected
        assert again.finished_record().identity["folds"] == record.identity["folds"]
    assert run.finished_record().settings.folds_file == str(path)


def test_a_run_whose_folds_file_says_something_else_now_is_not_resumed(fold_csv, data, tmp_path, monkeypatch):
    path, _ = fold_csv
    make(monkeypatch, tmp_path, "made", "--folds", path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(",0\n", ",x\n").replace(",1\n", ",0\n").replace(",x\n", ",1\n"), encoding="utf-8")
    with pytest.raises(BadInput, match="folds was"):
        make(monkeypatch, tmp_path, "made", "--folds", path)
    with pytest.raises(BadInput, match="folds was"):
        make(monkeypatch, tmp_path, "made", "--folds", 3)


def test_the_folds_of_a_run_are_in_its_folder_and_give_another_run_the_same(data, tmp_path, monkeypatch):
    first = make(monkeypatch, tmp_path, "first", "--folds", 3)
    assert {fold for _, fold in folds_of(first)} == {"1", "2", "3"}
    second = make(monkeypatch, tmp_path, "second", "--folds", first.folder / "folds.csv")
    assert folds_of(second) == folds_of(first)
    one = make(monkeypatch, tmp_path, "one", "--folds", 1)
    assert [fold for _, fold in folds_of(one)].count("1") == 60
    assert [fold for _, fold in folds_of(one)].count("") == 540


def test_rows_are_numbered_from_0_or_1(tmp_path):
    for first in (0, 1):
        rows = [(first + 2, "c"), (first, "a"), (first + 1, "b")]
        values = fold_files.read_values(write_table(tmp_path / "a.csv", "row,fold", rows), "fold")
        assert values.of_images(np.array(["x", "y", "z"]), limited=False) == ["a", "b", "c"]


BAD_FOLDS = [
    pytest.param("id,fold\n1,0\n1,1\n", "line 3: expected each id once, found 1 again", id="an id twice"),
    pytest.param("id,fold\n1,0\n2,1,4\n", "line 3: expected 2 fields, found 3", id="a field more"),
    pytest.param("id,group\n1,0\n2,1\n", "line 1: expected a column fold, found id, group", id="no folds"),
    pytest.param("id,fold\n1,0\n2,0\n", "expected two folds or more, found 1", id="one fold"),
    pytest.param("id,fold\n1,0\n2,1\n", "a line for each of 600 training images, found none of", id="too few ids"),
    pytest.param("", "expected a column fold, found none", id="an empty file"),
    pytest.param(None, "such file", id="no file"),
]


@pytest.mark.parametrize(("text", "reason"), BAD_FOLDS)
def test_a_file_that_gives_no_folds_is_refused(text, reason, data, tmp_path, monkeypatch):
    path = tmp_path / "folds.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=reason) as caught:
        make(monkeypatch, tmp_path, "made", "--folds", path)
    assert str(caught.value).startswith("--folds")
    assert not (tmp_path / "made").exists()


def test_folds_that_do_not_fit_the_images_are_refused(fold_csv, sample, data, tmp_path, monkeypatch):
    path, _ = fold_csv
    text, ids = path.read_text(encoding="utf-8"), sample.train.ids
    by_class = [f"{name},{int(label == 3)}" for name, label in zip(ids, sample.train.labels, strict=True)]
    for changed, reason in (
        (text + "nine,1\n", "ids of the 600 training images only, found nine"),
        (text.replace(f"\n{ids[4]},0\n", f"\n{ids[4]},\n"), f"expected a fold of each row, found none of {ids[4]}"),
        ("\n".join(["id,fold", *by_class]), "found none of the .* images of class 0 .* to train on in fold 1"),
    ):
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(BadInput, match=reason):
            make(monkeypatch, tmp_path, "made", "--folds", path)
    path.write_text(text + "nine,1\n", encoding="utf-8")
    assert len(folds_of(make(monkeypatch, tmp_path, "some", "--folds", path, "--limit", 600))) == 600
    with pytest.raises(BadInput, match="--groups: expected no such flag with --folds FILE"):
        make(monkeypatch, tmp_path, "made", "--folds", path, "--groups", path, "--limit", 600)


def test_no_group_is_in_two_folds_and_copies_join_theirs(sample, data, tmp_path, monkeypatch):
    ids, people = sample.train.ids, np.arange(600) // 4
    path = write_table(
        tmp_path / "groups.csv", "id,group", zip(ids, (f"person {each}" for each in people), strict=True)
    )
    run = make(monkeypatch, tmp_path, "made", "--folds", 3, "--groups", path)
    folds = np.array([fold for _, fold in folds_of(run)])
    assert all(len(set(folds[people == person])) == 1 for person in range(150))
    assert run.finished_record().settings.groups == str(path)
    write_table(path, "id,group", zip(ids, sample.train.labels, strict=True))
    with pytest.raises(BadInput, match="needs at least 3 different images of each class, found 1 of class"):
        make(monkeypatch, tmp_path, "few", "--folds", 3, "--groups", path)
    copies = np.array([0, 1, 2, 1, 4])
    assert len(set(fold_files.group_numbers(["a", "a", "b", "b", "c"], copies).tolist())) == 2


def test_groups_are_a_column_of_the_training_csv(tmp_path):
    path = write_table(tmp_path / "train.csv", "Patient,image,label", [("x", "b.png", 1), ("y", "a.png", 0)])
    values = fold_files.read_values(path, "patient")
    assert values.of_images(np.array(["a.png", "b.png"]), limited=False) == ["y", "x"]
    with pytest.raises(BadInput, match="expected a column site, found Patient, image, label"):
        fold_files.read_values(path, "site")


def test_groups_by_column_need_a_training_csv(data, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="expected a CSV of ids and groups"):
        make(monkeypatch, tmp_path, "made", "--groups", "patient")
