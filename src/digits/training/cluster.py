"""Train on a Dask cluster: code and data travel to its workers, progress and results come back."""

import contextlib
import dataclasses
import logging
import pickle
import secrets
import socket
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from digits.console import BadInput, KitError
from digits.model.backend import backend_name, cpu_count
from digits.runs.store import FoldResult
from digits.training.fold import Arrays, FoldTask, TrainFold, train_in_worker
from digits.training.progress import ProgressDisplay
from digits.training.workers import StoppedError

_POLL_SECONDS = 0.2
CONNECT_SECONDS = 10


def require_scheduler(address: str) -> None:
    """Check that dask.distributed is installed and that something listens at `address`, such as tcp://10.0.0.1:8786.

    Dask's own client takes long to report that nothing does. Raises BadInput otherwise.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise BadInput(
            "--cluster needs dask.distributed, which is not installed: pip install -r requirements-cluster.txt"
        ) from None
    url = urllib.parse.urlsplit(address)
    try:
        if url.scheme not in ("tcp", "tls") or not url.hostname or not url.port:
            raise ValueError("expected tcp://HOST:PORT")
        socket.create_connection((url.hostname, url.port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--cluster {address}: no Dask scheduler answers there ({error}). "
            "Start one with `dask scheduler`, and give the tcp:// address that it prints."
        ) from None


@contextlib.contextmanager
def connected(
    address: str, arrays: Arrays, display: ProgressDisplay, stopped: Callable[[], bool]
) -> Iterator[TrainFold]:
    """Yield a function that trains a task on the cluster whose scheduler is at `address`.

    No shared file system is needed, and the workers need nothing of the kit: it is sent with the data, once to each.
    The task of a worker that dies is done again by another, from the first epoch.
    """
    import dask
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # The kit reports what matters of it.
    with (
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}),
        distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client,
    ):
        topic = f"digits-{secrets.token_hex(8)}"  # Other runs on this scheduler have their own.
        client.subscribe_topic(topic, lambda event: display.log(pickle.loads(event[1])))  # As Dask sends results, too.
        _send_code(client)
        if not client.nthreads():
            display.log(f"The cluster has no worker yet; waiting for one: dask worker {address}")
        # The result of a task rather than scattered: the scheduler can compute it again when its workers are dead.
        shared = client.submit(Arrays, **vars(arrays), pure=False)
        client.replicate(shared)
        yield lambda task: _train(client, task, shared, topic, stopped)


def _send_code(client) -> None:
    """Send this package to all workers, later ones too, in place of a version that they had before."""

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


def _train(client, task: FoldTask, shared, topic: str, stopped: Callable[[], bool]) -> tuple[FoldResult, bytes]:
    """Have one task done, and wait for it."""
    future = client.submit(
        _train_on_worker, dataclasses.replace(task, checkpoint=None), shared, backend_name(), topic, pure=False
    )
    try:
        while not stopped():
            with contextlib.suppress(TimeoutError):
                return future.result(_POLL_SECONDS)
        raise StoppedError("stopped")
    except KitError:
        raise
    except Exception as error:  # Of many kinds: its worker died three times, the scheduler is gone, …
        raise KitError(f"the cluster gave up on it ({type(error).__name__}: {error})") from None
    finally:
        future.cancel()


def _train_on_worker(task: FoldTask, arrays: Arrays, backend: str, topic: str) -> tuple[FoldResult, bytes]:
    import distributed

    worker = distributed.get_worker()
    dask_task = worker.state.tasks[worker.get_current_task()]
    threads = 1 if task.deterministic else max(1, cpu_count() // worker.state.nthreads)
    return train_in_worker(
        dataclasses.replace(task, threads=threads),
        arrays,
        log=lambda message: worker.log_event(topic, pickle.dumps(message)),
        stopped=lambda: dask_task.state == "cancelled",
        environment={"KERAS_BACKEND": backend},
    )
