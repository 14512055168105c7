"""What the kit asks of Kaggle, each call with an end and its answer checked: nothing else runs the kaggle client."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digits.errors import KitError
from digits.kaggle.credentials import COMPETITION, PAGE, find_credentials
from digits.kaggle.kaggle_process import Patience, UnreachableError, persist, run_client
from digits.paths import written_whole


@dataclass(frozen=True)
class Submission:
    """A row of Kaggle's list of submissions; `time` is UTC, `status` is pending, complete or error."""

    ref: str
    time: str
    description: str
    status: str
    public_score: float | None
    reason: str


@dataclass(frozen=True)
class Limits:
    """How many submissions were made and are left today (UTC)."""

    num_today: int
    num_total: int
    num_allowed_now: int
    limited_by_total: bool

    @property
    def known(self) -> bool:
        """False for someone who has not submitted yet: Kaggle then answers zero to everything."""
        return bool(self.num_total or self.num_allowed_now)


def tell_on_stderr(line: str) -> None:
    """Print a line about waiting or danger."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Kaggle:
    """The calls to Kaggle. All raise what `run_client` raises, UnreachableError only after the last attempt."""

    patience: Patience = field(default_factory=Patience)
    tell: Callable[[str], None] = tell_on_stderr

    def log_in(self) -> str:
        """Return where the credentials lie, after a warning where others can read them; no network."""
        credentials = find_credentials(os.environ)
        if credentials.warning:
            self.tell(credentials.warning)
        return credentials.source

    def user_name(self) -> str:
        """Return the user's name on Kaggle."""
        return self._ask("user_name")

    def submissions(self, everything: bool = False) -> list[Submission]:
        """Return the newest hundred submissions, newest first, or all of them."""
        return _submissions(self._ask("list_submissions", competition=COMPETITION, everything=everything))

    def standing(self) -> tuple[Limits, list[Submission]]:
        """Return how many submissions were made and are left today, and the newest hundred."""
        reply = self._ask("standing", competition=COMPETITION)
        return Limits(**reply["limits"]), _submissions(reply["submissions"])

    def submit(self, file: Path, message: str) -> str:
        """Make one attempt to submit a file and return the ref, or "" where Kaggle does not tell it.

        Raises:
            UnreachableError: with `maybe_submitted`, the submission may have been recorded; without, it was not.
        """
        reply = run_client("submit", self.patience, competition=COMPETITION, file=str(file), message=message)
        if not reply["uploaded"]:
            raise UnreachableError("Kaggle's storage refused the upload.")
        return reply["ref"]

    def download(self, folder: Path) -> Path:
        """Download the data into an empty folder, with a progress bar; return the file, its content unchecked."""
        self._ask("download", attempts=2, competition=COMPETITION, folder=str(folder))
        archive = next(folder.glob(f"{COMPETITION}.*"), None)
        if archive is None:
            raise KitError(f"The kaggle client says that it downloaded the data, but there is no file. See {PAGE}/data")
        return archive

    def push_kernel(self, folder: Path) -> str:
        """Push a kernel's folder, in one attempt, and return the page where it runs."""
        reply = run_client("push_kernel", self.patience, folder=str(folder))
        if reply["error"]:
            raise KitError(f"Kaggle did not take the kernel: {reply['error']}")
        if reply["invalid"]:
            unknown = ", ".join(reply["invalid"])
            raise KitError(f"Kaggle took the kernel, but without these sources, which it does not know: {unknown}")
        return reply["url"]

    def kernel_status(self, kernel: str) -> str:
        """Return the state of a kernel's latest run (queued, running, complete); a failed one is a KitError."""
        reply = self._ask("kernel_status", kernel=kernel)
        if reply["state"] in ("error", "cancel_requested", "cancel_acknowledged"):
            raise KitError(f"The run of {kernel} ended as {reply['state']}: {reply['failure'] or 'no reason given'}")
        return reply["state"]

    def kernel_output(self, kernel: str, folder: Path) -> list[Path]:
        """Download the output of a kernel's latest run; the files reach `folder` only when all of them have come."""
        with tempfile.TemporaryDirectory() as temporary:
            sources = [Path(file) for file in self._ask("kernel_output", kernel=kernel, folder=temporary)]
            if not sources:
                raise KitError(f"The latest run of {kernel} has no output.")
            targets = [folder / source.relative_to(temporary) for source in sources]
            for source, target in zip(sources, targets, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(target) as whole:
                    shutil.copyfile(source, whole)
        return targets

    def _ask(self, call: str, attempts: int | None = None, **arguments: Any) -> Any:
        """Make a call that can be repeated without harm."""
        return persist(lambda: run_client(call, self.patience, **arguments), self.patience, self.tell, attempts)


def _submissions(rows: list[dict]) -> list[Submission]:
    return [Submission(**row | {"public_score": _score(row["public_score"])}) for row in rows]


def _score(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None
