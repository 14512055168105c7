"""Networks trained on all rows after the folds: averaged on the test images, and in no cross-validated figure."""

import signal

import numpy as np
import pytest

from digits.config import load_recipe
from digits.data import dataset
from digits.report import summary
from digits.report.html import build_report
from digits.runs import averaging, blend, pseudo_labels
from digits.runs.store import REFIT, Run
from made_run import make_run
from train_process import EXACT, finish, same_results, start, wait_for


@pytest.fixture(scope="module")
def refitted(tmp_path_factory):
    """The folder of a run of two folds and two refits by the stub trainer, and what it printed."""
    submissions = tmp_path_factory.mktemp("refit")
    code, out, err = finish(submissions, *EXACT, "--refit", "2", "--jobs", "1", "--run", "whole")
    assert code == 0, out + err
    return submissions / "whole", out


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A made-up run of three folds of two members, and three refits."""
    recipe = load_recipe("quick").changed(epochs=2, folds=3, members=2, networks=("compact", "vgg"), refit=3)
    return make_run(monkeypatch, tmp_path, recipe=recipe)


def test_refits_leave_the_folds_as_they_are_and_join_the_average_of_the_test_images(refitted, stub_run):
    run, without = Run(refitted[0]), Run(stub_run)
    assert (run.folder / "out_of_fold.npy").read_bytes() == (stub_run / "out_of_fold.npy").read_bytes()
    networks = [*run.fold_results(), *run.refit_results()]
    assert [result.label for result in networks] == ["fold-1", "fold-2", "refit-1", "refit-2"]
    average = np.mean([result.test_probabilities for result in networks], axis=0)
    assert np.allclose(run.probabilities()[1], average, atol=1e-6)
    assert not np.allclose(run.probabilities()[1], without.probabilities()[1], atol=1e-3)
    assert [path.stem for path in run.models()] == ["fold-1", "fold-2", "refit-1", "refit-2"]
    record = run.finished_record()
    assert record.out_of_fold == without.finished_record().out_of_fold
    assert [(refit.number, refit.epochs) for refit in record.refits] == [(1, 6), (2, 6)]
    assert all(0.8 < refit.agreement <= 1 for refit in record.refits)
    for words in (
        "2 folds and 2 refits", "refit 2/2  trained on all images, ",
        "networks trained on 50% of the images; the submission also averages 2 networks trained on all",
    ):  # fmt: skip
        assert words in refitted[1]


def test_the_saved_models_of_refits_predict_too(refitted):
    code, out, err = finish(refitted[0].parent, "whole", "--from-models", command="predict")
    assert code == 0, err
    assert "differ from the run's own in 0 of 1,000 rows" in out


def test_a_run_killed_during_a_refit_resumes_and_gives_the_same_bytes(refitted, tmp_path):
    run = Run(tmp_path / "again")
    flags = [*EXACT, "--refit", "2", "--jobs", "1", "--run", "again"]
    process = start(tmp_path, *flags, environment={"STUB_EPOCH_SECONDS": "0.1"})
    wait_for(run.checkpoint_path(REFIT, 1).exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, out, err = finish(tmp_path, "--run", "again", "--jobs", "1")
    assert code == 0, err
    assert "fold 2/2   finished before" in out
    assert "refit 1/2: resumed after epoch" in out
    assert same_results(run.folder, refitted[0])


def test_one_split_can_be_refitted_too(monkeypatch, tmp_path):
    run = make_run(monkeypatch, tmp_path, recipe=load_recipe("quick").changed(epochs=2, folds=1, refit=1))
    assert run.finished_record().out_of_fold.rows == 60
    words = "trained on 90% of the images; the submission also averages 1 network trained on all"
    assert words in summary.of_run(run)
    both = [run.fold_results()[0].test_probabilities, run.refit_results()[0].test_probabilities]
    assert np.allclose(run.probabilities()[1], np.mean(both, axis=0), atol=1e-6)


def test_refits_are_of_the_members_networks_in_turn_and_count_as_theirs_in_blends(made):
    assert [result.network for result in made.refit_results()] == ["compact", "vgg", "compact"]
    first, second = blend.members_of(made)
    by_label = {result.label: result.test_probabilities for result in [*made.fold_results(), *made.refit_results()]}
    own = ["fold-1", "fold-2", "fold-3", "refit-1", "refit-3"]
    assert np.allclose(first.test, np.mean([by_label[label] for label in own], axis=0), atol=1e-6)
    assert second.name == "made/vgg-2"
    for path in (made.model_path(fold, member) for fold in (REFIT, 1, 2, 3) for member in (1, 2, 3)):
        path.touch()
    assert [path.stem for path in made.models(1)] == own


def test_a_refit_takes_the_pseudo_labels_of_all_folds_networks_and_none_of_earlier_refits(made):
    identity = made.record().identity
    found = pseudo_labels.pseudo_labels_of(made, identity)
    assert set(found.by_fold) == {REFIT, 1, 2, 3}
    average = averaging.test_mean(made.fold_results())
    assert found.by_fold[REFIT][0].tolist() == np.flatnonzero(average.max(axis=1) >= found.threshold).tolist()
    assert set(pseudo_labels.pseudo_labels_of(made, identity | {"recipe.refit": 0}).by_fold) == {1, 2, 3}


def test_the_report_and_the_summary_list_refits(made):
    page = build_report(made, dataset.load("sample", limit=600)).read_text(encoding="utf-8")
    note = "networks trained on 67% of the images; the submission also averages 3 networks trained on all images."
    assert "<td>refit 3</td>" in page
    assert note in page
    text = summary.of_run(made)
    assert note in text
    assert "refit 3" in text
