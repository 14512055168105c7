"""A run's folder: opened, locked, found again, resumed, and never mixed with another's."""

import contextlib
import dataclasses
import datetime
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digits.config import Execution, Recipe, flat, nearest
from digits.console import BadInput, KitError, explain
from digits.data.competition import DIGIT_RECOGNIZER, Competition, find_competition
from digits.data.dataset import Dataset
from digits.data.folder import sample_submission
from digits.data.submission import SubmissionForm, known_form, read_submission, write_run_submission
from digits.files import (
    SUBMISSIONS,
    BrokenFileError,
    LockedError,
    atomic_write,
    display_path,
    file_lock,
    is_default_folder,
    kit_command,
    read_npz,
    remove_temporaries,
    write_npz,
)
from digits.runs import metrics
from digits.runs.record import FinishedRecord, Record, Results, TestPredictions

RUN_JSON = "run.json"
FOLDS_CSV = "folds.csv"
PACKED = "probabilities.npz"  # A reference run's rounded probabilities.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
REFIT = 0  # The fold of a network that is trained on all rows, for the test images alone.
NetworkKey = tuple[int, int]  # Fold and member, by which a run's networks are told apart.


def ensemble_member(number: int, members: int) -> int:
    """Return of which ensemble member, from 1, a network is, by its number in its fold: refits are of all in turn."""
    return (number - 1) % members + 1


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """The predictions of one trained network: its share of a run."""

    fold: int  # From 1, or REFIT.
    member: int  # From 1; among the refits, its number.
    network: str
    validation_rows: np.ndarray  # Row numbers int (m,) of the held-out training images.
    validation_probabilities: np.ndarray  # float32 (m, classes).
    test_probabilities: np.ndarray  # float32 (t, classes).
    history: list[dict]  # One `trainer.Epoch` as a dict for each epoch.
    seconds: float
    peak_memory_bytes: int
    wrong_without_tta: int | None = None  # Held-out errors without test-time augmentation, where there is any.

    @property
    def key(self) -> NetworkKey:
        """Fold and member."""
        return self.fold, self.member

    @property
    def label(self) -> str:
        """Its name in files: fold-1, fold-1-member-2, or refit-1."""
        return fold_name(self.fold, self.member)


def fold_name(fold: int, member: int) -> str:
    """Return how a network's files are named; those of a fold's first member carry the fold alone."""
    if fold == REFIT:
        return f"refit-{member}"
    return f"fold-{fold}-member-{member}".removesuffix("-member-1")


def save_fold_result(path: Path, result: FoldResult) -> None:
    """Write a fold's result as .npz."""
    values = vars(result) | {"history": json.dumps(result.history)}
    write_npz(path, {name: value for name, value in values.items() if value is not None})


def load_fold_result(path: Path) -> FoldResult:
    """Read what `save_fold_result` wrote; BrokenFileError if the file is damaged."""
    arrays: dict[str, Any] = read_npz(path)
    try:
        scalars = {name: array.item() for name, array in arrays.items() if not array.ndim}
        return FoldResult(**arrays | scalars | {"history": json.loads(scalars["history"])})
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenFileError(f"{display_path(path)} is not a fold's result ({error}).") from None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def address(self) -> str:
        """What commands call it: its name in the default folder of runs, else its folder."""
        return self.name if is_default_folder(self.folder.parent) else display_path(self.folder)

    @property
    def results_folder(self) -> Path:
        """Where the folds' results and the checkpoints are."""
        earlier = self.folder / "parts"  # The name in runs made before December 2026.
        return earlier if earlier.is_dir() else self.folder / "folds"

    def result_path(self, fold: int, member: int) -> Path:
        """Return where a network's probabilities are."""
        return self.results_folder / f"{fold_name(fold, member)}.npz"

    def model_path(self, fold: int, member: int) -> Path:
        """Return where a network's model is."""
        return self.folder / f"{fold_name(fold, member)}.keras"

    def checkpoint_path(self, fold: int, member: int) -> Path:
        """Return where the state of a network in training is."""
        return self.results_folder / f"{fold_name(fold, member)}.checkpoint.npz"

    @property
    def submission_path(self) -> Path:
        """The submission's file; BadInput as `finished_record`."""
        return self.folder / self.finished_record().submission.file

    def fold_results(self) -> list[FoldResult]:
        """Read the results of the folds' finished networks, in order of fold and member; none for a blend."""
        return self._results("fold-*[0-9].npz")

    def refit_results(self) -> list[FoldResult]:
        """Read the results of the finished networks that were trained on all rows, in order."""
        return self._results("refit-*[0-9].npz")

    def _results(self, pattern: str) -> list[FoldResult]:
        return sorted(map(load_fold_result, self.results_folder.glob(pattern)), key=lambda result: result.key)

    def models(self, member: int | None = None) -> list[Path]:
        """Return the saved models of the networks that this finished run averages, or of one of its members.

        Raises BadInput if one is missing; the message names the command that trains it again.
        """
        record = self.finished_record()
        networks = [(score.fold, score.member) for score in record.folds]
        networks += [(REFIT, refit.number) for refit in record.refits]
        paths = [
            self.model_path(fold, number)
            for fold, number in networks
            if member in (None, ensemble_member(number, record.settings.members))
        ]
        if missing := [path.name for path in paths if not path.exists()]:
            options = {self.name: "--run"}
            train = kit_command("src/train.py", options.get(self.address, "--from-run"), self.address)
            problem = f"{display_path(self.folder)} lacks {len(missing)} of {len(paths)} saved models ({missing[0]})"
            raise BadInput(problem, fix=f"Train again: {train}")
        return paths

    def record(self) -> Record:
        """Read run.json; BadInput if there is none, or it is not the record of a run."""
        try:
            return Record.read(self.folder / RUN_JSON)
        except FileNotFoundError:
            problem = f"{display_path(self.folder)} is not a run: it has no {RUN_JSON}"
            raise BadInput(problem, fix=_runs_there(self.folder.parent)) from None

    def finished_record(self) -> FinishedRecord:
        """Read run.json of a finished run; BadInput as `record`, or if the run is not finished."""
        record = self.record()
        if not isinstance(record, FinishedRecord):
            resume = kit_command("src/train.py", "--run", self.name)
            raise BadInput(f"run {self.name} is not finished", fix=f"Resume it: {resume}")
        return record

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the probabilities float32 of the training rows (n, classes), NaN where never held out, and of the test.

        A reference run has them rounded, in one small file. Raises BadInput if they are missing or damaged.
        """
        names = "out_of_fold", "test_probabilities"
        packed = self.folder / PACKED
        try:
            if packed.is_file():
                rounded = read_npz(packed)
                arrays = [rounded[name].astype(np.float32) for name in names]
                out_of_fold, test = (array / array.sum(axis=1, keepdims=True) for array in arrays)
            else:
                out_of_fold, test = (np.load(self.folder / f"{name}.npy", allow_pickle=False) for name in names)
        except FileNotFoundError as error:
            missing = Path(error.filename).name
            raise BadInput(f"Run {self.name} has no {missing}: only its record and its submission are there") from None
        except (BrokenFileError, OSError, ValueError, EOFError, KeyError) as error:
            problem = f"Run {self.name}: its probabilities cannot be read ({error})"
            raise BadInput(problem, fix=f"Train it again: --run {self.name}") from None
        return out_of_fold, test

    def predictions(self) -> np.ndarray:
        """Return the submitted labels uint8 (t,), in the test images' order.

        Raises BadInput if neither probabilities nor the submission are there.
        """
        if (self.folder / "test_probabilities.npy").is_file():
            return self.probabilities()[1].argmax(axis=1).astype(np.uint8)
        record = self.finished_record()
        form = known_form(find_competition(record.data.competition or DIGIT_RECOGNIZER.slug))
        return read_submission(self.submission_path, record.submission.rows, form)

    def write_record(self, record: Record) -> None:
        """Write run.json."""
        record.write(self.folder / RUN_JSON)

    def write_results(
        self, dataset: Dataset, out_of_fold: np.ndarray, test: np.ndarray, out: Path | None, *, leaked: bool
    ) -> Results:
        """Write probabilities and submission, and return the results for the record.

        `out_of_fold` is float32 (n, classes), NaN where a row was never held out, `test` float32 (t, classes). The
        submission is copied to `out`; None: to submissions/submission.csv if it is the competition's.
        """
        for name, array in (("out_of_fold", out_of_fold), ("test_probabilities", test)):
            with atomic_write(self.folder / f"{name}.npy") as temporary:
                np.save(temporary, array)
        scored = ~np.isnan(out_of_fold[:, 0])
        score = metrics.score(out_of_fold[scored], dataset.train.labels[scored], dataset.metric)
        counts = np.bincount(test.argmax(axis=1), minlength=test.shape[1]).tolist()
        predictions = TestPredictions(len(test), counts)
        if dataset.test.labels is not None:
            test_score = metrics.score(test, dataset.test.labels, dataset.metric)
            predictions = TestPredictions(len(test), counts, test_score)
        if out is None and dataset.competition is not None:
            out = self.folder.parent / dataset.competition.submission
        submission = write_run_submission(self.folder, dataset.test.ids, test, dataset.form, out, leaked=leaked)
        expected = metrics.expected_score(score, len(test))
        return Results(out_of_fold=score, expected_score=expected, test=predictions, submission=submission)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for this process, and remove what a killed process left half written.

        Raises KitError if another process holds it.
        """
        try:
            with file_lock(self.folder / ".lock"):
                for folder in (self.folder, self.results_folder):
                    remove_temporaries(folder)
                yield
        except LockedError:
            problem = f"Run {self.name} is being worked on by another process"
            raise KitError(problem, fix="Wait for it, or start one under another name: --run NAME") from None


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """Add the `command` that resumes the work to whatever interrupts it."""
    remedy = f"What is finished is kept. Resume with: {command}"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. {remedy}") from None
    except BadInput:
        raise
    except (KitError, OSError) as error:
        raise KitError(f"{explain(error)}\n{remedy}") from None


def find_run(name_or_path: str, submissions: Path = SUBMISSIONS) -> Run:
    """Return the run that a user names: by its name, its folder, or its run.json.

    Raises BadInput if there is no such run.
    """
    path = Path(name_or_path)
    if path.name == RUN_JSON:
        path = path.parent
    for folder in (path, submissions / name_or_path):
        if (folder / RUN_JSON).is_file():
            return Run(folder.resolve())
    raise BadInput(f"There is no run {name_or_path!r}. {_runs_there(submissions)}")


def submission_form(competition: Competition, submissions: Path) -> SubmissionForm:
    """Return the form of a competition's submissions; of an unknown one by its sample and the newest run on its data.

    Raises BadInput if there is no such run, which would say the classes, or the sample is broken.
    """
    if competition.is_known:
        return known_form(competition)
    for run in reversed(all_runs(submissions)):
        with contextlib.suppress(BadInput):
            record = run.finished_record()
            if record.data.competition == competition.slug:
                break
    else:
        problem = f"no run in {display_path(submissions)} is of {competition.slug}, so its classes are not known"
        raise BadInput(problem, fix=f"Train first: {competition.training_commands}")
    form = sample_submission(record.settings.data_dir or competition.data_dir, competition)
    return form.matched(tuple(record.data.names), record.data.metric)


def all_runs(submissions: Path = SUBMISSIONS) -> list[Run]:
    """Return all runs, the newest last."""
    records = sorted(submissions.glob(f"*/{RUN_JSON}"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent) for path in records]


def _runs_there(submissions: Path) -> str:
    names = [run.name for run in all_runs(submissions)]
    if not names:
        return f"There is none yet. Train one: {kit_command('src/train.py')}"
    if len(names) <= 5:
        return f"There are: {', '.join(names)}."
    return f"The newest of {len(names)}: {', '.join(names[-5:])}. All: {kit_command('src/report.py')}"


def open_run(identity: dict, name: str | None, submissions: Path = SUBMISSIONS) -> tuple[Run, Record | None]:
    """Return the run to work in, and its record where it is resumed.

    Without a name the newest unfinished run of the same `identity` is resumed, else a new one begins. Raises BadInput
    if the name is not one a folder can have, or is taken by a run of another identity.
    """
    if name is None:
        for run in reversed(all_runs(submissions)):
            with contextlib.suppress(BadInput):
                record = run.record()
                if not differences(record.identity, identity) and not isinstance(record, FinishedRecord):
                    return run, record
        return new_run(identity["recipe"], None, submissions), None
    run = _named(name, submissions)
    if not (run.folder / RUN_JSON).exists():
        return new_run(identity["recipe"], name, submissions), None
    record = run.record()
    if different := differences(record.identity, identity):
        reasons = "; ".join(f"{key} was {before!r} and is {now!r}" for key, (before, now) in different.items())
        raise BadInput(
            f"Run {name} cannot be resumed, for its settings were others: {reasons}.\n"
            f"For a new run, give another name. {_how_to_resume(record, different)}"
        )
    return run, record


def _how_to_resume(record: Record, different: Collection[str]) -> str:
    if not all(key.startswith("code.") for key in different):
        return f"To resume it with its own settings: {kit_command('src/train.py', '--run', record.run)}"
    remedy = "use the version of the kit that began it"
    if record.git:
        remedy = f"git switch --detach {record.git.partition(' ')[0]}"
    return f"All but resuming works as before; to resume it: {remedy}"


def differences(before: dict, now: dict) -> dict[str, tuple[Any, Any]]:
    """Return where two runs' identities differ in what their probabilities depend on: by key, the two values.

    A setting that a record does not have yet had its default.
    """
    defaults = {f"recipe.{key}": value for key, value in flat(Recipe(name="")).items()}
    before, now = defaults | before, defaults | now
    keys = sorted((before.keys() | now.keys()) - {"recipe", "recipe.evaluate_every"})
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}


def new_run(prefix: str, name: str | None, submissions: Path = SUBMISSIONS) -> Run:
    """Make a new run's folder and return the run; one that was killed before it had a record is begun again.

    Without a name it is called after `prefix`, less the letters that a name cannot have, and the time. Raises BadInput
    if the name is not one a folder can have, or is taken.
    """
    if name is None:
        letters = re.sub(r"[^A-Za-z0-9._-]+", "-", prefix).strip("._-")[:60] or "run"
        base, number = f"{letters}-{datetime.datetime.now():%Y%m%d-%H%M%S}", 0
        while True:
            number += 1
            run = Run(submissions / f"{base}-{number}".removesuffix("-1"))
            with contextlib.suppress(FileExistsError):  # Another process was faster.
                run.results_folder.mkdir(parents=True)
                return run
    run = _named(name, submissions)
    if (run.folder / RUN_JSON).exists():
        raise BadInput(f"There is a run {name} already. Give this one another name: --run NAME")
    with contextlib.suppress(FileNotFoundError):
        others = (path.name for path in run.folder.iterdir() if path != run.results_folder and path.name[0] != ".")
        if foreign := next(others, None):
            problem = f"{display_path(run.folder)} is no run (it holds {foreign!r} and no {RUN_JSON})"
            raise BadInput(problem, fix="Give the run another name: --run NAME")
    run.results_folder.mkdir(parents=True, exist_ok=True)
    return run


def _named(name: str, submissions: Path) -> Run:
    if not _NAME.fullmatch(name) or name == "reference":
        raise BadInput(f"--run {name!r}: expected a name of letters, digits, '.', '_' and '-', other than 'reference'.")
    return Run(submissions / name)


def find_runs(submissions: Path, sha256: str) -> list[Run]:
    """Return the finished runs, the newest first, reference runs last, whose predictions' hash begins with `sha256`."""
    runs = []
    for run in reversed(all_runs(submissions / "reference") + all_runs(submissions)):
        with contextlib.suppress(BadInput, OSError):  # An unfinished or foreign run wrote no submission.
            if run.finished_record().submission.sha256.startswith(sha256):
                runs.append(run)
    return runs


def repeated_record(execution: Execution, given: Sequence[str]) -> Record | None:
    """Return the record of the run that a command repeats or resumes with its settings; None where its flags decide.

    Only without any flag `given` that says what to train a run is resumed with its own settings. Raises BadInput if
    there is no such run, or flags contradict it.
    """
    if execution.from_run is not None:
        if given:
            raise BadInput(f"--from-run repeats a run with the settings of its record; leave out {', '.join(given)}.")
        return _with_own_folds(find_run(execution.from_run, execution.submissions))
    if execution.run is None or given:
        return None
    run = _named(execution.run, execution.submissions)
    if (run.folder / RUN_JSON).is_file():
        return _with_own_folds(run)
    if execution.data_dir is None:
        near = nearest(run.name, (each.name for each in all_runs(execution.submissions)))
        raise BadInput(
            f"There is no run {run.name!r} to resume.{near} To begin it, say what to train, such as --recipe standard. "
            f"{_runs_there(execution.submissions)}"
        )
    return None


def _with_own_folds(run: Run) -> Record:
    """Return a run's record, with its own folds.csv in the place of the file or groups that gave its folds."""
    record, own = run.record(), run.folder / FOLDS_CSV
    if own.is_file() and (record.settings.folds_file or record.settings.groups):
        record.settings = dataclasses.replace(record.settings, folds_file=str(own), groups=None)
    return record


def compare_predictions(run: Run, first: Run) -> str:
    """Return in one sentence whether a repeated run has the predictions of the first, and what was different."""
    now, before = run.finished_record(), first.record()
    if isinstance(before, FinishedRecord) and now.submission.sha256 == before.submission.sha256:
        return f"All {now.submission.rows:,} predictions are those of run {first.name}."
    reason = "no --deterministic, or another machine"
    if different := differences(before.identity, now.identity):
        reason = f"{', '.join(different)} differ"
    return f"Not all predictions are those of run {first.name} ({reason})."
