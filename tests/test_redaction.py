"""No credential is ever printed or written: whatever it is, wherever it lies, whatever the command and the answer."""

import functools
import json
import os
import random
import re
import string
from dataclasses import replace

import numpy as np
import requests

import download
import push_kernel
import submit
from digits.data.competition import COMPETITIONS
from digits.data.submission import write_submission
from digits.kaggle import client
from digits.redaction import SHORTEST_SECRET, redact
from fake_kaggle import FAST, in_process

LETTERS = string.ascii_letters + string.digits + "-_.+/=~%$"
PLACES = (
    "KAGGLE_API_TOKEN", "KAGGLE_API_TOKEN as a file", "access_token", "access_token.txt", "KAGGLE_KEY", "kaggle.json",
    "KAGGLE_CONFIG_DIR", "broken kaggle.json", "UTF-16 access_token", "credentials.json", "unreadable",
)  # fmt: skip
COMMANDS = (
    *((submit.main, "--submissions-dir", "submissions", flag) for flag in ("--yes", "--dry-run", "--status")),
    (download.main, "--data-dir", "data"),
    (push_kernel.main, "--submissions-dir", "submissions", "--no-wait"),
)


def put(place, secret, folder, environment):
    home = folder / "home" / ".kaggle"
    home.mkdir(parents=True)
    key_file = json.dumps({"username": "someone", "key": secret})
    if place == "KAGGLE_API_TOKEN":
        environment[place] = secret
    elif place == "KAGGLE_API_TOKEN as a file":
        (folder / "token").write_text(secret, encoding="utf-8")
        environment["KAGGLE_API_TOKEN"] = str(folder / "token")
    elif place in ("access_token", "access_token.txt"):
        (home / place).write_text(secret + "\n", encoding="utf-8")
    elif place == "UTF-16 access_token":
        (home / "access_token").write_text(secret, encoding="utf-16")
    elif place == "KAGGLE_KEY":
        environment |= {"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": secret}
    elif place == "KAGGLE_CONFIG_DIR":
        (folder / "kaggle.json").write_text(key_file)
        environment["KAGGLE_CONFIG_DIR"] = str(folder)
    elif place == "credentials.json":
        (home / place).write_text(json.dumps({"refresh_token": secret, "username": "someone"}))
    else:
        (home / "kaggle.json").write_text(key_file[:-2] if place.startswith("broken") else key_file)
        (home / "kaggle.json").chmod(0 if place == "unreadable" else 0o600)


def answer(kind, request):
    """Answer a prepared request, or fail, in a way that shows what was sent."""
    shown = f"{request.headers.get('Authorization')} {request.body} {request.url}?Signature=SIGNED"
    if kind == "raise":
        raise requests.ConnectionError(f"cannot connect with {shown}", request=request)
    response = requests.Response()
    response.status_code, body = kind, {"code": kind, "message": f"bad: {shown}"}
    if kind == 200:
        body = {"active": True, "username": "someone", "submissions": [], "numAllowedNow": 5, "error": shown}
    response._content = json.dumps(body).encode()
    response.headers["Content-Type"] = "application/json"
    response.request, response.url = request, request.url
    return response


def run(place, secret, kind, command, folder, monkeypatch, capfd):
    """Run a command whose credential is `secret`, without network, and return what is printed and written."""
    folder.mkdir()
    environment = {"HOME": str(folder / "home"), "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "PATH": os.environ["PATH"]}
    put(place, secret, folder, environment)
    (folder / "submissions").mkdir()
    write_submission(folder / "submissions" / "submission.csv", np.arange(1, 101), np.arange(100) % 10)
    laid_down = {path for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(requests.adapters.HTTPAdapter, "send", lambda self, request, **_: answer(kind, request))
        known = COMPETITIONS["digit-recognizer"]
        patch.setitem(COMPETITIONS, known.slug, replace(known, test=replace(known.test, rows=100)))
        patch.setattr(client, "Kaggle", functools.partial(client.Kaggle, replace(FAST, attempts=1), call=in_process))
        main, flag, place, *more = command
        code = main([flag, str(folder / place), *more])
    out, err = capfd.readouterr()
    assert code in (0, 1, 2, 3)
    assert "Traceback" not in err
    written = [path.read_text() for path in sorted(folder.rglob("*")) if path.is_file() and path not in laid_down]
    text = "\n".join([out, err, *written]).replace(str(folder), "FOLDER")
    assert len(text) < 10_000, text[:2000]
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", text)


def secret_of(length, chance):
    """Return a secret that begins and ends with a letter: the client strips what is around it."""
    ends = [chance.choice(string.ascii_letters) for _ in range(2)]
    return (ends[0] + "".join(chance.choice(LETTERS) for _ in range(length - 2)) + ends[1])[:length]


def test_what_is_printed_and_written_does_not_depend_on_the_secret(monkeypatch, tmp_path, capfd):
    """Two secrets of one length give the same output, so nothing of either can be in it."""
    chance = random.Random(7)
    for number in range(30):
        place, command = chance.choice(PLACES), chance.choice(COMMANDS)
        length = int(5000 ** chance.random())
        # A server that repeats a credential of less than eight characters is past help.
        kinds = (200, 400, 401, 403, 429, 500, "raise") if length >= SHORTEST_SECRET + 2 else (401,)
        kind = chance.choice(kinds)
        length = max(length, 1)
        outputs = []
        for which in "ab":
            secret = secret_of(length, chance)
            said = run(place, secret, kind, command, tmp_path / f"{number}{which}", monkeypatch, capfd)
            if length >= SHORTEST_SECRET + 2:
                assert secret not in said
            outputs.append(said)
        assert "SIGNED" not in outputs[0]
        assert outputs[0] == outputs[1], (place, length, kind)


def test_patterns_that_always_hide_something_are_hidden():
    text = "Authorization: Basic c29tZW9uZTprZXk= via http://me:pw@proxy:3128 to https://h/p?Signature=abc&x=1 ('why?')"
    assert redact([text]) == ["Authorization: Basic … via http://…@proxy:3128 to https://h/p?… ('why?')"]
    assert redact("run tta, basic [digits:0123456789ab]") == "run tta, basic [digits:0123456789ab]"


def test_a_credential_is_hidden_in_every_spelling(monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "abc'd\\e/ü f\"")
    for text in ("abc'd\\e/ü f\"", repr("abc'd\\e/ü f\""), json.dumps("abc'd\\e/ü f\""), "abc%27d%5Ce%2F%C3%BC%20f%22"):
        assert "abc" not in redact(f"before {text} after")
