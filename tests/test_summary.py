"""The closing words of a run."""

import dataclasses

from digits.report import summary
from made_run import make_run


def test_what_averaging_is_worth_is_said_where_folds_are_averaged(monkeypatch, tmp_path):
    run = make_run(monkeypatch, tmp_path)
    record = dataclasses.replace(run.finished_record(), source="kaggle", averaging_gain=0.00021)
    run.write_record(record)
    said = summary.of_run(run)
    assert "Expected on Kaggle: 0.9" in said
    assert "That is one fold; the average of all 3, which is submitted, is better by 0.00021" in said
    run.write_record(dataclasses.replace(record, averaging_gain=0.0))
    assert "better by" not in summary.of_run(run)
