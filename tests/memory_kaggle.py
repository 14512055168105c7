"""A Kaggle in memory: it stands in the place of the client's child process, and answers and fails as that does."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import requests

from digits.kaggle import child
from digits.kaggle.client import Kaggle, RetryPolicy, UnreachableError

USER = "someone"
FAST = RetryPolicy(
    attempts=3,
    first_pause_seconds=0.001,
    longest_pause_seconds=5,
    listing_seconds=0.02,
    poll_seconds=0.005,
    longest_poll_seconds=0.01,
    call_seconds=0.02,
    transfer_seconds=0.2,
)


class MemoryKaggle:
    """The state of the service; `call` is what `client.Kaggle` calls."""

    def __init__(self):
        self.submissions: list[dict] = []
        self.sent: list[dict] = []
        self.files: dict[str, bytes] = {}
        """What a download brings, and the output of each notebook version, by "version/name"."""
        self.allowed_a_day, self.never_submitted, self.listed, self.polls_until_scored = 5, False, True, 0
        self.outcome = {"status": "complete", "public_score": "0.99671", "reason": ""}
        self.version, self.states, self.failure, self.log = 0, ["queued", "running", "complete"], "", "all is well\n"
        self.push_reply: dict = {}
        self.dataset: dict | None = None
        self.last_ref = 999
        self.calls: Counter[str] = Counter()
        self.credentials: dict | None = {"source": "KAGGLE_API_TOKEN", "warning": ""}
        self._faults: dict[str, list] = {}

    def kaggle(self, tell=lambda line: None, policy=FAST, **how) -> Kaggle:
        """Return the calls to it."""
        return Kaggle(policy, tell, self.call, **how)

    def fault(self, call, times=1, *, after=False, **error):
        """Let the next calls fail with what `child.describe` would tell, before or `after` their work is done.

        `kind="lost"` is a child process that never answers.
        """
        self._faults.setdefault(call, []).extend([(after, error)] * times)

    def call(self, name, arguments, policy, tell):
        self.calls[name] += 1
        assert name in child.CALLS
        json.dumps(arguments)
        if self.credentials is None:
            return {"error": {"kind": "credentials", "text": "", "faults": []}}
        waiting = self._faults.get(name)
        after, error = waiting.pop(0) if waiting else (False, None)
        if error and not after:
            return self._fail(name, error)
        try:
            value = getattr(self, f"_{name}")(**arguments)
        except ValueError as wrong:
            return {"error": {"kind": "other", "text": str(wrong)}}
        return self._fail(name, error) if error else {"value": value, "credentials": self.credentials}

    def _fail(self, name, error):
        if error["kind"] == "lost":
            raise UnreachableError("No answer from Kaggle in 180 s.", maybe_submitted=name.startswith("submit"))
        method = {"submit": "CreateSubmission"}.get(name, "")
        return {"error": {"text": "", "method": method} | error, "credentials": self.credentials}

    # The calls of child.py.

    def _user_name(self):
        return USER

    def _list_submissions(self, competition, everything):
        rows = []
        for row in self.submissions if self.listed else []:
            if row["status"] == "pending":
                if row["polls"] <= 0:
                    row.update(row["outcome"])
                row["polls"] -= 1
            rows.append({name: value for name, value in row.items() if name not in ("polls", "outcome")})
        return rows if everything else rows[:100]

    def _standing(self, competition):
        today = len(self.submissions)
        counts = (0, 0, 0) if self.never_submitted else (today, today, max(0, self.allowed_a_day - today))
        limits = dict(zip(child.LIMITS, (*counts, False), strict=True))
        return {"limits": limits, "submissions": self._list_submissions(competition, False)}

    def record(self, description, **values) -> dict:
        """Record a submission, as the API or the site does."""
        self.last_ref += 1
        row = {
            "ref": str(self.last_ref),
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "description": description,
            "status": "pending",
            "public_score": "",
            "reason": "",
            "polls": self.polls_until_scored,
            "outcome": dict(self.outcome),
        } | values
        self.submissions.insert(0, row)
        return row

    def _submit(self, competition, file, message):
        self.sent.append({"file": Path(file).read_bytes()})
        return self.record(message)["ref"]

    def _submit_notebook(self, competition, kernel, version, file, message):
        self.sent.append({"kernel": kernel, "version": version, "file": file, "competition": competition})
        return self.record(message)["ref"]

    def _download(self, competition, folder):
        if content := self.files.get("download"):
            (Path(folder) / f"{competition}.zip").write_bytes(content)

    def _push_kernel(self, folder, accelerator):
        metadata = json.loads((Path(folder) / "kernel-metadata.json").read_text())
        metadata["notebook"] = json.loads((Path(folder) / metadata["code_file"]).read_text())
        self.sent.append(metadata | {"accelerator": accelerator})
        self.version += 1
        url = f"https://www.kaggle.com/code/{metadata['id']}"
        return {"error": "", "invalid": [], "url": url, "version": self.version} | self.push_reply

    def _kernel_status(self, kernel):
        state = self.states[0] if len(self.states) == 1 else self.states.pop(0)
        return {"state": state, "failure": self.failure if state == "error" else ""}

    def _kernel_output(self, kernel, folder, pattern):
        import re

        version, fetched = kernel.rpartition("/")[2], []
        for name, content in {**self.files, f"{version}/kit.log": self.log.encode()}.items():
            its_version, _, file = name.partition("/")
            if its_version == version and (file == "kit.log" or re.search(pattern, file)):
                (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / file).write_bytes(content)
                fetched.append(str(Path(folder) / file))
        return fetched

    def _publish(self, folder, notes, new):
        assert new == (self.dataset is None)
        sizes = {file.name: file.stat().st_size for file in Path(folder).iterdir()}
        metadata = sizes.pop("dataset-metadata.json")
        assert metadata
        version = 1 if self.dataset is None else self.dataset["current_version_number"] + 1
        self.dataset = {"status": "ready", "current_version_number": version, "sizes": sizes}
        return ""

    def _dataset(self, name):
        return self.dataset


def in_process(call, arguments, policy, tell):
    """Answer as the child process does, with the real client, whose requests go where `requests` is patched to."""
    import contextlib
    import io
    import os

    import kaggle
    import pytest
    from kaggle.api.kaggle_api_extended import KaggleApi

    from digits.kaggle.client import client_environment

    assert requests.Session.send.__module__ != "requests.sessions", "the test would reach the network"
    cleaned = client_environment(os.environ)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        for name in [name for name in os.environ if name.startswith("KAGGLE_") and name not in cleaned]:
            patch.delenv(name)
        for name, value in cleaned.items():
            patch.setenv(name, value)
        home = Path(os.environ["HOME"])
        folder = os.environ.get("KAGGLE_CONFIG_DIR") or home / ".kaggle"
        if not Path(folder).exists():
            folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
        patch.setattr(KaggleApi, "config", str(Path(folder) / "kaggle.json"))
        patch.setattr(kaggle, "api", KaggleApi())
        return json.loads(json.dumps(child.reply_to({"call": call, "arguments": arguments})))
