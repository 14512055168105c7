"""The program that runs in a process of its own: one call to the unmodified kaggle client, answered as JSON.

The client's Python side is called, not its command line, for that alone tells the HTTP status, the Retry-After, the
ref of a submission and Kaggle's reason for an error; the command line prints a sentence and often exits 0. All that the
client prints is caught.
"""

import contextlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE_SIZE = 100
LONGEST_LIST = 2000


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
    """Return today's counts and the newest submissions."""
    limits = api.competition_get_submission_limits(competition)
    names = ("num_today", "num_total", "num_allowed_now", "limited_by_total")
    counts = {name: getattr(limits, name) for name in names}
    return {"limits": counts, "submissions": list_submissions(api, competition, everything=False)}


def submit(api, competition: str, file: str, message: str) -> dict:
    """Upload a file; "uploaded" is False where the storage refused it, and then nothing was submitted."""
    answer = api.competition_submit(file, message, competition, quiet=True)
    return {
        "uploaded": answer.message != api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE,
        "message": answer.message,
        "ref": str(answer.ref or ""),
    }


def download(api, competition: str, folder: str) -> None:
    """Download the competition's zip into a folder, with the client's progress bar on stderr."""
    try:
        api.competition_download_files(competition, path=folder, force=True, quiet=False)
    except ValueError as error:  # the client compares the size with the announced one
        raise ConnectionError(str(error)) from error


def push_kernel(api, folder: str) -> dict:
    """Push a kernel's folder."""
    answer = api.kernels_push(folder)
    invalid = [*answer.invalid_dataset_sources, *answer.invalid_competition_sources, *answer.invalid_kernel_sources]
    return {"error": answer.error or "", "invalid": invalid, "url": answer.url or "", "version": answer.version_number}


def kernel_status(api, kernel: str) -> dict:
    """Return the state of a kernel's latest run."""
    answer = api.kernels_status(kernel)
    return {"state": answer.status.name.lower(), "failure": answer.failure_message or ""}


def kernel_output(api, kernel: str, folder: str) -> list[str]:
    """Download a kernel's output files, all or none.

    The client keeps an error page as a file (2.2.4) or stops at it (2.2.5), so the statuses are read.
    """
    import requests

    with _statuses_of_gets() as statuses:
        try:
            files, _ = api.kernels_output(kernel, folder, force=True, quiet=True)
        except requests.HTTPError:
            if all(status < 400 for status in statuses):  # It was not a file: those alone are got, the rest is posted.
                raise
    bad = [status for status in statuses if status >= 400]
    if bad:
        raise ValueError(f"{len(bad)} of the kernel's files could not be fetched (HTTP {bad[0]}).") from None
    return files


def user_name(api) -> str:
    """Return the name of the user whose credentials are used."""
    return api.config_values["username"]


CALLS: dict[str, Callable] = {
    call.__name__: call
    for call in (
        list_submissions,
        standing,
        submit,
        download,
        push_kernel,
        kernel_status,
        kernel_output,
        user_name,
    )
}


@contextlib.contextmanager
def _statuses_of_gets() -> Iterator[list[int]]:
    """Collect the HTTP status of every GET from urllib3's log."""
    statuses: list[int] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.args, tuple) and len(record.args) == 8 and record.args[3] == "GET":
                statuses.append(int(record.args[6]))

    log, collector = logging.getLogger("urllib3.connectionpool"), Collector()
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(collector)
    try:
        yield statuses
    finally:
        log.removeHandler(collector)


def describe(error: BaseException) -> dict:
    """Return an error as plain facts: kind, HTTP status, the client's method it came from, Retry-After, text."""
    import requests
    from requests.exceptions import ChunkedEncodingError

    response, request = getattr(error, "response", None), getattr(error, "request", None)
    facts = {"kind": "other", "text": str(error) or type(error).__name__}
    if response is not None:
        facts |= {"kind": "http", "status": response.status_code, "retry_after": response.headers.get("Retry-After")}
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            facts["status"] = max(facts["status"], int(response.json().get("code") or 0))
    elif isinstance(error, json.JSONDecodeError):
        facts |= {"kind": "unreadable"}
    elif isinstance(error, ConnectionError | requests.ConnectionError | requests.Timeout | ChunkedEncodingError):
        facts |= {"kind": "connection"}
    elif isinstance(error, SystemExit):
        facts |= {"kind": "credentials"}
    request = request if request is not None else getattr(response, "request", None)
    facts["method"] = (getattr(request, "url", None) or "").partition("?")[0].rpartition("/")[2]
    return facts


def reply_to(request: dict) -> dict:
    """Make one call; return {"value": …} or {"error": …}, whose texts the parent process redacts."""
    try:
        import kagglesdk.kaggle_env

        kagglesdk.kaggle_env.Path = _TokenPath
        from kaggle import api
    except ImportError as error:
        return {"error": {"kind": "missing", "text": str(error)}}
    try:
        if not getattr(api, "_authenticated", False):
            api.authenticate()
        return {"value": CALLS[request["call"]](api, **request["arguments"])}
    except (Exception, SystemExit) as error:
        return {"error": describe(error)}


class _TokenPath(type(Path())):
    """A path that the client makes of KAGGLE_API_TOKEN to see whether it names a file: a long token names none."""

    def exists(self, **_) -> bool:
        return os.path.exists(self)  # noqa: PTH110 this one does not raise


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
