import dataclasses
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import ablate
import benchmark
from bench import child, figure, measuring, parts, reading, tables, trial_networks
from bench.measuring import Thing, first_reached, paired_effect, spread
from digits import config
from digits.config import Tta, load_recipe
from digits.console import BadInput, KitError
from digits.training.workers import Slots


def in_this_process(thing, common):
    """Measure as a fresh process would, options through JSON and all, but with Keras loaded once for all tests."""
    if "import keras" in " ".join(thing.options.get("words", [])):
        return {"seconds": 1.0}
    options = json.loads(json.dumps({"seed": 0, **common, **thing.options, "started": 0.0}))
    return json.loads(json.dumps(child.find(thing.peer)(options)))


@pytest.fixture
def small_recipes(monkeypatch, tmp_path):
    """Let every recipe train the smallest network, which compiles fastest, for one epoch."""
    small = 'networks = ["seed"]\nepochs = 1\nbatch_size = 64\nprecision = "float32"\n'
    for name in ("quick", "standard"):
        (tmp_path / f"{name}.toml").write_text(f'base = "{config.RECIPES / name}.toml"\n{small}')
    monkeypatch.setattr(config, "RECIPES", tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark")
    benchmark.prepare_data(path, path, small=True)
    return path


@pytest.fixture
def plan(folder, small_recipes):
    before = dict(os.environ)
    sizes = benchmark.SMALL | {"original_epochs": 1, "deotte_epochs": 0, "folds": 1}
    yield parts.Plan(folder, **sizes, torch_python="", run=in_this_process)
    os.environ.clear()
    os.environ.update(before)


def side_by_side(*medians, unit="seconds"):
    rows = [{"label": f"thing {number}", **spread([value])} for number, value in enumerate(medians)]
    return {"title": "a title", "n": 1, "value": unit, "rows": rows, "data": "made up", "run": RUN}


RUN = {"created": "2026-01-02T03:04:05+00:00", "machine": {"processors": 2, "processor": "made up"}}


def contest():
    """Two contestants of the part accuracy, two seeds each."""
    rows = [
        parts._trace_row("quick, 1 epoch", [{"seconds": 4.0, "trace": [[4.0, 0.99]]}] * 2),
        parts._trace_row("quick, 6 epochs", [{"seconds": 20.0, "trace": [[20.0, 0.996]]}] * 2),
        parts._trace_row(
            "Deotte's recipe",
            [
                {"seconds": 80.0, "trace": [[40.0, 0.988], [80.0, 0.9915]]},
                {"seconds": 90.0, "trace": [[50.0, 0.987], [90.0, 0.991]]},
            ],
        ),
    ]
    return {"title": "a race", "n": 2, "value": "seconds", "targets": list(parts.TARGETS), "rows": rows, "run": RUN}


def test_a_target_counts_as_reached_when_the_next_check_holds_it():
    trace = [(10, 0.98), (20, 0.991), (30, 0.989), (40, 0.99), (50, 0.992)]
    assert first_reached(trace, 0.99) == 40
    assert first_reached(trace, 0.98) == 10
    assert first_reached(trace, 0.993) is None


def test_the_last_check_counts_as_it_is():
    assert first_reached([(10, 0.98), (20, 0.99)], 0.99) == 20
    assert first_reached([(10, 0.99)], 0.99) == 10
    assert first_reached([], 0.99) is None


def test_spread_gives_median_least_and_most():
    assert spread([3, 1, 2, 10]) == {"values": [3, 1, 2, 10], "median": 2.5, "low": 1, "high": 10}
    with pytest.raises(ValueError, match="no median"):
        spread([])


def test_paired_effect_is_the_mean_difference_with_its_standard_error():
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


def test_the_median_counts_those_who_never_got_there_as_endless():
    assert tables.middle([3.0, None, 1.0]) == 3.0
    assert tables.middle([None, None, 1.0]) == float("inf")
    assert tables.middle([1.0, 2.0]) == 1.5


def test_a_table_aligns_its_columns():
    text = tables.table(["", "median"], [["kit", "1.5"], ["something else", "10"]])
    assert text.splitlines() == [
        "                median",
        "--------------  ------",
        "kit                1.5",
        "something else      10",
    ]


def test_a_part_is_shown_with_its_medians_spreads_and_ratios_to_the_first_row():
    part = side_by_side(0.2, 0.5)
    part["rows"][1] |= spread([0.4, 0.5, 0.6])
    lines = tables.render("load", part).splitlines()
    assert lines[0] == "load: a title (n = 1)"
    assert lines[-1].split() == ["thing", "1", "0.5", "0.4–0.6", "2.50"]
    assert tables.number(1234.5, "seconds") == "1,234"
    assert tables.number(2_500_000_000, "bytes") == "2.50"


def test_the_race_says_how_many_times_longer_the_others_took():
    text = tables.render("accuracy", contest())
    assert "To 99.0%: quick, 1 epoch, 4 s; Deotte's recipe takes 21.2 times as long." in text
    assert "To 99.5%: quick, 6 epochs, 20 s; Deotte's recipe takes more than 4.2 times as long." in text
    assert next(line for line in text.splitlines() if line.startswith("Deotte")).split()[-2:] == ["–", "(0/2)"]


def test_the_fifteen_networks_are_extrapolated_from_the_epochs_measured(tmp_path):
    run = {"seconds": 500.0, "out_of_fold": {"accuracy": 0.9965}}
    deotte = contest()["rows"][2]
    part = contest() | parts._against_fifteen(deotte, parts.Plan(tmp_path, deotte_epochs=2, standard_run=run))
    assert part["extrapolated"]["deotte_whole_seconds"] == 85 / 2 * 45 * 15
    assert tables.render("accuracy", part).splitlines()[-1] == (
        "standard --folds 5: 99.65% out of fold in 8.3 minutes, 57 times shorter."
    )


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_figure_draws_all_parts(tmp_path, suffix):
    shown = {"load": side_by_side(1, 2), "memory": side_by_side(1e9, unit="bytes"), "accuracy": contest()}
    figure.draw(shown, tmp_path / f"figure{suffix}")
    assert (tmp_path / f"figure{suffix}").stat().st_size > 5000
    assert [path.name for path in tmp_path.iterdir()] == [f"figure{suffix}"]


def test_what_fails_in_its_process_is_said_with_its_last_words(tmp_path):
    with pytest.raises(KitError, match=r"(?s)broken: failed with exit code 2: .*no_such: expected a function"):
        measuring.run_thing(Thing("broken", "no_such"), {})
    with pytest.raises(BadInput, match="expected a function of one of reading, kit"):
        child.find("kit.no_such")


def test_the_csvs_written_from_arrays_read_as_the_same_digits(folder):
    from digits.data import dataset

    source = dataset.load("kaggle", folder / "csv")
    images, labels, test_images = reading.arrays({"folder": folder})
    np.testing.assert_array_equal(source.train.images, images)
    np.testing.assert_array_equal(source.train.labels, labels)
    np.testing.assert_array_equal(source.test.images, test_images)
    assert len(labels) == benchmark.SMALL_TRAIN


def test_the_command_keeps_each_part_and_shows_the_parts_kept_before(tmp_path, capsys):
    kept = tmp_path / "figures.json"
    kept.write_text(json.dumps({"memory": side_by_side(2e9, unit="bytes")}))
    assert benchmark.main(["--part", "load", "--small", "--json", str(kept)]) == 0
    shown = capsys.readouterr().out
    assert "the kit, first read, checked" in shown
    assert "cut small: the figures mean nothing" in shown
    assert "memory: a title" in shown
    figures = json.loads(kept.read_text())
    assert list(figures) == ["load", "memory"]
    assert figures["load"]["rows"][0]["median"] > 0
    assert {"command", "created", "machine", "versions"} <= set(figures["load"]["run"])
    assert figures["load"]["run"]["command"].startswith("python scripts/benchmark.py --part load")
    assert benchmark.main(["--part", "none", "--json", str(kept), "--figure", str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--repeats", "0"], "--repeats 0: expected a number from 1 up"),
        (["--torch-python", "no-such-python"], "no-such-python: expected a Python that imports torch"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags, words, capsys):
    assert benchmark.main(["--small", *flags]) == 2
    assert words in capsys.readouterr().err


def test_the_part_startup_measures_everything_it_names(plan):
    part = parts.startup(plan)
    assert [row["label"] for row in part["rows"]][:2] == ["train.py --help", "an empty Python"]
    assert all(row["median"] > 0 for row in part["rows"])


def test_the_part_train_measures_the_kit_beside_plain_fits(plan):
    part = parts.train(plan)
    labels = [row["label"] for row in part["rows"] if "mixed" not in row["label"]]
    assert labels[:3] == ["the kit, augmenting", "model.fit", "model.fit, Keras augmenting"]
    assert all(row["median"] > 0 for row in part["rows"])
    assert "images a second" in tables.render("train", part)


def test_the_part_accuracy_traces_every_epoch(plan):
    part = parts.accuracy(dataclasses.replace(plan, original_epochs=2))
    quick, original = part["rows"]
    assert len(quick["traces"][0]) == 1
    assert len(original["traces"][0]) == 2
    (first, _), (second, accuracy) = original["traces"][0]
    assert 0 < first < second <= original["median"]
    assert accuracy == original["accuracy"]["median"]


def test_deottes_recipe_runs(plan):
    result = in_this_process(Thing("", "plain.deotte", {"epochs": 1}), {"folder": str(plan.folder)})
    assert len(result["trace"]) == 1
    assert result["seconds"] > 0


def test_the_part_predict_measures_the_kit_beside_plain_predict(plan):
    assert len(parts.predict(plan)["rows"]) == 4


@pytest.mark.slow
def test_the_part_memory_measures_a_whole_command(plan):
    kit, original = parts.memory(plan)["rows"]
    assert kit["median"] > 1e8
    assert original["median"] > 1e8


@pytest.mark.slow
def test_the_whole_benchmark_runs_in_processes_of_its_own(tmp_path):
    assert benchmark.main(["--small", "--json", str(tmp_path / "all.json"), "--figure", str(tmp_path / "a.svg")]) == 0
    assert list(json.loads((tmp_path / "all.json").read_text())) == list(parts.PARTS)


def test_the_pytorch_twin_has_the_weights_of_the_network():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.pytorch import twin
    from digits.model.networks import build_network

    network = build_network("compact")
    model = twin(network)
    assert sum(weight.numel() for weight in model.parameters()) == sum(
        int(np.prod(weight.shape)) for weight in network.trainable_weights
    )


def test_networks_on_trial_differ_from_compact_in_what_they_say(monkeypatch):
    from keras import layers

    from digits.model import networks

    monkeypatch.setattr(networks, "NETWORKS", dict(networks.NETWORKS))
    trial_networks.register()

    def kinds(name):
        return [type(layer).__name__ for layer in networks.build_network(name).layers]

    normed, keras_normed = (kinds(name) for name in trial_networks.NAMES)
    compact = kinds("compact")
    convolutions = compact.count("Conv2D")
    assert normed.count("FusedBatchNormalization") == convolutions
    assert [kind for kind in normed if "Norm" not in kind] == [kind for kind in compact if "Norm" not in kind]
    assert "FusedBatchNormalization" not in keras_normed
    assert issubclass(networks.FusedBatchNormalization, layers.BatchNormalization)


@pytest.mark.parametrize("name", ablate.VARIANTS)
@pytest.mark.parametrize("recipe", ["quick", "standard"])
def test_each_variant_changes_one_thing_of_the_recipe(name, recipe):
    base = load_recipe(recipe)
    changed = ablate.VARIANTS[name](base)
    before, after = dataclasses.asdict(base), dataclasses.asdict(changed)
    different = {key for key in before if before[key] != after[key]}
    together = [
        {"optimizer", "learning_rate", "weight_decay"},
        {"schedule", "learning_rate", "decay"},
    ]
    assert len(different) <= 1 or any(different <= settings for settings in together)


def test_variants_of_prediction_share_the_recipes_fits():
    base = load_recipe("quick")
    assert ablate.cell_key(base, 0, "") == ablate.cell_key(base.changed(tta=Tta(rotation_degrees=9)), 0, "")
    others = [
        ablate.cell_key(base, 1, ""),
        ablate.cell_key(base, 0, "new"),
        ablate.cell_key(base.changed(ema=0.5), 0, ""),
    ]
    assert len({ablate.cell_key(base, 0, ""), *others}) == 4


def test_only_known_variants_are_chosen():
    assert ablate.chosen("no TTA, no shift") == ["no shift", "no TTA"]
    assert ablate.chosen(None) == list(ablate.VARIANTS)
    with pytest.raises(BadInput, match="'no such': expected names from --list"):
        ablate.chosen("no such")


def made_fit(thing, common):
    """Return a fit whose log-loss is 1, and less by a half where weights are averaged."""
    loss = (0.5 if thing.options["recipe"]["ema"] else 1) + common["seed"]
    return {
        "seconds": 2.0,
        "scores": [{"tta": tta, "accuracy": 0.9, "log_loss": loss} for tta in thing.options["ttas"]],
    }


def test_the_ablation_pairs_its_seeds_and_fits_nothing_twice(monkeypatch):
    base = load_recipe("quick").changed(ema=0.99)
    variants = {name: ablate.VARIANTS[name](base) for name in ("no weight averaging", "no TTA")}
    fitted, cells = [], {}

    def run(thing, common):
        fitted.append((thing.label, common["seed"]))
        return made_fit(thing, common)

    monkeypatch.setattr(ablate, "run_thing", run)
    for _ in range(2):
        ablate.fit_missing({"the recipe": base} | variants, 2, cells, {"state": ""}, Slots(1, ({},)), lambda: None)
    assert fitted == [(name, seed) for seed in (0, 1) for name in ("the recipe", "no weight averaging")]
    recipe, unaveraged, no_tta = ablate.effects({"the recipe": base} | variants, 2, cells, "")
    assert unaveraged["log_loss"]["values"] == [1, 2]
    assert (unaveraged["log_loss"]["effect"], unaveraged["log_loss"]["error"]) == (0.5, 0)
    assert (no_tta["log_loss"]["effect"], no_tta["same_as_recipe"]) == (0, False)
    lines = ablate.render([recipe, unaveraged]).splitlines()
    assert " ".join(lines[-1].split()) == "no weight averaging 90.00% +0.00 ± 0.00 1500.0 +500.0 ± 0.0 2"


def test_the_ablation_fits_as_many_at_a_time_as_there_are_places_and_each_has_one_to_itself(monkeypatch):
    together, used = threading.Barrier(2, timeout=60), []

    def run(thing, common):
        used.append((common["threads"], common["environment"]["CUDA_VISIBLE_DEVICES"]))
        together.wait()  # Breaks, if no other fit runs at the same time.
        return made_fit(thing, common)

    monkeypatch.setattr(ablate, "run_thing", run)
    base, cells = load_recipe("quick"), {}
    recipes_by_name = {"the recipe": base, "no weight averaging": base.changed(ema=0.0)}
    places = Slots(3, ({"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}))
    ablate.fit_missing(recipes_by_name, 1, cells, {"state": ""}, places, lambda: None)
    assert sorted(used) == [(3, "0"), (3, "1")]
    assert len(cells) == 2


def test_a_fit_that_fails_ends_the_ablation_and_what_was_done_is_kept(monkeypatch):
    def run(thing, common):
        if common["seed"]:
            raise KitError("no such luck")
        return made_fit(thing, common)

    monkeypatch.setattr(ablate, "run_thing", run)
    cells, kept = {}, []
    with pytest.raises(KitError, match="no such luck"):
        ablate.fit_missing(
            {"the recipe": load_recipe("quick")},
            3,
            cells,
            {"state": ""},
            Slots(1, ({},)),
            lambda: kept.append(len(cells)),
        )
    assert kept == [1]


def test_the_ablation_goes_on_from_its_file(tmp_path, capsys, monkeypatch, small_recipes):
    kept = tmp_path / "ablation.json"
    monkeypatch.setattr(ablate, "run_thing", made_fit)
    command = ["--small", "--seeds", "1", "--only", "no label smoothing", "--json", str(kept)]
    assert ablate.main(command) == 0
    assert "seed 0, no label smoothing" in capsys.readouterr().out
    assert ablate.main(command) == 0
    assert "seed 0" not in capsys.readouterr().out
    assert [row["name"] for row in json.loads(kept.read_text())["rows"]] == [
        "the recipe as it is",
        "no label smoothing",
    ]


@pytest.mark.parametrize(("few", "trained", "scored"), [(False, 0.9, 0.1), (True, 0.2, 0.4)])
def test_no_digit_is_both_trained_on_and_held_out(tmp_path, few, trained, scored):
    labels = np.arange(500, dtype=np.uint8) % 10
    named = np.arange(500)[:, np.newaxis, np.newaxis]
    for name, array in (("train_images", named), ("train_labels", labels), ("test_images", named)):
        np.save(tmp_path / f"{name}.npy", array)
    ours, our_labels, others, other_labels = reading.held_out_split({"folder": str(tmp_path), "seed": 3, "few": few})
    assert (len(ours), len(others)) == (500 * trained, 500 * scored)
    assert not np.intersect1d(ours, others).size
    assert np.array_equal(our_labels, labels[ours.ravel()])
    assert np.array_equal(other_labels, labels[others.ravel()])


def test_a_fit_of_the_ablation_keeps_to_its_share_of_the_machine(plan, monkeypatch):
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "before")
    share = {"threads": 7, "environment": {"CUDA_VISIBLE_DEVICES": "-1"}}
    options = {"recipe": dataclasses.asdict(load_recipe("quick")), **share}
    in_this_process(Thing("", "kit.fit", options), {"folder": str(plan.folder)})
    assert (os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("7", "-1")


def test_a_fit_of_the_ablation_is_scored_under_each_tta(plan):
    ttas = [dataclasses.asdict(Tta()), dataclasses.asdict(Tta(shift_pixels=1))]
    options = {"recipe": dataclasses.asdict(load_recipe("quick")), "ttas": ttas}
    result = in_this_process(Thing("", "kit.fit", options), {"folder": str(plan.folder)})
    assert [score["tta"] for score in result["scores"]] == ttas
    assert all(0 <= score["accuracy"] <= 1 and score["log_loss"] > 0 for score in result["scores"])


def test_neither_command_loads_keras_to_read_its_flags():
    for script in ("benchmark", "ablate"):
        words = f"import sys; sys.path[:0] = ['src', 'scripts']; import {script}; sys.exit('keras' in sys.modules)"
        subprocess.run([sys.executable, "-c", words], check=True, cwd=measuring.ROOT)
