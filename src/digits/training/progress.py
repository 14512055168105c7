"""The progress of a run: a live display in a terminal, a few lines in a log, and an estimate of the time left."""

import heapq
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from digits.config import NETWORKS
from digits.console import duration, print_line
from digits.training.fold import FoldTask, Progress

if TYPE_CHECKING:
    from rich.live import Live

THREAD_EXPONENT = 0.75
"""A network with n threads trains about n**0.75 times as fast as with one (two: 1.54 with AMX, 1.8 without)."""
PREDICTION_COST = 1 / 3
"""Of predicting an image once, in units of training on it once."""
START_SECONDS, END_SECONDS = 8.0, 8.0
"""Until a network's first batch, before the first one shows it; and from the last network to the report."""
_MEASURED_SECONDS = 3.0
"""How long a network's speed is measured before it is used for an estimate."""


class _Network:
    """What the display knows of one network."""

    def __init__(self, task: FoldTask, test_images: int):
        recipe, held_out = task.recipe, len(task.validation_rows)
        views = 1 + 4 * bool(recipe.tta.shift_pixels) + 2 * bool(recipe.tta.rotation_degrees)
        self.label, self.epochs, self.threads = task.label, recipe.epochs, task.threads
        self.kind = task.network
        self.training = task.training_images
        self.work = self.training + PREDICTION_COST * views * (held_out + test_images)
        """In images trained on once."""
        self.done = False
        self.progress: Progress | None = None
        self.began: tuple[float, int] | None = None
        """When the first batch was reported, and how many images had been trained on then."""
        self.images_per_second: float | None = None
        self.lines = 0

    def update(self, progress: Progress, now: float) -> None:
        if self.began is None or progress.images < self.began[1]:  # The latter where it was started again.
            self.began = now, progress.images
        elif progress.state == "training" and now - self.began[0] > _MEASURED_SECONDS:
            self.images_per_second = (progress.images - self.began[1]) / (now - self.began[0])
        self.progress = progress

    @property
    def share(self) -> float:
        """The share of its work that is done."""
        if self.done:
            return 1.0
        return self.progress.images / self.work if self.progress else 0.0


def seconds_left(running: Sequence[float], waiting: Sequence[float], slots: int) -> float:
    """Return when the last of a run's networks ends, each begun in its turn as soon as a slot is free.

    Args:
        running: the seconds left of each network in training.
        waiting: the seconds that each other network will take, in order.
        slots: how many are trained at a time.
    """
    free = sorted([*running, *[0.0] * (slots - len(running))])
    for seconds in waiting:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free, default=0.0)


class ProgressDisplay:
    """Shows all networks of a run at once: bars in a terminal, lines in a log; a context."""

    def __init__(self, tasks: Sequence[FoldTask] = (), test_images: int = 0, slots: int = 1):
        """Prepare; nothing is shown before the context is entered.

        Args:
            tasks: the networks of the run.
            test_images: how many images each predicts.
            slots: how many networks are trained at a time.
        """
        self._networks = {task.label: _Network(task, test_images) for task in tasks}
        self.slots, self._stage, self._announced = slots, "", False
        self._live: Live | None = None
        self._width = max([7, *map(len, self._networks)])
        self._lock = threading.Lock()

    def __enter__(self) -> "ProgressDisplay":
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=sys.stdout)
            if console.is_terminal and not console.is_dumb_terminal:
                self._live = Live(console=console, get_renderable=self._table, transient=True, refresh_per_second=4)
                self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def log(self, message: str | Progress) -> None:
        """Print a line, or show a network's progress; threads may call it at any time."""
        if isinstance(message, str):
            print_line(message)
            return
        with self._lock:
            network = self._networks[message.label]
            epoch_before = network.progress.epoch if network.progress else message.epoch
            network.update(message, time.monotonic())
            left = self.seconds_left()
            if not self._announced and left is not None:
                self._announced = True
                print_line(f"Estimated time: {_estimate(left)}, {self._speeds()}")
            if self._live is None and message.epoch > epoch_before:
                self._print_epoch(network, message, left)

    def finish(self, label: str, text: str) -> None:
        """Show that a network is finished, and with which result."""
        with self._lock:
            self._networks[label].done = True
        print_line(f"{label:<{self._width}}  {text}")

    def stage(self, text: str) -> None:
        """Show what is done after the training."""
        self._stage = text
        if self._live is None:
            print_line(f"{text} …")

    def seconds_left(self) -> float | None:
        """Estimate the seconds until the run is finished; None before the first networks' speed is measured."""
        networks = self._networks.values()
        left = [network for network in networks if not network.done]
        running = [network for network in left if network.progress]
        measured = [network for network in networks if network.images_per_second]
        begun = sum(network.images_per_second is not None for network in running) >= min(self.slots, len(left))
        if not measured or not (begun or self._announced):
            return None

        def seconds(network: _Network) -> float:
            alike = [other for other in measured if other.kind == network.kind] or measured
            rate = network.images_per_second or statistics.mean(_rate_as(network, other) for other in alike)
            start = 0.0 if network.progress else START_SECONDS
            return start + network.work * (1 - network.share) / rate

        waiting = [seconds(network) for network in left if not network.progress]
        return END_SECONDS + seconds_left([seconds(network) for network in running], waiting, self.slots)

    def _speeds(self) -> str:
        rates = [network.images_per_second for network in self._networks.values() if network.images_per_second]
        together = f"{len(rates)} networks at a time, " if len(rates) > 1 else ""
        return f"{together}{sum(rates):,.0f} images/s"

    def _print_epoch(self, network: _Network, progress: Progress, left: float | None) -> None:
        """Print a line, at most one for each tenth of the epochs."""
        tenths = progress.epoch * 10 // network.epochs
        if tenths == network.lines:
            return
        if not any(other.lines for other in self._networks.values()):
            print_line(f"{'network':<{self._width}}  {'epoch':>7}     loss  held-out  images/s  time left")
        network.lines = tenths
        print_line(
            f"{network.label:<{self._width}}  {f'{progress.epoch}/{network.epochs}':>7}  {_loss(progress):>7}"
            f"  {_accuracy(progress):>8}  {_rate(network):>8}  {'' if left is None else _estimate(left):>9}"
        )

    def _table(self) -> Any:
        """Return the live display, which drops columns where the terminal is narrow."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        columns = self._live.console.width if self._live else 80
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        for _ in range(4):
            table.add_column(justify="right", no_wrap=True)
        with self._lock:
            networks = list(self._networks.values())
            left = self.seconds_left()
        for network in networks:
            progress = network.progress
            if network.done or progress is None:
                continue
            state = f"{progress.epoch}/{network.epochs}" if progress.state == "training" else progress.state
            cells = [state, _accuracy(progress)]
            cells += [_rate(network) and f"{_rate(network)} images/s"] if columns >= 80 else []
            cells += [_loss(progress) and f"loss {_loss(progress)}"] if columns >= 100 else []
            table.add_row(network.label, ProgressBar(total=1.0, completed=network.share), *cells)
        done = sum(network.done for network in networks)
        work = sum(network.work for network in networks)
        share = sum(network.share * network.work for network in networks) / work if work else 0.0
        cells = [f"{done}/{len(networks)} done", "" if left is None or self._stage else f"{_estimate(left)} left"]
        training = any(network.progress for network in networks if not network.done)
        label = self._stage or ("total" if training or done == len(networks) else "starting")
        table.add_row(label, ProgressBar(total=1.0, completed=share), *cells)
        return table


def _rate_as(network: _Network, other: _Network) -> float:
    """Return the images a second expected of a network, given those of another."""
    threads = (network.threads / other.threads) ** THREAD_EXPONENT
    known = network.kind in NETWORKS and other.kind in NETWORKS
    return (other.images_per_second or 1) * threads * (NETWORKS[other.kind] / NETWORKS[network.kind] if known else 1)


def _estimate(seconds: float) -> str:
    return duration(max(5, round(seconds / 5) * 5))


def _loss(progress: Progress) -> str:
    return "" if progress.loss is None else f"{progress.loss:.4f}"


def _accuracy(progress: Progress) -> str:
    return "" if progress.held_out_accuracy is None else f"{progress.held_out_accuracy:.2%}"


def _rate(network: _Network) -> str:
    return f"{network.images_per_second:,.0f}" if network.images_per_second else ""
