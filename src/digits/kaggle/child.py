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
import signal
import sys
from pathlib import Path
from typing import Any

OLDEST_CLIENT = (2, 2, 5)


def plain(value: Any) -> Any:
    """Return an answer as JSON has it: objects become dicts with Kaggle's names, in which zeros are left out."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.to_dict() if hasattr(value, "to_dict") else value


def source_of(api) -> str:
    """Return where the client found its credentials: variables, or a file."""
    from kagglesdk import get_access_token_from_env

    source = get_access_token_from_env()[1]
    if source == "access_token":
        return next(file for file in files_of_credentials(api) if "access_token" in file)
    if source is None and api.config_values.get("auth_method") == "OAUTH":
        return str(Path("~/.kaggle/credentials.json").expanduser())
    return source or ("KAGGLE_USERNAME and KAGGLE_KEY" if "KAGGLE_KEY" in os.environ else api.config)


def files_of_credentials(api) -> list[str]:
    """Return the files that exist among those in which the client looks for credentials."""
    home = os.path.expanduser("~/.kaggle")  # noqa: PTH111 the client does not need one
    files = [f"{home}/access_token", f"{home}/access_token.txt", api.config, f"{home}/credentials.json"]
    return [file for file in [os.environ.get("KAGGLE_API_TOKEN", ""), *files] if os.path.exists(file)]  # noqa: PTH110


def describe(error: BaseException) -> dict:
    """Return an error as plain values: kind, text, method, and of an answer its status and Retry-After in seconds."""
    import requests
    import urllib3

    response, request = getattr(error, "response", None), getattr(error, "request", None)
    request = request if request is not None else getattr(response, "request", None)
    method = (getattr(request, "url", None) or "").partition("?")[0].rpartition("/")[2]
    values: dict[str, Any] = {"kind": "other", "text": str(error) or type(error).__name__, "method": method}
    if response is not None:
        values |= {"kind": "http", "status": response.status_code}
        with contextlib.suppress(urllib3.exceptions.InvalidHeader, TypeError):
            values["retry_after"] = urllib3.Retry().parse_retry_after(response.headers.get("Retry-After"))
        with contextlib.suppress(ValueError, TypeError, AttributeError):  # An error can come with status 200.
            values["status"] = max(values["status"], int(response.json().get("code") or 0))
    elif isinstance(error, json.JSONDecodeError):
        values["kind"] = "unreadable"
    elif isinstance(error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)):
        values["kind"] = "connection"
    return values


def reply_to(request: dict) -> dict:
    """Make one call of the client's; return its "value" or "error", and the "source" of the credentials."""
    try:
        version = importlib.metadata.version("kaggle")
        if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_CLIENT:
            return {"error": {"kind": "version", "text": version}}
        from kaggle import api
    except ImportError as error:  # PackageNotFoundError is one.
        return {"error": {"kind": "missing", "text": str(error)}}
    except OSError as error:  # It makes ~/.kaggle.
        return {"error": {"kind": "credentials", "text": str(error)}}
    source = ""
    try:
        api.with_retry = lambda function, *_: function  # By itself the client repeats what may have arrived.
        if not getattr(api, "_authenticated", False):
            api.authenticate()
        source = source_of(api)
        return {"source": source, "value": plain(getattr(api, request["call"])(**request["arguments"]))}
    except SystemExit:
        found = {"kind": "credentials", "text": ""}
    except Exception as error:
        found = describe(error)
        if found["kind"] == "other" and not source:
            found["kind"] = "credentials"
    return {"source": source, "error": found | {"files": files_of_credentials(api)}}


def main() -> None:
    """Read the request from the command line and answer on stdout."""
    request = json.loads(sys.argv[1])
    if hasattr(signal, "alarm"):  # In case the parent process was killed.
        signal.alarm(int(request["seconds"]))
    with contextlib.redirect_stdout(io.StringIO()):
        reply = reply_to(request)
    print(json.dumps(reply))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)
