"""The closing words of a run."""

import dataclasses
import shlex
from pathlib import Path

import numpy as np

from digits.data.submission import DIGIT_FORM, write_run_submission
from digits.files import display_path
from digits.report import summary
from digits.report.leaderboard import Board, Leaderboard, Standing
from digits.runs.checks import Check
from digits.runs.store import Run
from made_run import made_record, make_run


def test_what_averaging_is_worth_is_said_where_folds_are_averaged(monkeypatch, tmp_path):
    run = make_run(monkeypatch, tmp_path)
    record = dataclasses.replace(run.finished_record(), source="kaggle", averaging_gain=0.00021)
    record.data = dataclasses.replace(record.data, competition="digit-recognizer")
    run.write_record(record)
    text = summary.of_run(run)
    assert "Expected on Kaggle: 0.9" in text
    assert "That is one fold; the average of all 3, which is submitted, is estimated 0.00021 better" in text
    run.write_record(dataclasses.replace(record, averaging_gain=0.0))
    assert "estimated" not in summary.of_run(run)


def test_the_next_step_names_this_very_run_and_is_not_to_submit_it_after_a_failed_check(tmp_path):
    run = Run(tmp_path / "made")
    run.folder.mkdir()
    competition = dataclasses.replace(made_record().data, competition="digit-recognizer")
    run.write_record(made_record(data=competition))
    text = summary.of_run(run)
    assert f"scripts/submit.sh {display_path(run.folder)}\n" in text
    assert f"-f {display_path(run.folder / 'submission.csv')} -m" in text
    run.write_record(made_record(data=competition, checks=[Check("every class is predicted", False, "9 of 10")]))
    text = summary.of_run(run)
    assert "!!! CHECK FAILED: every class is predicted: 9 of 10" in text
    assert "scripts/submit.sh" not in text
    assert f"before you submit: {display_path(run.folder / 'run.json')}" in text  # There is no page.
    (run.folder / "report.html").touch()
    assert f"before you submit: {display_path(run.folder / 'report.html')}" in summary.of_run(run)
    run.write_record(made_record(data=dataclasses.replace(competition, competition="kannada-mnist")))
    text = summary.of_run(run)
    assert "takes a notebook's output, not a file" in text
    assert f"scripts/publish.sh {display_path(run.folder)} --competition kannada-mnist" in text
    assert "submit.sh" not in text
    submission = dataclasses.replace(made_record().submission, copy=None)
    run.write_record(made_record(submission=submission))
    assert "predictions, not a submission" in summary.of_run(run)


def test_the_commands_that_are_printed_reach_the_shell_as_they_are_meant(tmp_path):
    run = Run(tmp_path / "Jane's runs" / "made")
    run.folder.mkdir(parents=True)
    for competition in ("digit-recognizer", "kannada-mnist"):
        run.write_record(made_record(data=dataclasses.replace(made_record().data, competition=competition)))
        command = shlex.split(summary.submit_command(run, run.finished_record()))
        assert command[1] == str(run.folder)
        assert command[2:] == ["--competition", competition] * (competition != "digit-recognizer")
    run.write_record(made_record(data=dataclasses.replace(made_record().data, competition="digit-recognizer")))
    words = shlex.split(summary.of_run(run).partition("By hand:")[2])
    assert words[words.index("-f") + 1] == str(run.folder / "submission.csv")
    assert words[-2:] == ["-m", "made 0.99640 out of fold, digits:111111111111"]


def test_a_terminal_too_narrow_for_the_list_of_runs_leaves_columns_out_and_says_which():
    run = Run(Path("a-run-with-a-long-name"))
    standing = Standing(run, made_record(checks=[Check("a check", False, "")]), None, "")
    runs = Leaderboard([Board("digit-recognizer", 42_000, [standing], [])], [], {})
    whole = summary.of_leaderboard(runs).splitlines()
    assert whole[0] == "digit-recognizer, 42,000 training images"
    assert whole[1].split() == [
        "run", "accuracy", "errors", "public", "log-loss", "scored", "time", "date", "recipe",
    ]  # fmt: skip
    assert len(whole) == 3
    for width in (70, 80):
        lines = summary.of_leaderboard(runs, width).splitlines()
        assert max(map(len, lines[:3])) <= width
        assert lines[0] == whole[0], "what the data are is always visible"
        assert "a-run-with-a-long-name [1 failed check]  99.640% ± 0.030%" in lines[2]
        assert lines[3].startswith("In a wider terminal, or a pipe: ")
        assert lines[3].endswith("date, recipe.")
    assert summary.of_leaderboard(runs, 200).splitlines() == whole


def test_the_last_words_name_the_run_whose_predictions_the_submission_holds_and_held(tmp_path):
    out = tmp_path / "submission.csv"

    def last_words(name, label):
        run = Run(tmp_path / name)
        run.folder.mkdir(exist_ok=True)
        sure = np.eye(10)[np.full(3, label)]
        written = write_run_submission(run.folder, np.arange(1, 4), sure, DIGIT_FORM, out, leaked=False)
        run.write_record(made_record(run=name, submission=written))
        return summary.of_run(run)

    (tmp_path / "submission.csv").touch()
    assert "; it replaced a file that no run here made" in last_words("mine", 0)
    assert "checked: predictions of run mine\n" in last_words("mine", 0)
    assert "predictions of run good; before, it held those of run mine (99.64%)" in last_words("good", 1)
