"""The program that runs in a process of its own: one call to the unmodified kaggle client, answered as JSON.

The client's Python side is called, not its command line: that alone gives the HTTP status, the Retry-After, the ref of
a submission and Kaggle's reason for an error; the command line prints a sentence and often exits 0. What the client
prints is dropped. The parent process redacts what comes out of here.
"""

import contextlib
import enum
import errno
import importlib.metadata
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OLDEST_CLIENT = (2, 2, 5)
sleep = time.sleep
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Kind(enum.StrEnum):
    """What went wrong in a call."""

    ANSWER = "answer"  # Kaggle answered with an error: `status` is set.
    UNREADABLE = "unreadable"  # The answer is not Kaggle's.
    UPLOAD = "upload"  # The storage did not take the file; nothing is submitted then.
    CREDENTIALS = "credentials"
    CLIENT = "client"  # It is missing, or too old.
    DISK = "disk"
    PROXY = "proxy"
    CERTIFICATE = "certificate"
    NAME = "name"
    CONNECTION = "connection"
    OTHER = "other"


TYPES = {
    Kind.PROXY: ("ProxyError", "InvalidProxyURL", "InvalidSchema", "LocationParseError", "ProxySchemeUnknown"),
    Kind.CERTIFICATE: ("SSLError",),
    Kind.NAME: ("gaierror", "NameResolutionError"),
    Kind.CONNECTION: ("ConnectionError", "Timeout", "TimeoutError", "ChunkedEncodingError"),
    Kind.UNREADABLE: ("JSONDecodeError",),
}
"""The exceptions by name: Python, urllib3 and requests each have their own."""


@dataclass
class Reply:
    """What a call returned, or why it failed."""

    value: Any = None
    failure: Kind | None = None
    text: str = ""  # The client's or Kaggle's words about the failure.
    method: str = ""  # The last part of the address that was called, such as "CreateSubmission".
    status: int | None = None
    retry_after: float | None = None
    source: str = ""  # Of the credentials: variables, or a file.


def plain(value: Any) -> Any:
    """Return an answer as JSON has it: objects become dicts with Kaggle's names, in which zeros are left out."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.to_dict() if hasattr(value, "to_dict") else value


def read_field(field: Any, instance: Any, values: dict[str, Any] | None) -> None:
    """Set a field of an answer as kagglesdk's `FieldMetadata.set_from_dict` does, but leave out what has no meaning.

    That gives up a whole list for one row in which a field, or the row itself, is null or has a value it does not know.
    In protobuf's JSON null stands for the default. A list that cannot be read is an error all the same.
    """
    value = None if values is None else values.get(field.json_name)
    if value is None:
        return
    try:
        setattr(instance, field.private_field_name, field.serializer.from_dict_value(field.field_type, value))
    except Exception:
        if isinstance(field.default_value, list):
            raise


def adapt_client() -> None:
    """Keep the client from giving up an answer for one field, and from deleting the file of a login that is revoked."""
    from kagglesdk.kaggle_creds import KaggleCredentials
    from kagglesdk.kaggle_object import FieldMetadata

    FieldMetadata.set_from_dict = read_field
    KaggleCredentials.delete = lambda *_: None


def source_of(api) -> str:
    """Return where the client found its credentials: variables, or a file."""
    from kagglesdk import get_access_token_from_env

    source, folder = get_access_token_from_env()[1], Path("~/.kaggle").expanduser()
    if source == "access_token":
        return str(next(folder.glob("access_token*")))
    if source is None and api.config_values.get("auth_method") == "OAUTH":
        return str(folder / "credentials.json")
    return source or ("KAGGLE_USERNAME and KAGGLE_KEY" if "KAGGLE_KEY" in os.environ else api.config)


def causes_of(error: Any) -> Iterator[BaseException]:
    """Yield an error and all that it wraps; urllib3 keeps the cause as an argument or as `reason`."""
    if isinstance(error, BaseException):
        yield error
        for cause in (error.__cause__ or error.__context__, getattr(error, "reason", None), *error.args):
            yield from causes_of(cause)


def kind_of(error: BaseException) -> Kind:
    """Return what an exception of the client means, by the types that it wraps."""
    causes = list(causes_of(error))
    if any(isinstance(cause, OSError) and cause.errno in DISK_ERRORS for cause in causes):
        return Kind.DISK
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if bundle and not os.path.exists(bundle):  # noqa: PTH110 likewise
        return Kind.CERTIFICATE
    names = {base.__name__ for cause in causes for base in type(cause).__mro__}
    return next((kind for kind, types in TYPES.items() if not names.isdisjoint(types)), Kind.OTHER)


def pause(seconds: Any) -> None:
    """Sleep in the client's place: it fetches again also after what is no fault of the network, such as a full disk."""
    error = sys.exception()
    if error and kind_of(error) is Kind.DISK:
        raise error
    sleep(seconds)


def describe(error: BaseException) -> Reply:
    """Return an exception of the client as plain values."""
    import urllib3

    response, request = getattr(error, "response", None), getattr(error, "request", None)
    request = request if request is not None else getattr(response, "request", None)
    method = (getattr(request, "url", None) or "").partition("?")[0].rpartition("/")[2]
    reply = Reply(None, Kind.ANSWER, str(error) or type(error).__name__, method)
    if response is None:
        reply.failure = kind_of(error)
        return reply
    reply.status = response.status_code
    with contextlib.suppress(urllib3.exceptions.InvalidHeader, TypeError):
        reply.retry_after = urllib3.Retry().parse_retry_after(response.headers.get("Retry-After"))
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # An error can come with status 200.
        reply.status = max(reply.status, int(response.json().get("code") or 0))
    return reply


def reply_to(call: str, arguments: dict[str, Any]) -> Reply:
    """Make one call of the client's."""
    source = ""
    try:
        version = importlib.metadata.version("kaggle")
        if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_CLIENT:
            return Reply(failure=Kind.CLIENT, text=f"is version {version}, too old")
        adapt_client()  # Before the import, which logs in.
        from kaggle import api

        api.with_retry = lambda function, *_: function  # By itself the client repeats what may have arrived.
        if not getattr(api, "_authenticated", False):
            api.authenticate()
        source = source_of(api)
        value = plain(getattr(api, call)(**arguments))
        if call == "competition_submit" and value.get("message") == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:
            return Reply(failure=Kind.UPLOAD, source=source)
        return Reply(value, source=source)
    except ImportError as error:  # PackageNotFoundError is one.
        return Reply(failure=Kind.CLIENT, text=f"is missing ({error})")
    except SystemExit:
        reply = Reply(failure=Kind.CREDENTIALS)
    except Exception as error:
        reply = describe(error)
        if reply.failure is Kind.OTHER and not source:
            reply.failure = Kind.CREDENTIALS
        if reply.failure is Kind.DISK:
            reply.text = f"{arguments.get('path', '~/.kaggle')} ({reply.text})"
    reply.source = source
    return reply


def main() -> None:
    """Read the request from the command line and answer on stdout."""
    request = json.loads(sys.argv[1])
    if hasattr(signal, "alarm"):  # In case the parent process was killed.
        signal.alarm(int(request["seconds"]))
    time.sleep = pause
    with contextlib.redirect_stdout(io.StringIO()):
        reply = reply_to(request["call"], request["arguments"])
    print(json.dumps(asdict(reply)))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)
