"""What several test files share because it takes seconds to make."""

import pytest


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """The folder of a deterministic run of two folds, one at a time, that nothing disturbed."""
    from train_process import EXACT, finish

    submissions = tmp_path_factory.mktemp("whole")
    code, out, err = finish(submissions, *EXACT, "--run", "whole")
    assert code == 0, out + err
    return submissions / "whole"
