"""Blend runs, with weights found out of fold."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput
from digits.data.folds import split_folds
from digits.files import SUBMISSIONS
from digits.runs import metrics
from digits.runs.averaging import disagreement, mean, out_of_fold, test_mean
from digits.runs.record import Blend, BlendMember, FinishedRecord, RunSettings, now
from digits.runs.store import Run, new_run


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
    dataset = first.load_data(data_dir)
    known, labels = [member.out_of_fold[scored] for member in members], dataset.train.labels[scored]
    shares = _shares(weights, members, known, labels)
    out_of_fold = np.full_like(members[0].out_of_fold, np.nan)
    if weights == "greedy":
        out_of_fold[scored] = nested_blend(known, labels, logarithmic=logarithmic)
    else:
        out_of_fold[scored] = mean(known, shares, logarithmic=logarithmic)
    test = mean([member.test for member in members], shares, logarithmic=logarithmic)

    run = new_run("blend", name, submissions)
    try:
        results = run.write_results(dataset, out_of_fold, test, out, leaked=leaked)
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
