"""What a run leaves on disk, written whole, found again, and never mixed with another run's."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from digits.console import BadInput, KitError, explain
from digits.files import (
    SUBMISSIONS,
    BrokenFileError,
    atomic_write,
    display_path,
    read_npz,
    remove_temporaries,
    write_npz,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RUN_JSON = "run.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """What one fitted network said: its own share of a run."""

    fold: int
    """From 1."""
    member: int
    """From 1."""
    network: str
    validation_rows: np.ndarray
    """Row numbers int (m,) of the held-out training images."""
    validation_probabilities: np.ndarray
    """float32 (m, 10)."""
    test_probabilities: np.ndarray
    """float32 (t, 10)."""
    history: list[dict]
    """One `fitting.Epoch` as a dict for each epoch."""
    seconds: float
    peak_memory_bytes: int
    wrong_without_tta: int | None = None
    """Held-out digits that the image alone gets wrong, where the recipe averages several views."""

    @property
    def label(self) -> str:
        """The part's name in files: fold-1, or fold-1-member-2."""
        return fold_name(self.fold, self.member)


def fold_name(fold: int, member: int) -> str:
    """Return how the files of a fold's member are named; the first member's carry the fold alone."""
    return f"fold-{fold}" if member == 1 else f"fold-{fold}-member-{member}"


def save_fold_result(path: Path, part: FoldResult) -> None:
    """Write a part as .npz."""
    values = {name: value for name, value in vars(part).items() if value is not None}
    write_npz(path, values | {"history": json.dumps(part.history)})


def load_fold_result(path: Path) -> FoldResult:
    """Read a part that `save_fold_result` wrote.

    Raises:
        BrokenFileError: if the file is damaged.
    """
    read = read_npz(path)
    try:
        values = {name: value if value.ndim else value.item() for name, value in read.items()}
        return FoldResult(**values | {"history": json.loads(values["history"])})
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenFileError(f"{display_path(path)} is not a part of a run ({error}).") from None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def results_folder(self) -> Path:
        """Where the parts and the checkpoints are."""
        return self.folder / "parts"

    def result_path(self, fold: int, member: int) -> Path:
        """Return where a part's probabilities are."""
        return self.results_folder / f"{fold_name(fold, member)}.npz"

    def model_path(self, fold: int, member: int) -> Path:
        """Return where a part's model is."""
        return self.folder / f"{fold_name(fold, member)}.keras"

    def checkpoint_path(self, fold: int, member: int) -> Path:
        """Return where the state of a part in training is."""
        return self.results_folder / f"{fold_name(fold, member)}.checkpoint.npz"

    def parts(self) -> list[FoldResult]:
        """Read all finished parts, in order of fold and member."""
        files = [path for path in self.results_folder.glob("fold-*.npz") if ".checkpoint" not in path.name]
        return sorted(
            (load_fold_result(path) for path in files if not path.name.startswith(".")),
            key=lambda part: (part.fold, part.member),
        )

    def facts(self) -> dict:
        """Read run.json.

        Raises:
            BadInput: if there is none, or it is none of ours.
        """
        path = self.folder / RUN_JSON
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(
                f"{display_path(self.folder)} is not a run: it has no {RUN_JSON}. {_runs_there(self.folder.parent)}"
            ) from None
        except (OSError, ValueError) as error:
            raise BadInput(f"{display_path(path)}: cannot be read ({error}).") from None
        if not isinstance(facts, dict) or "identity" not in facts:
            raise BadInput(f"{display_path(path)}: not the record of a run; expected an object with 'identity'.")
        return facts

    def write_record(self, facts: dict) -> None:
        """Write run.json."""
        with atomic_write(self.folder / RUN_JSON) as temporary:
            temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process, and clear away what a process that was killed left half written.

        Raises:
            KitError: if another process holds it.
        """
        with (self.folder / ".lock").open("w", encoding="ascii") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise KitError(
                        f"Run {self.name} is being worked on by another process. Wait for it, or start one under "
                        f"another name: --run NAME"
                    ) from None
            for folder in (self.folder, self.results_folder):
                remove_temporaries(folder)
            yield


@contextlib.contextmanager
def resumable(run: Run) -> Iterator[None]:
    """Tell, with whatever ends the work on `run` early, how to go on with it."""
    remedy = f"What is finished is kept. Go on with: python src/train.py --run {run.name}"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. {remedy}") from None
    except OSError as error:
        raise KitError(f"{explain(error)}\n{remedy}") from None
    except BadInput:
        raise
    except KitError as error:
        raise KitError(f"{error}\n{remedy}") from None


def find_run(name_or_path: str, submissions: Path = SUBMISSIONS) -> Run:
    """Return the run that a user names: by its name, its folder, or its run.json.

    Raises:
        BadInput: if there is no such run.
    """
    path = Path(name_or_path)
    if path.name == RUN_JSON:
        path = path.parent
    for folder in (path, submissions / name_or_path):
        if (folder / RUN_JSON).is_file():
            return Run(folder.resolve())
    raise BadInput(f"There is no run {name_or_path!r}. {_runs_there(submissions)}")


def all_runs(submissions: Path = SUBMISSIONS) -> list[Run]:
    """Return all runs, the newest last."""
    found = [path.parent for path in Path(submissions).glob(f"*/{RUN_JSON}")]
    return [Run(folder) for folder in sorted(found, key=lambda folder: (folder / RUN_JSON).stat().st_mtime)]


def _runs_there(submissions: Path) -> str:
    names = [run.name for run in all_runs(submissions)]
    return f"There are: {', '.join(names[-5:])}." if names else "There is none yet: python src/train.py makes one."


def open_run(identity: dict, name: str | None, submissions: Path = SUBMISSIONS) -> tuple[Run, bool]:
    """Return the run to work in, and whether it is taken up again.

    Args:
        identity: everything on which the run's probabilities depend, flat and JSON-able.
        name: the user's name for it; without one, the newest unfinished run of the same identity is taken up, else a
            new one is named after its recipe and the time.
        submissions: the folder of all runs.

    Raises:
        BadInput: if the name is not one a folder can have, or is taken by a run of another identity.
    """
    if name is None:
        for run in reversed(all_runs(submissions)):
            with contextlib.suppress(BadInput):
                facts = run.facts()
                if facts["identity"] == identity and facts.get("status") != "finished":
                    return run, True
        return _new_run(submissions / f"{identity['recipe']}-{datetime.datetime.now():%Y%m%d-%H%M%S}"), False
    if not _NAME.fullmatch(name) or name == "reference":
        raise BadInput(f"--run {name!r}: expected a name of letters, digits, '.', '_' and '-', other than 'reference'.")
    run = Run(submissions / name)
    if not (run.folder / RUN_JSON).exists():
        return _begin(run), False
    different = differences(run.facts()["identity"], identity)
    if different:
        raise BadInput(
            f"Run {name} cannot be taken up, for it was another: {'; '.join(different)}. "
            f"Give the new run a name of its own (--run), or delete {display_path(run.folder)}."
        )
    return run, True


def differences(before: dict, now: dict) -> list[str]:
    """Return in words how two runs' identities differ, item by item."""
    return [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _begin(run: Run) -> Run:
    """Make the folder of a run with a given name; one that was killed before it had a record may be there already."""
    with contextlib.suppress(FileNotFoundError):
        foreign = [path.name for path in run.folder.iterdir() if path.name != "parts" and not path.name.startswith(".")]
        if foreign:
            raise BadInput(
                f"{display_path(run.folder)} is no run (it holds {foreign[0]!r} and no {RUN_JSON}). "
                f"Give the run another name: --run NAME"
            )
    run.results_folder.mkdir(parents=True, exist_ok=True)
    return run


def _new_run(folder: Path) -> Run:
    """Make a folder of that name, or of that name and the first free number, which no other process can also get."""
    for number in itertools.count(1):
        run = Run(folder if number == 1 else folder.with_name(f"{folder.name}-{number}"))
        with contextlib.suppress(FileExistsError):
            run.folder.mkdir(parents=True)
            run.results_folder.mkdir()
            return run
    raise AssertionError("unreachable")
