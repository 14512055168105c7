"""Kill a real run at random moments, resume it, and compare with a run that nobody killed.

Thirty kills: `KILLS=30 scripts/test.sh -m slow tests/test_kills.py`. Measured: see docs/reliability.md.
"""

import os
import subprocess
import time

import numpy as np
import pytest

from train_process import finish, same_results, start

FLAGS = "--source sample --recipe quick --folds 3 --epochs 3 --limit 900 --jobs 2 --no-tta --deterministic --run mine"


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_resumes_to_the_same_bytes(tmp_path):
    flags = FLAGS.split()
    started = time.perf_counter()
    assert finish(tmp_path / "whole", *flags, real=True)[0] == 0
    whole_seconds = time.perf_counter() - started
    for kill in range(int(os.environ.get("KILLS", "3"))):
        submissions, random = tmp_path / str(kill), np.random.default_rng(kill)
        while True:  # A run that ends before its moment does not count: the machine has become faster.
            process = start(submissions, *flags, real=True)
            moment = random.uniform(0, whole_seconds)
            try:
                process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                break
            (submissions / "mine").rename(submissions / f"early-{moment:.3f}")
        on_disk = sorted(path.name for path in (submissions / "mine" / "folds").glob("fold-*.npz"))
        code, _, err = finish(submissions, *flags, real=True)
        assert code == 0, err
        assert same_results(tmp_path / "whole" / "mine", submissions / "mine"), (
            f"killed after {moment:.1f} s: {on_disk}"
        )
        print(f"kill {kill + 1}: after {moment:.1f} of {whole_seconds:.1f} s, on disk {on_disk}")
