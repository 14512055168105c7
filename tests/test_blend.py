"""Blends are runs: with a record, a report, a comparison, a submission, and blends of their own."""

import numpy as np
import pytest

from digits.console import BadInput
from digits.files import REFERENCE
from digits.report import analysis, html, summary
from digits.runs import ensemble
from digits.runs.store import Run, find_runs


def blended(runs, name="both", **options):
    folder = runs[0].folder.parent
    return ensemble.blend(runs, name=name, submissions=folder, command="python src/predict.py one two", **options)


def test_a_blend_has_its_members_weights_and_disagreements_in_its_record(runs):
    record = blended(runs, weights="2,1,1,0").finished_record()
    assert [member.name for member in record.blend.members] == [
        "one/compact-1", "one/compact-2", "two/compact-1", "two/compact-2",
    ]  # fmt: skip
    assert [member.weight for member in record.blend.members] == [0.5, 0.25, 0.25, 0]
    assert np.array(record.blend.disagreement).shape == (4, 4)
    assert record.recipe_name == "blend"
    assert record.out_of_fold.rows == 600


def test_a_blend_has_a_report_a_summary_a_comparison_and_is_found_by_its_answers(runs):
    both = blended(runs)
    page = html.build_report(both, reference=REFERENCE).read_text(encoding="utf-8")
    assert "one/compact-1" in page
    text = summary.of_run(both)
    assert "one/compact-1" in text
    assert "Out-of-fold accuracy" in text
    compared = analysis.compare([runs[0], both])
    assert compared.pairs[0].held_out.rows == 600
    assert html.build_comparison(compared).exists()
    assert find_runs(both.folder.parent, both.finished_record().submission.sha256)[0] == both


def test_a_blend_of_a_blend_and_a_run_takes_the_blend_as_one_member(runs):
    both = blended(runs)
    whole = blended([both, runs[0]], name="whole", weights="greedy")
    names = [member.name for member in whole.finished_record().blend.members]
    assert names == ["both", "one/compact-1", "one/compact-2"]
    assert html.build_report(whole).exists()


def test_a_blend_without_models_names_the_runs_that_have_them(runs):
    with pytest.raises(BadInput, match="is a blend, without models of its own; give the runs it blends: one two"):
        ensemble.predict_again([blended(runs)])


def test_the_saved_models_predict_the_run_s_own_test_images(runs, sample, monkeypatch, tmp_path):
    run = runs[0]
    (run.folder / "fold-1.keras").touch()
    predicted = []

    def predict_saved(models, images, tta):
        predicted.append(images)
        return run.probabilities()[1]

    monkeypatch.setattr(ensemble, "predict_saved", predict_saved)
    lines = ensemble.predict_again([run], out=tmp_path / "again.csv")
    assert "differ from the runs' own in 0 of 1,000 rows" in lines[1]
    assert np.array_equal(predicted[0], sample.test.images)


def test_a_reference_run_which_has_only_answers_is_said_to_lack_the_rest():
    with pytest.raises(BadInput, match=r"Run quick has no out_of_fold\.npy: only its record and its submission"):
        ensemble.blend([Run(REFERENCE / "quick")])
    assert len(Run(REFERENCE / "quick").answers()) == 28_000


def test_a_run_given_twice_is_refused_and_a_weight_offered(runs):
    with pytest.raises(BadInput, match=r"Run one is given twice\. To count it more than others: --weights"):
        blended([*runs, Run(runs[0].folder)])
    with pytest.raises(BadInput, match="Run one is given twice"):
        ensemble.predict_again([runs[0], runs[0]])
    with pytest.raises(BadInput, match=r"Run one is given twice\. A comparison takes different runs"):
        analysis.compare([runs[0], runs[0]])


def test_runs_of_other_data_and_names_that_are_taken_are_refused(runs):
    record = runs[1].finished_record()
    record.identity["data"] = "another"
    runs[1].write_record(record)
    with pytest.raises(BadInput, match="of different data"):
        blended(runs)
    with pytest.raises(BadInput, match="There is a run two already"):
        blended([runs[0]], name="two")
