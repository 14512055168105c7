"""Keep credentials out of what is printed and written: the one place that knows what must not be seen."""

import json
import os
import re
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

SHORTEST_SECRET = 8
"""Characters. Replacing shorter ones would garble every text, and show by the gaps what they are."""
HIDDEN = "…"
_NAMES = ("kaggle.json", "access_token", "access_token.txt", "credentials.json")
_PATTERNS = (
    (re.compile(r"(?i)\b(basic|bearer)\s+[\w+/=.~-]{12,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(\w://)[^\s/@'\"]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"\?[^\s'\")<>]*=[^\s'\")<>]*"), f"?{HIDDEN}"),
)
"""Authorization headers, user and password in a URL, and the query of a URL, which signs it."""
Value = TypeVar("Value")


def redact(value: Value) -> Value:
    """Return a text, or lists and dicts of texts, without Kaggle credentials, passwords and signatures.

    Credentials are what lies in the variables and files where the Kaggle client looks for them, in any spelling that an
    error message may give them (`repr`, JSON, URL).
    """
    secrets = _secrets()

    def clean(part):
        if isinstance(part, str):
            for secret in secrets:
                part = part.replace(secret, HIDDEN)
            for pattern, replacement in _PATTERNS:
                part = pattern.sub(replacement, part)
            return part
        if isinstance(part, dict):
            return {clean(name): clean(item) for name, item in part.items()}
        return [clean(item) for item in part] if isinstance(part, list) else part

    return clean(value)


def credential_files() -> list[Path]:
    """Return the files that exist where the Kaggle client looks for credentials."""
    home = os.path.expanduser("~")  # noqa: PTH111 Path.home() raises where there is none
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    folders = os.environ.get("KAGGLE_CONFIG_DIR"), f"{home}/.kaggle", f"{config}/kaggle"
    files = [f"{folder}/{name}" for folder in folders if folder for name in _NAMES]
    return [Path(file) for file in [*files, *_variables()] if os.path.isfile(file)]  # noqa: PTH113 it may be long


def _variables() -> list[str]:
    return [value.strip() for name, value in os.environ.items() if re.fullmatch("KAGGLE_.*(TOKEN|KEY)", name)]


def _secrets() -> list[str]:
    """Return every spelling of every credential that can be found, the longest first."""
    files = credential_files()
    values = set(_variables()) - set(map(str, files))
    for file in files:
        try:
            content = file.read_bytes()
        except OSError:
            continue
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace").strip()
        try:
            values |= {str(value) for name, value in json.loads(text).items() if re.search("key|token", name)}
        except (ValueError, AttributeError):  # A token alone, or a broken file, of which any word may be one.
            values |= {text, *re.findall(r"[^\s\"',:{}]+", text)} - {"username", "key"}
    long = [value for value in values if len(value) >= SHORTEST_SECRET]
    spellings = {form for text in long for form in (text, repr(text)[1:-1], json.dumps(text)[1:-1], quote(text))}
    return sorted(spellings | {quote(text, safe="") for text in long}, key=len, reverse=True)
