"""The Kaggle notebook's round trip: push it as the user's own, wait for its run, fetch and check what it leaves."""

import contextlib
import json
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from digits.console import BadInput, KaggleRefused, KitError
from digits.data.competition import find_competition
from digits.data.submission import read_submission
from digits.files import ROOT, atomic_write, display_path, submissions_flag
from digits.kaggle.client import Kaggle, if_interrupted, short
from digits.runs.store import RUN_JSON, Run

METADATA = "kernel-metadata.json"
LAST_PUSH = "last-notebook.json"
ACCELERATORS = {"none": None, "gpu": None, "t4x2": "NvidiaTeslaT4", "tpu": "TpuV5E8"}
"""What the user types, and Kaggle's name of the machine; None leaves it to `enable_gpu`."""
FAILED = ("error", "cancel_requested", "cancel_acknowledged")
RUN_FILES = (RUN_JSON, "out_of_fold.npy", "test_probabilities.npy", "history.csv", "report.html")
WANTED = rf"^(submission\.csv|submissions/\w[\w.-]*/({'|'.join(map(re.escape, RUN_FILES))}))$"
NONE_WANTED = "^$"
LOG_LINES = 15


@dataclass(frozen=True)
class Push:
    """A version of a notebook on Kaggle: `name` is owner/slug."""

    name: str
    version: int
    url: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Changes:
    """What is changed in the pushed copy of a notebook; None leaves it as it is."""

    arguments: Sequence[str] | None = None
    """Flags of train.py, in the place of those in the notebook's line `ARGUMENTS = […]`."""
    accelerator: str | None = None
    """A key of ACCELERATORS, or Kaggle's name of a machine."""
    title: str | None = None
    datasets: Sequence[str] | None = None


def push(kaggle: Kaggle, folder: Path, changes: Changes, submissions: Path, say: Callable[[str], None] = print) -> Push:
    """Push a copy of a notebook's folder as the user's own; remember it in `submissions` for `last_push`.

    Raises:
        BadInput: if the folder holds no notebook, or not the line that is to be changed.
        KitError: if Kaggle does not take it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        name = _own_copy(folder, Path(temporary), kaggle, changes)
        kaggle.tell(f"Pushing {display_path(folder)} as {name} ...")
        accelerator = ACCELERATORS.get(changes.accelerator or "", changes.accelerator)
        with if_interrupted(
            f"Kaggle may have taken it: https://www.kaggle.com/code/{name}. Pushed again it runs again."
        ):
            reply = kaggle.ask("kernels_push", {"folder": temporary, "acc": accelerator}, attempts=1)
    if error := reply.get("error"):
        remedy = "\nGive another title: --title TITLE" if "title" in error.lower() else ""
        if "quota" in error.lower():
            remedy = "\nWithout an accelerator: --accelerator none; what is left of it: https://www.kaggle.com/settings"
        raise KaggleRefused(f"Kaggle did not take the notebook: {short(error)}{remedy}")
    unknown = [source for kind, sources in reply.items() if kind.startswith("invalid") for source in sources]
    if unknown:
        raise KitError(f"Kaggle took the notebook, but without what it does not know: {short(', '.join(unknown))}")
    if not reply.get("versionNumber"):
        raise KitError("Kaggle took the notebook but does not tell its version, so its run cannot be found.")
    pushed = Push(name, reply["versionNumber"], reply.get("url") or f"https://www.kaggle.com/code/{name}")
    submissions.mkdir(parents=True, exist_ok=True)
    with atomic_write(submissions / LAST_PUSH) as temporary_file:
        temporary_file.write_text(json.dumps(vars(pushed)) + "\n", encoding="utf-8")
    say(f"Pushed version {pushed.version}: {pushed.url}")
    return pushed


def last_push(submissions: Path, version: str | None = None) -> Push:
    """Return the version that was pushed last, or another one: "3", or "owner/slug/3".

    Raises:
        BadInput: if none was pushed from here, or `version` is not one.
    """
    owner_slug, _, number = (version or "").rpartition("/")
    if version and not (number.isdigit() and (not owner_slug or re.fullmatch(r"[\w-]+/[\w-]+", owner_slug))):
        raise BadInput(f"{version!r}: expected a version's number, or OWNER/NOTEBOOK/NUMBER.")
    if owner_slug:
        return Push(owner_slug, int(number), f"https://www.kaggle.com/code/{owner_slug}")
    try:
        pushed = Push(**json.loads((submissions / LAST_PUSH).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise BadInput(
            "No notebook was pushed from here. Push one (scripts/push_kernel.sh), or name it: OWNER/NOTEBOOK/NUMBER"
        ) from None
    return replace(pushed, version=int(number)) if number else pushed


def status(kaggle: Kaggle, pushed: Push) -> tuple[str, str]:
    """Return the state of a version's run (queued, running, complete, error, cancel_…) and why it failed."""
    reply = kaggle.ask("kernels_status", {"kernel": str(pushed)})
    return reply.get("status", "queued").lower(), short(reply.get("failureMessage", ""))


def wait(kaggle: Kaggle, pushed: Push, submissions: Path, seconds: float, say: Callable[[str], None] = print) -> None:
    """Wait for the end of a version's run; ask at once, after 10 s, and at growing intervals up to a minute.

    Raises:
        KitError: if the run fails (with the end of its log), or the time is over.
    """
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
            say(f"{time.strftime('%H:%M:%S')} {state}")
            states.append(state)
        return (state, failure) if state == "complete" or state in FAILED else None

    with if_interrupted(later):
        ended = kaggle.poll(look, seconds, f"Waiting for the run of {pushed}")
    if ended is None:
        raise KitError(f"Version {pushed.version} is still {states[-1]} after {seconds:,.0f} s. {later}")
    if ended[0] in FAILED:
        lines = [ended[1]]
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KitError, OSError):
            _output(kaggle, pushed, folder, NONE_WANTED)
            lines += _end_of_log(Path(folder))
        reason = "\n".join(lines).strip() or "no reason given"
        raise KitError(f"Version {pushed.version} ended as {ended[0]}: {reason}")


def fetch_later(kaggle: Kaggle, pushed: Push, submissions: Path) -> str:
    """Return the command that fetches a version's output later, in words."""
    flags = find_competition(kaggle.competition).flag + submissions_flag(submissions)
    return f"Fetch it later: scripts/push_kernel.sh --fetch {pushed}{flags}"


def submit_command(kaggle: Kaggle, pushed: Push, submission: Path) -> str:
    """Return the command that submits what `fetch` returned: the notebook's version where only that counts."""
    competition, folder = find_competition(kaggle.competition), submission.parent
    what = folder.name if (folder / RUN_JSON).exists() else shlex.quote(display_path(submission))
    what = f"--notebook {pushed}" if competition.notebooks_only else what
    return f"scripts/submit.sh {what}{competition.flag}{submissions_flag(folder.parent)}"


def _output(kaggle: Kaggle, pushed: Push, folder: str, pattern: str) -> list[Path]:
    """Download the output files of a version that match, and its log, into a folder."""
    what = {"kernel": str(pushed), "path": folder, "file_pattern": pattern, "force": True, "quiet": True}
    return [Path(file) for file in kaggle.ask("kernels_output", what)[0]]


def fetch(
    kaggle: Kaggle, pushed: Push, submissions: Path, say: Callable[[str], None] = print, rows: int | None = None
) -> Path:
    """Fetch what a version's run has left, and return its submission, checked.

    The files lie in a folder of that version alone, so that those of another run are never taken for its own; with the
    record of its training it is a run like any other.

    Raises:
        KitError: if the version left no submission, or its files cannot be fetched whole.
        BadInput: if its submission is broken.
    """
    folder = submissions / f"{pushed.name.rpartition('/')[2]}-v{pushed.version}"
    with tempfile.TemporaryDirectory() as temporary:
        kaggle.tell(f"Fetching the output of {pushed} ...")
        with if_interrupted(fetch_later(kaggle, pushed, submissions)):
            fetched = _output(kaggle, pushed, temporary, WANTED)
        for line in _end_of_log(Path(temporary)):
            say(line)
        if Path(temporary) / "submission.csv" not in fetched:
            raise KitError(f"Version {pushed.version} left no submission.csv. See {pushed.url}")
        competition = find_competition(kaggle.competition)
        rows = rows or competition.test.rows
        read_submission(Path(temporary) / "submission.csv", rows, competition)
        folder.mkdir(parents=True, exist_ok=True)
        # run.json comes last: with it the folder is a run.
        for file in sorted(fetched, key=lambda file: file.name == RUN_JSON):
            with atomic_write(folder / file.name) as whole:
                shutil.copyfile(file, whole)
    if (folder / RUN_JSON).exists():
        try:
            record = Run(folder).finished_record()
            record.run = folder.name
            Run(folder).write_record(record)
        except BadInput as error:
            (folder / RUN_JSON).unlink()
            say(f"warning: the record of its training is not used: {error}")
    submission = folder / "submission.csv"
    say(f"{display_path(submission)}: {rows:,} rows, checked.")
    return submission


def user_name(kaggle: Kaggle) -> str:
    """Return the user's name on Kaggle."""
    return kaggle.ask("get_config_value", {"name": "username"})


def _own_copy(folder: Path, copy: Path, kaggle: Kaggle, changes: Changes) -> str:
    """Copy the notebook with the changes, and the user's name in its id; return the id."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        slug = metadata["id"].rpartition("/")[2]
        notebook = json.loads((folder / metadata["code_file"]).read_text(encoding="utf-8"))
        lines = [line for cell in notebook["cells"] for line in "".join(cell["source"]).splitlines()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(
            f"{display_path(folder)} holds no notebook ({type(error).__name__}: {error}). Make it again: "
            f"python {display_path(ROOT / 'scripts' / 'build_kernel.py')}"
        ) from None
    if changes.arguments is not None:
        old = next((line for line in lines if re.fullmatch(r"ARGUMENTS = \[.*\]", line)), None)
        if old is None:
            raise BadInput(f"{metadata['code_file']} has no line 'ARGUMENTS = […]' any more; write the flags into it.")
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"]).replace(old, f"ARGUMENTS = {json.dumps(list(changes.arguments))}")
    if changes.title:
        slug = re.sub(r"[^a-z0-9]+", "-", changes.title.lower()).strip("-")
        metadata["title"] = changes.title
    if changes.accelerator:
        tpu = changes.accelerator.lower().startswith("tpu")
        metadata |= {"enable_gpu": changes.accelerator != "none" and not tpu, "enable_tpu": tpu}
    if changes.datasets:
        metadata["dataset_sources"] = list(changes.datasets)
    metadata |= {"id": f"{user_name(kaggle)}/{slug}", "competition_sources": [kaggle.competition]}
    (copy / METADATA).write_text(json.dumps(metadata, indent=2), encoding="utf-8")
    (copy / metadata["code_file"]).write_text(json.dumps(notebook), encoding="utf-8")
    return metadata["id"]


def _end_of_log(folder: Path) -> list[str]:
    """Return the last lines that the notebook printed; Kaggle's log is a JSON list of pieces of them."""
    log = next(folder.glob("*.log"), None)
    if log is None:
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = "".join(piece["data"] for piece in json.loads(text))
    return ["The end of its log:", *(f"  {line}" for line in text.splitlines()[-LOG_LINES:])]
