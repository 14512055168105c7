"""Averages and blends of probabilities, and pseudo-labels."""

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.config import Tta
from digits.console import BadInput
from digits.data import dataset
from digits.data.competition import CLASSES, write_answers
from digits.data.dataset import split_folds
from digits.files import DATA, ROOT, SUBMISSIONS, display_path
from digits.model.backend import cpu_count, load_keras, prepare_process
from digits.runs import metrics
from digits.runs.record import Blend, BlendMember, FinishedRecord, PseudoLabelsUsed, RunSettings, now
from digits.runs.store import FoldResult, Run


def mean(
    members: Sequence[np.ndarray], weights: Sequence[float] | None = None, *, logarithmic: bool = False
) -> np.ndarray:
    """Return the weighted mean float32 (n, 10) of the members' probabilities, each (n, 10) over the same rows.

    Args:
        members: what each says.
        weights: how much each counts, of any sum; None: all the same.
        logarithmic: average the logarithms, which lets one sure "no" weigh more, and normalise again.

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


def out_of_fold(parts: Sequence[FoldResult], rows: int) -> np.ndarray:
    """Return each training row's probabilities float32 (rows, 10) by the networks that never saw it; NaN where none.

    The members of a fold are averaged; folds never meet, for a row is held out once.
    """
    probabilities = np.full((rows, CLASSES), np.nan, np.float32)
    for fold in sorted({part.fold for part in parts}):
        members = [part for part in parts if part.fold == fold]
        said = mean([part.validation_probabilities for part in members])
        probabilities[members[0].validation_rows] = said
    return probabilities


def test_mean(parts: Sequence[FoldResult]) -> np.ndarray:
    """Return the mean probabilities float32 (t, 10) of the test images over all networks."""
    return mean([part.test_probabilities for part in parts])


def averaging_gain(parts: Sequence[FoldResult]) -> float:
    """Return by how much the average of all folds is likely better on the test images than one fold, as a share, 0-1.

    Out of fold, one fold's networks are judged alone, while the submission averages all. No label says what that is
    worth, but the average does: where a fold answers something else, it is the chance of the average's answer less
    that of the fold's, both as the average sees them. A rough estimate: in three trials on held-out digits the gain was
    3.1, 1.9 and 0.4 times of it.
    """
    folds = sorted({part.fold for part in parts})
    said = [mean([part.test_probabilities for part in parts if part.fold == fold]) for fold in folds]
    together = mean(said)
    rows = np.arange(len(together))
    return float(np.mean([together.max(axis=1) - together[rows, own.argmax(axis=1)] for own in said]))


def greedy_weights(members: Sequence[np.ndarray], labels: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Choose weights float64 (m,) that sum to 1 by forward selection with replacement (Caruana et al. 2004).

    Each round adds the member that lowers the log-loss of the mean most; the blend starts from the equal mean of all,
    so that one round's luck does not decide.

    Args:
        members: out-of-fold probabilities, each (n, 10), of the same rows.
        labels: the rows' digits (n,).
        rounds: how many members are added.
    """
    chances = np.stack([member[np.arange(len(labels)), labels] for member in members]).astype(np.float64)
    counts = np.ones(len(members))
    total = chances.sum(axis=0)
    for _ in range(rounds):
        with_each = (total + chances) / (counts.sum() + 1)
        best = int(np.log(np.clip(with_each, 1e-7, 1)).sum(axis=1).argmax())
        counts[best] += 1
        total += chances[best]
    return counts / counts.sum()


def nested_blend(members: Sequence[np.ndarray], labels: np.ndarray, seed: int = 0, folds: int = 5) -> np.ndarray:
    """Return the probabilities float32 (n, 10) of a greedy blend whose weights for a row never saw that row's label.

    Weights found on some rows are applied to the others, in turn: so the accuracy of what comes back is an honest
    figure for a blend by `greedy_weights`, which the blend's accuracy on its own rows is not.
    """
    blended = np.empty_like(members[0])
    for chosen, unseen in split_folds(labels, folds, seed):
        weights = greedy_weights([member[chosen] for member in members], labels[chosen])
        blended[unseen] = mean([member[unseen] for member in members], weights)
    return blended


def disagreement(answers: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many rows each pair of answers, digits (n,), differs in: int (m, m)."""
    return np.array([[int((first != second).sum()) for second in answers] for first in answers])


@dataclass(frozen=True)
class Candidate:
    """One voice of a blend: a member of a run, over all its folds."""

    name: str
    out_of_fold: np.ndarray
    """float32 (n, 10), NaN where a row was never held out."""
    test: np.ndarray
    """float32 (t, 10)."""


def candidates(run: Run) -> list[Candidate]:
    """Return the voices of a run: its members, each averaged over the folds."""
    parts = run.parts()
    rows = len(np.load(run.folder / "out_of_fold.npy", mmap_mode="r", allow_pickle=False))
    members = sorted({part.member for part in parts})
    voices = []
    for member in members:
        own = [part for part in parts if part.member == member]
        name = run.name if len(members) == 1 else f"{run.name}/{own[0].network}-{member}"
        voices.append(Candidate(name, out_of_fold(own, rows), test_mean(own)))
    if not voices:
        raise BadInput(f"Run {run.name} has no finished network yet.")
    return voices


def blend(
    runs: list[Run],
    *,
    weights: str = "equal",
    logarithmic: bool = False,
    data_dir: Path = DATA,
    out: Path | None = None,
    name: str | None = None,
    command: str = "",
    submissions: Path = SUBMISSIONS,
) -> Run:
    """Blend runs on the same data into a new run with its own record, and write its submission.

    Args:
        runs: finished runs; one alone is a blend of its members.
        weights: "equal", "greedy" (found on the out-of-fold rows; its figure comes from nested folds), or numbers
            separated by commas, one a voice.
        logarithmic: average log-probabilities.
        data_dir: where the training labels are.
        out: where to copy the submission.
        name: of the new run.
        command: as it was typed, for the record.
        submissions: the folder of all runs.

    Raises:
        BadInput: if the runs are of different data, or the weights are not one a voice.
    """
    started = time.perf_counter()
    records = _same_data(runs)
    first, leaked = records[0], any(record.leaked for record in records)
    source = dataset.load(first.source, data_dir, limit=first.settings.limit, allow_leak=first.leaked)
    voices = [voice for run in runs for voice in candidates(run)]
    scored = ~np.isnan([voice.out_of_fold[:, 0] for voice in voices]).any(axis=0)
    if not scored.any():
        raise BadInput("These runs have no out-of-fold row in common; blend runs with the same --folds.")
    known, truth = [voice.out_of_fold[scored] for voice in voices], source.train.labels[scored]
    shares = _shares(weights, voices, known, truth)
    out_of_fold = np.full((len(source.train.labels), CLASSES), np.nan, np.float32)
    if weights == "greedy":
        out_of_fold[scored] = nested_blend(known, truth)
    else:
        out_of_fold[scored] = mean(known, shares, logarithmic=logarithmic)
    test = mean([voice.test for voice in voices], shares, logarithmic=logarithmic)

    run = Run(submissions / (name or f"blend-{datetime.datetime.now():%Y%m%d-%H%M%S}"))
    if run.folder.exists():
        raise BadInput(f"There is a run {run.name} already; give the blend another name: --run NAME")
    run.results_folder.mkdir(parents=True)
    scores = [metrics.score(own, truth) for own in known]
    record = FinishedRecord(
        run=run.name,
        command=command,
        created=now(),
        source=first.source,
        leaked=leaked,
        recipe=None,
        settings=RunSettings(
            folds=first.settings.folds,
            members=len(voices),
            source=first.settings.source,
            limit=first.settings.limit,
            data_dir=first.settings.data_dir,
            test_file=first.settings.test_file,
        ),
        identity={"blend": [run.name for run in runs], "weights": weights, "data": first.identity["data"]},
        data=first.data,
        blend=Blend(
            [
                BlendMember(name=voice.name, weight=round(float(share), 4), **vars(score))
                for voice, share, score in zip(voices, shares, scores, strict=True)
            ],
            disagreement([own.argmax(axis=1) for own in known]).tolist(),
            "logarithmic" if logarithmic else "arithmetic",
            "nested folds" if weights == "greedy" else "the same weights on every row",
        ),
        checks=[check for record in records for check in record.failed_checks],
        **run.write_results(source, out_of_fold, test, out or submissions / "submission.csv", leaked=leaked),
        seconds=round(time.perf_counter() - started, 1),
    )
    run.write_record(record)
    return run


def _same_data(runs: list[Run]) -> list[FinishedRecord]:
    """Return the records of finished runs on the same data; BadInput for others."""
    records = [run.finished_record() for run in runs]
    for run, record in zip(runs, records, strict=True):
        if record.identity["data"] != records[0].identity["data"]:
            raise BadInput(f"Runs {runs[0].name} and {run.name} are of different data and cannot be blended.")
    return records


def _shares(weights: str, voices: list[Candidate], known: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    if weights == "equal":
        return np.full(len(voices), 1 / len(voices))
    if weights == "greedy":
        return greedy_weights(known, truth)
    try:
        shares = np.array([float(word) for word in weights.split(",")])
    except ValueError:
        raise BadInput(f"--weights {weights!r}: expected equal, greedy, or numbers separated by commas.") from None
    if len(shares) != len(voices):
        names = ", ".join(voice.name for voice in voices)
        raise BadInput(f"--weights {weights!r}: expected {len(voices)} numbers, one for each of {names}.")
    return shares / shares.sum() if shares.sum() else shares


def predict_again(runs: list[Run], data_dir: Path = DATA, out: Path | None = None) -> list[str]:
    """Predict the test images with the saved models of finished runs, write the submission, and say how it compares.

    Raises:
        BadInput: if a run has no saved model, or one that Keras cannot load safely.
    """
    records = _same_data(runs)
    source = dataset.load(records[0].source, data_dir, allow_leak=records[0].leaked)
    prepare_process(cpu_count(), deterministic=False)
    predicted = []
    for run, record in zip(runs, records, strict=True):
        models = sorted(run.folder.glob("fold-*.keras"))
        if not models:
            raise BadInput(f"{display_path(run.folder)} has no saved model (fold-K.keras).")
        predicted.append(predict_saved(models, source.test.images, record.recipe.tta if record.recipe else Tta()))
    stored = mean([np.load(run.folder / "test_probabilities.npy", allow_pickle=False) for run in runs])
    answers = mean(predicted).argmax(axis=1)
    leaked = any(record.leaked for record in records)
    written = write_answers(runs[0].folder, answers, out or SUBMISSIONS / "submission.csv", leaked=leaked)
    differing = int((answers != stored.argmax(axis=1)).sum())
    return [
        f"{len(answers):,} images predicted again with the saved models of {', '.join(run.name for run in runs)}.",
        f"The answers differ from the runs' own in {differing} of {len(answers):,} rows.",
        f"Written: {display_path(ROOT / written['copy'])}",
    ]


def predict_saved(
    models: Sequence[Path], images: np.ndarray, tta: Tta, say: Callable[[str], None] = print
) -> np.ndarray:
    """Return the mean probabilities float32 (n, classes) of saved models for images uint8 (n, side, side).

    Raises:
        BadInput: if one is not a model that Keras loads safely.
    """
    load_keras()
    from digits.model.predict import load_network, predict_probabilities

    return mean([predict_probabilities(load_network(path), images, tta) for path in models])


SURE = 0.9
"""The least probability at which a test image is taken for what it was called."""


@dataclass(frozen=True)
class PseudoLabels:
    """For each fold, from 1: which test images join its training, int (p,), and as what digits, uint8 (p,)."""

    run: str
    threshold: float
    by_fold: dict[int, tuple[np.ndarray, np.ndarray]]
    test_rows: int

    def used(self) -> PseudoLabelsUsed:
        """Return what run.json says of them."""
        shares = {str(fold): round(len(rows) / self.test_rows, 4) for fold, (rows, _) in self.by_fold.items()}
        return PseudoLabelsUsed(self.run, self.threshold, shares)


def from_run(run: Run, identity: dict, threshold: float = SURE) -> PseudoLabels:
    """Take the confident predictions of a finished run.

    Fold k gets only what the run's networks of fold k said, which never saw fold k's rows: so the out-of-fold accuracy
    of the new run stays honest. That needs the same folds of the same data.

    Args:
        run: the earlier run.
        identity: the new run's, whose data and folds must be the earlier one's.
        threshold: the least probability that counts as sure.

    Raises:
        BadInput: if the runs' data or folds differ, or the earlier one is not finished or lacks a fold.
    """
    record, parts = run.record(), run.parts()
    wanted = ("data", "fold_seed", "recipe.folds")
    different = [key for key in wanted if record.identity.get(key) != identity[key]]
    if not isinstance(record, FinishedRecord) or different:
        reason = f"its {', '.join(different)} differ" if different else "it is not finished"
        raise BadInput(
            f"--pseudo-labels {run.name}: {reason}. Expected a finished run of the same folds of the same data, or a "
            f"fold's own labels would leak into its training."
        )
    by_fold = {}
    missing = set(range(1, identity["recipe.folds"] + 1)) - {part.fold for part in parts}
    if missing:
        raise BadInput(f"--pseudo-labels {run.name}: it has no network of fold {min(missing)} yet; go on with it.")
    for fold in range(1, identity["recipe.folds"] + 1):
        said = mean([part.test_probabilities for part in parts if part.fold == fold])
        rows = np.flatnonzero(said.max(axis=1) >= threshold)
        by_fold[fold] = rows, said[rows].argmax(axis=1).astype(np.uint8)
    return PseudoLabels(run.name, threshold, by_fold, len(said))
