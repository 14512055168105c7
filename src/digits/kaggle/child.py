"""The program that runs in a process of its own: one call to the unmodified kaggle client, answered as JSON.

The client's Python side is called, not its command line: that alone tells the HTTP status, the Retry-After, the ref of
a submission and Kaggle's reason for an error; the command line prints a sentence and often exits 0. What the client
prints is dropped. The parent process redacts what comes out of here.
"""

import contextlib
import importlib.metadata
import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

OLDEST_CLIENT = (2, 2, 5)
PAGE_SIZE = 100
LONGEST_LIST = 2000
LIMITS = ("num_today", "num_total", "num_allowed_now", "limited_by_total")


def list_submissions(api, competition: str, everything: bool) -> list[dict]:
    """Return the newest submissions, or all: every page until one brings nothing new."""
    rows: dict[int, dict] = {}
    for page in range(1, LONGEST_LIST // PAGE_SIZE + 1 if everything else 2):
        before = len(rows)
        for row in api.competition_submissions(competition, page_number=page, page_size=PAGE_SIZE) or []:
            rows[row.ref] = {
                "ref": str(row.ref),
                "time": row.date.isoformat(timespec="seconds").removesuffix("+00:00") + "Z" if row.date else "",
                "description": row.description or "",
                "status": row.status.name.lower(),
                "public_score": row.public_score or "",
                "reason": row.error_description or "",
            }
        if len(rows) - before < PAGE_SIZE:
            break
    return list(rows.values())


def standing(api, competition: str) -> dict:
    """Return today's counts, None where Kaggle does not answer that question, and the newest submissions."""
    import requests

    try:
        limits = api.competition_get_submission_limits(competition)
        counts = {name: getattr(limits, name) for name in LIMITS}
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403, 429):
            raise
        counts = None
    return {"limits": counts, "submissions": list_submissions(api, competition, everything=False)}


def submit(api, competition: str, file: str, message: str) -> str:
    """Upload a file and return the ref of its submission; ConnectionError where the storage refused the upload."""
    answer = api.competition_submit(file, message, competition, quiet=True)
    if answer.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:
        raise _UploadRefusedError
    return str(answer.ref or "")


def submit_notebook(api, competition: str, kernel: str, version: int, file: str, message: str) -> str:
    """Submit a file in the output of a notebook's version to a code competition, and return the ref."""
    answer = api.competition_submit_code(file, message, competition, kernel, version, quiet=True)
    return str(answer.ref or "")


def download(api, competition: str, folder: str) -> None:
    """Download the competition's zip into a folder."""
    try:
        api.competition_download_files(competition, path=folder, force=True, quiet=True)
    except ValueError as error:  # the client compares the size with the announced one
        raise ConnectionError(str(error)) from error


def user_name(api) -> str:
    """Return the name of the user whose credentials are used."""
    return api.config_values["username"]


def push_kernel(api, folder: str, accelerator: str | None) -> dict:
    """Push a kernel's folder."""
    answer = api.kernels_push(folder, acc=accelerator)
    invalid = (
        answer.invalid_dataset_sources,
        answer.invalid_competition_sources,
        answer.invalid_kernel_sources,
        answer.invalid_model_sources,
    )
    return {
        "error": answer.error or "",
        "invalid": [source for sources in invalid for source in sources or []],
        "url": answer.url or "",
        "version": answer.version_number or 0,
    }


def kernel_status(api, kernel: str) -> dict:
    """Return the state of the run of a kernel's version, "owner/slug/version"."""
    answer = api.kernels_status(kernel)
    return {"state": answer.status.name.lower(), "failure": answer.failure_message or ""}


def kernel_output(api, kernel: str, folder: str, pattern: str) -> list[str]:
    """Download the output files of a kernel's version whose names match, and its log; all or none."""
    import requests

    try:
        return api.kernels_output(kernel, folder, file_pattern=pattern, force=True, quiet=True)[0]
    except requests.HTTPError as error:
        if error.request is None or error.request.method != "GET":
            raise
        status = getattr(error.response, "status_code", "?")
        raise ValueError(f"a file of the output could not be fetched (HTTP {status})") from None


def publish(api, folder: str, notes: str, new: bool) -> str:
    """Create a private dataset of a folder, or a new version of it; return Kaggle's error, "" for none."""
    if new:
        answer = api.dataset_create_new(folder, public=False, quiet=True, convert_to_csv=False)
    else:
        answer = api.dataset_create_version(folder, notes, quiet=True, convert_to_csv=False)
    return answer.error or ("" if (answer.status or "").lower() in ("", "ok") else answer.status)


def dataset(api, name: str) -> dict | None:
    """Return a dataset's state, newest version and the sizes of its files; None where there is none of that name."""
    import requests

    try:
        state = json.loads(api.dataset_status(name, format="json"))
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code in (403, 404):
            return None
        raise
    sizes: dict[str, int] = {}
    token = None
    while state["status"] == "ready":
        page = api.dataset_list_files(name, page_token=token, page_size=PAGE_SIZE)
        sizes |= {file.name: file.total_bytes for file in page.dataset_files}
        token = page.next_page_token
        if not token:
            break
    return state | {"sizes": sizes}


CALLS: dict[str, Callable] = {
    call.__name__: call
    for call in (
        *(list_submissions, standing, submit, submit_notebook, download, user_name),
        *(push_kernel, kernel_status, kernel_output, publish, dataset),
    )
}


class _UploadRefusedError(ConnectionError):
    """The storage did not take the upload, so nothing was submitted."""


class _TokenPath(PosixPath):
    """A path that the client makes of KAGGLE_API_TOKEN to see whether it names a file: a long token names none."""

    def exists(self, **_) -> bool:
        return os.path.exists(self)  # noqa: PTH110 this one does not raise


def credentials_of(api) -> dict[str, str]:
    """Return where the client found its credentials ("source"), and a warning where others can read the file."""
    from kagglesdk import get_access_token_from_env

    source = get_access_token_from_env()[1]
    if source == "access_token":
        folder = Path("~/.kaggle").expanduser()
        source = next(str(path) for path in (folder / "access_token", folder / "access_token.txt") if path.exists())
    elif source is None and api.config_values.get("auth_method") == "OAUTH":
        source = str(Path("~/.kaggle/credentials.json").expanduser())
    elif source is None:
        source = "KAGGLE_USERNAME and KAGGLE_KEY" if "KAGGLE_KEY" in os.environ else api.config
    file = Path(os.environ.get("KAGGLE_API_TOKEN", "") if source == "KAGGLE_API_TOKEN" else source)
    found = {"source": source, "warning": ""}
    with contextlib.suppress(OSError, ValueError):
        if os.name != "nt" and file.stat().st_mode & 0o077:
            found["warning"] = f"other users of this machine can read {file}. Change that: chmod 600 {file}"
    return found


def faults_of_credentials(api) -> list[str]:
    """Return what is wrong with each place that should hold credentials but gives the client none."""
    faults, home, token = [], Path("~/.kaggle").expanduser(), os.environ.get("KAGGLE_API_TOKEN", "")
    tokens = [Path(token)] if token and os.path.exists(token) else []  # noqa: PTH110 Path.exists() raises for a long one
    tokens += [home / "access_token", home / "access_token.txt"]
    for file in [*tokens, Path(api.config if api else home / "kaggle.json"), home / "credentials.json"]:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            faults.append(f"{file} cannot be read: {error.strerror}")
            continue
        if content[:2] in (b"\xff\xfe", b"\xfe\xff") or content[:3] == b"\xef\xbb\xbf":
            faults.append(f"{file} is UTF-16 or begins with a byte order mark: save it as plain UTF-8 text")
        elif not content.strip():
            faults.append(f"{file} is empty")
        elif file not in tokens:
            with contextlib.suppress(ValueError, AttributeError):
                values = json.loads(content)
                if str(values.get("key", "")).startswith("KGAT_"):
                    faults.append(f"'key' in {file} is a token of the new kind: put it alone into {tokens[-2]}")
                    continue
                if values.get("refresh_token") or (values.get("username") and values.get("key")):
                    continue
            faults.append(f"{file} does not hold what it should, 'username' and 'key' as JSON")
    return faults


def describe(error: BaseException) -> dict:
    """Return an error as plain values: kind, HTTP status, the client's method it came from, Retry-After, text."""
    import requests

    response, request = getattr(error, "response", None), getattr(error, "request", None)
    values: dict[str, Any] = {"kind": "other", "text": str(error) or type(error).__name__}
    if response is not None:
        values |= {"kind": "http", "status": response.status_code, "retry_after": response.headers.get("Retry-After")}
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            values["status"] = max(values["status"], int(response.json().get("code") or 0))
    elif isinstance(error, _UploadRefusedError):
        values |= {"kind": "upload"}
    elif isinstance(error, json.JSONDecodeError):
        values |= {"kind": "unreadable"}
    elif isinstance(
        error, ConnectionError | requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError
    ):
        values |= {"kind": "connection"}
    request = request if request is not None else getattr(response, "request", None)
    values["method"] = (getattr(request, "url", None) or "").partition("?")[0].rpartition("/")[2]
    return values


def reply_to(request: dict) -> dict:
    """Make one call; return {"value" or "error": …, "credentials": …}."""
    try:
        version = importlib.metadata.version("kaggle")
        if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_CLIENT:
            return {"error": {"kind": "version", "text": version}}
        import kagglesdk.kaggle_env

        kagglesdk.kaggle_env.Path = _TokenPath
        from kaggle import api
    except ImportError as error:  # PackageNotFoundError is one.
        return {"error": {"kind": "missing", "text": str(error)}}
    except OSError as error:  # It makes ~/.kaggle.
        return {"error": {"kind": "credentials", "text": "", "faults": [f"{error.filename}: {error.strerror}"]}}
    reply = {}
    try:
        if not getattr(api, "_authenticated", False):
            api.authenticate()
        reply["credentials"] = credentials_of(api)
        return reply | {"value": CALLS[request["call"]](api, **request["arguments"])}
    except SystemExit:
        return {"error": {"kind": "credentials", "text": "", "faults": faults_of_credentials(api)}}
    except Exception as error:
        found = describe(error)
        if found["kind"] == "other" and "credentials" not in reply:
            found |= {"kind": "credentials", "faults": faults_of_credentials(api) or [type(error).__name__]}
        elif found.get("status") == 401:
            found["faults"] = faults_of_credentials(api)
        return reply | {"error": found}


def main() -> None:
    """Read the request from the command line, answer on stdout, and end in any case when the time given is over."""
    request = json.loads(sys.argv[1])
    last_resort = threading.Timer(request["seconds"], os._exit, [1])
    last_resort.daemon = True
    last_resort.start()
    with contextlib.redirect_stdout(io.StringIO()):
        reply = reply_to(request)
    print(json.dumps(reply))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)
