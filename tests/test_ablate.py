"""The ablation: one change at a time, paired, resumable."""

import dataclasses
import json
import threading

import pytest

import ablate
from bench import kit, trials
from bench.data import prepare
from bench.measuring import Contestant, measure
from digits import config
from digits.config import Tta, load_recipe
from digits.console import BadInput, KitError
from digits.training.workers import Slots
from made_run import WorkerOfThisProcess
from train_process import STUB


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
    prepare(path, path, small=True)
    return path


def test_each_variant_changes_one_thing_of_the_recipe():
    together = [
        {"optimizer", "learning_rate", "weight_decay"},
        {"schedule", "learning_rate", "decay"},
        {"tta.shift_pixels", "tta.rotation_degrees"},
        {f"augmentation.{name}" for name in ("rotation_degrees", "shift_pixels", "zoom", "shear_degrees")},
    ]
    for name in ("quick", "standard"):
        base, *variants = ablate.chosen(load_recipe(name), None).values()
        for variant in variants:
            different = config.differences(variant, base).keys()
            assert len(different) <= 1 or any(different <= settings for settings in together), different


def test_variants_of_prediction_share_the_recipes_fits():
    base = load_recipe("quick")
    assert trials.cell_key(base, 0, "") == trials.cell_key(base.changed(tta=Tta(rotation_degrees=9)), 0, "")
    others = [(base, 1, ""), (base, 0, "new"), (base.changed(ema=0.5), 0, "")]
    assert len({trials.cell_key(*cell) for cell in [(base, 0, ""), *others]}) == 4


def test_only_known_variants_are_chosen_or_those_of_the_command_line(tmp_path):
    base = load_recipe("quick")
    assert list(ablate.chosen(base, "no TTA, no shift")) == ["the recipe as it is", "no shift", "no TTA"]
    with pytest.raises(BadInput, match="'no such': expected names from --list"):
        ablate.chosen(base, "no such")
    recipes = ablate.chosen(base, None, [["ema=0"], ["epochs=3", "dropout=1"]])
    assert list(recipes) == ["the recipe as it is", "ema=0", "epochs=3 dropout=1"]
    assert recipes["epochs=3 dropout=1"].epochs == 3
    with pytest.raises(BadInput, match="--set emma=0: emma is not a field"):
        ablate.chosen(base, None, [["emma=0"]])
    file = tmp_path / "my projects" / "nets.py"
    file.parent.mkdir()
    file.write_text("def tiny(input_shape, classes): ...\n")
    (_, variant) = ablate.chosen(base, None, [[f"networks={file}:tiny", "epochs=1"]]).values()
    assert variant.networks == ("nets.py:tiny",)


@pytest.mark.parametrize("words", ["members=2", "folds=3", "refit=1", "evaluate_every=2", "networks=compact,vgg"])
def test_a_setting_that_one_fit_does_not_show_is_refused(words):
    with pytest.raises(BadInput, match=f"{words}: .*one network"):
        ablate.chosen(load_recipe("quick"), None, [[words]])


def test_a_network_that_training_would_refuse_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trials, "Worker", WorkerOfThisProcess)
    (tmp_path / "nets.py").write_text("def net(input_shape, classes):\n    return 3\n")
    assert ablate.main(["--small", "--set", f"networks={tmp_path / 'nets.py'}:net"]) == 2
    assert "returns a keras.Model, found int" in capsys.readouterr().err


def made_fit(contestant, common, **share):
    """Return a fit whose log-loss is 1, and less by a half where weights are averaged."""
    loss = (0.5 if contestant.options["recipe"].ema else 1) + common["seed"]
    return {
        "seconds": 2.0,
        "scores": [
            {"tta": dataclasses.asdict(tta), "accuracy": 0.9, "loss": loss} for tta in contestant.options["ttas"]
        ],
    }


def test_the_ablation_pairs_its_seeds_and_fits_nothing_twice(monkeypatch):
    base = load_recipe("quick").changed(ema=0.99)
    variants = ablate.chosen(base, "no weight averaging,no TTA")
    del variants["the recipe as it is"]
    fitted, cells = [], {}

    def run(contestant, common, **share):
        fitted.append((contestant.label, common["seed"]))
        return made_fit(contestant, common)

    monkeypatch.setattr(trials, "measure", run)
    for _ in range(2):
        trials.fit_missing({"the recipe": base} | variants, 2, cells, {"state": ""}, Slots((1,), ({},)), lambda: None)
    assert fitted == [(name, seed) for seed in (0, 1) for name in ("the recipe", "no weight averaging")]
    recipe, unaveraged, no_tta = trials.effects({"the recipe": base} | variants, 2, cells, "")
    assert unaveraged["loss"]["values"] == [1, 2]
    assert (unaveraged["loss"]["effect"], unaveraged["loss"]["error"]) == (0.5, 0)
    assert (no_tta["loss"]["effect"], no_tta["same_as_recipe"]) == (0, False)
    lines = trials.render([recipe, unaveraged]).splitlines()
    assert " ".join(lines[-1].split()) == "no weight averaging 90.00% +0.00 ± 0.00 1500.0 +500.0 ± 0.0 2"


def test_the_ablation_fits_as_many_at_a_time_as_there_are_places_and_each_has_one_to_itself(monkeypatch):
    together, used = threading.Barrier(2, timeout=60), []

    def run(contestant, common, **share):
        used.append((share["threads"], share["environment"]["CUDA_VISIBLE_DEVICES"]))
        together.wait()  # Breaks, if no other fit runs at the same time.
        return made_fit(contestant, common)

    monkeypatch.setattr(trials, "measure", run)
    base, cells = load_recipe("quick"), {}
    recipes_by_name = {"the recipe": base, "no weight averaging": base.changed(ema=0.0)}
    places = Slots((3,), ({"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}))
    trials.fit_missing(recipes_by_name, 1, cells, {"state": ""}, places, lambda: None)
    assert sorted(used) == [(3, "0"), (3, "1")]
    assert len(cells) == 2


def test_a_fit_that_fails_ends_the_ablation_and_what_was_done_is_kept(monkeypatch):
    def run(contestant, common, **share):
        if common["seed"]:
            raise KitError("no such luck")
        return made_fit(contestant, common)

    monkeypatch.setattr(trials, "measure", run)
    cells, kept, recipes = {}, [], {"the recipe": load_recipe("quick")}
    with pytest.raises(KitError, match="no such luck"):
        trials.fit_missing(recipes, 3, cells, {"state": ""}, Slots((1,), ({},)), lambda: kept.append(len(cells)))
    assert kept == [1]


def test_the_ablation_goes_on_from_its_file(tmp_path, capsys, monkeypatch, small_recipes):
    kept = tmp_path / "ablation.json"
    monkeypatch.setattr(trials, "measure", made_fit)
    command = ["--small", "--seeds", "1", "--only", "no label smoothing", "--json", str(kept)]
    assert ablate.main(command) == 0
    assert "seed 0, no label smoothing" in capsys.readouterr().out
    assert ablate.main(command) == 0
    assert "seed 0" not in capsys.readouterr().out
    names = [row["name"] for row in json.loads(kept.read_text())["rows"]]
    assert names == ["the recipe as it is", "no label smoothing"]


def test_a_fit_is_scored_under_each_tta_by_its_process(folder, small_recipes):
    ttas = [Tta(), Tta(shift_pixels=1)]
    options = {"seed": 0, "folder": str(folder), "recipe": load_recipe("quick"), "ttas": ttas}
    result = measure(Contestant("a fit", kit.fit, options), {}, environment=STUB)
    assert [score["tta"] for score in result["scores"]] == [dataclasses.asdict(tta) for tta in ttas]
    assert all(0 <= score["accuracy"] <= 1 and score["loss"] > 0 for score in result["scores"])
    assert json.loads(json.dumps(result)) == result
