"""Progress a person can follow: a bar in a terminal, one line an epoch in a log."""

import sys
from collections.abc import Callable

from tqdm import tqdm

from digits.terminal import say as say_here


class Progress:
    """Tell how the fitting of one network goes on."""

    def __init__(
        self,
        label: str,
        epochs: int,
        images: int,
        *,
        live: bool,
        done: int = 0,
        say: Callable[[str], None] = say_here,
    ):
        """Start.

        Args:
            label: what is fitted, such as "fold 2/5".
            epochs: how many epochs there are.
            images: how many an epoch has.
            live: whether to draw a bar, which only one process at a time can.
            done: epochs already done, when a run is taken up again.
            say: takes the lines.
        """
        self.label, self.epochs, self._say = label, epochs, say
        self._bar = None
        if live and sys.stdout.isatty():
            self._bar = tqdm(
                total=epochs * images, initial=done * images, unit=" images", unit_scale=True, desc=label,
                dynamic_ncols=True, file=sys.stdout, leave=False, mininterval=0.3, smoothing=0.1,
            )  # fmt: skip
        elif done:
            say(f"{label}: goes on after epoch {done} of {epochs}")

    def batch(self, images: int) -> None:
        """Count the images of one batch."""
        if self._bar is not None:
            self._bar.update(images)

    def epoch(self, epoch) -> None:
        """Show a finished `fitting.Epoch`."""
        held_out = "" if epoch.held_out_accuracy is None else f", held-out {epoch.held_out_accuracy:.2%}"
        if self._bar is not None:
            self._bar.set_description(f"{self.label}, epoch {epoch.epoch}/{self.epochs}")
            self._bar.set_postfix_str(f"loss {epoch.loss:.3f}{held_out}")
            return
        self._say(
            f"{self.label}, epoch {epoch.epoch}/{self.epochs}: accuracy {epoch.accuracy:.2%}, loss {epoch.loss:.4f}"
            f"{held_out}, {epoch.seconds:.1f} s, {epoch.images_per_second:,.0f} images/s"
        )

    def done(self, line: str) -> None:
        """Close the bar and leave one line."""
        if self._bar is not None:
            self._bar.close()
        self._say(f"{self.label}: {line}")
