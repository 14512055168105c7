"""Averages and blends of probabilities, and pseudo-labels."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.config import Tta
from digits.console import BadInput
from digits.data.competition import write_submission
from digits.data.folds import split_folds
from digits.files import SUBMISSIONS, display_path
from digits.model.backend import cpu_count, load_keras, prepare_process
from digits.runs import metrics
from digits.runs.record import Blend, BlendMember, FinishedRecord, PseudoLabelsUsed, RunSettings, now
from digits.runs.store import REFIT, FoldResult, Run, new_run


def mean(
    members: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray | None = None, *, logarithmic: bool = False
) -> np.ndarray:
    """Return the weighted mean float32 (n, classes) of the members' probabilities, each (n, classes) of the same rows.

    Args:
        members: the probabilities.
        weights: one for each member, of any sum; None: all equal.
        logarithmic: average the logarithms, so that one confident "no" counts more, and normalise again.

    Raises:
        BadInput: if the members are of different rows, or weights are negative, all 0, or not one for each.
    """
    shapes = {member.shape for member in members}
    if len(shapes) != 1:
        raise BadInput(f"A blend takes probabilities of the same rows; these are of shapes {sorted(shapes)}.")
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, float)
    if len(shares) != len(members) or (shares < 0).any() or not shares.sum() > 0:
        raise BadInput(f"Expected {len(members)} weights from 0 up, not all 0; got {list(shares)}.")
    stacked = np.stack([np.log(np.clip(member, 1e-7, 1)) if logarithmic else member for member in members])
    blended = np.tensordot(shares / shares.sum(), stacked.astype(np.float64), axes=1)
    if logarithmic:
        blended = np.exp(blended)
        blended /= blended.sum(axis=1, keepdims=True)
    return blended.astype(np.float32)


def out_of_fold(results: Sequence[FoldResult], rows: int) -> np.ndarray:
    """Return each training row's probabilities float32 (rows, classes) by networks not trained on it; NaN where none.

    The members of a fold are averaged; folds never meet, for a row is held out once.
    """
    probabilities = np.full((rows, results[0].test_probabilities.shape[1]), np.nan, np.float32)
    for fold in {result.fold for result in results}:
        members = [result for result in results if result.fold == fold]
        probabilities[members[0].validation_rows] = mean([member.validation_probabilities for member in members])
    return probabilities


def test_mean(results: Sequence[FoldResult]) -> np.ndarray:
    """Return the mean probabilities float32 (t, classes) of the test images over all networks."""
    return mean([result.test_probabilities for result in results])


def averaging_gain(results: Sequence[FoldResult]) -> float:
    """Estimate by how much the average of all folds is better on the test images than one fold, as a share, 0-1.

    Out of fold, one fold's networks are scored alone, while the submission averages all. No label says what that is
    worth, but the average does: where a fold answers otherwise, it is the probability of the average's answer less
    that of the fold's, both by the average. A rough estimate: in three trials on held-out digits the gain was 3.1, 1.9
    and 0.4 times of it.
    """
    folds = sorted({result.fold for result in results} - {REFIT})
    by_fold = [test_mean([result for result in results if result.fold == fold]) for fold in folds]
    average = test_mean(results)
    rows = np.arange(len(average))
    return float(np.mean([average.max(axis=1) - average[rows, own.argmax(axis=1)] for own in by_fold]))


def greedy_weights(members: Sequence[np.ndarray], labels: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Choose weights float64 (m,) that sum to 1 by forward selection with replacement (Caruana et al. 2004).

    Each round adds the member that lowers the log-loss of the mean most. The blend starts from the equal mean of all,
    so that the luck of one round does not decide.

    Args:
        members: out-of-fold probabilities, each (n, classes), of the same rows.
        labels: the rows' labels (n,).
        rounds: how many members are added.
    """
    likelihoods = np.stack([member[np.arange(len(labels)), labels] for member in members]).astype(np.float64)
    counts = np.ones(len(members))
    total = likelihoods.sum(axis=0)
    for _ in range(rounds):
        with_each = (total + likelihoods) / (counts.sum() + 1)
        best = int(np.log(np.clip(with_each, 1e-7, 1)).sum(axis=1).argmax())
        counts[best] += 1
        total += likelihoods[best]
    return counts / counts.sum()


def nested_blend(
    members: Sequence[np.ndarray], labels: np.ndarray, seed: int = 0, folds: int = 5, *, logarithmic: bool = False
) -> np.ndarray:
    """Return the probabilities float32 (n, classes) of a greedy blend whose weights never saw the row's own label.

    Weights found on some rows are applied to the others, in turn: so the accuracy of what comes back is an honest
    figure for a blend by `greedy_weights`, which the blend's accuracy on its own rows is not.
    """
    blended = np.empty_like(members[0])
    for chosen, unseen in split_folds(labels, folds, seed):
        weights = greedy_weights([member[chosen] for member in members], labels[chosen])
        blended[unseen] = mean([member[unseen] for member in members], weights, logarithmic=logarithmic)
    return blended


def disagreement(answers: Sequence[np.ndarray]) -> np.ndarray:
    """Return in how many rows each two of the answers, labels (n,), differ: int (m, m)."""
    return np.array([[int((first != second).sum()) for second in answers] for first in answers])


@dataclass(frozen=True)
class Member:
    """A member of a blend: one member of a run over all its folds, or a whole run."""

    name: str
    out_of_fold: np.ndarray
    """float32 (n, classes), NaN where a row was never held out."""
    test: np.ndarray
    """float32 (t, classes)."""


def members_of(run: Run) -> list[Member]:
    """Return a run's members, each averaged over the folds and its refits; a run of one, or a blend, is one itself.

    Raises:
        BadInput: if the run has no probabilities.
    """
    whole = Member(run.name, *run.probabilities())
    results = run.fold_results()
    numbers = sorted({result.member for result in results})
    if len(numbers) < 2:
        return [whole]
    results += run.refit_results()
    members = run.record().settings.members
    by_member = [[one for one in results if (one.member - 1) % members + 1 == number] for number in numbers]
    return [
        Member(f"{run.name}/{own[0].network}-{own[0].member}", out_of_fold(own, len(whole.out_of_fold)), test_mean(own))
        for own in by_member
    ]


def blend(
    runs: list[Run],
    *,
    weights: str = "equal",
    logarithmic: bool = False,
    data_dir: Path | None = None,
    out: Path | None = None,
    name: str | None = None,
    command: str = "",
    submissions: Path = SUBMISSIONS,
) -> Run:
    """Blend runs on the same data, blends among them, into a new run with its own record, and write its submission.

    Args:
        runs: finished runs; one alone is a blend of its members.
        weights: "equal", "greedy" (found on the out-of-fold rows; its score comes from nested folds), or numbers
            separated by commas, one for each member.
        logarithmic: average log-probabilities.
        data_dir: where the training labels are; None: where the first run found them.
        out: where to copy the submission.
        name: of the new run; None: blend-TIME.
        command: as it was typed, for the record.
        submissions: the folder of all runs.

    Raises:
        BadInput: if the runs are of different data, the weights are not one for each member, or the name is taken.
    """
    started = time.perf_counter()
    records = _same_data(runs)
    first, leaked = records[0], any(record.leaked for record in records)
    members = [member for run in runs for member in members_of(run)]
    scored = ~np.isnan([member.out_of_fold[:, 0] for member in members]).any(axis=0)
    if not scored.any():
        raise BadInput("These runs have no out-of-fold row in common; blend runs with the same --folds.")
    source = first.load_data(data_dir)
    known, labels = [member.out_of_fold[scored] for member in members], source.train.labels[scored]
    shares = _shares(weights, members, known, labels)
    out_of_fold = np.full_like(members[0].out_of_fold, np.nan)
    if weights == "greedy":
        out_of_fold[scored] = nested_blend(known, labels, logarithmic=logarithmic)
    else:
        out_of_fold[scored] = mean(known, shares, logarithmic=logarithmic)
    test = mean([member.test for member in members], shares, logarithmic=logarithmic)

    run = new_run("blend", name, submissions)
    try:
        results = run.write_results(source, out_of_fold, test, out, leaked=leaked)
    except BaseException:
        shutil.rmtree(run.folder)
        raise
    scores = [metrics.score(own, labels) for own in known]
    record = FinishedRecord(
        run=run.name,
        command=command,
        created=now(),
        source=first.source,
        leaked=leaked,
        recipe=None,
        settings=RunSettings(
            folds=max(record.settings.folds for record in records),
            members=len(members),
            source=first.settings.source,
            competition=first.settings.competition,
            limit=first.settings.limit,
            data_dir=str(data_dir.absolute()) if data_dir else first.settings.data_dir,
        ),
        identity={"blend": [run.name for run in runs], "weights": weights, "data": first.identity["data"]},
        data=first.data,
        extra=next((record.extra for record in records if record.extra), None),
        blend=Blend(
            [
                BlendMember(name=member.name, weight=round(float(share), 4), **vars(score))
                for member, share, score in zip(members, shares, scores, strict=True)
            ],
            disagreement([own.argmax(axis=1) for own in known]).tolist(),
            "logarithmic" if logarithmic else "arithmetic",
            "nested folds" if weights == "greedy" else "the same weights on every row",
        ),
        checks=list(dict.fromkeys(check for record in records for check in record.failed_checks)),
        **results,
        seconds=round(time.perf_counter() - started, 1),
    )
    run.write_record(record)
    return run


def check_different(runs: Sequence[Run], remedy: str) -> None:
    """Check that no run is given twice.

    Raises:
        BadInput: naming the first that is, with `remedy`.
    """
    folders = [run.folder.resolve() for run in runs]
    for index, run in enumerate(runs):
        if folders[index] in folders[:index]:
            raise BadInput(f"Run {run.name} is given twice. {remedy}.")


def _same_data(runs: list[Run]) -> list[FinishedRecord]:
    """Return the records of finished runs on the same data; BadInput for others, and for a run given twice."""
    check_different(runs, "To count it more than others: --weights, a number for each member")
    records = [run.finished_record() for run in runs]
    for run, record in zip(runs, records, strict=True):
        if record.identity["data"] != records[0].identity["data"]:
            raise BadInput(f"Runs {runs[0].name} and {run.name} are of different data and cannot be blended.")
    return records


def _shares(weights: str, members: list[Member], known: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    if weights == "equal":
        return np.full(len(members), 1 / len(members))
    if weights == "greedy":
        return greedy_weights(known, labels)
    try:
        shares = np.array([float(word) for word in weights.split(",")])
    except ValueError:
        raise BadInput(f"--weights {weights!r}: expected equal, greedy, or numbers separated by commas.") from None
    if len(shares) != len(members):
        names = ", ".join(member.name for member in members)
        raise BadInput(f"--weights {weights!r}: expected {len(members)} numbers, one for each of {names}.")
    return shares / shares.sum() if shares.sum() else shares


def predict_again(run: Run, data_dir: Path | None = None, out: Path | None = None) -> list[str]:
    """Predict a run's own test images with its saved models, and say how the answers compare with the run's.

    Args:
        run: it keeps its own submission.
        data_dir: where the test images are; None: where the run found them.
        out: where to write the answers, as a submission; None: nowhere.

    Raises:
        BadInput: if a saved model is missing, or one is none that Keras loads safely.
    """
    record = run.finished_record()
    if record.blend:
        names = " ".join(dict.fromkeys(member.name.partition("/")[0] for member in record.blend.members))
        raise BadInput(f"Run {run.name} is a blend, without models of its own; give one of the runs it blends: {names}")
    models, own = run.models(), run.probabilities()[1].argmax(axis=1)
    source = record.load_data(data_dir)
    prepare_process(cpu_count(), deterministic=False)
    tta = record.recipe.tta if record.recipe else Tta()
    answers = predict_saved(models, source.test.images, tta).argmax(axis=1)
    lines = [
        f"{len(answers):,} images predicted again with the saved models of {run.name}.",
        f"The answers differ from the run's own in {int((answers != own).sum())} of {len(answers):,} rows.",
    ]
    if out is not None:
        path = out.with_name("leaked-" * record.leaked + out.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_submission(path, source.test.ids, answers, header=source.header, classes=source.classes)
        lines.append(f"Written: {display_path(path)}")
    return lines


def predict_saved(
    models: Sequence[Path], images: np.ndarray, tta: Tta, log: Callable[[str], None] = print
) -> np.ndarray:
    """Return the mean probabilities float32 (n, classes) of saved models for images uint8 (n, side, side).

    Raises:
        BadInput: if one is not a model that Keras loads safely.
    """
    load_keras()
    from digits.model.predict import load_network, predict_probabilities

    return mean([predict_probabilities(load_network(path), images, tta) for path in models])


LEAST_CONFIDENCE = 0.9
"""The least probability at which the prediction of a test image becomes its pseudo-label."""


@dataclass(frozen=True)
class PseudoLabels:
    """For each fold, and for refits, which test images join training, int (p,), and with which labels, uint8 (p,)."""

    run: str
    threshold: float
    by_fold: dict[int, tuple[np.ndarray, np.ndarray]]
    test_rows: int

    def used(self) -> PseudoLabelsUsed:
        """Return what run.json says of them."""
        shares = {str(fold): round(len(rows) / self.test_rows, 4) for fold, (rows, _) in self.by_fold.items()}
        return PseudoLabelsUsed(self.run, self.threshold, shares)


def pseudo_labels_of(run: Run, identity: dict, threshold: float = LEAST_CONFIDENCE) -> PseudoLabels:
    """Take the confident predictions of a finished run.

    Fold k gets only the predictions of the run's networks of fold k, which never saw fold k's rows: so the out-of-fold
    accuracy of the new run stays honest. That needs the same folds of the same data. Refits get those of all networks.

    Args:
        run: the earlier run.
        identity: the new run's, whose data and folds must be the earlier one's.
        threshold: the least probability.

    Raises:
        BadInput: if the runs' data or folds differ, or the earlier one is not finished or lacks a fold.
    """
    record, results = run.record(), run.fold_results()
    different = [key for key in ("data", "fold_seed", "recipe.folds") if record.identity.get(key) != identity[key]]
    if not isinstance(record, FinishedRecord) or different:
        reason = f"its {', '.join(different)} differ" if different else "it is not finished"
        raise BadInput(
            f"--pseudo-labels {run.name}: {reason}. Expected a finished run of the same folds of the same data, or a "
            f"fold's own labels would leak into its training."
        )
    folds = range(1, identity["recipe.folds"] + 1)
    missing = set(folds) - {result.fold for result in results}
    if missing:
        raise BadInput(f"--pseudo-labels {run.name}: it has no network of fold {min(missing)} yet; resume it first.")
    by_fold = {}
    for fold in (*folds, *([REFIT] if identity.get("recipe.refit") else [])):
        probabilities = test_mean([result for result in results if fold in (REFIT, result.fold)])
        rows = np.flatnonzero(probabilities.max(axis=1) >= threshold)
        by_fold[fold] = rows, probabilities[rows].argmax(axis=1).astype(np.uint8)
    return PseudoLabels(run.name, threshold, by_fold, len(probabilities))
