"""Where the kaggle client will find its credentials, and the environment it runs in; no secret is kept or shown."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from digits.errors import KaggleRefused

COMPETITION = "digit-recognizer"
PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
TOKEN_PAGE = "https://www.kaggle.com/settings/api"

# The client turns every KAGGLE_X into a setting x (KAGGLE_PATH moves downloads), so only these go through. The last
# three are how the client logs in inside a Kaggle notebook.
KEPT = (
    "KAGGLE_API_TOKEN",
    "KAGGLE_USERNAME",
    "KAGGLE_KEY",
    "KAGGLE_CONFIG_DIR",
    "KAGGLE_API_ENVIRONMENT",
    "KAGGLE_API_V1_TOKEN",
    "KAGGLE_KERNEL_RUN_TYPE",
    "KAGGLE_DATA_PROXY_URL",
)
# With these set the client prints its Authorization header.
TELLTALES = ("VERBOSE", "VERBOSE_OUTPUT")


@dataclass(frozen=True)
class Credentials:
    """Where credentials were found, never what they are: `source` for people, `file` where they lie in one."""

    source: str
    file: Path | None = None

    @property
    def warning(self) -> str | None:
        """What is unsafe about the file, with the command that mends it, or None."""
        if self.file is None or os.name == "nt" or not self.file.stat().st_mode & 0o077:
            return None
        return f"warning: other users of this machine can read {self.file}. Mend it: chmod 600 {self.file}"


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for the client: proxies and all else kept, its own settings cleaned, empty ones absent."""
    cleaned = {
        name: value
        for name, value in environment.items()
        if name not in TELLTALES and (not name.startswith("KAGGLE_") or (name in KEPT and value.strip()))
    }
    for name in cleaned.keys() & set(KEPT):
        cleaned[name] = cleaned[name].strip()
    # Half a pair would be mixed by the client with the other half of kaggle.json.
    if not {"KAGGLE_USERNAME", "KAGGLE_KEY"} <= cleaned.keys():
        cleaned.pop("KAGGLE_USERNAME", None)
        cleaned.pop("KAGGLE_KEY", None)
    return cleaned


def find_credentials(environment: Mapping[str, str]) -> Credentials:
    """Return where the client will find credentials, in its own order.

    Raises:
        KaggleRefused: where there are none, saying how to get and where to put them.
    """
    found = next(_places(client_environment(environment)), None)
    if found is None:
        raise KaggleRefused(
            f"no Kaggle credentials found{_broken_file(environment)}. Make a token at {TOKEN_PAGE} and save it in "
            f"~/.kaggle/access_token (or set KAGGLE_API_TOKEN), and accept the rules: {PAGE}/rules\n"
            f"Without an account's token: fetch the zip with a browser from {PAGE}/data, then "
            "scripts/download.sh --zip FILE"
        )
    return found


def _places(environment: Mapping[str, str]) -> Iterator[Credentials]:
    home = Path.home() / ".kaggle"
    notebook_token = Path(environment.get("KAGGLE_API_V1_TOKEN", ""))
    if "KAGGLE_KERNEL_RUN_TYPE" in environment and notebook_token.is_file():
        yield Credentials("this Kaggle notebook")
    token = environment.get("KAGGLE_API_TOKEN", "")
    if token and not Path(token).exists():
        yield Credentials("KAGGLE_API_TOKEN")
    elif token and _has_text(Path(token)):
        yield Credentials(f"the file that KAGGLE_API_TOKEN names, {token}", Path(token))
    for file in (home / "access_token", home / "access_token.txt"):
        if _has_text(file):
            yield Credentials(str(file), file)
    if "KAGGLE_KEY" in environment:
        yield Credentials("KAGGLE_USERNAME and KAGGLE_KEY")
    for file, names in ((_key_file(environment), ("username", "key")), (home / "credentials.json", ("refresh_token",))):
        if _has_values(file, names):
            yield Credentials(str(file), file)


def _key_file(environment: Mapping[str, str]) -> Path:
    """Return where the client looks for kaggle.json."""
    if folder := environment.get("KAGGLE_CONFIG_DIR"):
        return Path(folder) / "kaggle.json"
    home = Path.home() / ".kaggle"
    if not home.exists():
        home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    return home / "kaggle.json"


def _broken_file(environment: Mapping[str, str]) -> str:
    file = _key_file(client_environment(environment))
    return f" ({file} is there, but holds no 'username' and 'key' as JSON)" if file.is_file() else ""


def _has_text(file: Path) -> bool:
    try:
        return bool(file.read_text(errors="replace").strip())
    except OSError:
        return False


def _has_values(file: Path, names: tuple[str, ...]) -> bool:
    try:
        values = json.loads(file.read_text())
        return all(str(values.get(name) or "").strip() for name in names)
    except (OSError, ValueError, AttributeError):
        return False
