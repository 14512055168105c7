"""The closing words of a run."""

from digits.report import summary
from made_run import make_run


def test_what_averaging_is_worth_is_said_where_folds_are_averaged(monkeypatch, tmp_path):
    run = make_run(monkeypatch, tmp_path)
    facts = run.facts() | {"source": "kaggle", "averaging_gain": 0.00021}
    said = summary.of_run(run.folder, facts)
    assert "Expected on Kaggle: 0.9" in said
    assert "That is one fold; the average of all 3, which is submitted, is better by 0.00021" in said
    assert "better by" not in summary.of_run(run.folder, facts | {"averaging_gain": 0.0})
