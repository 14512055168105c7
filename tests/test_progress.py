"""What is shown while a run trains, and the estimate of the time left."""

import io
import re
import sys

import numpy as np
import pytest

from digits.config import load_recipe
from digits.console import duration
from digits.training import progress
from digits.training.fold import FoldTask, Progress
from digits.training.progress import ProgressDisplay, seconds_left


def tasks(folds=5, epochs=40, threads=(1, 1, 1, 1, 2)):
    recipe, rows = load_recipe("standard").changed(epochs=epochs, folds=folds), np.arange(1000)
    return [
        FoldTask(recipe, fold + 1, 1, folds, 0, "float32", rows, rows[:200], None, threads[fold])
        for fold in range(folds)
    ]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until the test moves it."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_networks_are_begun_in_their_turn_as_soon_as_a_slot_is_free():
    assert seconds_left([], [10, 10, 10, 10, 6], slots=2) == 26
    assert seconds_left([3, 5], [10, 6], slots=2) == 13
    assert seconds_left([7], [], slots=2) == 7
    assert seconds_left([], [], slots=2) == 0


def test_a_duration_is_in_seconds_minutes_or_hours_by_its_length():
    found = [duration(seconds) for seconds in (0, 7, 62, 99, 101, 1044, 5900, 6000, 7500, 20_000)]
    assert found == [
        "0 s",
        "7 s",
        "62 s",
        "99 s",
        "2 min",
        "17 min",
        "98 min",
        "1 h 40 min",
        "2 h 05 min",
        "5 h 33 min",
    ]


def test_a_log_has_one_heading_and_at_most_a_line_for_each_tenth_of_the_epochs(clock, capsys):
    with ProgressDisplay(tasks(), test_images=500, slots=2) as display:
        for epoch in range(41):
            for fold in (1, 2):
                clock[0] += 1
                images = epoch * tasks()[0].training_images // 40
                display.log(Progress(f"fold {fold}/5", "training", epoch, images, 0.5, 0.99 if epoch else None))
        display.finish("fold 1/5", "99.50% of 200 held-out images, 80 s")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("network ") for line in lines) == 1
    assert sum(line.startswith("fold 1/5") for line in lines) == 11
    assert re.fullmatch(r"Estimated time: \d min, 2 networks at a time, \d+ images/s", lines[0])
    assert re.fullmatch(r"fold 2/5    40/40   0\.5000    99\.00%       \d{3}  +\d+ (s|min)", lines[-2])
    assert lines[-1] == "fold 1/5  99.50% of 200 held-out images, 80 s"


def test_the_estimate_counts_rounds_predictions_and_the_threads_of_the_last_network(clock):
    """Five networks of a known speed on two slots: two rounds, and a last one with two threads."""
    run = tasks()
    display = ProgressDisplay(run, test_images=0, slots=2)
    for seconds, images in ((0, 0), (10, 1000)):
        clock[0] = seconds
        for fold in (1, 2):
            display.log(Progress(f"fold {fold}/5", "training", 0, images, None, None))
    each = run[0].training_images + 200 * 7 / 3
    start, end = progress.START_SECONDS, progress.END_SECONDS
    expected = (each - 1000) / 100 + start + each / 100 + start + each / (100 * 2**progress.THREAD_EXPONENT) + end
    assert display.seconds_left() == pytest.approx(expected)


@pytest.mark.parametrize(("rate", "text"), [(100, "40 s"), (10, "7 min")])
def test_an_estimate_is_shown_in_steps_of_five_seconds_or_a_minute(clock, capsys, rate, text):
    (task,) = run = tasks(folds=1, epochs=5)
    display = ProgressDisplay(run, test_images=0)
    for clock[0], images in ((0, 0), (10, 10 * rate)):
        display.log(Progress(task.label, "training", 0, images, None, None))
    left = task.training_images + 200 * 7 / 3 - 10 * rate
    assert display.seconds_left() == pytest.approx(left / rate + progress.END_SECONDS)
    assert f"Estimated time: {text}, {rate} images/s" in capsys.readouterr().out


def test_no_time_is_estimated_before_every_network_of_the_first_round_is_measured(clock, capsys):
    """A small network that starts first says nothing of how long the large one beside it takes."""
    recipe, rows = (
        load_recipe("standard").changed(epochs=40, members=2, networks=("late48", "compact")),
        np.arange(1000),
    )
    run = [FoldTask(recipe, 1, member, 5, 0, "float32", rows, rows[:200], None, 1) for member in (1, 2)]
    display = ProgressDisplay(run, test_images=0, slots=2)
    for seconds, member, images in ((0, 2, 0), (10, 2, 1000), (12, 1, 0), (14, 2, 1400)):
        clock[0] = seconds
        display.log(Progress(run[member - 1].label, "training", 0, images, None, None))
    assert display.seconds_left() is None
    assert capsys.readouterr().out == ""
    clock[0] = 22
    display.log(Progress(run[0].label, "training", 0, 100, None, None))
    work = run[0].training_images + 200 * 7 / 3
    assert display.seconds_left() == pytest.approx((work - 100) / 10 + progress.END_SECONDS)
    assert "Estimated time: 52 min, 2 networks at a time, 110 images/s" in capsys.readouterr().out


@pytest.mark.parametrize(("other", "cost"), [("compact", 6.4 / 65.4), ("vgg", 13.3 / 65.4), ("my.py:net", 1)])
def test_a_network_that_is_not_yet_measured_is_estimated_by_its_multiply_adds(clock, other, cost):
    recipe, rows = load_recipe("standard").changed(epochs=40, members=2, networks=("late48", other)), np.arange(1000)
    run = [FoldTask(recipe, 1, member, 5, 0, "float32", rows, rows[:200], None, 1) for member in (1, 2)]
    display = ProgressDisplay(run, test_images=0, slots=1)
    for seconds, images in ((0, 0), (10, 100)):
        clock[0] = seconds
        display.log(Progress(run[0].label, "training", 0, images, None, None))
    work = run[0].training_images + 200 * 7 / 3
    expected = (work - 100) / 10 + progress.START_SECONDS + cost * work / 10 + progress.END_SECONDS
    assert display.seconds_left() == pytest.approx(expected)
    display.finish(run[0].label, "")
    display.log(Progress(run[1].label, "training", 0, 0, None, None))
    assert display.seconds_left() == pytest.approx(cost * work / 10 + progress.END_SECONDS)


def test_an_estimate_is_made_where_more_networks_are_trained_than_there_seemed_to_be_slots(clock):
    """Workers that join a cluster later do that."""
    run = tasks(threads=(1,) * 5)
    display = ProgressDisplay(run, test_images=0)
    for clock[0], images in ((0, 0), (10, 1000)):
        for fold in (1, 2):
            display.log(Progress(f"fold {fold}/5", "training", 0, images, None, None))
    work = run[0].training_images + 200 * 7 / 3
    one, start = (work - 1000) / 100, progress.START_SECONDS + work / 100
    assert display.seconds_left() == pytest.approx(one + 2 * start + progress.END_SECONDS)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_all_networks_at_once_at_every_width(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for width in (60, 80, 120, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdout", terminal := Terminal())
        with ProgressDisplay(tasks(), test_images=500, slots=2) as display:
            display._live.refresh()
            assert "starting" in terminal.getvalue()
            for clock[0], images in ((0, 0), (10, 2000)):
                for fold in (1, 2):
                    display.log(Progress(f"fold {fold}/5", "training", 4, images, 0.5, 0.99))
            display._live.refresh()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
        assert "0/5 done" in text
        assert re.search(r"fold 1/5 .*4/40 +99\.00%", text)
        assert ("200 images/s" in text, "loss 0.5000" in text) == (width >= 80, width >= 100)
        assert max(map(len, re.split(r"[\r\n]", text))) <= width + 1
