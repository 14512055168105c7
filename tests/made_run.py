"""A finished run in a second: training.train with networks that are made up, on real little data."""

import numpy as np

from digits.config import Execution, Settings, load_recipe
from digits.data.competition import Form
from digits.data.dataset import DataFile, DataSummary
from digits.runs import checks
from digits.runs.metrics import ExpectedScore, Score
from digits.runs.record import FinishedRecord, Record, RunSettings, SubmissionFile, TestPredictions
from digits.runs.store import FoldResult, save_fold_result
from digits.training import pipeline

SCORE = Score(accuracy=0.9964, standard_error=0.0003, wrong=151, rows=42_000, log_loss=0.0447)


def made_record(finished=True, **changes):
    """Return the record of a run of the recipe standard on the competition's data, with some fields changed."""
    values = {
        "run": "made",
        "command": "python src/train.py --run made",
        "created": "2026-11-23T04:11:37+00:00",
        "source": "kaggle",
        "leaked": False,
        "recipe": load_recipe("standard"),
        "settings": RunSettings(folds=5, members=1),
        "identity": {"data": "abc"},
        "data": DataSummary(
            [DataFile("train.csv", 42_000, "12", Form.IDENTICAL)], [4200] * 10, "the competition's files"
        ),
    }
    results = {
        "out_of_fold": SCORE,
        "expected_score": ExpectedScore(0.9964, 0.9955, 0.9973),
        "test": TestPredictions(28_000, [2800] * 10),
        "submission": SubmissionFile("submission.csv", "submissions/submission.csv", 28_000, "1" * 64),
    }
    return FinishedRecord(**values | results | changes) if finished else Record(**values | changes)


def say(random, labels, seed, wrong_share=0.03, classes=10):
    """Return probabilities (n, classes), wrong in some rows as all of a run's networks are, and in as many alone."""
    said = labels
    for chance in (np.random.default_rng(seed), random):
        said = np.where(chance.random(len(said)) < wrong_share, chance.integers(0, classes, len(said)), said)
    sure = random.beta(30, 1, len(labels))[:, None]
    rest = random.dirichlet(np.full(classes, 0.3), len(labels))
    return (sure * np.eye(classes)[said] + (1 - sure) * rest).astype(np.float32)


def cross_validate(plan, *_):
    """Stand in for `crossval.cross_validate`: results whose networks guess from the labels."""
    results, train, test = [], plan.train, plan.dataset.test
    classes = len(plan.dataset.classes)
    test_labels = np.arange(len(test.images)) % classes if test.labels is None else test.labels
    for task in plan.tasks:
        random = np.random.default_rng((task.seed, task.fold, task.member))
        history = [
            {
                "epoch": epoch,
                "accuracy": 1 - 0.3 / epoch**1.3,
                "loss": 1.2 / epoch,
                "learning_rate": 0.01,
                "seconds": 1.0,
                "images_per_second": 3000.0,
                "held_out_accuracy": 1 - 0.2 / epoch**1.5 - 0.002 * task.fold if epoch % 2 == 0 else None,
            }
            for epoch in range(1, task.recipe.epochs + 1)
        ]
        result = FoldResult(
            task.fold,
            task.member,
            task.network,
            task.validation_rows,
            say(random, train.labels[task.validation_rows], task.seed, classes=classes),
            say(random, test_labels, task.seed, classes=classes),
            history,
            12.3,
            500_000_000,
        )
        save_fold_result(plan.run.result_path(*task.key), result)
        results.append(result)
    return results, {}


class WorkerOfThisProcess:
    """As `workers.Worker`, without a process."""

    def __init__(self, *_, **__): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def run(self, function, *arguments):
        return function(*arguments, log=print)


def make_run(monkeypatch, submissions, name="made", *, seed=0, recipe=None, data_dir=None, **settings):
    """Return a finished run in the folder `submissions`, of the embedded sample cut to 600 unless told otherwise."""
    monkeypatch.setattr(pipeline, "cross_validate", cross_validate)
    passed = checks.Check("the saved models reproduce the predictions", True, "there are none in a made-up run")
    monkeypatch.setattr(pipeline, "check_saved_models", lambda *_, **__: passed)
    settings = {"source": "sample", "limit": 600} | settings
    recipe = recipe or load_recipe("quick").changed(epochs=6, folds=3, members=2)
    execution = Execution(
        run=name,
        submissions=submissions,
        report=False,  # The tests of the figures and the page make them themselves.
        data_dir=data_dir,
        command=f"python src/train.py --run {name}",
    )
    return pipeline.train(Settings(recipe=recipe, seed=seed, **settings), execution)
