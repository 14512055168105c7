import base64
import gzip
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

import report as entry_point
from digits.console import BadInput
from digits.data import dataset
from digits.data.competition import Form
from digits.data.dataset import DataFile
from digits.kaggle.ledger import Entry, record
from digits.report import analysis, comparison, html, summary
from digits.report.html import build_report
from digits.report.leaderboard import leaderboard
from digits.runs.checks import Check
from digits.runs.record import ExtraImages, FoldScore
from digits.runs.store import Run
from made_run import SCORE, made_record

FOLD = FoldScore(fold=1, member=1, network="compact", epochs=1, seconds=1.0, **vars(SCORE))


@pytest.fixture
def run(runs):
    return runs[0]


@pytest.fixture(scope="module")
def page(made_runs, sample, tmp_path_factory):
    """The page of run "one" as it is, with the leaderboard beside it."""
    folder = shutil.copytree(made_runs, tmp_path_factory.mktemp("page") / "submissions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "load", lambda *_, **__: sample)
        return page_of(Run(folder / "one"), dataset=sample)


def page_of(run, **options):
    return build_report(run, **({"reference": run.folder / "none"} | options)).read_text(encoding="utf-8")


def change(one, **fields):
    one.write_record(replace(one.finished_record(), **fields))


# The page.


def test_the_page_says_the_score_how_sure_and_what_was_mistaken(page, run):
    known, two = run.finished_record().out_of_fold, Run(run.folder.parent / "two")
    assert f"{known.accuracy:.2%}" in page
    assert f"{known.wrong} of 600" in page
    assert page.count('<figure class="card"') >= known.wrong
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Out-of-fold accuracy", "Folds", "Members", "Learning curves", "Confusion matrix", "Calibration",
        "Errors", "Possible label errors", "Test images", "Class distribution", "Settings", "Other submissions",
        "Run details",
    ]  # fmt: skip
    assert 'class="alarm' not in page
    assert '<main class="drawn">' in page, "images of dark ink are inverted in dark mode"
    assert re.search("epochs</th><td>6</td><td>8</td><td class=.text.>times through the training images", page)
    facts = json.loads((run.folder / "run.json").read_text())
    for value in (facts["command"], facts["submission"]["sha256"], facts["versions"]["numpy"]):
        assert value in page
    assert f"<td>two</td><td>{100 * two.finished_record().out_of_fold.accuracy:.2f}%" in page
    assert f"{(run.predictions() == two.predictions()).sum()} of 1,000" in page


def test_the_page_needs_nothing_but_itself(page):
    assert re.findall(r'(?:src|href)\s*=\s*"(?!data:|#)([^"]*)"', page) == ["../index.html"]
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert len(page) < 1_500_000
    for word in ("undefined", "None", "nan"):
        assert not re.search(rf">\s*{word}\s*<", page)


def test_the_errors_are_shown_most_confident_first_with_their_own_pictures(page, run, data):
    gathered = analysis.gather(run, data)
    wrong = analysis.mistakes(gathered.probabilities, data.train.labels[gathered.scored])
    assert (np.diff(gathered.probabilities[wrong].max(axis=1)) <= 0).all()
    section = page.split('id="errors"')[1]
    picture = base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', section)[1])
    row = gathered.scored[wrong[0]]
    assert (255 - np.asarray(Image.open(io.BytesIO(picture))) == data.train.images[row, ..., 0]).all()
    assert f"training image {data.train.ids[row]}" in section


def test_a_leak_and_a_failed_check_stand_above_the_score_and_no_name_breaks_the_page(run, data):
    evil, folds = '<script>alert("1")</script>', run.finished_record().folds
    change(
        run, run=evil, command=evil, leaked=True,
        checks=[Check("probabilities sum to 1", False, "the sum is off by 0.3")],
        folds=[replace(fold, wrong_without_tta=fold.wrong + 2) for fold in folds],
    )  # fmt: skip
    page = page_of(run, dataset=data)
    assert evil not in page
    assert "&lt;script&gt;" in page
    assert page.count("<script>") == 1
    assert re.search(r'class="alarm leaked">\s*<h2>LEAKED</h2>', page)
    assert "1 check failed" in page
    assert max(page.index("LEAKED"), page.index("the sum is off by 0.3")) < page.index("accuracy</h2>")
    wrong = sum(fold.wrong for fold in folds)
    assert f"{wrong + 12} errors without it, {wrong} with it" in page, "of test-time augmentation"


def test_without_the_data_the_page_says_so_and_shows_the_rest(run, monkeypatch):
    def gone(*_, **__):
        raise BadInput("data/train.csv: there is no such file.")

    monkeypatch.setattr(dataset, "load", gone)
    page = page_of(run)
    assert "The images cannot be read: data/train.csv: there is no such file." in page
    assert "Learning curves" in page
    assert "Confusion matrix" not in page


def test_other_data_than_the_run_s_are_not_shown_as_its_own(run, data):
    labels = (data.train.labels + 1) % 10
    files = [replace(data.summary.files[0], sha256="0")]
    other = replace(data, train=replace(data.train, labels=labels), summary=replace(data.summary, files=files))
    page = page_of(run, dataset=other)
    assert "not those that this run was trained on" in page
    assert '<figure class="card"' not in page


def test_an_unfinished_run_and_one_of_unreadable_probabilities_have_no_page(run, data):
    (run.folder / "out_of_fold.npy").write_bytes(b"torn")
    with pytest.raises(BadInput, match="probabilities cannot be read"):
        build_report(run, data)
    run.write_record(made_record(False))
    with pytest.raises(BadInput, match="not finished"):
        build_report(run, data)


# Beside other submissions.


def reference_of(run):
    """Return a copy of run "two" beside it as a reference run is committed: with only its record and its answers."""
    reference, two = run.folder.parent / "reference" / "two", run.folder.parent / "two"
    reference.mkdir(parents=True)
    record = (two / "run.json").read_text().replace('"submission.csv"', '"submission.csv.gz"')
    (reference / "run.json").write_text(record)
    (reference / "submission.csv.gz").write_bytes(gzip.compress((two / "submission.csv").read_bytes()))
    return Run(reference)


def test_agreement_with_the_committed_reference_is_counted_and_with_no_run_on_other_test_images(run, data):
    reference = reference_of(run)
    change(Run(run.folder.parent / "two"), source="kaggle")
    page = page_of(run, dataset=data, reference=reference.folder.parent)
    assert "<td>reference/two</td>" in page
    assert "<td>two</td>" not in page


@pytest.mark.parametrize("form", [Form.OWN, Form.UNVERIFIED, Form.PARTIAL])
def test_runs_on_other_files_of_the_same_name_and_length_are_not_compared(run, data, form):
    two = Run(run.folder.parent / "two")
    for number, one in enumerate((run, two)):
        change(one, data=replace(one.finished_record().data, files=[DataFile("test.csv", 1000, str(number), form)]))
    assert comparison.agreement(analysis.gather(run, data), two) is None


def test_a_report_shows_the_scores_of_its_own_competition_and_the_leaderboard_all(run, data, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        html.charts, "draw_public_scores", lambda axes, entries, _: drawn.append(sorted(entry.run for entry in entries))
    )
    for name, competition in (("one", None), ("two", "kannada-mnist")):
        change(Run(run.folder.parent / name), data=replace(run.finished_record().data, competition=competition))
    for name, ledger, score in (("one", "ledger.csv", 0.99671), ("two", "ledger-kannada-mnist.csv", 0.98765)):
        answers = Run(run.folder.parent / name).finished_record().submission.sha256
        record(run.folder.parent / ledger, Entry(run=name, sha256=answers, out_of_fold=0.99, standard_error=0.001,
               public_score=score, tag=name, time="2026-11-23T10:00:00Z", status="complete"))  # fmt: skip
    page = page_of(run, dataset=data)
    assert "Out-of-fold accuracy and public score" in page
    assert "public score <b>0.99671</b>" in page
    assert [sorted(runs) for runs in drawn] == [["one"], ["one", "two"]]
    assert "public score <b>0.98765</b>" in page_of(Run(run.folder.parent / "two"), dataset=data)
    assert [sorted(runs) for runs in drawn[2:]] == [["two"], ["one", "two"]]
    board = (run.folder.parent / "index.html").read_text(encoding="utf-8")
    assert "0.99671" in board
    assert "0.98765" in board
    (run.folder.parent / "ledger.csv").write_text("not,a,ledger\n")
    assert "The ledger cannot be read" in page_of(run, dataset=data)


# Labels that look wrong.


def test_a_wrong_label_is_suspected_and_neither_a_right_one_nor_an_unsure_mistake(data):
    labels = data.train.labels.copy()
    probabilities = np.eye(10, dtype=np.float32)[labels] * 0.9 + 0.01
    probabilities[5] = 0.1
    probabilities[5, (labels[5] + 1) % 10] = 0.2
    labels[17] = (labels[17] + 3) % 10
    assert analysis.suspicious_labels(probabilities, labels).tolist() == [17]


# Several runs.


def test_runs_are_compared_on_the_rows_that_both_held_out(run, data):
    two = Run(run.folder.parent / "two")
    compared = comparison.compare([run, two])
    counts = compared.pairs[0].held_out
    right = [one.probabilities()[0].argmax(axis=1) == data.train.labels for one in (run, two)]
    assert (counts.rows, counts.only_first_right) == (600, (right[0] & ~right[1]).sum())
    assert counts.difference == pytest.approx(right[1].mean() - right[0].mean())
    assert "McNemar, p = " in summary.verdict(compared.pairs[0])
    page = html.build_comparison(compared).read_text(encoding="utf-8")
    assert f"Held-out images on which they disagree: {len(compared.rows)}" in page
    assert f"Test images with different predictions: {len(compared.test_rows)}" in page
    probabilities = [one.probabilities()[1][compared.test_rows] for one in (run, two)]
    assert (probabilities[0].argmax(axis=1) != probabilities[1].argmax(axis=1)).all()
    assert (np.diff(np.minimum(*(one.max(axis=1) for one in probabilities))) <= 0).all(), "the most confident first"


def test_three_runs_are_compared_in_pairs(run, data):
    shutil.copytree(run.folder, run.folder.parent / "three")
    folder = run.folder.parent
    compared = comparison.compare([run, Run(folder / "two"), Run(folder / "three")])
    assert len(compared.pairs) == 3
    assert compared.pairs[1].held_out.p_value == 1
    lines = summary.of_comparison(compared).splitlines()
    assert len(lines) == 5, "a title, and a table with a line for each pair"
    assert re.match(r"three − two +[+-][\d.]+ ± [\d.]+  p [=<]", lines[4])
    page = html.build_comparison(compared).read_text(encoding="utf-8")
    assert page.count("predictions differ") == 3, "a matrix with a cell for each pair"
    assert re.search("Settings that differ.*<th scope=.row.>seed</th><td>0</td><td>1</td><td>0</td>", page, re.DOTALL)


def test_runs_on_other_data_are_compared_on_the_test_images_alone_and_a_leaked_one_is_said_to_be_so(run, data):
    two = Run(run.folder.parent / "two")
    change(two, identity=two.record().identity | {"data": "another"})
    change(run, leaked=True)
    (pair,) = (compared := comparison.compare([run, two])).pairs
    assert pair.held_out is None
    assert "cannot be tested" in summary.verdict(pair)
    assert summary.changed_predictions(pair).startswith("LEAKED: one trained on test images")
    assert "<h2>LEAKED</h2>" in html.build_comparison(compared).read_text(encoding="utf-8")
    change(two, source="kaggle")
    with pytest.raises(BadInput, match="nothing in common"):
        comparison.compare([run, two])


def test_a_reference_run_which_has_only_answers_has_a_report_and_a_comparison(run, data):
    reference = reference_of(run)
    page = page_of(reference, dataset=data)
    assert "<h1>reference/two</h1>" in page
    assert "Confusion matrix" not in page
    compared = comparison.compare([run, reference])
    assert compared.pairs[0].held_out is None
    assert compared.pairs[0].changed == len(compared.test_rows) > 0
    page = html.build_comparison(compared).read_text(encoding="utf-8")
    assert "Comparison: one, reference/two" in page


# The leaderboard.


def test_the_leaderboard_lists_all_finished_runs_best_first_and_names_the_others(run, data, capsys):
    folder = run.folder.parent
    change(Run(folder / "two"), out_of_fold=replace(SCORE, accuracy=0.9999), leaked=True)
    Run(folder / "begun").folder.mkdir()
    Run(folder / "begun").write_record(made_record(False))
    runs = leaderboard(folder, folder / "none")
    (board,) = runs.boards
    assert board.heading == "embedded sample, 600 training images"
    assert [standing.name for standing in board.own] == ["one", "two"], "a leaked run is last, whatever its accuracy"
    assert runs.unfinished == ["begun"]
    assert board.own[0].recipe == "quick: epochs = 6 (8), folds = 3 (1), members = 2 (1)"
    assert entry_point.main(["--submissions-dir", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.index("one ") < out.index("two [LEAKED]")
    assert "Not finished, or not readable: begun." in out
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert 'aria-sort="descending"' in page


def test_the_leaderboard_is_grouped_by_data_with_the_reference_runs_apart(run, data):
    folder, two = run.folder.parent, Run(run.folder.parent / "two")
    change(two, data=replace(two.finished_record().data, competition="digit-recognizer"))
    shutil.copytree(two.folder, folder / "reference" / "best")
    (folder / "compare-one-two.html").touch()
    (folder / "one" / "report.html").touch()
    runs = leaderboard(folder, folder / "reference")
    assert [board.heading for board in runs.boards] == [
        "digit-recognizer, 600 training images", "embedded sample, 600 training images",
    ]  # fmt: skip
    first, second = runs.boards
    assert [[standing.name for standing in group] for group in (first.own, first.references, second.own)] == [
        ["two"], ["reference/best"], ["one"],
    ]  # fmt: skip
    page = html.build_leaderboard(folder, folder / "reference").read_text(encoding="utf-8")
    assert page.index("<td>two") < page.index("Reference runs") < page.index("reference/best")
    for link in ("one/report.html", "compare-one-two.html"):
        assert f'href="{link}"' in page


def test_without_any_run_the_leaderboard_says_how_to_make_one(tmp_path):
    assert "python src/train.py" in html.build_leaderboard(tmp_path, tmp_path / "none").read_text(encoding="utf-8")


def kinds_of(record):
    """What differs in the record of a run of another kind, by its name."""
    fold = replace(record.folds[0], wrong_without_tta=3)
    return {
        "single split": {"settings": replace(record.settings, folds=1, members=1), "folds": [fold]},
        "competition": {"data": replace(record.data, competition="digit-recognizer"), "averaging_gain": 0.0002},
        "test images without labels": {"test": replace(record.test, score=None)},
        "record with less": {"machine": None, "git": None, "versions": {}, "backend": None, "peak_memory_bytes": None},
        "all wrong": {"checks": [Check("every class is predicted", False, "9 of 10")], "leaked": True},
        "named classes": {"data": replace(record.data, classes=[f"kind {n}" for n in range(10)])},
        "extra images": {"extra": ExtraImages("photos", [1] * 10, "0" * 64)},
        "recipe of a newer kit": {"recipe": replace(record.recipe, name="gone", base="gone", networks=("gone",))},
    }


@pytest.mark.parametrize("kind", kinds_of(made_record(folds=[FOLD])))
def test_each_kind_of_run_has_a_report_and_a_place_on_the_leaderboard(run, data, kind):
    """The templates are strict: what a kind of run lacks would be an error."""
    change(run, **{"checks": []} | kinds_of(run.finished_record())[kind])
    page = page_of(run, dataset=data)
    assert ("Held-out accuracy" in page) == (kind == "single split")
    assert ("Expected public score" in page) == (kind == "competition")
    assert ("kind 7" in page) == (kind == "named classes")
    boards = leaderboard(run.folder.parent, run.folder / "none").boards
    (marks,) = [standing.marks for board in boards for standing in board.own if standing.name == "one"]
    assert marks == {"all wrong": ["LEAKED", "1 failed check"], "extra images": ["extra images"]}.get(kind, [])


def test_a_class_may_have_any_name_on_the_pages(runs, data):
    names = ["<script>alert(1)</script>", '" onclick="alert(1)', r"$\frac$", "=1+1", "x_1^2"]
    for run in runs:
        change(run, data=replace(run.finished_record().data, classes=[*names, *"56789"]))
    compared = html.build_comparison(comparison.compare(runs)).read_text(encoding="utf-8")
    for page in (page_of(runs[0], dataset=data), compared):
        assert [name for name in names if str(escape(name)) not in page] == []
        assert "<script>alert" not in page
        assert '" onclick="alert' not in page


# The command.


def test_the_command_writes_and_names_the_page_and_refuses_a_run_that_is_not_there(run, data, capsys):
    assert entry_point.main(["one", "--submissions-dir", str(run.folder.parent)]) == 0
    assert capsys.readouterr().out.strip().endswith("one/report.html")
    assert entry_point.main(["one", "two", "--submissions-dir", str(run.folder.parent)]) == 0
    assert "compare-one-two.html" in capsys.readouterr().out
    assert entry_point.main(["no-such-run", "--submissions-dir", str(run.folder.parent)]) == 2
    assert "no-such-run" in capsys.readouterr().err
