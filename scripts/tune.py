"""Search for better settings of a recipe: `python scripts/tune.py --search learning_rate=0.001..0.03:log ema=0,0.9`.

Each trial trains the recipe with other settings on some folds of a split of its own, which no reported figure uses, and
is scored by the log-loss of the held-out images after temperature scaling, or by 1 less the competition's AUC or
macro-F1. Trials that fall behind after a fold are pruned. Everything is kept in the study's SQLite file: the same
command resumes it. At the end the best settings and the recipe as it is are trained again on fresh splits, because the
best of many trials looks better than it is; that comparison says whether the difference is more than noise. Written
beside the study: a recipe file and a plot.
"""

import argparse
import hashlib
import importlib.util
import json
import shlex
import statistics
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from bench import kit, trials
from bench.data import prepare
from bench.measuring import Contestant, in_slots, measure
from digits import config
from digits.config import Recipe
from digits.console import BadInput, KitError, entry_point, progress_bar, table, typed_command
from digits.training.workers import Slots, StoppedError, share_machine

SPLIT = 201  # The split of the trials: neither the one of the recipes' figures nor one of the ablation's.
LEAST_TRIALS = 10  # Of fewer complete trials no importance is printed.


def distribution_of(text: str, base: Recipe) -> tuple[str, Any]:
    """Return the key and Optuna's distribution that KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=VALUE,VALUE,… stands for.

    Raises BadInput for another form, or values that the field does not take.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    key, _, domain = text.partition("=")
    bounds, log = domain.removesuffix(":log"), domain.endswith(":log")
    low, dots, high = bounds.partition("..")
    words = [low, high] if dots else bounds.split(",")
    for word in words:  # Refuses what the field does not take.
        trials.check_variant(config.set_values(base, [f"{key}={word}"]), base, f"--search {text}")
    if not dots:
        if log or len(set(words)) < max(2, len(words)):
            raise BadInput(f"--search {text}: expected {key}=LOW..HIGH, {key}=LOW..HIGH:log or {key}=VALUE,VALUE,…")
        return key, CategoricalDistribution(words)
    kind = config.fields()[key].type
    if kind not in (int, float) or not kind(low) < kind(high) or (log and kind(low) <= 0):
        problem = "a range of numbers, the lower first and above 0 for :log"
        raise BadInput(f"--search {text}: expected {problem}, or {key}=VALUE,VALUE,…")
    return key, {int: IntDistribution, float: FloatDistribution}[kind](kind(low), kind(high), log=log)


def current(recipe: Recipe, axes: dict[str, Any]) -> dict[str, Any]:
    """Return what `recipe` has of the fields that are searched, as Optuna names it, where the search contains it."""
    values: dict[str, Any] = {}
    for key, distribution in axes.items():
        value = config.flat(recipe)[key]
        if choices := getattr(distribution, "choices", ()):
            same = [word for word in choices if config.flat(with_values(recipe, {key: word}))[key] == value]
            values.update(zip([key], same, strict=False))
        elif distribution.low <= value <= distribution.high:
            values[key] = value
    return values


def with_values(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """Return `recipe` with the values of a trial."""
    return config.set_values(recipe, [f"{key}={value}" for key, value in values.items()])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".", allow_abbrev=False)
    add = parser.add_argument
    search = "LOW..HIGH, LOW..HIGH:log or VALUE,VALUE,… of a field"
    add("--search", nargs="+", required=True, metavar="KEY=…", help=search)
    add("--recipe", default="quick", metavar="NAME", help="recipe to tune: a name or a TOML file (default: quick)")
    fixed = "fields of the recipe for all trials"
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=fixed)
    add("--trials", type=int, default=30, metavar="N", help="how many, with those that the study has (default: 30)")
    add("--folds", type=int, default=3, metavar="K", help="folds of five that score a trial (default: 3)")
    confirm = "networks trained of the best and of the recipe at the end (default: 4)"
    add("--confirm", type=int, default=4, metavar="N", help=confirm)
    add("--jobs", type=int, metavar="J", help="trials at a time (default: one per CPU core)")
    add("--limit", type=int, metavar="N", help="use N training images only")
    add("--metric", choices=tuple(config.Metric), help="competition's metric (default: as for train.py)")
    add("--study", type=Path, default=Path("tune.db"), metavar="FILE", help="keeps everything (default: tune.db)")
    add("--data-dir", type=Path, metavar="DIR", help="with the competition's files; else the sample")
    return parser.parse_args(argv)


def open_study(path: Path, purpose: dict[str, Any]):
    """Open or make the study in `path`; trials that a killed process left are put back into the queue.

    Raises BadInput if the study there has another purpose.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name="tune",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    before = study.user_attrs.get("what", purpose)
    changes = [f"{key} was {before.get(key)} and is {now}" for key, now in purpose.items() if before.get(key) != now]
    if changes:
        remedy = "Give another --study FILE, or delete this one."
        raise BadInput(f"--study {path} is of something else: {'; '.join(changes)}.\n{remedy}")
    study.set_user_attr("what", purpose)
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def loss_of(study) -> str:
    """Return what the trials of a study are scored by, in words."""
    return study.user_attrs["what"]["the loss"]


def finished(study) -> list:
    """Return the trials that are complete or pruned."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def complete(study) -> list:
    """Return the trials that came to their end, the best first."""
    trials = [trial for trial in finished(study) if trial.state.name == "COMPLETE"]
    return sorted(trials, key=lambda trial: trial.value)


def search(
    study, axes: dict[str, Any], base: Recipe, flags: argparse.Namespace, slots: Slots, common: dict[str, Any]
) -> None:
    """Run trials until the study has as many as the flags say; each fit has the options `common`."""
    from optuna.trial import TrialState

    # Optuna's own threads may take one queued trial twice from SQLite, which has no lock on rows.
    lock = threading.Lock()

    def state() -> str:
        best = "".join(f", best {trial.value:.4f}" for trial in complete(study)[:1])
        return f"{len(finished(study))} of {flags.trials} trials{best}"

    missing, text = flags.trials - len(finished(study)), state()

    def run_trial(_: int, share: dict[str, Any]) -> None:
        nonlocal text
        with lock:
            trial = study.ask(axes)
            values = {key: trial.params[key] for key in axes}
        recipe, losses, outcome = with_values(base, values), [], ""
        for fold in range(flags.folds):
            options = {"recipe": recipe, "seed": 0, "split": SPLIT, "fold": fold, "folds": 5}
            try:
                result = measure(Contestant("a trial", kit.fit, options), common, **share)
            except StoppedError:
                raise
            except KitError as error:  # Above all a loss that is no longer finite: not settings to come back to.
                outcome = str(error)
                break
            losses.append(result["scores"][0]["loss"])
            count(1)
            with lock:
                trial.report(statistics.mean(losses), fold)
                if fold + 1 < flags.folds and trial.should_prune():
                    outcome = f"pruned after fold {fold + 1}, {loss_of(study)} {statistics.mean(losses):.4f}"
                    break
        with lock:
            if outcome:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, statistics.mean(losses))
                outcome = f"{loss_of(study)} {statistics.mean(losses):.4f}"
            count(flags.folds - len(losses))  # Those that a pruned trial does without.
            settings = " ".join(f"{key}={_short(value)}" for key, value in values.items())
            text = state()
            print(f"  trial {trial.number}: {settings}: {outcome} ({text})", flush=True)

    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(current(base, axes))
    with progress_bar(lambda: text, missing * flags.folds) as count:
        in_slots(slots, run_trial, range(missing))


def importances(study) -> dict[str, float]:
    """Return each field's share of the variance of the log-loss (fANOVA, Hutter et al. 2014), largest first.

    Empty for fewer than LEAST_TRIALS complete trials, which say little about it.
    """
    import optuna

    if len(complete(study)) < LEAST_TRIALS:
        return {}
    try:
        return optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError, ImportError):
        return {}


def draw(study, base: Recipe, shares: dict[str, float], title: str, path: Path) -> None:
    """Plot the loss by the value of each field; a line for the recipe `base`, if it was a trial."""
    import numpy as np
    from optuna.visualization.matplotlib import plot_slice

    warnings.filterwarnings(
        "ignore", message="Attempting to set identical"
    )  # All trials have the same value of a field.
    plots = np.array(plot_slice(study, target_name=loss_of(study))).ravel()
    for plot, key in zip(plots, sorted(study.best_trial.params), strict=True):
        plot.set_title("".join(f"importance {share:.0%}" for name, share in shares.items() if name == key))
        for trial in [trial for trial in complete(study) if with_values(base, trial.params) == base][:1]:
            plot.axhline(trial.value, color="#999999", linestyle=":", label="the recipe as it is")
    figure = plots[0].figure
    figure.suptitle(title)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def verdict(row: dict[str, Any], loss: str = "log-loss") -> str:
    """Say of a row of `trials.effects` whether its loss differs from the recipe's by more than noise."""
    from scipy.stats import t

    effect, error, n = row["loss"]["effect"], row["loss"]["error"], len(row["loss"]["values"])
    if error is None:
        return "One network of each says nothing about noise: use --confirm 2 or more."
    half = float(t.ppf(0.975, n - 1)) * error
    low, high = 1000 * (effect - half), 1000 * (effect + half)
    difference = f"{1000 * effect:+.1f} × 10⁻³, 95 % between {low:+.1f} and {high:+.1f} (n = {n})"
    if abs(effect) <= half:
        return f"Within noise: the {loss} of the best differs from the recipe's by {difference}. Keep the recipe."
    better = "better" if effect < 0 else "worse"
    return f"The best is {better} than the recipe on fresh splits: {loss} {difference}."


def print_trials(study, axes: dict[str, Any], shares: dict[str, float]) -> None:
    """Print the five best trials, and how much each field matters."""
    rows = [
        [str(trial.number), *(_short(trial.params[key]) for key in axes), f"{trial.value:.4f}"]
        for trial in complete(study)[:5]
    ]
    print(f"\n{table(['best trials', *axes, loss_of(study)], rows, left=('best trials',))}\n")
    if shares:
        listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
        print(f"Importance of each field for the {loss_of(study)}: {listed}\n")


def checked(flags: argparse.Namespace) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe to tune and what is searched, by key; BadInput for flags that cannot be."""
    if importlib.util.find_spec("optuna") is None:
        raise BadInput("scripts/tune.py needs Optuna: pip install -r requirements-tune.txt")
    for flag, low, high in (("trials", 1, 10_000), ("folds", 1, 5), ("confirm", 1, 100)):
        if not low <= getattr(flags, flag) <= high:
            raise BadInput(f"--{flag} {getattr(flags, flag)}: expected a whole number from {low} to {high:,}.")
    recipe = config.load_recipe(flags.recipe)
    base = config.set_values(recipe, flags.set)
    trials.check_variant(base, recipe, "--set")
    axes = dict(distribution_of(text, base) for text in flags.search)
    if len(axes) < len(flags.search):
        raise BadInput(f"--search {' '.join(flags.search)}: expected each field once.")
    if len(base.networks) > 1 and "networks" not in axes:
        print(f"Note: each trial trains one network a fold, {base.networks[0]}, of the recipe's {len(base.networks)}.")
    return base, axes


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Search, then confirm, then write the recipe and the plot."""
    flags = parse(argv)
    base, axes = checked(flags)
    recipe_file, plot = (flags.study.with_name(f"{flags.study.stem}-best.{kind}") for kind in ("toml", "png"))
    words = typed_command("scripts/tune.py", argv)
    with tempfile.TemporaryDirectory(prefix="tune-") as folder:
        data = prepare(Path(folder), flags.data_dir, limit=flags.limit, metric=flags.metric)
        print(f"Data: {data.description}.", flush=True)
        choices = (with_values(base, {key: word}) for key in axes for word in getattr(axes[key], "choices", ()))
        trials.check_networks([base, *choices], data)
        code = trials.state_of_code()
        purpose = {
            "the recipe": config.flat(base),
            "the search": " ".join(flags.search),
            "the data": f"{data.description} ({data.sha256})",
            "the number of folds": flags.folds,
            "the loss": data.loss,
            "the code": hashlib.sha256(code.encode()).hexdigest()[:16],
        }
        study = open_study(flags.study, json.loads(json.dumps(purpose)))
        slots = share_machine(flags.trials, flags.jobs)
        common = {"folder": folder, "metric": data.metric}
        print(f"Study: {flags.study}, {len(finished(study))} of {flags.trials} trials done", flush=True)
        dashboard = shlex.join(["optuna-dashboard", f"sqlite:///{flags.study}"])
        print(f"In a browser: {dashboard} (pip install optuna-dashboard)", flush=True)
        search(study, axes, base, flags, slots, common)
        if not complete(study):
            raise KitError("no trial was completed")
        best, shares = with_values(base, study.best_trial.params), importances(study)
        draw(study, base, shares, f"{base.name}: {len(complete(study))} of {len(finished(study))} complete", plot)
        print_trials(study, axes, shares)
        if trials.is_same(best, base):
            print(f"No trial was better than the recipe as it is. Keep the recipe.\n{plot}")
            return
        recipes = {"the recipe as it is": base, "the best of the search": best}
        print(f"Confirming: {flags.confirm} networks of each on fresh splits")
        cells, state = study.user_attrs.get("cells", {}), f"{data.sha256} {code}"
        common |= {"state": state}
        keep: Callable[[], None] = lambda: study.set_user_attr("cells", cells)  # noqa: E731
        trials.fit_missing(recipes, flags.confirm, cells, common, slots, keep)
    rows = trials.effects(recipes, flags.confirm, cells, state)
    conclusion = verdict(rows[1], data.loss)
    replaced = " (replaces the earlier one)" if recipe_file.exists() else ""
    recipe_file.unlink(missing_ok=True)
    config.save_recipe(best, recipe_file, f"{words}\n# {conclusion}")
    print(f"\n{trials.render(rows, data.loss)}\n\n{conclusion}\n")
    print(f"{recipe_file}{replaced}  {config.describe_differences(best)}\n{plot}")
    print(f"Train it: python src/train.py --recipe {shlex.quote(str(recipe_file))}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
