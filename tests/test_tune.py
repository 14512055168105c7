"""The search for better settings: its syntax, its study on disk, and what it concludes."""

import dataclasses

import pytest

import tune
from bench import trials
from bench.data import Prepared
from digits.config import load_recipe
from digits.console import BadInput, KitError

optuna = pytest.importorskip("optuna")
from optuna.distributions import FloatDistribution, IntDistribution

SHAPE = (28, 28, 1)


def test_a_search_is_a_range_or_values_that_the_field_takes():
    base = load_recipe("quick")
    assert tune.distribution_of("learning_rate=1e-3..0.03:log", base)[1] == FloatDistribution(1e-3, 0.03, log=True)
    assert tune.distribution_of("epochs=2..5", base) == ("epochs", IntDistribution(2, 5))
    assert tune.distribution_of("networks=compact,vgg", base)[1].choices == ("compact", "vgg")
    search = ["learning_rate=0.001..0.03", "dropout=0,0.5", "networks=compact,vgg"]
    axes = dict(tune.distribution_of(text, base) for text in search)
    assert tune.current(base, axes) == {"learning_rate": base.learning_rate, "dropout": "0", "networks": "compact"}
    assert tune.current(base, dict([tune.distribution_of("dropout=0.5,1", base)])) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte=0.1..1", "learning_rte is not a field of a recipe. Did you mean learning_rate?"),
        ("learning_rate=0.1..20", "expected a number from 1e-08 to 10."),
        ("learning_rate=0.1..0.01", "the lower first"),
        ("ema=0..0.9:log", "above 0 for :log"),
        ("epochs=3", "--search epochs=3: expected epochs=LOW..HIGH"),
        ("optimizer=adam..sgd", "expected a range of numbers"),
        ("learning_rate", "expected a number from"),
        ("members=1,2", "members does not change the fit of one network"),
        ("refit=0..2", "refit does not change the fit of one network"),
        ("epochs=3,3", "VALUE,VALUE"),
    ],
)
def test_another_search_is_refused(text, message):
    with pytest.raises(BadInput) as refusal:
        tune.distribution_of(text, load_recipe("quick"))
    assert message in str(refusal.value)


@pytest.fixture
def fits(monkeypatch):
    """Fits whose log-loss is lowest at a learning rate of 0.005; a rate above 0.02 diverges."""
    fitted = []

    def run(contestant, common, **share):
        options = {**common, **contestant.options}
        rate, fold = options["recipe"].learning_rate, options.get("fold", 0)
        fitted.append((rate, options["split"], fold))
        if len(fitted) == run.killed_at:
            raise KeyboardInterrupt
        if rate > 0.02:
            raise KitError("the loss was nan in epoch 1")
        loss = 0.1 + abs(rate - 0.005) + 0.0001 * ((fold + options["seed"]) % 2)
        tta = dataclasses.asdict(options["recipe"].tta)
        return {"seconds": 1.0, "scores": [{"tta": tta, "accuracy": 0.9, "loss": loss}]}

    run.killed_at = None
    monkeypatch.setattr(tune, "prepare", lambda folder, *_, **__: Prepared(folder, "made data", "0123", SHAPE, 10))
    monkeypatch.setattr(tune, "measure", run)
    monkeypatch.setattr(trials, "measure", run)
    return fitted, run


def test_an_interrupted_search_resumes_and_ends_with_recipe_plot_and_verdict(tmp_path, fits, capsys, monkeypatch):
    fitted, run = fits
    monkeypatch.setattr(tune, "LEAST_TRIALS", 3)
    study = tmp_path / "quick.db"
    command = ["--search", "learning_rate=0.001..0.03:log", "ema=0.9,0.99", "--limit", "300", "--jobs", "1"]
    command += ["--trials", "12", "--folds", "2", "--confirm", "3", "--study", str(study)]
    run.killed_at = 9
    assert tune.main(command) == 130
    done = len(tune.finished(optuna.load_study(study_name="tune", storage=f"sqlite:///{study}")))
    assert 3 <= done < 12
    run.killed_at = None
    assert tune.main(command) == 0
    out = capsys.readouterr().out
    assert f"{done} of 12 trials done" in out
    assert "the loss was nan in epoch 1" in out or all(rate <= 0.02 for rate, _, _ in fitted)
    assert "The best is better than the recipe on fresh splits: calibrated log-loss -" in out
    assert "Importance of each field" in out
    assert f"optuna-dashboard sqlite:///{study}" in out
    assert "12 of 12 trials, best 0.1" in out
    best = load_recipe(str(tmp_path / "quick-best.toml"))
    assert abs(best.learning_rate - 0.005) < 0.004
    assert (tmp_path / "quick-best.png").stat().st_size > 10_000
    assert {split for _, split, _ in fitted} == {tune.SPLIT, *(trials.FIRST_SPLIT + seed for seed in range(3))}
    before = len(fitted)
    assert tune.main(command) == 0, "all is kept"
    assert len(fitted) == before
    assert "quick-best.toml (replaces the earlier one)" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(tune, "prepare", lambda folder, *_, **__: Prepared(folder, "made data", "4567", SHAPE, 10))
        assert tune.main(command) == 2, "one label was corrected"
    assert "is of something else: the data was made data (0123)" in capsys.readouterr().err
    assert tune.main([*command[:2], *command[3:]]) == 2
    assert (
        "is of something else: the search was learning_rate=0.001..0.03:log ema=0.9,0.99 and is"
        in capsys.readouterr().err
    )


def test_a_difference_within_noise_is_named_so():
    def row(*differences):
        effect, error = trials.paired_effect(differences, [0] * len(differences))
        return {"loss": {"values": differences, "effect": effect, "error": error}}

    assert tune.verdict(row(-0.01, 0.008, -0.003)).startswith("Within noise: ")
    assert tune.verdict(row(-0.010, -0.011, -0.0105)).startswith("The best is better than the recipe on fresh splits")
    assert tune.verdict(row(0.010, 0.011, 0.0105)).startswith("The best is worse")
    assert "says nothing about noise" in tune.verdict(row(-0.01))


@pytest.mark.filterwarnings("error")
def test_where_the_recipe_is_best_the_search_says_so_and_ends_without_training_it_again(tmp_path, fits, capsys):
    fitted, _ = fits
    command = ["--search", "learning_rate=0.005,0.01,0.03", "--set", "learning_rate=0.005", "--trials", "3"]
    assert tune.main([*command, "--folds", "1", "--jobs", "1", "--study", str(tmp_path / "a.db")]) == 0
    out = capsys.readouterr().out
    assert "No trial was better than the recipe as it is" in out
    assert "Importance" not in out, "three trials say nothing about it"
    assert {split for _, split, _ in fitted} == {tune.SPLIT}, "nothing is confirmed against itself"
    assert (tmp_path / "a-best.png").exists()
    assert not (tmp_path / "a-best.toml").exists()
