"""Blends are runs: with a record, a report, a comparison, a submission, and blends of their own."""

import dataclasses
import json

import numpy as np
import pytest

import predict
from digits import files
from digits.console import BadInput
from digits.files import REFERENCE, display_path
from digits.inference import predictor
from digits.inference.predictor import saved_members
from digits.report import comparison, html, summary
from digits.runs import blend, store
from digits.runs.store import Run, find_runs


def blended(runs, name="both", **options):
    folder = runs[0].folder.parent
    return blend.blend(runs, blend.BlendOptions(name=name, command="python src/predict.py one two", **options), folder)


def with_models(run):
    for score in run.finished_record().folds:
        run.model_path(score.fold, score.member).touch()
    return run


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
    compared = comparison.compare([runs[0], both])
    assert compared.pairs[0].held_out.rows == 600
    assert html.build_comparison(compared).exists()
    assert find_runs(both.folder.parent, both.finished_record().submission.sha256)[0] == both


def test_a_blend_of_a_blend_and_a_run_takes_the_blend_as_one_member(runs):
    whole = blended([blended(runs), runs[0]], name="whole", weights="greedy")
    names = [member.name for member in whole.finished_record().blend.members]
    assert names == ["both", "one/compact-1", "one/compact-2"]


def test_a_run_whose_models_were_deleted_names_the_command_that_trains_them_again(runs, monkeypatch):
    for run, command in (
        (runs[0], f"python src/train.py --from-run {runs[0].folder}"),
        (Run(REFERENCE / "best-gpu"), f"python src/train.py --from-run {display_path(REFERENCE / 'best-gpu')}"),
    ):
        with pytest.raises(BadInput) as refusal:
            saved_members(run)
        assert str(refusal.value).endswith(f"Train again: {command}")
        assert store.find_run(command.split()[-1]).record().asked().recipe == run.record().recipe
    monkeypatch.setattr(files, "SUBMISSIONS", runs[0].folder.parent)
    with_models(runs[0])
    runs[0].model_path(2, 1).unlink()
    with pytest.raises(BadInput, match=r"lacks 1 of 6 saved models \(fold-2\.keras\)\. .* src/train\.py --run one$"):
        saved_members(runs[0])  # Else the other five would be averaged without a word.


class Recorded:
    """A predictor that needs no network: it repeats what the run recorded, or another class."""

    shift = 0

    def __init__(self, run, **_):
        self.recorded = run.probabilities()[1]

    def probabilities(self, images, *, one_by_one, on_part=None):
        assert len(images) == len(self.recorded)
        return np.roll(self.recorded, self.shift, axis=1)


@pytest.mark.parametrize("shift", [pytest.param(0, id="the same"), pytest.param(1, id="others")])
def test_saved_models_predict_the_test_images_and_never_change_a_submission(runs, monkeypatch, tmp_path, shift):
    """Else its hash in run.json would be of another file, and the run's failed checks would not be found by it."""
    monkeypatch.setattr(predictor, "Predictor", Recorded)
    monkeypatch.setattr(Recorded, "shift", shift)
    run = with_models(runs[0])
    before = (run.folder / "submission.csv").read_bytes()
    for out in (None, tmp_path / "new" / "again.csv"):
        lines = predictor.predict_again(run, out=out)
        assert ("differ from the run's own in 0 of 1,000 rows" in lines[1]) == (not shift)
    assert ((tmp_path / "new" / "again.csv").read_bytes() == before) == (not shift)
    assert (run.folder / "submission.csv").read_bytes() == before


def test_the_members_of_a_blend_are_found_by_run_and_member_and_those_of_an_earlier_record_by_their_name(runs):
    both = blended([with_models(run) for run in runs], weights="2,1,1,0")
    record = both.finished_record()
    assert [(member.run, member.network, member.member) for member in record.blend.members[:2]] == [
        ("one", "compact", 1), ("one", "compact", 2),
    ]  # fmt: skip
    expected = saved_members(both)
    assert expected[1].models == runs[0].models(2)
    values = record.to_dict()
    for member in values["blend"]["members"]:
        del member["run"], member["network"], member["member"]
    (both.folder / "run.json").write_text(json.dumps(values))
    assert saved_members(both) == expected


@pytest.mark.parametrize(
    "flags",
    [
        ["one", "two", "--from-models"],
        ["one", "--from-models", "--weights", "1,2"],
        ["one", "--from-models", "--run", "again"],
        ["one", "--images", "digit.png", "--mean", "logarithmic"],
        ["one", "two", "--prepare"],
    ],
)
def test_a_flag_that_would_not_be_used_is_refused(runs, flags, capsys):
    folder = runs[0].folder.parent
    assert predict.main([str(folder / word) if word in ("one", "two") else word for word in flags]) == 2
    assert "--" in capsys.readouterr().err


def test_a_blend_whose_files_cannot_be_written_leaves_its_name_free(runs, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):  # noqa: PT011 another one on another system
        blended(runs, out=tmp_path / "file" / "submission.csv")
    assert blended(runs).finished_record().blend


def test_the_score_of_a_greedy_logarithmic_blend_is_of_that_mean(runs):
    arithmetic, logarithmic = (
        blended(runs, name=mean, weights="greedy", mean=mean).probabilities()[0]
        for mean in ("arithmetic", "logarithmic")
    )
    assert not np.allclose(arithmetic, logarithmic, atol=1e-4)


def test_a_run_given_twice_or_with_answers_only_and_a_name_that_is_no_folder_s_are_refused(runs):
    with pytest.raises(BadInput, match=r"Run one is given twice\. To count it more than others: --weights"):
        blended([*runs, Run(runs[0].folder)])
    with pytest.raises(BadInput, match=r"Run one is given twice\. A comparison takes different runs"):
        comparison.compare([runs[0], runs[0]])
    with pytest.raises(BadInput, match=r"Run quick has no out_of_fold\.npy: only its record and its submission"):
        blend.blend([Run(REFERENCE / "quick")], blend.BlendOptions())
    assert len(Run(REFERENCE / "quick").predictions()) == 28_000
    with pytest.raises(BadInput, match="expected a name of letters"):
        blended(runs, name="a/b")


def test_runs_on_the_same_files_in_another_size_are_blended_and_compared(runs):
    record = runs[1].finished_record()
    record.identity["data"] = "another"
    resized = dataclasses.replace(record.data.form, shape=(16, 16, 1))
    record.data = dataclasses.replace(record.data, form=resized)
    runs[1].write_record(record)
    assert blended(runs).finished_record().out_of_fold.rows == 600
    assert comparison.compare(runs).pairs[0].held_out.rows == 600


def test_runs_of_other_data_and_names_that_are_taken_are_refused(runs):
    record = runs[1].finished_record()
    record.identity["data"] = "another"
    runs[1].write_record(record)
    with pytest.raises(BadInput, match="of different data"):
        blended(runs)
    with pytest.raises(BadInput, match="There is a run two already"):
        blended([runs[0]], name="two")
