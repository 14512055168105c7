"""The progress of a run: bars in a terminal, a few lines in a log, and an estimate of the time left."""

import dataclasses
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from digits.config import NETWORKS
from digits.console import duration, print_line
from digits.runs.store import NetworkKey
from digits.training.fold import FoldTask, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

PREDICTION_COST = 1 / 3
"""Of predicting an image once, in units of training on it once: a forward pass without the two backward ones."""
UNKNOWN_NETWORK = 15.0
"""Million multiply-adds an image that a custom network is taken to have, those of the middle one of the kit's."""


@dataclasses.dataclass
class _Network:
    """A network's work, in images trained on times the million multiply-adds of each."""

    task: FoldTask
    cost: float
    """Of training on one image."""
    work: float
    done: float = 0.0
    started: bool = False
    lines: int = 0
    """How many lines of the log it has."""

    @classmethod
    def of(cls, task: FoldTask, test_images: int) -> "_Network":
        cost = NETWORKS.get(task.network, UNKNOWN_NETWORK)
        predictions = task.recipe.tta.copies * (len(task.validation_rows) + test_images)
        return cls(task, cost, cost * (task.training_images + PREDICTION_COST * predictions))


class ProgressDisplay:
    """Shows all networks of a run at once: bars in a terminal, lines in a log; a context."""

    def __init__(self, tasks: Sequence[FoldTask] = (), test_images: int = 0):
        """Prepare for the networks of a run, each of which predicts so many test images."""
        self._networks = {task.key: _Network.of(task, test_images) for task in tasks}
        self._width = max([7, *(len(task.label) for task in tasks)])
        self._lock = threading.Lock()
        self._began: float | None = None
        self._worked = 0.0
        """Work done since then: what was finished before says nothing of this machine's speed."""
        self._bars: Bars | None = None

    def __enter__(self) -> "ProgressDisplay":
        if sys.stdout.isatty():
            from rich.console import Console

            console = Console(file=sys.stdout)
            if console.is_terminal and not console.is_dumb_terminal:
                self._bars = self._start_bars(console)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def log(self, message: str | Progress) -> None:
        """Print a line, or show a network's progress; threads may call it at any time."""
        if isinstance(message, str):
            print_line(message)
            return
        with self._lock:
            network = self._networks[message.key]
            done = network.cost * message.images
            if self._began is None:
                self._began = time.monotonic()
            if network.started:  # Else the epochs of a checkpoint would count.
                self._worked += max(0.0, done - network.done)
            network.started, network.done = True, done
            self._show(network, message)

    def finish(self, key: NetworkKey, text: str) -> None:
        """Show that a network is finished, and with which result."""
        with self._lock:
            network = self._networks[key]
            if network.started:
                self._worked += network.work - network.done
            network.done = network.work
            if self._bars is not None:
                self._bars.update(self._bar_ids[key], visible=False)
                self._bars.update(self._total, completed=self._done)
        print_line(f"{network.task.label:<{self._width}}  {text}")

    def stage(self, text: str) -> None:
        """Show what is done after the training."""
        if self._bars is None:
            print_line(f"{text} …")
        else:
            self._bars.update(self._total, description=text)

    def seconds_left(self) -> float | None:
        """Estimate the seconds until all networks are finished, at the speed so far; None before there is any."""
        if self._began is None or not self._worked:
            return None
        left = sum(network.work - network.done for network in self._networks.values())
        return left * (time.monotonic() - self._began) / self._worked

    @property
    def _done(self) -> float:
        return sum(network.done for network in self._networks.values())

    def _start_bars(self, console) -> "Bars":
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}")
        bars = Bars(*columns, TimeRemainingColumn(), console=console, transient=True, speed_estimate_period=120)
        self._bar_ids = {
            key: bars.add_task(network.task.label, total=network.work, state="", visible=False)
            for key, network in self._networks.items()
        }
        work = sum(network.work for network in self._networks.values())
        self._total = bars.add_task("total", total=work or None, state="")
        bars.start()
        return bars

    def _show(self, network: _Network, progress: Progress) -> None:
        epoch = f"{progress.epoch}/{network.task.recipe.epochs}"
        loss = "" if progress.loss is None else f"{progress.loss:.4f}"
        accuracy = "" if progress.held_out_accuracy is None else f"{progress.held_out_accuracy:.2%}"
        if self._bars is not None:
            state = f"{epoch} {accuracy}" if progress.state == "training" else progress.state
            self._bars.update(self._bar_ids[progress.key], completed=network.done, state=state, visible=True)
            self._bars.update(self._total, completed=self._done)
            return
        lines = progress.epoch * 10 // network.task.recipe.epochs  # A line for each tenth of the epochs.
        if lines <= network.lines or progress.state != "training":
            return
        if not any(each.lines for each in self._networks.values()):
            print_line(f"{'network':<{self._width}}  {'epoch':>7}     loss  held-out  time left")
        network.lines = lines
        seconds = self.seconds_left()
        left = "" if seconds is None else duration(max(5, round(seconds / 5) * 5))
        print_line(f"{network.task.label:<{self._width}}  {epoch:>7}  {loss:>7}  {accuracy:>8}  {left:>9}")
