"""Write what a run's networks predicted: probabilities, submission, history; and score and check it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from digits.config import Metric
from digits.data.dataset import Dataset
from digits.files import atomic_write
from digits.runs import averaging, checks, metrics
from digits.runs.checks import Check
from digits.runs.record import FoldScore, Refit, Results
from digits.runs.store import REFIT, FoldResult, NetworkKey, Run
from digits.training.plan import Plan


def write_results(plan: Plan, results: Sequence[FoldResult], failures: Mapping[NetworkKey, str]) -> Results:
    """Write a run's probabilities, submission and history, and return its scores and checks; folds before refits."""
    data = plan.dataset
    folds = [result for result in results if result.fold != REFIT]
    out_of_fold, test = averaging.out_of_fold(folds, len(data.train.labels)), averaging.test_mean(results)
    _write_history(plan.run, results)
    written = plan.run.write_results(data, out_of_fold, test, plan.execution.out, leaked=data.leaked)
    written.folds = [_fold_score(result, data) for result in folds]
    average = averaging.test_mean(folds).argmax(axis=1)
    written.refits = [_refit(result, average) for result in results if result.fold == REFIT]
    if data.metric is Metric.ACCURACY:
        written.averaging_gain = averaging.averaging_gain(results)
    written.checks = _checks(data, out_of_fold, test)
    missing = {task.label: failures[task.key] for task in plan.tasks if task.key in failures}
    written.checks.append(checks.check_all_trained(len(results), missing))
    accuracies = [score.accuracy for score in written.folds] + [refit.agreement for refit in written.refits]
    names = [result.label for result in results]
    rows, share = min(score.rows for score in written.folds), max(data.summary.class_counts) / len(data.train.labels)
    written.checks.append(checks.check_learned(dict(zip(names, accuracies, strict=True)), rows, share))
    return written


def _fold_score(result: FoldResult, data: Dataset) -> FoldScore:
    return FoldScore(
        fold=result.fold,
        member=result.member,
        network=result.network,
        epochs=len(result.history),
        seconds=round(result.seconds, 1),
        wrong_without_tta=result.wrong_without_tta,
        **vars(metrics.score(result.validation_probabilities, data.train.labels[result.validation_rows], data.metric)),
    )


def _refit(result: FoldResult, average: np.ndarray) -> Refit:
    """Return what the record says of a refit; `average` are the folds' predictions int (t,) together."""
    return Refit(
        number=result.member,
        network=result.network,
        epochs=len(result.history),
        seconds=round(result.seconds, 1),
        agreement=float((result.test_probabilities.argmax(axis=1) == average).mean()),
    )


def _checks(data: Dataset, out_of_fold: np.ndarray, test: np.ndarray) -> list[Check]:
    scored, training_counts = out_of_fold[~np.isnan(out_of_fold[:, 0])], np.array(data.summary.class_counts)
    counts = np.bincount(test.argmax(axis=1), minlength=len(data.classes))
    if data.metric.takes_probabilities:
        counts = test.sum(axis=0)  # A rare class may never be the most probable one.
    results = [
        checks.check_probabilities(test),
        checks.check_not_constant(test, training_counts, data.metric),
        checks.check_class_shares(counts, training_counts),
        checks.check_confidence(scored, test),
    ]
    if data.source == "kaggle" and data.expected:
        detail = "; ".join(f"{file.name}: {file.text}" for file in data.summary.files)
        results.append(Check("the test images are the competition's", data.competition is not None, detail))
    return results


def _write_history(run: Run, results: Sequence[FoldResult]) -> None:
    rows = [{"fold": result.fold, "member": result.member, **epoch} for result in results for epoch in result.history]
    with atomic_write(run.folder / "history.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
