"""The same jobs on a Dask cluster: code and data travel to its workers, progress and results come back."""

import contextlib
import dataclasses
import logging
import socket
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from digits.console import BadInput, KitError, say
from digits.model.backend import backend_name, cpu_count
from digits.runs.store import FoldResult
from digits.training.fold import Arrays, FoldTask, fit_fresh, fit_job
from digits.training.workers import StoppedError

_TOPIC = "digits"
_PATIENCE_SECONDS = 0.2
CONNECT_SECONDS = 10


@contextlib.contextmanager
def connected(
    address: str, arrays: Arrays, stopped: Callable[[], bool]
) -> Iterator[Callable[[FoldTask], tuple[FoldResult, bytes]]]:
    """Yield a function that fits a job on the cluster whose scheduler is at `address`, such as tcp://10.0.0.1:8786.

    No shared file system is needed, and nothing of the kit on the workers: it travels with the data, once to each. A
    worker that dies has its job done again by another, from the first epoch.

    Raises:
        BadInput: if dask.distributed is not installed, or no scheduler answers.
    """
    with _client(address) as client:
        client.subscribe_topic(_TOPIC, lambda event: say(event[1]))
        _send_code(client)
        if not client.scheduler_info()["workers"]:
            say(f"The cluster has no worker yet; waiting for one: dask worker {address}")
        # A task's result, not scattered: the scheduler can make it again when all workers that had it are dead.
        shared = client.submit(Arrays, **vars(arrays), pure=False)
        client.replicate(shared)
        yield lambda job: _fit(client, job, shared, stopped)


@contextlib.contextmanager
def _client(address: str) -> Iterator:
    try:
        import dask
        import distributed
    except ImportError:
        raise BadInput(
            "--cluster needs dask.distributed, which is not installed: pip install -r requirements-cluster.txt"
        ) from None
    _knock(address)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # What matters of it is said by us, in words.
    with (
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}),
        distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client,
    ):
        yield client


def _knock(address: str) -> None:
    """Ask whether anyone listens at `address`, which Dask's client takes long to say.

    Raises:
        BadInput: if nobody does.
    """
    place = urllib.parse.urlsplit(address)
    try:
        if place.scheme not in ("tcp", "tls") or not place.hostname or not place.port:
            raise ValueError("expected tcp://HOST:PORT")
        socket.create_connection((place.hostname, place.port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--cluster {address}: no Dask scheduler answers there ({error}). "
            "Start one with `dask scheduler`, and give the tcp:// address that it prints."
        ) from None


def _send_code(client) -> None:
    """Give this package to all workers, those that come later too, in place of one that they may have had before."""

    def forget():
        import sys

        for name in [name for name in sys.modules if name.partition(".")[0] == "digits"]:
            del sys.modules[name]

    client.run(forget)
    package = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.zip"
        with zipfile.ZipFile(path, "w") as file:
            for module in sorted(package.rglob("*.py")):
                file.write(module, module.relative_to(package.parent))
        client.upload_file(str(path))


def _fit(client, job: FoldTask, shared, stopped: Callable[[], bool]) -> tuple[FoldResult, bytes]:
    """Have one job done, and wait for it."""
    job = dataclasses.replace(job, checkpoint=None, live=False)
    future = client.submit(_fit_on_worker, job, shared, backend_name(), pure=False)
    try:
        while not stopped():
            with contextlib.suppress(TimeoutError):
                return future.result(_PATIENCE_SECONDS)
        raise StoppedError("stopped")
    except KitError:
        raise
    except Exception as error:  # Of many kinds: its worker died three times, the scheduler is gone, …
        raise KitError(f"the cluster gave it up ({type(error).__name__}: {error})") from None
    finally:
        future.cancel()


def _fit_on_worker(job: FoldTask, arrays: Arrays, backend: str) -> tuple[FoldResult, bytes]:
    import distributed

    worker = distributed.get_worker()
    task = worker.state.tasks[worker.get_current_task()]
    return fit_fresh(
        fit_job,
        job,
        arrays,
        threads=max(1, cpu_count() // worker.state.nthreads),
        say=lambda line: worker.log_event(_TOPIC, line),
        stopped=lambda: task.state == "cancelled",
        environment={"KERAS_BACKEND": backend},
    )
