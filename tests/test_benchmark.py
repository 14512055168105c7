"""The benchmark: what it compares, how it counts, what it prints. Its real measurements are slow tests."""

import json
import subprocess
import sys

import pytest

import benchmark
from bench import data, figure, kit, measuring, parts, plain
from bench.measuring import Contestant, first_reached, paired_effect, spread
from digits.console import KitError
from digits.files import ROOT
from train_process import STUB

RUN = {"created": "2026-01-02T03:04:05+00:00", "machine": {"processors": 2, "processor": "made up"}}


def made_part(*medians):
    rows = [{"label": f"way {number}", **spread([value])} for number, value in enumerate(medians)]
    return {"title": "a title", "n": 1, "rows": rows, "data": "made up", "run": RUN}


def measured(contestant, common):
    """Stand in for a measurement in a fresh process: the same figures for all."""
    accuracy = {kit.fit: 0.991, plain.original: 0.98, plain.deotte: 0.99}.get(contestant.function, 0)
    figures = {"seconds": 4.0, "images_per_second": 1000.0, "wrong": 5, "rows": 1000}
    return figures | {"trace": [[2.0, accuracy / 2], [4.0, accuracy]]}


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
    with pytest.raises(ValueError, match="at least one"):
        paired_effect([], [])


def test_contestants_take_turns_and_each_repetition_has_its_seed(tmp_path, monkeypatch):
    order = []

    def run(contestant, common):
        order.append((contestant.label, common["seed"]))
        return {"seconds": len(order)}

    monkeypatch.setattr(measuring, "measure", run)
    results = measuring.take_turns([Contestant("a", kit.fit), Contestant("b", kit.fit)], 2, tmp_path)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [result["seconds"] for result in results["b"]] == [2, 4]


def test_the_part_train_is_printed_with_medians_spreads_and_ratios_to_the_first_row():
    part = made_part(2000, 5000)
    part["rows"][1] |= spread([4000, 5000, 6000])
    assert parts.render("train", part).splitlines() == [
        "train: a title (n = 1)",
        "       median      min–max  × the first",
        "way 0   2,000  2,000–2,000         1.00",
        "way 1   5,000  4,000–6,000         2.50",
    ]


def test_every_part_compares_the_kit_with_something_and_is_printed_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "measure", measured)
    plan = parts.Plan(tmp_path, repeats=1, seeds=2, deotte_epochs=2, against=tmp_path)
    kept = {name: part(plan) for name, part in parts.PARTS.items()}
    for name, part in kept.items():
        assert len(part["rows"]) > 1
        assert part["rows"][0]["label"].startswith(("the kit", "quick"))
        assert part["title"] in parts.render(name, part)
    text = parts.render("accuracy", kept["accuracy"])
    assert "To 99.0%: quick, 1 epoch, 4 s; the original script takes more than 1.0 times as long;" in text
    assert "To 99.5%: no mean of `quick` reached it." in text
    assert "4.0  4.0–4.0         1.00  99.500% ± 0.223%  5 of 1,000" in parts.render("command", kept["command"])
    assert kept["accuracy"]["deotte_whole_seconds"] == 4 / 2 * 45 * 15
    for suffix in (".png", ".svg"):
        figure.draw(kept, tmp_path / f"figure{suffix}")
        assert (tmp_path / f"figure{suffix}").stat().st_size > 5000


def test_a_measurement_that_fails_in_its_process_is_reported_with_its_name(capfd):
    with pytest.raises(KitError, match=r"broken: its process failed with exit code 1"):
        measuring.measure(Contestant("broken", kit.fit), {}, environment=STUB)
    assert "KeyError: 'recipe'" in capfd.readouterr().err


def test_the_command_keeps_each_part_and_shows_the_parts_kept_before(tmp_path, capsys, monkeypatch):
    kept = tmp_path / "figures.json"
    kept.write_text(json.dumps({"train": made_part(2000, 5000)}))
    monkeypatch.setattr(measuring, "measure", measured)
    assert benchmark.main(["--part", "accuracy", "--small", "--json", str(kept)]) == 0
    shown = capsys.readouterr().out
    for text in ("quick, 1 epoch", "cut small: the figures mean nothing", "train: a title"):
        assert text in shown
    figures = json.loads(kept.read_text())
    assert list(figures) == ["train", "accuracy"]
    assert {"command", "created", "machine", "versions"} <= set(figures["accuracy"]["run"])
    assert benchmark.main(["--part", "none", "--json", str(kept), "--figure", str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").exists()
    assert benchmark.main(["--small", "--repeats", "0"]) == 2
    assert "--repeats 0: expected a number from 1 up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("few", "trained", "scored"),
    [pytest.param(False, 0.9, 0.1, id="nine tenths train"), pytest.param(True, 0.2, 0.4, id="one fifth trains")],
)
def test_nothing_is_both_trained_on_and_held_out(tmp_path, few, trained, scored):
    prepared = data.prepare(tmp_path, tmp_path, small=True)
    assert (prepared.input_shape, prepared.classes) == ((28, 28, 1), 10)
    images, labels, others, other_labels = data.held_out_split({"folder": tmp_path, "seed": 3, "few": few})
    assert (len(images), len(others)) == (round(data.SMALL_TRAIN * trained), round(data.SMALL_TRAIN * scored))
    assert (len(labels), len(other_labels)) == (len(images), len(others))
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in others}


def test_benchmark_and_ablation_do_not_load_keras_to_read_their_flags():
    words = "sys.path[:0] = ['src', 'scripts']; import benchmark, ablate, tune; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys; {words}"], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_whole_benchmark_runs_in_processes_of_its_own(tmp_path):
    assert benchmark.main(["--small", "--json", str(tmp_path / "all.json"), "--figure", str(tmp_path / "a.svg")]) == 0
    figures = json.loads((tmp_path / "all.json").read_text())
    assert list(figures) == list(parts.PARTS)
    assert all(row["median"] > 0 for part in figures.values() for row in part["rows"])
    traces = [row["traces"][0] for row in figures["accuracy"]["rows"]]
    assert all(0 < trace[0][0] <= trace[-1][0] for trace in traces)
