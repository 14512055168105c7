"""The Kaggle notebook's round trip: push it as the user's own, wait for its run, fetch and check what it leaves."""

import contextlib
import dataclasses
import json
import re
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.console import BadInput, KaggleRefused, KitError
from digits.data.submission import read_submission
from digits.files import ROOT, atomic_write, display_path, kit_command
from digits.kaggle.client import Kaggle, if_interrupted, short
from digits.runs.store import RUN_JSON, Run, submission_form

METADATA = "kernel-metadata.json"
LAST_PUSH = "last-notebook.json"
T4, TPU = "NvidiaTeslaT4", "TpuV5E8"
ACCELERATORS = {"none": None, "cpu": None, "gpu": None, "t4": T4, "t4x2": T4, "tpu": TPU}
ACCELERATORS |= {machine.lower(): machine for machine in (T4, TPU)}
"""What a user writes, in any case, and Kaggle's name of the machine; None leaves it to `enable_gpu`."""
FAILED = ("error", "cancel_requested", "cancel_acknowledged")
RUN_FILES = (RUN_JSON, "out_of_fold.npy", "test_probabilities.npy", "history.csv", "report.html")
WANTED = rf"^(submission\.csv|submissions/\w[\w.-]*/({'|'.join(map(re.escape, RUN_FILES))}))$"
LOG_LINES = 15


@dataclass(frozen=True)
class Push:
    """A version of a notebook on Kaggle."""

    name: str  # owner/slug
    version: int

    @property
    def url(self) -> str:
        """The notebook's address."""
        return f"https://www.kaggle.com/code/{self.name}"

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Changes:
    """What is changed in the pushed copy of a notebook; None leaves it as it is."""

    arguments: Sequence[str] | None = None  # Flags of train.py, in the notebook's line `ARGUMENTS = […]`.
    accelerator: str | None = None  # A key of ACCELERATORS, in any case.
    title: str | None = None
    datasets: Sequence[str] | None = None
    public: bool = False

    def __post_init__(self) -> None:
        """Refuse what Kaggle would misunderstand, as BadInput that names the flag."""
        if self.accelerator is not None and self.accelerator.lower() not in ACCELERATORS:
            raise BadInput(f"--accelerator {self.accelerator}: expected one of {', '.join(ACCELERATORS)}.")
        if self.title is not None and (len(self.title) < 5 or not slug_of(self.title)):
            raise BadInput(
                f"--title {self.title!r}: expected five characters or more with Latin letters or digits among them, "
                "of which Kaggle makes the notebook's address."
            )


def slug_of(text: str) -> str:
    """Return the part of an address that a text becomes: Latin letters without accents, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def push(kaggle: Kaggle, folder: Path, changes: Changes, submissions: Path) -> Push:
    """Push a copy of a notebook's folder as the user's own; remember it in `submissions` for `last_push`."""
    with tempfile.TemporaryDirectory() as temporary:
        metadata = _write_copy(folder, Path(temporary), kaggle, changes)
        pushed = Push(metadata["id"], 0)
        kaggle.log(f"Pushing {display_path(folder)} as {pushed.name}: {_summary(metadata)} ...")
        with if_interrupted(f"Kaggle may have taken it: {pushed.url}. Pushed again it runs again."):
            reply = kaggle.ask("kernels_push", {"folder": temporary}, attempts=1)
    if error := reply.get("error"):
        raise KaggleRefused(
            f"Kaggle did not take the notebook: {short(error)}\nAnother title: --title TITLE; without a GPU and its "
            "quota: --accelerator none; what is left of the quota: https://www.kaggle.com/settings"
        )
    unknown = [source for kind, sources in reply.items() if kind.startswith("invalid") for source in sources]
    if unknown:
        raise KitError(f"Kaggle took the notebook, but without what it does not know: {short(', '.join(unknown))}")
    if not reply.get("versionNumber"):
        raise KitError("Kaggle took the notebook but does not name its version, so its run cannot be found.")
    # Kaggle makes the address of the title by rules of its own.
    address = re.search(r"kaggle\.com/(?:code/)?([\w-]+/[\w-]+)", reply.get("url", pushed.url))
    pushed = Push(address[1] if address else pushed.name, reply["versionNumber"])
    submissions.mkdir(parents=True, exist_ok=True)
    with atomic_write(submissions / LAST_PUSH) as temporary_file:
        temporary_file.write_text(json.dumps(vars(pushed)) + "\n", encoding="utf-8")
    print(f"Pushed version {pushed.version}: {pushed.url}")
    return pushed


def _summary(metadata: dict) -> str:
    """Return in words what of a notebook matters to others and to the quota."""
    machine = metadata.get("machine_shape") or ("a GPU" if metadata.get("enable_gpu") else "no GPU")
    internet = "on" if metadata.get("enable_internet", True) else "off"
    data = ", ".join([*metadata["competition_sources"], *metadata.get("dataset_sources", [])])
    return f"{'private' if metadata['is_private'] else 'PUBLIC'}, {machine}, internet {internet}, data: {data}"


def last_push(submissions: Path, version: str | None = None) -> Push:
    """Return the version that was pushed last, or another one: "3", or "owner/slug/3"."""
    owner_slug, _, number = (version or "").rpartition("/")
    if version and not (number.isdigit() and (not owner_slug or re.fullmatch(r"[\w-]+/[\w-]+", owner_slug))):
        raise BadInput(f"{version!r}: expected a version's number, or OWNER/NOTEBOOK/NUMBER.")
    if owner_slug:
        return Push(owner_slug, int(number))
    try:
        last = json.loads((submissions / LAST_PUSH).read_text(encoding="utf-8"))
        return Push(last["name"], int(number or last["version"]))
    except (OSError, ValueError, TypeError, KeyError):
        raise BadInput(
            "No notebook was pushed from here. Name it, OWNER/NOTEBOOK/NUMBER, or push one: "
            + kit_command("scripts/push_kernel.sh")
        ) from None


def status(kaggle: Kaggle, pushed: Push) -> tuple[str, str]:
    """Return the state of a version's run (queued, running, complete, error, cancel_…) and why it failed."""
    reply = kaggle.ask("kernels_status", {"kernel": str(pushed)})
    return reply.get("status", "queued").lower(), short(reply.get("failureMessage", ""))


def wait(kaggle: Kaggle, pushed: Push, submissions: Path, seconds: float) -> None:
    """Wait for the end of a version's run; a KitError says why it failed, or that the time is over."""
    later = f"The notebook runs on at Kaggle: {pushed.url}\n{fetch_later(kaggle, pushed, submissions)}"
    started, states = time.monotonic(), [""]

    def look() -> tuple[str, str] | None:
        try:
            state, failure = status(kaggle, pushed)
        except KaggleRefused:
            raise
        except KitError as error:  # Kaggle may not know a version in its first moments.
            if states[-1] or time.monotonic() - started > kaggle.policy.call_seconds:
                raise KitError(f"{error} {later}") from None
            return None
        if state != states[-1]:
            print(f"{time.strftime('%H:%M:%S')} {state}", flush=True)
            states.append(state)
        return (state, failure) if state == "complete" or state in FAILED else None

    with if_interrupted(later):
        ended = kaggle.poll(look, seconds, f"Waiting for the run of {pushed}")
    if ended is None:
        raise KitError(f"Version {pushed.version} is still {states[-1]} after {seconds:,.0f} s. {later}")
    if ended[0] in FAILED:
        lines = [ended[1]]
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KitError, OSError):
            _output(kaggle, pushed, folder, "^$")  # The log alone.
            lines += _end_of_log(Path(folder))
        reason = "\n".join(lines).strip() or "no reason given"
        raise KitError(f"Version {pushed.version} ended as {ended[0]}: {reason}")


def fetch_later(kaggle: Kaggle, pushed: Push, submissions: Path) -> str:
    """Return the command that fetches a version's output later, in words."""
    fetch = kit_command("scripts/push_kernel.sh", "--fetch", str(pushed))
    return f"Fetch it later: {fetch}{kaggle.flags(submissions)}"


def submit_command(kaggle: Kaggle, pushed: Push, submission: Path) -> str:
    """Return the command that submits what `fetch` returned: the notebook's version where only that counts."""
    folder = submission.parent
    words: list[str | Path] = [folder.name if (folder / RUN_JSON).exists() else submission]
    if kaggle.competition.notebooks_only:
        words = ["--notebook", str(pushed)]
    return kit_command("scripts/submit.sh", *words) + kaggle.flags(folder.parent)


def _output(kaggle: Kaggle, pushed: Push, folder: str, pattern: str) -> list[Path]:
    """Download the output files of a version whose names match, and its log, into a folder."""
    arguments = {"kernel": str(pushed), "path": folder, "file_pattern": pattern, "force": True, "quiet": True}
    return [Path(file) for file in kaggle.ask("kernels_output", arguments)[0]]


def fetch(kaggle: Kaggle, pushed: Push, submissions: Path) -> Path:
    """Fetch what a version's run has left into a folder of its own, and return its submission, checked.

    With the record of its training that folder is a run like any other.
    """
    run = Run(submissions / f"{pushed.name.rpartition('/')[2]}-v{pushed.version}")
    submission, competition = run.folder / "submission.csv", kaggle.competition
    form = submission_form(competition, submissions)
    with tempfile.TemporaryDirectory() as temporary:
        kaggle.log(f"Fetching the output of {pushed} ...")
        with if_interrupted(fetch_later(kaggle, pushed, submissions)):
            fetched = _output(kaggle, pushed, temporary, WANTED)
        print("\n".join(_end_of_log(Path(temporary))))
        if Path(temporary) / submission.name not in fetched:
            raise KitError(f"Version {pushed.version} left no submission.csv. See {pushed.url}")
        rows = len(read_submission(Path(temporary) / submission.name, competition.test_rows, form))
        run.folder.mkdir(parents=True, exist_ok=True)
        # run.json comes last: with it the folder is a run.
        for file in sorted(fetched, key=lambda file: file.name == RUN_JSON):
            with atomic_write(run.folder / file.name) as whole:
                shutil.copyfile(file, whole)
    if (run.folder / RUN_JSON).exists():
        try:
            run.write_record(dataclasses.replace(run.finished_record(), run=run.name))
        except BadInput as error:
            (run.folder / RUN_JSON).unlink()
            kaggle.log(f"warning: the record of its training is not used: {error}")
    print(f"{display_path(submission)}: {rows:,} rows, checked.")
    return submission


def user_name(kaggle: Kaggle) -> str:
    """Return the user's name on Kaggle."""
    return kaggle.ask("get_config_value", {"name": "username"})


def _write_copy(folder: Path, copy: Path, kaggle: Kaggle, changes: Changes) -> dict:
    """Copy the notebook with the changes, as the user's own; return its metadata."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        slug = slug_of(changes.title) if changes.title else metadata["id"].rpartition("/")[2]
        notebook = json.loads((folder / metadata["code_file"]).read_text(encoding="utf-8"))
        lines = [line for cell in notebook["cells"] for line in "".join(cell["source"]).splitlines()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(
            f"{display_path(folder)} holds no notebook ({type(error).__name__}: {error}). The kit's own: "
            f"python {display_path(ROOT / 'scripts' / 'build_kernel.py')}"
        ) from None
    if changes.arguments is not None:
        old = next((line for line in lines if re.fullmatch(r"ARGUMENTS = \[.*\]", line)), None)
        if old is None:
            raise BadInput(f"{metadata['code_file']} has no line 'ARGUMENTS = […]' any more; write the flags into it.")
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"]).replace(old, f"ARGUMENTS = {json.dumps(list(changes.arguments))}")
    metadata.pop("id_no", None)  # The number of the notebook that it was copied from.
    title = changes.title or metadata.get("title", slug)
    metadata |= {"id": f"{user_name(kaggle)}/{slug}", "title": title, "is_private": not changes.public}
    metadata["competition_sources"] = [kaggle.competition.slug]
    if changes.accelerator:
        machine = ACCELERATORS[changes.accelerator.lower()]
        gpu = machine == T4 or changes.accelerator.lower() == "gpu"
        metadata |= {"enable_gpu": gpu, "enable_tpu": machine == TPU, "machine_shape": machine}
    if changes.datasets:
        metadata["dataset_sources"] = list(changes.datasets)
    (copy / METADATA).write_text(json.dumps(metadata, indent=2), encoding="utf-8")
    (copy / metadata["code_file"]).write_text(json.dumps(notebook), encoding="utf-8")
    return metadata


def _end_of_log(folder: Path) -> list[str]:
    """Return the last lines that the notebook printed; Kaggle's log is a JSON list of pieces of them."""
    log = next(folder.glob("*.log"), None)
    if log is None:
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = "".join(piece["data"] for piece in json.loads(text))
    return ["The end of its log:", *(f"  {line}" for line in text.splitlines()[-LOG_LINES:])]
