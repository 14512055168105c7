"""Run random command lines of the entry points' real flags with good and bad values, in this process.

`python tests/command_lines.py COUNT SEED` prints those that end in anything but an exit code with a message. It is for
a copy of src/ in a folder of its own: the commands read and write what they find there. Training, drawing and the
network are stubbed; everything before them is real.
"""

import argparse
import contextlib
import functools
import importlib
import io
import os
import random
import socket
import sys
import traceback
import types
from collections import Counter
from pathlib import Path

import pytest

from digits.console import KitError
from digits.files import ROOT, SUBMISSIONS
from digits.kaggle import client
from digits.report import html
from digits.runs import identity
from digits.training import pipeline
from made_run import make_run
from torn_files import write_pair, zip_bytes

GOOD = {
    "recipe": ["quick", "seed", "best-cpu", "my.toml"],
    "set": ["epochs=2", "learning_rate=0.005", "augmentation.zoom=0.1", "tta.shift_pixels=0", "networks=seed"],
    "networks": ["compact", "seed", "vgg"],
    "folds": ["1", "2", "5"],
    "members": ["1", "3"],
    "limit": ["60", "300", "5000"],
    "weights": ["equal", "greedy", "2,1", "1"],
    "minutes": ["1", "600"],
    "wait": ["0", "10.5"],
    "zip": ["data.zip", "train.csv"],
    "data_dir": ["own", "."],
    "test": ["own/test.csv"],
    "from_run": ["made", "submissions/made/run.json"],
    "cluster": ["tcp://127.0.0.1:9"],
    "file": ["submissions/made/submission.csv", "submissions/submission.csv"],
    "folder": ["kernels/kit"],
    "submissions_dir": ["submissions"],
    "images": ["digit.png", "own", "own/test.csv"],
}
"""Values that mean something, by the flag's name; a run's name is good for all others that take a text."""
BAD = [
    "", " ", "a b", "\udcff", "\n", "a\tb", "x" * 5000,
    "0", "-1", "1", "-0", "1.5", "1e9", "99999999999999999999", "nan", "inf", "x", "Übung", "../..", ".", "a=b", "=",
    "epochs=", "=3", "epochs=-1", "--", "-x",
    "no-such", "/dev/null/file", "empty", "digit.png", "torn.zip", "binary", "own", "unreadable.json", "/dev/null",
    "made", "unfinished",
    "tcp://", "http://127.0.0.1:9", "{}", "[1]", "%s", "$(true)", "2,1", "1,,1", "run.json", "CON", "~", "*",
]  # fmt: skip


def prepare() -> None:
    """Leave in the working folder what the values name: a finished run, an unfinished one, good and broken files."""
    with pytest.MonkeyPatch.context() as patched:
        make_run(patched, SUBMISSIONS, "made", limit=200)
    (SUBMISSIONS / "unfinished").mkdir()
    (SUBMISSIONS / "unfinished" / "run.json").write_text("{")
    own = write_pair(Path("own"))
    Path("train.csv").write_bytes((own / "train.csv").read_bytes())
    Path("data.zip").write_bytes(zip_bytes({"train.csv": (own / "train.csv").read_bytes()}))
    Path("torn.zip").write_bytes(Path("data.zip").read_bytes()[:-40])
    Path("digit.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("my.toml").write_text('base = "quick"\nepochs = 3\n')
    Path("empty").touch()
    Path("binary").write_bytes(bytes(range(256)))
    Path("unreadable.json").write_text('{"identity": 3}')


def stub_network(patched: pytest.MonkeyPatch) -> None:
    """Make the network unreachable, also for Keras's downloads, which would cost loading Keras."""

    def unreachable(*_, **__):
        raise OSError(101, "Network is unreachable")

    patched.setattr(socket.socket, "connect", unreachable)
    patched.setitem(sys.modules, "keras", types.SimpleNamespace(utils=types.SimpleNamespace(get_file=unreachable)))


def stub_work(patched: pytest.MonkeyPatch) -> None:
    """Put an error in the place of training, nothing in that of drawing, and no credentials in that of Kaggle."""

    def not_trained(*_, **__):
        raise KitError("training is stubbed")

    patched.setattr(client, "Kaggle", functools.partial(client.Kaggle, call=lambda *_: {"failure": "credentials"}))
    patched.setattr(pipeline, "cross_validate", not_trained)
    patched.setattr(identity, "code_hashes", functools.cache(identity.code_hashes))  # The code stays what it is.
    for module in (html, pipeline):
        for name in {"build_report", "build_comparison", "draw_all"} & vars(module).keys():
            patched.setattr(module, name, lambda *_, **__: Path("report.html"))


def actions_of(name: str) -> list[argparse.Action]:
    found: list[argparse.Action] = []

    def stop(parser, *_):
        found.extend(action for action in parser._actions if action.dest != "help")
        raise StopIteration

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(StopIteration):
        patched.setattr(argparse.ArgumentParser, "parse_args", stop)
        importlib.import_module(name).main([])
    return found


def command_line(actions: list[argparse.Action], draw: random.Random) -> list[str]:
    """Return random flags, each with as many values as it takes, mostly good ones, in a random order."""
    words = []
    for action in draw.sample(actions, draw.randint(0, min(4, len(actions)))):
        count = {None: 1, "?": 1, "+": draw.randint(1, 3), "*": draw.randint(0, 2)}.get(action.nargs, action.nargs)
        good = action.choices or GOOD.get(action.dest, ["1", "made"])
        values = [draw.choice(list(good)) if draw.random() < 0.75 else draw.choice(BAD) for _ in range(count)]
        words.append([*([draw.choice(action.option_strings)] if action.option_strings else []), *values])
    if draw.random() < 0.03:
        words.append([draw.choice(BAD)])
    draw.shuffle(words)
    return [word for group in words for word in group]


def run(name: str, words: list[str]) -> tuple[str, object]:
    """Run a command; return what is wrong with how it ended, or "", and its exit code."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = importlib.import_module(name).main(words)
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        return traceback.format_exc(), "traceback"
    text = out.getvalue()
    if code not in (0, 1, 2, 3) or "Traceback" in text or (code and not text.strip()):
        return f"exit code {code!r}, and this is its message: {text}", code
    return "", code


def main(count: int, seed: int) -> int:
    """Run them, print the failures, and return their number."""
    draw = random.Random(seed)
    names = sorted(path.stem for path in (ROOT / "src").glob("*.py") if path.stem != "draw")
    actions = {name: actions_of(name) for name in names}
    failures, counts = 0, Counter[str]()
    with pytest.MonkeyPatch.context() as patched:
        stub_network(patched)
        prepare()
        stub_work(patched)
        for _ in range(count):
            name = "train" if draw.random() < 0.4 else draw.choice(names)
            words = command_line(actions[name], draw)
            problem, code = run(name, words)
            counts[f"{name} {code}"] += 1
            if problem:
                failures += 1
                print(f"{name}.py {words!r}\n{problem}", flush=True)
    print(f"{count} command lines, {failures} failures: {dict(sorted(counts.items()))}")
    return failures


if __name__ == "__main__":
    os.environ.pop("KERAS_BACKEND", None)
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2])), 1))
