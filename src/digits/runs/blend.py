"""Blend runs, with weights found out of fold."""

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput
from digits.data.dataset import Dataset
from digits.data.folds import split_folds
from digits.files import SUBMISSIONS, display_path
from digits.runs import metrics
from digits.runs.averaging import disagreement, mean, out_of_fold, test_mean
from digits.runs.foreign import ForeignFolder
from digits.runs.record import Blend, BlendMember, FinishedRecord, ForeignPredictions, RunSettings, now
from digits.runs.store import FOLDS_CSV, Run, ensemble_member, new_run

DATA_OPTIONS = ("source", "competition", "id_column", "label_column", "metric", "limit", "image_size")
"""The options that say what the data are; a blend has those of its first run."""


def greedy_weights(members: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Choose weights float64 (m,) that sum to 1 by forward selection with replacement (Caruana et al. 2004).

    Each of 50 rounds adds the member whose out-of-fold probabilities (n, classes) lower the log-loss of the mean on
    labels (n,) most, whatever the metric: on few rows it tells more than accuracy or AUC do. The blend starts from the
    equal mean of all, so that the luck of one round does not decide.
    """
    likelihoods = np.stack([member[np.arange(len(labels)), labels] for member in members]).astype(np.float64)
    counts = np.ones(len(members))
    total = likelihoods.sum(axis=0)
    for _ in range(50):
        with_each = (total + likelihoods) / (counts.sum() + 1)
        best = int(np.log(np.clip(with_each, 1e-7, 1)).sum(axis=1).argmax())
        counts[best] += 1
        total += likelihoods[best]
    return counts / counts.sum()


def nested_blend(members: Sequence[np.ndarray], labels: np.ndarray, *, logarithmic: bool = False) -> np.ndarray:
    """Return the probabilities float32 (n, classes) of a greedy blend whose weights never saw the row's own label.

    Weights found on four fifths of the rows are applied to the others, in turn: so its accuracy is an honest figure for
    a blend by `greedy_weights`, which the accuracy on the rows that chose the weights is not.
    """
    blended = np.empty_like(members[0])
    for chosen, unseen in split_folds(labels, folds=5, seed=0):
        weights = greedy_weights([member[chosen] for member in members], labels[chosen])
        blended[unseen] = mean([member[unseen] for member in members], weights, logarithmic=logarithmic)
    return blended


@dataclass(frozen=True)
class Member:
    """A member of a blend: one member of a run over all its folds, or a whole run."""

    run: str
    out_of_fold: np.ndarray  # float32 (n, classes), NaN where a row was never held out.
    test: np.ndarray  # float32 (t, classes).
    network: str | None = None  # None: the whole run.
    number: int | None = None  # Of the member in its run, from 1.

    @property
    def name(self) -> str:
        """The run's name, or RUN/NETWORK-MEMBER."""
        return self.run if self.number is None else f"{self.run}/{self.network}-{self.number}"

    def describe(self, weight: float, score: metrics.Score) -> BlendMember:
        """Return what the blend's record says of it."""
        return BlendMember(
            name=self.name,
            weight=round(float(weight), 4),
            run=self.run,
            network=self.network,
            member=self.number,
            **vars(score),
        )


def members_of(run: Run) -> list[Member]:
    """Return a run's members, each averaged over the folds and its refits; a run of one, or a blend, is one itself.

    Raises BadInput if the run has no probabilities.
    """
    whole = Member(run.name, *run.probabilities())
    folds = run.fold_results()
    numbers = sorted({result.member for result in folds})
    if len(numbers) < 2:
        return [whole]
    results, members = folds + run.refit_results(), []
    count = run.record().settings.members
    for number in numbers:
        of_member = [result for result in results if ensemble_member(result.member, count) == number]
        probabilities = out_of_fold(of_member, len(whole.out_of_fold)), test_mean(of_member)
        members.append(Member(run.name, *probabilities, of_member[0].network, number))
    return members


@dataclass(frozen=True)
class BlendOptions:
    """How runs are blended."""

    weights: str = "equal"  # Or "greedy", or numbers separated by commas, one for each member.
    mean: str = "arithmetic"  # Or "logarithmic", of the log-probabilities.
    name: str | None = None  # Of the new run; None: blend-TIME.
    data_dir: Path | None = None  # Where the training labels are; None: where the first run found them.
    out: Path | None = None  # Where to copy the submission.
    command: str = ""


def blend(inputs: Sequence[Run | ForeignFolder], options: BlendOptions, submissions: Path = SUBMISSIONS) -> Run:
    """Blend finished runs on the same data, or the members of one, into a new run, and write its submission.

    Predictions of other programs join one run at least. Raises BadInput if the runs are of different data, the weights
    are not one for each member, or the name is taken.
    """
    started, runs = time.perf_counter(), [each for each in inputs if isinstance(each, Run)]
    logarithmic = options.mean == "logarithmic"
    check_different(inputs, "To count it more than others: --weights, a number for each member")
    if not runs:
        raise BadInput("expected a run in the blend, found predictions of other programs only", fix="Add a RUN.")
    records = _records_of_same_data(runs)
    leaked = any(record.leaked for record in records)
    of_runs = {run: members_of(run) for run in runs}  # Before the data, which take longer to read.
    dataset = records[0].load_data(options.data_dir)
    foreign = [each for record in records for each in record.foreign]
    members: list[Member] = []
    for each in inputs:
        if isinstance(each, Run):
            members += of_runs[each]
        else:
            member, predictions = _read_foreign(each, runs, dataset)
            members.append(member)
            foreign.append(predictions)
    scored = ~np.isnan([member.out_of_fold[:, 0] for member in members]).any(axis=0)
    if not scored.any():
        raise BadInput("These runs have no out-of-fold row in common; blend runs with the same --folds.")
    predicted, labels = [member.out_of_fold[scored] for member in members], dataset.train.labels[scored]
    weights = _weights(options.weights, members, predicted, labels)
    blended = np.full_like(members[0].out_of_fold, np.nan)
    if options.weights == "greedy":
        blended[scored] = nested_blend(predicted, labels, logarithmic=logarithmic)
    else:
        blended[scored] = mean(predicted, weights, logarithmic=logarithmic)
    test = mean([member.test for member in members], weights, logarithmic=logarithmic)

    run = new_run("blend", options.name, submissions)
    try:
        results = run.write_results(dataset, blended, test, options.out, leaked=leaked)
    except BaseException:
        shutil.rmtree(run.folder)
        raise
    _copy_folds(runs, run)
    results.checks = list(dict.fromkeys(check for record in records for check in record.failed_checks))
    by = {"greedy": "nested folds"}.get(options.weights, "the same weights on every row")
    results.blend = Blend(
        [
            member.describe(weight, metrics.score(probabilities, labels, dataset.metric))
            for member, weight, probabilities in zip(members, weights, predicted, strict=True)
        ],
        disagreement([probabilities.argmax(axis=1) for probabilities in predicted]).tolist(),
        options.mean,
        by,
        foreign,
    )
    first = records[0]
    settings = RunSettings(
        folds=max(record.settings.folds for record in records),
        members=len(members),
        data_dir=(options.data_dir and options.data_dir.absolute()) or first.settings.data_dir,
        **{name: getattr(first.settings, name) for name in DATA_OPTIONS},
    )
    identity = {"blend": [each.name for each in inputs], "weights": options.weights, "data": first.identity["data"]}
    record = FinishedRecord(
        run=run.name,
        command=options.command,
        created=now(),
        source=first.source,
        leaked=leaked,
        recipe=None,
        settings=settings,
        identity=identity,
        data=first.data,
        extra=next((record.extra for record in records if record.extra), None),
        **vars(results),
        seconds=round(time.perf_counter() - started, 1),
    )
    run.write_record(record)
    return run


def _read_foreign(folder: ForeignFolder, runs: Sequence[Run], dataset: Dataset) -> tuple[Member, ForeignPredictions]:
    """Return another program's predictions as a member, and what the record says of them."""
    out_of_fold, test, sha256 = folder.read(dataset)
    have_same_folds = min(folder.has_folds_of(run, dataset.train.ids) for run in runs)  # Each is checked.
    predictions = ForeignPredictions(display_path(folder.folder), sha256, have_same_folds)
    return Member(folder.name, out_of_fold, test), predictions


def _copy_folds(runs: Sequence[Run], blended: Run) -> None:
    """Copy the folds that all runs share; those of earlier versions have none."""
    with contextlib.suppress(FileNotFoundError):
        folds = {(run.folder / FOLDS_CSV).read_bytes() for run in runs}
        if len(folds) == 1:
            (blended.folder / FOLDS_CSV).write_bytes(folds.pop())


def check_different(runs: Sequence[Run | ForeignFolder], fix: str) -> None:
    """Check that no run is given twice; BadInput, naming the first that is, with how to fix it."""
    folders = [run.folder.resolve() for run in runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise BadInput(f"Run {folder.name} is given twice", fix=f"{fix}.")


def _records_of_same_data(runs: Sequence[Run]) -> list[FinishedRecord]:
    """Return the records of finished runs on the same data; BadInput for others."""
    records = [run.finished_record() for run in runs]
    for run, record in zip(runs, records, strict=True):
        if not record.has_data_of(records[0]):
            raise BadInput(f"Runs {runs[0].name} and {run.name} are of different data and cannot be blended.")
    return records


def _weights(text: str, members: Sequence[Member], predicted: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Return the members' weights, which sum to 1, as `BlendOptions.weights` says."""
    if text == "equal":
        return np.full(len(members), 1 / len(members))
    if text == "greedy":
        return greedy_weights(predicted, labels)
    try:
        weights = np.array([float(word) for word in text.split(",")])
    except ValueError:
        raise BadInput(f"--weights {text!r}: expected equal, greedy, or numbers separated by commas.") from None
    if len(weights) != len(members):
        names = ", ".join(member.name for member in members)
        raise BadInput(f"--weights {text!r}: expected {len(members)} numbers, one for each of {names}.")
    return weights / (weights.sum() or 1)
