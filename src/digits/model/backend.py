"""The Keras backend: which one, with how many threads, in which precision, and loaded without its start-up messages."""

import contextlib
import functools
import importlib.util
import logging
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from digits.console import BadInput, print_line

_COUNT_GPUS = {
    "tensorflow": "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))",
    "jax": "import jax; print(sum(device.platform == 'gpu' for device in jax.devices()))",
    "torch": "import torch; print(torch.cuda.device_count())",
}
"""For each backend a program that prints how many GPUs it can use."""
BACKENDS = tuple(_COUNT_GPUS)
_KERAS_DEFAULTS = {
    "image_data_format": "channels_last",
    "floatx": "float32",
    "dtype_policy": "float32",
    "epsilon": 1e-7,
    "max_epochs": None,
    "max_steps_per_epoch": None,
}
"""Set by the kit itself, since ~/.keras/keras.json may hold others, which would change results."""


UNUSED_BY_KERAS = ("IPython", "matplotlib", "pandas", "sklearn")
"""What Keras imports where it is installed, for parts of it that the kit does not use: a third of its loading time."""


def backend_name() -> str:
    """Return the backend that Keras will use, without loading it: KERAS_BACKEND, else tensorflow.

    Raises BadInput for a name that is not a backend, or a backend that is not installed.
    """
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        raise BadInput(f"KERAS_BACKEND is {name!r}; expected one of {', '.join(BACKENDS)}.")
    if importlib.util.find_spec(name) is None:
        raise BadInput(f"The Keras backend {name!r} is not installed. Install it: pip install {name}")
    return name


def cpu_count() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def multiplies_bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices in hardware (Intel AMX), according to Linux."""
    with contextlib.suppress(OSError):
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    return False


def compute_capabilities() -> list[float]:
    """Return the CUDA compute capability of each NVIDIA GPU of this machine; 0.0 where the driver does not say."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        return [float(line) for line in output.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return [0.0 for _ in Path("/dev").glob("nvidia[0-9]*")]


def usable_gpus() -> dict[str, float]:
    """Return the compute capability of each NVIDIA GPU that the backend can use, by its CUDA_VISIBLE_DEVICES name."""
    capabilities, visible = compute_capabilities(), os.environ.get("CUDA_VISIBLE_DEVICES")
    by_name = {str(number): capability for number, capability in enumerate(capabilities)}
    names = list(by_name) if visible is None else [name for name in visible.split(",") if name not in ("", "-1")]
    if not (by_name and names and _finds_gpus(backend_name(), visible)):
        return {}
    return {name: by_name.get(name, min(capabilities)) for name in names}


@functools.cache
def _finds_gpus(backend: str, visible: str | None) -> bool:
    """Ask the backend, in a process of its own, whether it can use a GPU; if not, print a note."""
    count = subprocess.run([sys.executable, "-P", "-c", _COUNT_GPUS[backend]], capture_output=True, text=True)
    if count.returncode == 0 and int(count.stdout.split()[-1]) > 0:
        return True
    print_line(
        f"Note: this machine has an NVIDIA GPU that {backend} cannot use as installed; it trains on the CPU. "
        "What to install: docs/gpu.md"
    )
    return False


def resolve_precision(asked: str) -> str:
    """Return float32 or mixed_bfloat16 for a recipe's `precision`, which may be auto.

    bfloat16 pays on a CPU with AMX (measured: 1.4 to 2.6 times the images per second) and on a GPU from compute
    capability 8.0 (Ampere) on; older ones, such as the T4 of Kaggle and Colab, only emulate it, and other CPUs
    gain nothing with a narrow network.
    """
    if asked != "auto":
        return asked
    gpus = usable_gpus()
    is_fast = min(gpus.values()) >= 8.0 if gpus else multiplies_bfloat16()
    return "mixed_bfloat16" if is_fast else "float32"


def prepare_process(threads: int, deterministic: bool) -> None:
    """Set the environment variables that must stand before a process first imports Keras.

    With DIGITS_WHOLE_BATCHES set, two threads share each op, as TensorFlow does it of its own accord.
    """
    os.environ["KERAS_BACKEND"] = backend_name()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(threads)
    if threads == 2 and not os.environ.get("DIGITS_WHOLE_BATCHES") and not compute_capabilities():
        os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    if deterministic:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def computes_halves() -> bool:
    """Return whether this process computes the halves of a batch at the same time, with a thread each."""
    threads = tuple(os.environ.get(f"TF_NUM_{kind}OP_THREADS") for kind in ("INTRA", "INTER"))
    return threads == ("1", "2") and backend_name() == "tensorflow"


@contextlib.contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Let imports of these modules fail, as if they were not installed, unless they are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment] # So Python's documentation says.
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def silenced(descriptor: int) -> Iterator[None]:
    """Discard what C++ code writes to a file descriptor."""
    sys.stderr.flush()
    saved, null = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    try:
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(null)


def load_keras(deterministic: bool = False) -> None:
    """Import Keras and its backend without their start-up messages, and with Keras's own defaults.

    Raises BadInput if the backend's package cannot be loaded.
    """
    os.environ["KERAS_BACKEND"] = name = backend_name()
    try:
        with silenced(2), without_modules(*UNUSED_BY_KERAS, *(other for other in ("jax", "torch") if other != name)):
            import keras

            for setting, value in _KERAS_DEFAULTS.items():
                if change := getattr(keras.config, f"set_{setting}", None):  # Older versions lack some.
                    change(value)
            keras.ops.zeros(1)
            if name != "tensorflow":  # Where installed, Keras loads it later anyway, and its messages would be seen.
                with contextlib.suppress(ImportError):
                    import tensorflow as tf
    except ImportError as error:
        raise BadInput(
            f"The Keras backend {name!r} cannot be loaded ({error}). Reinstall it: pip install {name}"
        ) from None
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # It counts retraced functions, which are intended.
    if deterministic and name == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    if deterministic and name == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
