"""What holds for all tests, and what several files share because it takes seconds to make."""

import copy
import functools
import os
import shutil
import signal

import pytest

from digits.data import dataset
from digits.runs.store import Run
from fake_kaggle import FakeKaggle, connected, stage, use
from made_run import make_run
from train_process import EXACT, REAL, finish


def pytest_configure():
    """Let the processes of tests hear signals also where this one was told to ignore them: after `&`, under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _finished_run(submissions, *flags, **how):
    code, out, err = finish(submissions, *flags, "--run", "whole", **how)
    assert (code, err) == (0, ""), out
    return submissions / "whole"


@pytest.fixture(scope="session")
def stub_run(tmp_path_factory):
    """The folder of a run of two folds by the stub trainer, one at a time, that nothing disturbed."""
    return _finished_run(tmp_path_factory.mktemp("stub"), *EXACT, "--jobs", "1")


@pytest.fixture(scope="session")
def real_run(tmp_path_factory):
    """The folder of the smallest deterministic run with Keras, that nothing disturbed."""
    return _finished_run(tmp_path_factory.mktemp("real"), *REAL, real=True)


@pytest.fixture(scope="session", autouse=True)
def _sample_parsed_once():
    """Parse the sample's text file, which takes a third of a second, once for all tests."""
    parsed = functools.cache(dataset._load_sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "_load_sample", lambda: copy.deepcopy(parsed()))
        yield


@pytest.fixture(scope="session")
def sample():
    """600 of the sample's training images, and its test images."""
    return dataset.load("sample", limit=600)


@pytest.fixture
def data(monkeypatch, sample):
    """The same, and what everything loads in this test, whatever it asks for."""
    monkeypatch.setattr(dataset, "load", lambda *_, **__: sample)
    return sample


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory, sample):
    """The folder of `runs`, not to be written to."""
    folder = tmp_path_factory.mktemp("submissions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "load", lambda *_, **__: sample)
        for seed, name in enumerate(("one", "two")):
            make_run(patch, folder, name, seed=seed)
    return folder


@pytest.fixture
def runs(made_runs, data, tmp_path):
    """Two finished runs of two members and three folds each, one and two, with made-up networks."""
    shutil.copytree(made_runs, tmp_path / "submissions")
    return [Run(tmp_path / "submissions" / name) for name in ("one", "two")]


@pytest.fixture
def environment():
    """Give the variables of the environment back as they were: what trains in this process changes them."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A small Kaggle on 127.0.0.1, and a home with credentials for it."""
    with stage(monkeypatch, tmp_path / "home") as kaggle:
        yield kaggle


@pytest.fixture
def log():
    return []


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """The same in this process: the unmodified client, whose connections are replaced."""
    with connected(monkeypatch, FakeKaggle(), tmp_path / "home") as kaggle:
        use(monkeypatch, kaggle)
        yield kaggle
