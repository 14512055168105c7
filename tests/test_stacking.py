"""Folds and groups of the user's own, and blends with the predictions of other programs."""

import numpy as np
import pytest

import train
from digits import files
from digits.config import Execution
from digits.console import BadInput
from digits.data import by_id
from digits.inference.predictor import saved_members
from digits.report import html, summary
from digits.report.leaderboard import leaderboard
from digits.runs import blend, foreign
from digits.runs.store import repeated_record
from made_run import make_run


def write_table(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def folds_of(run):
    return [line.split(",") for line in (run.folder / "folds.csv").read_text(encoding="utf-8").splitlines()[1:]]


def make(monkeypatch, folder, name, *flags):
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


@pytest.mark.parametrize("first", [0, 1])
def test_rows_are_numbered_from_0_or_1(tmp_path, first):
    rows = [(first + 2, "c"), (first, "a"), (first + 1, "b")]
    table = by_id.read_table(write_table(tmp_path / "a.csv", "row,fold", rows))
    assert by_id.of_images(table, np.array(["x", "y", "z"]))["fold"].tolist() == ["a", "b", "c"]


BAD_FOLDS = [
    pytest.param("id,fold\n1,0\n1,1\n", "expected each id once, found 1 again", id="an id twice"),
    pytest.param("id,fold\n1,0\n2,1,4\n", "line 3: expected 2 fields, found 3", id="a field more"),
    pytest.param("id,group\n1,0\n2,1\n", "expected a column fold, found id, group", id="no folds"),
    pytest.param("id,fold\n1,0\n2,0\n", "expected two folds or more, found 1", id="one fold"),
    pytest.param("id,fold\n1,0\n2,1\n", "a line for each of 600 images, found none of", id="too few ids"),
    pytest.param("", "rows below the header, found none", id="an empty file"),
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
        (text + "nine,1\n", "ids of the 600 images only, found nine"),
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
    with pytest.raises(BadInput, match="expected a CSV of ids and groups"):
        make(monkeypatch, tmp_path, "few", "--groups", "patient")
    copies = np.array([0, 1, 2, 1, 4])
    assert len(set(by_id.group_numbers(np.array(["a", "a", "b", "b", "c"]), copies).tolist())) == 2


def test_groups_are_a_column_of_the_training_csv(tmp_path):
    path = write_table(tmp_path / "train.csv", "Patient,image,label", [("x", "b.png", 1), ("y", "a.png", 0)])
    table = by_id.of_images(by_id.read_table(path), np.array(["a.png", "b.png"]))
    assert by_id.column_of(table, "patient").tolist() == ["y", "x"]
    with pytest.raises(BadInput, match="expected a column site, found Patient, image, label"):
        by_id.column_of(by_id.read_table(path), "site")


def write_foreign(folder, run, data, *, csv=False):
    """Write the predictions of a run as another program would: as arrays, or as tables in another order."""
    folder.mkdir(parents=True)
    both = zip(("oof_predictions", "test"), run.probabilities(), (data.train.ids, data.test.ids), strict=True)
    for name, array, ids in both:
        if csv:
            rows = [[image, *row] for image, row in zip(ids, array[:, ::-1].round(5), strict=True)]
            write_table(folder / f"{name}.csv", "id,9,8,7,6,5,4,3,2,1,0", rows[::-1])
        else:
            np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("csv", [pytest.param(False, id="arrays"), pytest.param(True, id="tables")])
def test_predictions_of_another_program_are_blended_and_marked(csv, runs, data, tmp_path, monkeypatch, capsys):
    one, two = runs
    monkeypatch.setattr(files, "SUBMISSIONS", one.folder.parent)
    folder = write_foreign(tmp_path / "boosted trees", two, data, csv=csv)
    inputs = [foreign.find_run_or_folder(str(path), one.folder.parent) for path in (one.folder, folder)]
    made = blend.blend(inputs, blend.BlendOptions(name="both", weights="1,1,2"), one.folder.parent)
    expected = blend.blend(runs, blend.BlendOptions(name="runs"), one.folder.parent)
    np.testing.assert_allclose(made.probabilities()[0], expected.probabilities()[0], atol=1e-4)
    np.testing.assert_allclose(made.probabilities()[1], expected.probabilities()[1], atol=1e-4)
    record = made.finished_record()
    assert [(member.name, member.weight) for member in record.blend.members][-1] == ("boosted trees (foreign)", 0.5)
    assert [each.folder for each in record.foreign] == [str(folder)]
    assert not record.foreign[0].are_same_folds
    again = blend.blend([made, two], blend.BlendOptions(name="again"), one.folder.parent)
    for run in (made, again):
        text = summary.of_run(run)
        assert "another program (" in text
        assert "that their folds are the same is assumed" in text
        with pytest.raises(BadInput, match="blends predictions of another program"):
            saved_members(run)
    assert record.foreign[0].sha256 in html.build_report(again).read_text(encoding="utf-8")
    board = summary.of_leaderboard(leaderboard(one.folder.parent))
    assert "boosted trees (foreign)" in board
    assert "[foreign predictions]" in board


def test_the_folds_of_another_program_are_compared_with_the_run_s(runs, data, tmp_path):
    one, two = runs
    folder = foreign.ForeignFolder(write_foreign(tmp_path / "trees", two, data))
    names = {"1": "c", "2": "a", "3": "b"}
    write_table(folder.folder / "folds.csv", "id,fold", [(name, names[fold]) for name, fold in folds_of(one)[::-1]])
    made = blend.blend([one, folder], blend.BlendOptions(name="same"), one.folder.parent)
    assert made.finished_record().foreign[0].are_same_folds
    assert folds_of(made) == folds_of(one)
    rows = folds_of(one)
    rows[0][1] = "1" if rows[0][1] != "1" else "2"
    write_table(folder.folder / "folds.csv", "id,fold", rows)
    with pytest.raises(BadInput, match="expected the folds of run one, found 3 others") as caught:
        blend.blend([one, folder], blend.BlendOptions(name="other"), one.folder.parent)
    assert "train.py --folds" in str(caught.value)


def change_csv(old, new):
    def change(folder, name="oof_predictions.csv"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def only_labels(folder):
    for path in folder.iterdir():
        path.unlink()
    write_table(folder / "submission.csv", "ImageId,Label", [(1, 7)])


def drop_line(folder):
    text = (folder / "test.csv").read_text(encoding="utf-8")
    (folder / "test.csv").write_text(text.rsplit("\n", 2)[0] + "\n", encoding="utf-8")


BAD_FOREIGN = [
    (only_labels, "expected one file of out-of-fold probabilities, found submission.csv.*not labels"),
    (lambda folder: (folder / "test.csv").unlink(), "one file of test probabilities, found oof_pred"),
    (lambda folder: np.save(folder / "oof.npy", 1), "found oof.npy, oof_predictions.csv"),
    (change_csv("id,9", "id,nine"), "a column for each of the classes 0, 1, 2, 3 …, found nine"),
    (change_csv("\n7,", "\n7000,"), "ids of the 600 images only, found 7000"),
    (change_csv("\n7,0.", "\n7,1."), "that sum to 1, found .* of 7, sum"),
    (change_csv("\n7,", "\n7,-"), "from 0 to 1"),
    (change_csv("\n7,0.", "\n7,x"), "expected numbers, found another cell"),
    (change_csv("\n7,", "\n7,,"), "expected 11 fields, found 12"),
    (drop_line, "a line for each of 1,000 images"),
]


@pytest.mark.parametrize(("spoil", "reason"), BAD_FOREIGN)
def test_a_folder_without_usable_predictions_is_refused(spoil, reason, runs, data, tmp_path):
    folder = write_foreign(tmp_path / "trees", runs[1], data, csv=True)
    spoil(folder)
    with pytest.raises(BadInput, match=reason) as caught:
        foreign.ForeignFolder(folder).read(data)
    assert str(caught.value).startswith(str(folder))


def test_arrays_of_another_shape_are_refused_and_rows_may_be_missing_out_of_fold(runs, data, tmp_path):
    folder = write_foreign(tmp_path / "trees", runs[1], data)
    out_of_fold, test = runs[1].probabilities()
    out_of_fold[:100] = np.nan
    np.save(folder / "oof_predictions.npy", out_of_fold)
    read, _, _ = foreign.ForeignFolder(folder).read(data)
    assert np.isnan(read).any(axis=1).sum() == 100
    made = blend.blend([runs[0], foreign.ForeignFolder(folder)], blend.BlendOptions(name="x"), runs[0].folder.parent)
    assert made.finished_record().out_of_fold.rows == 500
    np.save(folder / "test.npy", test[:-1])
    with pytest.raises(BadInput, match=r"shape \(1000, 10\): images, classes; found float32 \(999, 10\)"):
        foreign.ForeignFolder(folder).read(data)


def test_what_is_not_a_run_nor_predictions_is_refused(runs, data, tmp_path):
    folder, submissions = write_foreign(tmp_path / "trees", runs[1], data), runs[0].folder.parent
    with pytest.raises(BadInput, match="expected a run in the blend"):
        blend.blend([foreign.ForeignFolder(folder)], blend.BlendOptions(name="x"), submissions)
    with pytest.raises(BadInput, match="There is no run 'nothing'"):
        foreign.find_run_or_folder("nothing", submissions)
    with pytest.raises(BadInput, match="is given twice"):
        blend.blend([runs[0], *[foreign.ForeignFolder(folder)] * 2], blend.BlendOptions(name="x"), submissions)
