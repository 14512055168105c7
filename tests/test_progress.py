"""What is shown while a run trains, and the estimate of the time left."""

import io
import re
import sys

import numpy as np
import pytest

from digits.config import Tta, load_recipe
from digits.console import duration, progress_bar, styled
from digits.training import progress
from digits.training.fold import FoldTask, Progress
from digits.training.progress import ProgressDisplay


def tasks(folds=5, epochs=40, threads=(1, 1, 1, 1, 2)):
    recipe, rows = load_recipe("standard").changed(epochs=epochs, folds=folds), np.arange(1000)
    return [FoldTask(recipe, fold + 1, 1, 0, "float32", rows, rows[:200], None, threads[fold]) for fold in range(folds)]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_duration_is_in_seconds_minutes_or_hours_by_its_length():
    found = ", ".join(map(duration, (0, 7, 62, 99, 101, 1044, 5900, 6000, 7500, 20_000)))
    assert found == "0 s, 7 s, 62 s, 99 s, 2 min, 17 min, 98 min, 1 h 40 min, 2 h 05 min, 5 h 33 min"


def epochs(display, task, number):
    images = task.training_images * number // task.recipe.epochs
    display.log(Progress(*task.key, "training", number, images, 0.5, 0.99 if number else None, 3100.0))


def test_a_log_has_one_heading_and_at_most_a_line_for_each_tenth_of_the_epochs(clock, capsys):
    run = tasks()
    with ProgressDisplay(run, test_images=500) as display:
        for epoch in range(41):
            for task in run[:2]:
                clock[0] += 1
                epochs(display, task, epoch)
        display.finish((1, 1), "99.50% of 200 held-out images, 80 s")
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(0).startswith("The column held-out is the accuracy after each epoch on 100 of 200 images")
    assert lines[0].split() == ["network", "epoch", "loss", "held-out", "images/s", "time", "left"]
    assert sum(line.startswith("network ") for line in lines) == 1
    assert sum(line.startswith("fold 1/5") for line in lines) == 11
    assert re.fullmatch(r"fold 2/5    40/40   0\.5000    99\.00%     3,100  +\d+ (s|min)", lines[-2])
    assert lines[-1] == "fold 1/5  99.50% of 200 held-out images, 80 s"


@pytest.mark.parametrize(
    ("train", "held_out", "every", "scored"),
    [(33_600, 8_400, 1, 6 * 256), (3_000, 600, 1, 128), (500, 300, 2, 100), (500, 40, 1, 40), (500, 300, 0, 0)],
)
def test_the_scores_of_epochs_take_few_held_out_images_in_whole_batches(train, held_out, every, scored):
    recipe = load_recipe("standard").changed(evaluate_every=every, batch_size=256 if train > 10_000 else 128)
    task = FoldTask(recipe, 1, 1, 0, "float32", np.arange(train), train + np.arange(held_out), None)
    rows = task.scored_rows
    assert len(set(rows)) == len(rows) == scored
    assert all(rows >= train)


def members(*networks):
    recipe = load_recipe("standard").changed(epochs=40, members=len(networks), networks=networks, tta=Tta())
    rows = np.arange(1000)
    return [FoldTask(recipe, 1, number, 0, "float32", rows, rows[:0], None) for number in range(1, len(networks) + 1)]


@pytest.mark.parametrize(
    ("networks", "seconds"),
    [
        pytest.param(("compact", "compact"), 10 + 20, id="alike"),
        pytest.param(("compact", "vgg"), 10 + 20 * 13.3 / 6.4, id="a larger one waits"),
        pytest.param(("my.py:net", "other.py:net"), 10 + 20, id="custom ones"),
    ],
)
def test_the_time_left_counts_a_network_by_its_multiply_adds(clock, networks, seconds):
    first, second = members(*networks)
    display = ProgressDisplay([first, second])
    epochs(display, first, 0)
    assert display.seconds_left() is None
    clock[0] = 10
    epochs(display, first, 20)
    assert display.seconds_left() == pytest.approx(seconds)
    display.finish(first.key, "")
    assert display.seconds_left() == pytest.approx((seconds - 10) / 2)


def test_what_was_finished_before_is_no_measure_of_the_speed(clock):
    first, second, third = members("compact", "compact", "compact")
    display = ProgressDisplay([first, second, third])
    display.finish(first.key, "finished before")
    epochs(display, second, 20)  # Resumed from a checkpoint.
    clock[0] = 10
    epochs(display, second, 30)
    assert display.seconds_left() == pytest.approx(10 + 40)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_other_long_work_has_a_bar_in_a_terminal_and_nothing_in_a_pipe(monkeypatch, capsys):
    for stream in (io.StringIO(), terminal := Terminal()):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("TERM", "xterm")
        with progress_bar(lambda: "1 image read", total=2) as count:
            count(1)
    assert not capsys.readouterr().out
    assert "1 image read" in terminal.getvalue()


def test_results_stand_out_in_a_terminal_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert styled("99 %", "bold green") == "99 %"
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert styled("99 %", "bold green") == "\x1b[1;32m99 %\x1b[0m"
    assert "file:///report.html" in styled("report.html", "link file:///report.html")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "32m" not in styled("99 %", "green")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_terminal_shows_all_networks_at_once_at_every_width(clock, monkeypatch, width):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    run = tasks()
    with ProgressDisplay(run, test_images=500) as display:
        for clock[0], epoch in ((0, 0), (10, 4)):
            for task in run[:2]:
                epochs(display, task, epoch)
        display._bars.refresh()
        display.stage("drawing the report")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"fold 1/5 .*4/40", text)
    assert re.search(r"fold 2/5 .*4/40", text)
    assert "total" in text
    assert "drawing the report …" in text
    shown = ["time left", "loss", "images/s"][: {40: 1, 60: 2}.get(width, 3)]
    assert all(name in text for name in ["network", "epoch", "held-out", "99.00%", *shown])
    assert max(map(len, re.split(r"[\r\n]", text))) <= width + 1
