"""What holds for all tests, and what several files share because it takes seconds to make."""

import signal

import pytest


def pytest_configure():
    """Hear Ctrl-C, and let the processes of tests hear it, also where the tests run in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """The folder of a deterministic run of two folds, one at a time, that nothing disturbed."""
    from train_process import EXACT, finish

    submissions = tmp_path_factory.mktemp("whole")
    code, out, err = finish(submissions, *EXACT, "--run", "whole")
    assert code == 0, out + err
    return submissions / "whole"
