"""Each check passes on a sound run and fails on the fault it is there for."""

import numpy as np

from digits.config import Metric, Tta
from digits.inference import predictor
from digits.runs import checks
from digits.training import pipeline
from made_run import WorkerOfThisProcess

CHANCE = np.random.default_rng(0)
LABELS = CHANCE.integers(0, 10, 2000)


def sure_of(answers, share=0.99):
    """Probabilities (n, 10) of `share` for each answer and the rest spread."""
    probabilities = np.full((len(answers), 10), (1 - share) / 9, np.float32)
    probabilities[np.arange(len(answers)), answers] = share
    return probabilities


def test_sound_answers_pass_all_checks():
    probabilities = sure_of(LABELS)
    counts = np.bincount(LABELS, minlength=10)
    assert checks.check_probabilities(probabilities).passed
    assert checks.check_not_constant(probabilities, counts, Metric.ACCURACY).passed
    assert checks.check_class_shares(counts, counts).passed
    assert checks.check_confidence(probabilities, probabilities[:500]).passed
    assert checks.check_learned({"fold-1": 0.991, "fold-2": 0.989}).passed
    assert checks.check_all_trained(5, {}).passed


def test_each_fault_fails_its_check_and_is_named():
    probabilities = sure_of(LABELS)
    assert not checks.check_probabilities(probabilities * 1.01).passed
    probabilities[3, 4] = np.nan
    assert not checks.check_probabilities(probabilities).passed
    answers = np.where(LABELS == 4, 9, LABELS)
    assert not checks.check_class_shares(np.bincount(answers), np.bincount(LABELS)).passed
    reasons = {"fold 2/4": "time was up", "fold 3/4": "no memory", "fold 4/4": "time was up"}
    failed = {
        checks.check_not_constant(sure_of(np.full(100, 7)), np.full(10, 100), Metric.ACCURACY): "1 of 10 classes occur",
        checks.check_confidence(sure_of(LABELS, 0.99), sure_of(LABELS, 0.9)): "0.9900 out of fold, 0.9000 on test",
        checks.check_learned({"fold-1": 0.99, "fold-2": 0.11, "fold-3": 0.98}): "did not: fold-2",
        checks.check_all_trained(1, reasons): "fold 2/4, fold 4/4: time was up; fold 3/4: no memory. The same command",
    }
    for check, detail in failed.items():
        assert not check.passed
        assert check.detail.startswith(detail)


def test_rows_in_another_order_than_the_models_say_fail(monkeypatch):
    images = CHANCE.integers(0, 256, (300, 28, 28, 1), np.uint8)
    probabilities = sure_of(CHANCE.integers(0, 10, 300))
    by_image = {image.tobytes(): row for image, row in zip(images, probabilities, strict=True)}

    class StubEnsemble:
        def __init__(self, *_, **__): ...

        def probabilities(self, images, *, one_by_one, on_part=None):
            return np.array([by_image[image.tobytes()] for image in images])

    monkeypatch.setattr(predictor, "Ensemble", StubEnsemble)
    worker = WorkerOfThisProcess()
    assert pipeline.check_saved_models(worker, None, images, probabilities).passed
    assert not pipeline.check_saved_models(worker, None, images, np.roll(probabilities, 1, axis=0)).passed


def test_a_model_that_cannot_be_read_fails_the_check_and_not_the_run(tmp_path):
    broken = tmp_path / "fold-1.keras"
    broken.write_bytes(b"not a model")
    member = predictor.SavedMember([broken], Tta(), {})
    check = pipeline.check_saved_models(
        WorkerOfThisProcess(), member, np.zeros((3, 28, 28, 1), np.uint8), sure_of([1, 2, 3])
    )
    assert not check.passed
    assert "fold-1.keras: not a model that Keras loads safely" in check.detail
