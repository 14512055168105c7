"""run.json, the record of a run, as typed dataclasses: written and read here alone."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digits import config
from digits.config import Execution, Options, Recipe, Settings
from digits.console import BadInput, counted
from digits.data import dataset
from digits.data.competition import find_competition
from digits.data.dataset import Dataset, DataSummary
from digits.data.image_form import ImageForm
from digits.data.submission import SubmissionFile
from digits.files import ROOT, atomic_write, display_path
from digits.model.backend import backend_name, cpu_count
from digits.runs.checks import Check
from digits.runs.metrics import ExpectedScore, Score
from digits.typed import read_as

VERSION = 2  # Of the record's form.
_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pandas", "scikit-learn", "mlxtend")


@dataclass(frozen=True)
class Machine:
    """Where a run was trained."""

    system: str
    processor: str
    processors: int
    networks_at_a_time: int | None = None
    threads_a_network: int | None = None
    threads_in_last_round: int | None = None  # Whose networks share the CPU cores that would be idle.


@dataclass(frozen=True, kw_only=True)
class RunSettings(Options):
    """The command's options, and what else a run has, a blend too."""

    folds: int
    members: int
    data_dir: Path | None = None  # None: the default folder.


@dataclass(frozen=True)
class ExtraImages:
    """Images beyond the dataset's that joined the training in every fold; none was scored."""

    folder: str
    class_counts: list[int]
    sha256: str  # Of the prepared images and their labels.

    @property
    def images(self) -> int:
        """How many."""
        return sum(self.class_counts)


@dataclass(frozen=True)
class PseudoLabelsUsed:
    """Which test images joined the training."""

    run: str
    threshold: float
    share_of_test_images: dict[str, float]  # By fold.


@dataclass(frozen=True, kw_only=True)
class FoldScore(Score):
    """One network's score on its held-out rows."""

    fold: int
    member: int
    network: str
    epochs: int
    seconds: float
    wrong_without_tta: int | None = None


@dataclass(frozen=True)
class Refit:
    """A network trained on all rows, which no row is left to score."""

    number: int  # From 1.
    network: str
    epochs: int
    seconds: float
    agreement: float  # The share of the test images, 0-1, that it predicts as the folds' average does.


@dataclass(frozen=True)
class TestPredictions:
    """The predicted test images."""

    __test__ = False  # Not a class of tests, whatever pytest makes of its name.

    rows: int
    class_counts: list[int]  # Predictions of each class.
    score: Score | None = None  # Where the labels are known.


@dataclass(frozen=True, kw_only=True)
class BlendMember(Score):
    """One member of a blend, scored alone: a run, or one of its members over all folds."""

    name: str  # The run's, or RUN/NETWORK-MEMBER.
    weight: float
    run: str = ""
    network: str | None = None  # None: the whole run.
    member: int | None = None

    def __post_init__(self) -> None:
        """Take from the name what records before November 29, 2026 do not have."""
        run, is_member, network = self.name.partition("/")
        if not self.run:
            object.__setattr__(self, "run", run)
        if not self.network and is_member:
            name, _, number = network.rpartition("-")
            object.__setattr__(self, "network", name)
            object.__setattr__(self, "member", int(number))


@dataclass(frozen=True)
class ForeignPredictions:
    """Predictions of another program in a blend; the kit did not see how they were made."""

    folder: str
    sha256: str  # Of the probabilities.
    are_same_folds: bool  # Whether its folds.csv says so; otherwise that is assumed.


@dataclass(frozen=True)
class Blend:
    """How runs were averaged."""

    members: list[BlendMember]
    disagreement: list[list[int]]  # In how many out-of-fold rows each two members differ.
    mean: str  # arithmetic or logarithmic.
    out_of_fold_by: str  # How the weights of a scored row were found.
    foreign: list[ForeignPredictions] = field(default_factory=list)  # Those in the blends that are members, too.


@dataclass(kw_only=True)
class Record:
    """Settings, data and environment of a run, from its beginning on."""

    run: str
    command: str
    created: str  # ISO 8601, UTC.
    source: str
    leaked: bool  # Whether test images were among the training images.
    recipe: Recipe | None  # None for a blend.
    settings: RunSettings
    identity: dict[str, Any]  # All on which the probabilities depend, see `identity_of`.
    data: DataSummary
    backend: str | None = None
    versions: dict[str, str] = field(default_factory=dict)  # Of Python and the packages.
    machine: Machine | None = None  # None: the workers of a cluster.
    git: str | None = None  # The commit.
    pseudo_labels: PseudoLabelsUsed | None = None
    extra: ExtraImages | None = None
    seconds: float = 0.0
    peak_memory_bytes: int | None = None

    @classmethod
    def begin(
        cls, run_name: str, settings: Settings, data: Dataset, identity: dict[str, Any], execution: Execution
    ) -> "Record":
        """Return the record of a run that begins now."""
        recipe, data_dir = settings.recipe, execution.data_dir and execution.data_dir.absolute()
        run_settings = RunSettings(folds=recipe.folds, members=recipe.members, data_dir=data_dir, **_options(settings))
        return cls(
            run=run_name,
            command=execution.command,
            created=now(),
            source=data.source,
            leaked=data.leaked,
            recipe=recipe,
            settings=run_settings,
            identity=identity,
            data=data.summary,
            backend=backend_name(),
            versions=versions(),
            git=git_commit(),
        )

    def finish(self, results: "Results") -> "FinishedRecord":
        """Return the record of the finished run."""
        return FinishedRecord(**vars(self), **vars(results))

    @property
    def recipe_name(self) -> str:
        """The recipe's name, or "blend"."""
        return getattr(self.recipe, "name", "blend")

    def asked(self) -> Settings:
        """Return the settings of the command.

        Raises BadInput for a blend, which has none, and for a network that the kit no longer has.
        """
        if self.recipe is None:
            raise BadInput(f"Run {self.run} is a blend and cannot be trained again; its command: {self.command}")
        gone = [name for name in self.recipe.networks if name not in config.NETWORKS and ":" not in name]
        if gone:
            known = ", ".join(config.NETWORKS)
            raise BadInput(f"Run {self.run} has the network {gone[0]}, which is not among {known}.")
        return Settings(self.recipe, **_options(self.settings))

    def has_data_of(self, other: "Record") -> bool:
        """Return whether two runs have the same data, if perhaps with images of another size."""
        if self.identity.get("data") == other.identity.get("data"):
            return True
        first, second = self.data, other.data
        is_resized = first.form and second.form and first.form.shape != second.form.shape
        are_same = [getattr(first, name) == getattr(second, name) for name in ("files", "names", "class_counts")]
        return bool(is_resized) and all(are_same)

    def load_data(self, data_dir: Path | None = None) -> Dataset:
        """Load the data that the run was trained on; `data_dir` is where they are now, if not where they were.

        Raises BadInput if they are not there, or not what they should be.
        """
        shape = (self.data.form or ImageForm()).shape
        options = dataclasses.replace(self.settings, source=self.source, allow_leak=True, image_shape=shape)
        # Of one fold, a tenth is held out, which few images do not suffice for.
        return load_dataset(options, data_dir or self.settings.data_dir, folds=2)

    def to_dict(self) -> dict[str, Any]:
        """Return what run.json holds."""
        status = "finished" if isinstance(self, FinishedRecord) else "running"
        return {"version": VERSION, "run": self.run, "status": status} | dataclasses.asdict(self)

    def write(self, path: Path) -> None:
        """Write run.json."""
        with atomic_write(path) as temporary:
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, default=str)
            temporary.write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> "Record":
        """Read run.json; FileNotFoundError if there is none.

        Raises BadInput if it is damaged, or something in it is missing or of a wrong type, naming the key.
        """
        where = display_path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise BadInput(f"{where}: cannot be read ({error}).") from None
        if not isinstance(values, dict) or "identity" not in values:
            raise BadInput(f"{where}: not the record of a run; expected an object with 'identity'.")
        if (version := values.get("version")) != VERSION:
            problem = f"expected version {VERSION}, found {version!r}"
            raise BadInput(problem, at=where, fix="Use the version of the kit that wrote it.")
        return read_as(FinishedRecord if values.get("status") == "finished" else Record, values, where)


@dataclass(kw_only=True)
class Results:
    """What a finished run came to."""

    out_of_fold: Score  # Of all rows that were held out once; with one fold, of the validation split.
    expected_score: ExpectedScore
    test: TestPredictions
    submission: SubmissionFile
    folds: list[FoldScore] = field(default_factory=list)  # None for a blend.
    refits: list[Refit] = field(default_factory=list)  # Averaged with the folds' networks on the test images.
    checks: list[Check] = field(default_factory=list)
    averaging_gain: float | None = None  # See `averaging.averaging_gain`.
    blend: Blend | None = None


@dataclass(kw_only=True)
class FinishedRecord(Results, Record):
    """A finished run's record: with its results."""

    @property
    def held_out(self) -> bool:
        """Whether one split was scored, and not each row by cross-validation."""
        return self.settings.folds == 1

    @property
    def is_submittable(self) -> bool:
        """Whether the submission is for Kaggle: on the competition's test images, which nobody trained on."""
        return self.data.competition is not None and not self.leaked

    @property
    def refit_note(self) -> str:
        """What the out-of-fold accuracy does not include: networks trained on all data."""
        share = 0.9 if self.held_out else 1 - 1 / self.settings.folds
        also = f"{counted(len(self.refits), 'network')} trained on all images"
        return f"That is of networks trained on {share:.0%} of the images; the submission also averages {also}."

    @property
    def foreign(self) -> list[ForeignPredictions]:
        """The predictions of other programs in a blend."""
        return getattr(self.blend, "foreign", [])

    @property
    def foreign_note(self) -> str:
        """What the score of such a blend rests on."""
        folders, folds = ", ".join(each.folder for each in self.foreign), "its folds.csv has the same folds"
        if not all(each.are_same_folds for each in self.foreign):
            folds = "that their folds are the same is assumed"
        return f"Blended with predictions of another program ({folders}): {folds}."

    @property
    def failed_checks(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.passed]


def load_dataset(options: Options, data_dir: Path | None, folds: int) -> Dataset:
    """Load the data that `options` name, from the folder `data_dir` where it is given, checked for so many folds."""
    competition = find_competition(options.competition) if options.competition else None
    return dataset.load(
        options.source,
        data_dir,
        competition=competition,
        limit=options.limit,
        allow_leak=options.allow_leak,
        folds=folds,
        options=options,
    )


def _options(settings: Options) -> dict[str, Any]:
    return {each.name: getattr(settings, each.name) for each in dataclasses.fields(Options)}


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    return installed


def machine() -> Machine:
    """Return what this machine is."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return Machine(platform.platform(), processor, cpu_count())


def git_commit() -> str | None:
    """Return the commit that runs, with "+ changes" where src/ differs from it; None outside git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit} + changes" if git("status", "--porcelain", "--", "src") else commit
    except (OSError, subprocess.SubprocessError):
        return None
