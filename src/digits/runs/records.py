"""A run's record, run.json, read back into what it takes to repeat the run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.errors import BadInput
from digits.paths import DATA, SUBMISSIONS
from digits.recipes import Augmentation, Recipe, Settings, Tta
from digits.runs.runs import RUN_JSON, Run, differences, find_run


@dataclass(frozen=True)
class Command:
    """What a run was asked to do."""

    settings: Settings
    data_dir: Path
    test_file: Path | None


def command_of(run: Run) -> Command:
    """Return what `run` was asked to do, overridden settings included.

    Raises:
        BadInput: if its record lacks something, as that of a blend or of another version of this kit does.
    """
    facts = run.facts()
    try:
        recorded, recipe = facts["settings"], dict(facts["recipe"])
        recipe |= {
            "networks": tuple(recipe["networks"]),
            "augmentation": Augmentation(**recipe["augmentation"]),
            "tta": Tta(**recipe["tta"]),
        }
        names = {field.name for field in dataclasses.fields(Settings)} - {"recipe"}
        settings = Settings(Recipe(**recipe), **{name: recorded[name] for name in names & recorded.keys()})
        files = recorded.get("data_dir"), recorded.get("test_file")
        return Command(settings, Path(files[0]) if files[0] else DATA, Path(files[1]) if files[1] else None)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"Run {run.name} cannot be repeated from its record ({error!r}): it is a blend, or of another version of "
            "this kit. Its command and commit are in its run.json."
        ) from None


def repeated(
    from_run: str | None, run_name: str | None, given: Sequence[str], submissions: Path = SUBMISSIONS
) -> Command | None:
    """Return the command to do again: that of `from_run`'s record, or of `run_name`'s where nothing else is given.

    Args:
        from_run: a run's record, folder or name, which is repeated as a new run.
        run_name: a run to go on with; its record counts where `given` is empty.
        given: the flags that say what to train.
        submissions: the folder of all runs.

    Returns:
        The command, or None where the flags alone decide.

    Raises:
        BadInput: if there is no such run, or flags contradict it.
    """
    if from_run is not None:
        if given:
            raise BadInput(f"--from-run repeats a run with the settings of its record; leave out {', '.join(given)}.")
        return command_of(find_run(from_run, submissions))
    if run_name is not None and not given and (submissions / run_name / RUN_JSON).is_file():
        return command_of(Run(submissions / run_name))
    return None


def compare(run: Run, first: Run) -> str:
    """Say in one sentence whether a repeated run came to the answers of the first, and what was different."""
    facts, before = run.facts(), first.facts()
    if facts["submission"]["sha256"] == before.get("submission", {}).get("sha256"):
        return f"All {facts['submission']['rows']:,} answers are those of run {first.name}."
    different = differences(before["identity"], facts["identity"])
    reason = "; ".join(different) if different else "no --deterministic, or another machine"
    return f"Not all answers are those of run {first.name} ({reason})."
