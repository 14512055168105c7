"""Kill a real run at random moments, resume it, and compare with a run that nobody killed: `python scripts/torture.py`.

Each trial starts a deterministic run of three folds, two at a time, on the embedded sample; kills it with SIGKILL at a
moment drawn from its whole duration; gives the same command again until it ends; and compares probabilities and
submission, byte for byte, with those of the run that was left alone. Exits with 1 if any differ.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SRC = Path(__file__).resolve().parents[1] / "src"
RESULTS = ("out_of_fold.npy", "test_probabilities.npy", "submission.csv")
RUN = "torture"


def train(submissions: Path, epochs: int, limit: int) -> None:
    """Do the run that is killed: what `train.py` does, in a folder of its own."""
    from digits.config import Settings, load_recipe
    from digits.training.pipeline import train

    recipe = load_recipe("quick").changed(folds=3, epochs=epochs)
    settings = Settings(recipe=recipe, source="sample", limit=limit, jobs=2, deterministic=True)
    train(settings, command="scripts/torture.py", run_name=RUN, submissions=submissions)


def start(submissions: Path, flags: argparse.Namespace) -> subprocess.Popen:
    """Start `train` in a process."""
    words = ["--train", str(submissions), "--epochs", str(flags.epochs), "--limit", str(flags.limit)]
    log = (submissions / "log.txt").open("ab")
    return subprocess.Popen([sys.executable, __file__, *words], stdout=log, stderr=subprocess.STDOUT)


def finish(submissions: Path, flags: argparse.Namespace) -> float:
    """Run to the end, and return the seconds it took."""
    started = time.perf_counter()
    if start(submissions, flags).wait():
        raise SystemExit(f"The run failed:\n{(submissions / 'log.txt').read_text()}")
    return time.perf_counter() - started


def done_at_death(submissions: Path) -> str:
    """Say what a killed run had on disk."""
    parts = [path.name for path in (submissions / RUN / "parts").glob("fold-*.npz")]
    kept = sum("checkpoint" in name for name in parts)
    return f"{len(parts) - kept} folds, {kept} checkpoints"


def killed_run(folder: Path, moments: Iterator[float], flags: argparse.Namespace) -> float:
    """Start a run in `folder` and kill it at one of the moments, in seconds; return that moment.

    The machine may be faster than when the moments were drawn: a run that ends before its moment does not count.
    """
    for moment in moments:
        process = start(folder, flags)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return moment
        shutil.rmtree(folder / RUN)
    raise AssertionError("unreachable")


def trial(number: int, reference: Path, whole_seconds: float, folder: Path, flags: argparse.Namespace) -> bool:
    """Kill a run once, resume it, print a line of the table, and return whether it came to the same bytes."""
    random = np.random.default_rng((flags.seed, number))
    moment = killed_run(folder, iter(lambda: random.uniform(0, whole_seconds), None), flags)
    on_disk = done_at_death(folder)
    seconds = finish(folder, flags)
    same = [(reference / RUN / name).read_bytes() == (folder / RUN / name).read_bytes() for name in RESULTS]
    verdict = "identical" if all(same) else "DIFFERS"
    print(f"{number:>5}  {moment:>11.1f}  {on_disk:<22}  {seconds:>9.1f}  {verdict}", flush=True)
    return all(same)


def main() -> int:
    """Run the trials and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--trials", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="number of the first trial (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--limit", type=int, default=1500, help="training images (default: %(default)s)")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.train:
        sys.path.insert(0, str(SRC))
        train(flags.train, flags.epochs, flags.limit)
        return 0
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        reference = Path(name) / "reference"
        reference.mkdir()
        whole_seconds = finish(reference, flags)
        print(f"The run that nobody kills: {whole_seconds:.1f} s\n")
        print("trial  killed at s  on disk then            resumed s  bytes", flush=True)
        identical = 0
        for number in range(flags.first, flags.first + flags.trials):
            folder = Path(name) / str(number)
            folder.mkdir()
            identical += trial(number, reference, whole_seconds, folder, flags)
    print(f"\n{identical} of {flags.trials} identical")
    return 0 if identical == flags.trials else 1


if __name__ == "__main__":
    sys.exit(main())
