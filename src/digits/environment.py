"""Run an entry point with the kit's own .venv where the Python it was started with is too old or lacks the packages.

Imported by each entry point before all else of the kit, and readable by Python 3.7.
"""

import importlib.util
import os
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
PACKAGES = ("keras", "matplotlib", "numpy", "pandas", "scipy", "sklearn")
OLDEST, NEWEST = (3, 11), (3, 13)


def unsuitable():
    """Return why this Python cannot run the kit; an empty string where it can."""
    if sys.version_info < OLDEST:
        return "it is older than 3.11"
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing and sys.version_info[:2] > NEWEST:
        return "it is newer than 3.13, for which there is TensorFlow"
    return "it lacks the packages {}".format(", ".join(missing)) if missing else ""


def use_own_environment():
    """Start this command again with .venv's Python where this one is unsuitable; without a .venv, say what to do."""
    reason = unsuitable()
    if not reason:
        return
    folder = os.path.join(ROOT, ".venv")  # noqa: PTH118
    python = os.path.join(folder, "Scripts" if os.name == "nt" else "bin", "python")  # noqa: PTH118
    if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(folder):  # noqa: PTH110
        os.execv(python, [python] + sys.argv)  # noqa: RUF005
    version = ".".join(map(str, sys.version_info[:3]))
    sys.stderr.write(
        "error: Python {} ({}) cannot run the kit: {}. To fix it, run: scripts/quickstart.sh\n".format(  # noqa: UP032
            version, sys.executable, reason
        )
    )
    sys.exit(2)


def quiet_interrupt():
    """End at once when Ctrl-C comes while the modules are imported; `console.interruptible` takes over from here."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))


_started = getattr(sys.modules.get("__main__"), "__file__", None)
if _started and os.path.dirname(os.path.abspath(_started)) == os.path.join(ROOT, "src"):  # noqa: PTH100, PTH118, PTH120
    quiet_interrupt()
    use_own_environment()
    os.environ["MPLBACKEND"] = "agg"  # A notebook names one of its own, which processes outside it do not have.
