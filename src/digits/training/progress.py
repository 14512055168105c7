"""The progress of a run: bars in a terminal, a few lines in a log, and an estimate of the time left."""

import dataclasses
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from digits.config import NETWORKS
from digits.console import duration, print_line, styled
from digits.runs.store import NetworkKey
from digits.training.fold import FoldTask, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.status import Status

PREDICTION_COST = 1 / 3
"""Of predicting an image once, in units of training on it once: a forward pass without the two backward ones."""
_COLUMNS = {"epoch": 7, "loss": 7, "held-out": 8, "images/s": 8, "time left": 9}
"""What is shown of each network, and how wide."""
UNKNOWN_NETWORK = 15.0
"""Million multiply-adds an image that a custom network is taken to have, those of the middle one of the kit's."""


@dataclasses.dataclass
class _Network:
    """A network's work, in images trained on times the million multiply-adds of each."""

    task: FoldTask
    cost: float  # Of training on one image.
    work: float
    done: float = 0.0
    started: bool = False
    lines: int = 0  # How many lines of the log it has.

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
        self._worked = 0.0  # Since then: what was finished before says nothing of this machine's speed.
        self._bars: Bars | None = None
        self._status: Status | None = None  # What is shown after the training, in a terminal.

    def __enter__(self) -> "ProgressDisplay":
        from rich.console import Console

        console = Console(file=sys.stdout)
        if sys.stdout.isatty() and not console.is_dumb_terminal:
            self._bars = self._start_bars(console)
        return self

    def __exit__(self, *exception: object) -> None:
        for shown in (self._bars, self._status):
            if shown is not None:
                shown.stop()
        self._bars = self._status = None

    def log(self, message: str | Progress) -> None:
        """Print a line, or show a network's progress; threads may call it at any time."""
        if isinstance(message, str):
            print_line(message)
            return
        with self._lock:
            network = self._networks[message.key]
            done = network.cost * message.images
            if self._began is None:
                self._began, task = time.monotonic(), network.task
                if scored := len(task.scored_rows):
                    images = f"{scored:,} of {len(task.validation_rows):,} images"
                    print_line(f"The column held-out is the accuracy after each epoch on {images} not trained on.")
            if network.started:  # Else the epochs of a checkpoint would count.
                self._worked += max(0.0, done - network.done)
            network.started, network.done = True, done
            self._show(network, message)

    def finish(self, key: NetworkKey, text: str, style: str = "") -> None:
        """Show that a network is finished, and with which result, in one of rich's styles."""
        with self._lock:
            network = self._networks[key]
            if network.started:
                self._worked += network.work - network.done
            network.done = network.work
            if self._bars is not None:
                self._bars.update(self._bar_ids[key], visible=False)
                self._bars.update(self._total, completed=self._done)
        print_line(f"{network.task.label:<{self._width}}  {styled(text, style)}")

    def stage(self, text: str) -> None:
        """Show what is done after the training."""
        if self._status is not None:
            self._status.update(f"{text} …")
        elif self._bars is not None:
            self._bars.stop()
            self._status = self._bars.console.status(f"{text} …")
            self._status.start()
        else:
            print_line(f"{text} …")

    def seconds_left(self) -> float | None:
        """Estimate the seconds until all networks are finished, at the speed so far; None before there is any."""
        if self._began is None or not self._worked:
            return None
        left = sum(network.work - network.done for network in self._networks.values())
        return left * (time.monotonic() - self._began) / self._worked

    @property
    def _done(self) -> float:
        return sum(network.done for network in self._networks.values())

    def _start_bars(self, console: "Console") -> "Bars":
        from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        free = console.width - self._width - 1
        shown = dict(_COLUMNS)
        for least in ("images/s", "loss", "time left"):  # A narrow terminal shows these last.
            if sum(shown.values()) + len(shown) > free:
                del shown[least]
        free -= sum(shown.values()) + len(shown)

        class Headed(Bars):
            def make_tasks_table(self, tasks):
                table = super().make_tasks_table(tasks)
                table.show_header = True
                return table

        headings = {name: Column(name, header_style="dim", justify="right", no_wrap=True) for name in shown}
        name_heading = Column("network", header_style="dim", no_wrap=True)
        columns: list[ProgressColumn] = [TextColumn("{task.description}", table_column=name_heading)]
        if free > 5:
            columns.append(BarColumn(min(free, 40)))
        left = headings.pop("time left", None)
        columns += [TextColumn(f"{{task.fields[{name}]}}", table_column=column) for name, column in headings.items()]
        if left:
            columns.append(TimeRemainingColumn(table_column=left))
        bars = Headed(*columns, console=console, transient=True, speed_estimate_period=120)
        empty: dict[str, Any] = dict.fromkeys(_COLUMNS, "")
        self._bar_ids = {
            key: bars.add_task(network.task.label, total=network.work, visible=False, **empty)
            for key, network in self._networks.items()
        }
        work = sum(network.work for network in self._networks.values())
        self._total = bars.add_task("total", total=work or None, **empty)
        bars.start()
        return bars

    def _show(self, network: _Network, progress: Progress) -> None:
        figures = {
            "loss": (progress.loss, ".4f"),
            "held-out": (progress.held_out_accuracy, ".2%"),
            "images/s": (progress.images_per_second, ",.0f"),
        }
        cells: dict[str, Any] = dict.fromkeys(_COLUMNS, "")
        cells["epoch"] = f"{progress.epoch}/{network.task.recipe.epochs}"
        cells |= {name: format(value, form) for name, (value, form) in figures.items() if value is not None}
        if self._bars is not None:
            if progress.state != "training":
                cells["epoch"] = progress.state
            self._bars.update(self._bar_ids[progress.key], completed=network.done, visible=True, **cells)
            self._bars.update(self._total, completed=self._done)
            return
        lines = progress.epoch * 10 // network.task.recipe.epochs  # A line for each tenth of the epochs.
        if lines <= network.lines or progress.state != "training":
            return
        if not any(each.lines for each in self._networks.values()):
            self._print_row("network", dict(zip(_COLUMNS, _COLUMNS, strict=True)))
        network.lines = lines
        if (seconds := self.seconds_left()) is not None:
            cells["time left"] = duration(max(5, round(seconds / 5) * 5))
        self._print_row(network.task.label, cells)

    def _print_row(self, label: str, cells: dict[str, str]) -> None:
        print_line("  ".join([f"{label:<{self._width}}", *(f"{cells[name]:>{_COLUMNS[name]}}" for name in _COLUMNS)]))
