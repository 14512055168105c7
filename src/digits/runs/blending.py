"""Submissions from finished runs, without training: one run again, or many blended, as a run of its own."""

import datetime
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.data import dataset
from digits.data.competition import CLASSES
from digits.data.submission import write_answers
from digits.errors import BadInput
from digits.model.backend import cpu_count, load_keras, prepare_process
from digits.paths import DATA, ROOT, SUBMISSIONS, shown
from digits.recipes import Tta
from digits.runs import ensemble, scoring
from digits.runs.results import write_results
from digits.runs.runs import Run


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
    parts, facts = run.parts(), run.facts()
    rows = len(np.load(run.folder / "out_of_fold.npy", mmap_mode="r", allow_pickle=False))
    members = sorted({part.member for part in parts})
    voices = []
    for member in members:
        own = [part for part in parts if part.member == member]
        name = run.name if len(members) == 1 else f"{run.name}/{own[0].network}-{member}"
        voices.append(Candidate(name, ensemble.out_of_fold(own, rows), ensemble.test_mean(own)))
    if not voices:
        raise BadInput(f"Run {run.name} has no finished network yet (status: {facts.get('status')}).")
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
    records = [run.facts() for run in runs]
    _check_same_data(runs, records)
    first, leaked = records[0], any(record["leaked"] for record in records)
    source = dataset.load(first["source"], data_dir, limit=first["settings"].get("limit"), allow_leak=first["leaked"])
    voices = [voice for run in runs for voice in candidates(run)]
    scored = ~np.isnan([voice.out_of_fold[:, 0] for voice in voices]).any(axis=0)
    if not scored.any():
        raise BadInput("These runs have no out-of-fold row in common; blend runs with the same --folds.")
    known, truth = [voice.out_of_fold[scored] for voice in voices], source.train.labels[scored]
    shares = _shares(weights, voices, known, truth)
    out_of_fold = np.full((len(source.train.labels), CLASSES), np.nan, np.float32)
    if weights == "greedy":
        out_of_fold[scored] = ensemble.nested_blend(known, truth)
    else:
        out_of_fold[scored] = ensemble.mean(known, shares, logarithmic=logarithmic)
    test = ensemble.mean([voice.test for voice in voices], shares, logarithmic=logarithmic)

    run = Run(submissions / (name or f"blend-{datetime.datetime.now():%Y%m%d-%H%M%S}"))
    if run.folder.exists():
        raise BadInput(f"There is a run {run.name} already; give the blend another name: --run NAME")
    run.parts_folder.mkdir(parents=True)
    facts = {
        "run": run.name,
        "status": "finished",
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "leaked": leaked,
        "recipe": {"name": "blend"},
        "settings": {key: first["settings"].get(key) for key in ("folds", "limit")} | {"members": len(voices)},
        "identity": {"blend": [run.name for run in runs], "weights": weights, "data": first["identity"]["data"]},
        "blend": {
            "weights": {voice.name: round(float(share), 4) for voice, share in zip(voices, shares, strict=True)},
            "mean": "logarithmic" if logarithmic else "arithmetic",
            "out_of_fold_by": "nested folds" if weights == "greedy" else "the same weights on every row",
            **_voices_facts(voices, known, truth),
        },
        "checks": [check for record in records for check in record.get("checks", []) if not check["passed"]],
        **{key: first[key] for key in ("source", "data")},
        **write_results(run.folder, source, out_of_fold, test, out or submissions / "submission.csv", leaked=leaked),
        "seconds": round(time.perf_counter() - started, 1),
    }
    run.write_facts(facts)
    return run


def _voices_facts(voices: list[Candidate], known: list[np.ndarray], truth: np.ndarray) -> dict:
    """Say how each voice does alone, and in how many rows each two differ."""
    accuracies = [scoring.accuracy(own, truth).facts() for own in known]
    return {
        "members": [{"name": voice.name, **own} for voice, own in zip(voices, accuracies, strict=True)],
        "disagreement": ensemble.disagreement([own.argmax(axis=1) for own in known]).tolist(),
    }


def _check_same_data(runs: list[Run], records: list[dict]) -> None:
    for run, record in zip(runs, records, strict=True):
        if record.get("status") != "finished":
            raise BadInput(f"Run {run.name} is not finished; go on with it: python src/train.py --run {run.name} …")
        if record["identity"]["data"] != records[0]["identity"]["data"]:
            raise BadInput(f"Runs {runs[0].name} and {run.name} are of different data and cannot be blended.")


def _shares(weights: str, voices: list[Candidate], known: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    if weights == "equal":
        return np.full(len(voices), 1 / len(voices))
    if weights == "greedy":
        return ensemble.greedy_weights(known, truth)
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
    records = [run.facts() for run in runs]
    _check_same_data(runs, records)
    source = dataset.load(records[0]["source"], data_dir, allow_leak=records[0]["leaked"])
    said = [
        saved_probabilities(run, source.test.images, Tta(**record["recipe"].get("tta", {})))
        for run, record in zip(runs, records, strict=True)
    ]
    stored = ensemble.mean([np.load(run.folder / "test_probabilities.npy", allow_pickle=False) for run in runs])
    answers = ensemble.mean(said).argmax(axis=1)
    leaked = any(record["leaked"] for record in records)
    written = write_answers(runs[0].folder, answers, out or SUBMISSIONS / "submission.csv", leaked=leaked)
    differing = int((answers != stored.argmax(axis=1)).sum())
    return [
        f"{len(answers):,} images predicted again with the saved models of {', '.join(run.name for run in runs)}.",
        f"The answers differ from the runs' own in {differing} of {len(answers):,} rows.",
        f"Written: {shown(ROOT / written['copy'])}",
    ]


def saved_probabilities(run: Run, images: np.ndarray, tta: Tta) -> np.ndarray:
    """Return the mean probabilities float32 (t, 10) of images uint8 (t, 28, 28) by a run's saved models.

    Raises:
        BadInput: if the run has no saved model, or one that Keras cannot load safely.
    """
    models = sorted(run.folder.glob("fold-*.keras"))
    if not models:
        raise BadInput(f"{shown(run.folder)} has no saved model (fold-K.keras).")
    prepare_process(cpu_count(), deterministic=False)
    load_keras()
    from digits.model.prediction import load_network, predict_probabilities

    return ensemble.mean([predict_probabilities(load_network(path), images, tta) for path in models])
