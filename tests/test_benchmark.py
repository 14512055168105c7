"""The benchmark: what it compares, how it counts, what it prints. Its real measurements are slow tests."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import benchmark
from bench import figure, kit, measuring, parts, reading, tables
from bench.measuring import Thing, first_reached, paired_effect, spread
from digits.console import BadInput, KitError
from digits.files import REFERENCE, ROOT
from digits.runs.store import Run

RUN = {"created": "2026-01-02T03:04:05+00:00", "machine": {"processors": 2, "processor": "made up"}}


def side_by_side(*medians, unit="seconds"):
    rows = [{"label": f"thing {number}", **spread([value])} for number, value in enumerate(medians)]
    return {"title": "a title", "n": 1, "value": unit, "rows": rows, "data": "made up", "run": RUN}


def measured(thing, common):
    """Stand in for a measurement in a fresh process: the same figures for all, but no contestant that is not there."""
    measuring.find(thing.peer)
    if recipe := thing.options.get("recipe"):
        assert dataclasses.asdict(kit.recipe_of(json.loads(json.dumps(thing.options)))) == recipe
    accuracy = {"kit.fit": 0.991, "plain.original": 0.98, "plain.deotte": 0.99}.get(thing.peer, 0)
    trace = [[2.0, accuracy / 2], [4.0, accuracy]]
    return {"seconds": 4.0, "images_per_second": 1000.0, "bytes": 2e9, "trace": trace}


def test_a_target_is_reached_when_the_next_check_holds_it_and_the_last_check_counts_as_it_is():
    trace = [(10, 0.98), (20, 0.991), (30, 0.989), (40, 0.99), (50, 0.992)]
    assert [first_reached(trace, target) for target in (0.98, 0.99, 0.993)] == [10, 40, None]
    assert first_reached([(10, 0.98), (20, 0.99)], 0.99) == 20
    assert first_reached([], 0.99) is None


def test_values_are_summarised_by_median_and_spread_and_never_reached_counts_as_endless():
    assert spread([3, 1, 2, 10]) == {"values": [3, 1, 2, 10], "median": 2.5, "low": 1, "high": 10}
    assert measuring.middle([3.0, None, 1.0]) == 3.0
    assert measuring.middle([None, None, 1.0]) == float("inf")
    with pytest.raises(ValueError, match="no median"):
        spread([])


def test_a_paired_effect_is_the_mean_difference_with_its_standard_error():
    effect, error = paired_effect([2.0, 4.0, 6.0], [1.0, 1.0, 1.0])
    assert (effect, error) == (3.0, pytest.approx(2 / 3**0.5))
    assert paired_effect([2.0], [1.0]) == (1.0, None)
    with pytest.raises(ValueError, match="longer"):
        paired_effect([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least one pair"):
        paired_effect([], [])


def test_things_take_turns_and_each_repetition_has_its_seed():
    order = []

    def run(thing, common):
        order.append((thing.label, common["seed"]))
        return {"seconds": len(order)}

    results = measuring.interleave([Thing("a", "x.y"), Thing("b", "x.y")], 2, {}, run, say=lambda line: None)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [result["seconds"] for result in results["b"]] == [2, 4]


def test_a_part_is_printed_with_medians_spreads_and_ratios_to_the_first_row():
    part = side_by_side(0.2, 0.5)
    part["rows"][1] |= spread([0.4, 0.5, 0.6])
    assert tables.render("load", part).splitlines() == [
        "load: a title (n = 1)",
        "         median  min–max  × the first",
        "thing 0     0.2  0.2–0.2         1.00",
        "thing 1     0.5  0.4–0.6         2.50",
    ]
    assert tables.number(1234.5, "seconds") == "1,234"
    assert tables.number(2_500_000_000, "bytes") == "2.50"


def test_every_part_compares_the_kit_with_something_and_is_printed_and_drawn(tmp_path):
    run = dataclasses.replace(Run(REFERENCE / "standard").finished_record(), seconds=500.0)
    plan = parts.Plan(tmp_path, repeats=1, seeds=2, deotte_epochs=2, standard_run=run, run=measured)
    known = {name: part(plan) for name, part in parts.PARTS.items()}
    for name, part in known.items():
        assert len(part["rows"]) > 1
        assert part["rows"][0]["label"].startswith(("the kit", "train.py", "quick"))
        assert part["title"] in tables.render(name, part)
    text = tables.render("accuracy", known["accuracy"])
    assert "To 99.0%: quick, 1 epoch, 4 s; the original script takes more than 1.0 times as long;" in text
    assert "To 99.5%: no mean of `quick` reached it." in text
    assert known["accuracy"]["extrapolated"]["deotte_whole_seconds"] == 4 / 2 * 45 * 15
    assert text.endswith("standard --folds 5: 99.63% out-of-fold in 8.3 minutes, 3 times shorter.")
    for suffix in (".png", ".svg"):
        figure.draw(known, tmp_path / f"figure{suffix}")
        assert (tmp_path / f"figure{suffix}").stat().st_size > 5000


def test_a_measurement_that_fails_in_its_process_is_reported_with_its_last_words():
    with pytest.raises(KitError, match=r"(?s)broken: failed with exit code 2: .*no_such: expected a function"):
        measuring.run_thing(Thing("broken", "no_such"), {})
    with pytest.raises(BadInput, match="expected a function of one of reading, kit"):
        measuring.find("kit.no_such")


def test_a_measurement_that_is_interrupted_is_no_failure(tmp_path):
    """Ctrl-C in a terminal ends the processes of a command too, each with its own exit code."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 130\n")
    python.chmod(0o755)
    with pytest.raises(KeyboardInterrupt):
        measuring.run_thing(Thing("interrupted", "kit.fit", python=str(python)), {})


def test_the_command_keeps_each_part_and_shows_the_parts_kept_before(tmp_path, capsys):
    kept = tmp_path / "figures.json"
    kept.write_text(json.dumps({"memory": side_by_side(2e9, unit="bytes")}))
    assert benchmark.main(["--part", "load", "--small", "--json", str(kept)]) == 0
    shown = capsys.readouterr().out
    for text in ("the kit, first read, checked", "cut small: the figures mean nothing", "memory: a title"):
        assert text in shown
    figures = json.loads(kept.read_text())
    assert list(figures) == ["load", "memory"]
    assert figures["load"]["rows"][0]["median"] > 0
    assert {"command", "created", "machine", "versions"} <= set(figures["load"]["run"])
    assert benchmark.main(["--part", "none", "--json", str(kept), "--figure", str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").exists()
    for flags, words in (
        (["--repeats", "0"], "--repeats 0: expected a number from 1 up"),
        (["--torch-python", "no-such-python"], "no-such-python: expected a Python that imports torch"),
    ):
        assert benchmark.main(["--small", *flags]) == 2
        assert words in capsys.readouterr().err


def test_what_is_measured_is_the_same_data_in_arrays_and_csvs_and_nothing_is_both_trained_on_and_held_out(tmp_path):
    from digits.data import dataset

    benchmark.prepare_data(tmp_path, tmp_path, small=True)
    data = dataset.load("kaggle", tmp_path / "csv")
    images, labels, test_images = reading.arrays({"folder": tmp_path})
    np.testing.assert_array_equal(data.train.images, images)
    np.testing.assert_array_equal(data.train.labels, labels)
    np.testing.assert_array_equal(data.test.images, test_images)
    for few, trained, scored in ((False, 0.9, 0.1), (True, 0.2, 0.4)):
        ours, our_labels, others, other_labels = reading.held_out_split({"folder": tmp_path, "seed": 3, "few": few})
        assert (len(ours), len(others)) == (round(len(labels) * trained), round(len(labels) * scored))
        assert len(our_labels) == len(ours)
        assert len(other_labels) == len(others)
        assert not {image.tobytes() for image in ours} & {image.tobytes() for image in others}


def test_benchmark_and_ablation_do_not_load_keras_to_read_their_flags():
    words = "import sys; sys.path[:0] = ['src', 'scripts']; import benchmark, ablate; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", words], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_whole_benchmark_runs_in_processes_of_its_own(tmp_path):
    assert benchmark.main(["--small", "--json", str(tmp_path / "all.json"), "--figure", str(tmp_path / "a.svg")]) == 0
    figures = json.loads((tmp_path / "all.json").read_text())
    assert list(figures) == list(parts.PARTS)
    assert all(row["median"] > 0 for part in figures.values() for row in part["rows"])
    traces = [row["traces"][0] for row in figures["accuracy"]["rows"]]
    assert all(0 < trace[0][0] <= trace[-1][0] for trace in traces)


@pytest.mark.slow
def test_the_pytorch_twin_has_the_weights_of_the_network():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.pytorch import twin
    from digits.model.networks import build_network

    network = build_network("compact")
    weights = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert sum(weight.numel() for weight in twin(network).parameters()) == weights
