"""A run's saved networks, loaded once and ready to predict new images."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digits.config import Recipe, Tta
from digits.console import BadInput, KitError, progress_bar
from digits.data.submission import write_submission
from digits.files import SUBMISSIONS, display_path, kit_command
from digits.model import custom
from digits.model.backend import cpu_count, prepare_process
from digits.model.engine import load_engine
from digits.runs.averaging import mean
from digits.runs.checks import Check, failed_check
from digits.runs.store import Run, all_runs, find_run

if TYPE_CHECKING:
    import keras

BATCH = 256


@dataclass(frozen=True)
class SavedMember:
    """Saved networks that are averaged equally, their test-time augmentation, and their weight in the ensemble."""

    models: Sequence[Path]
    tta: Tta
    sources: Mapping[str, str]  # Texts of the user's own files that the networks need, by name.
    weight: float = 1.0


def saved_members(run: Run) -> list[SavedMember]:
    """Return the members of a run or a blend: of a run all its networks at once, of a blend those of its runs.

    Raises BadInput if the run is not finished, or a model is missing.
    """
    record = run.finished_record()
    if record.foreign:
        problem = f"Run {run.name} blends predictions of another program ({record.foreign[0].folder})"
        raise BadInput(problem, fix="Of that there is no model to predict with: use the runs in it.")
    if record.blend is None:
        recipe = record.recipe or Recipe(name="")
        return [SavedMember(run.models(), recipe.tta, recipe.sources)]
    members = []
    for blended in record.blend.members:
        member_run = find_run(blended.run, run.folder.parent)
        inner = member_run.finished_record().blend
        if inner and inner.mean == "logarithmic" and len(record.blend.members) > 1:
            raise BadInput(
                f"Run {run.name} averages the logarithmic blend {blended.run}; only such blends alone can be used."
            )
        for member in saved_members(member_run):
            if blended.member is not None:
                member = dataclasses.replace(member, models=member_run.models(blended.member))
            members.append(dataclasses.replace(member, weight=member.weight * blended.weight))
    return members


class Ensemble:
    """Saved networks as one function from images to probabilities."""

    def __init__(self, members: Sequence[SavedMember], *, logarithmic: bool = False, precision: str | None = "float32"):
        """Load the networks, to compute in `precision`; None: each in the one that it was trained in.

        Raises BadInput if one is not a model that Keras loads safely.
        """
        load_network = load_engine().load_network
        self.members, self.logarithmic = members, logarithmic
        self.weights = [member.weight for member in members]
        self.networks = [
            [load_network(path, member.sources, precision) for path in member.models] for member in members
        ]

    @functools.cached_property
    def model(self) -> "keras.Model":
        """All networks as one Keras model from images uint8 to probabilities; see `ensemble_model`."""
        from digits.model.ensemble import ensemble_model

        ttas = [member.tta for member in self.members]
        return ensemble_model(self.networks, ttas, self.weights, logarithmic=self.logarithmic)

    @property
    def network_count(self) -> int:
        """How many networks there are."""
        return sum(map(len, self.networks))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.networks[0][0].input_shape[1:]

    def probabilities(
        self, images: np.ndarray, *, one_by_one: bool = False, on_part: Callable[[float], None] = lambda share: None
    ) -> np.ndarray:
        """Return the mean probabilities float32 (n, classes) of images uint8 (n, height, width, channels).

        With `one_by_one` each network predicts on its own, as after training, instead of all as one model. `on_part` is
        called with the share that was done of it all, in 0-1, every now and then.
        """
        if one_by_one:

            def predict(network: "keras.Model", tta: Tta) -> np.ndarray:
                probabilities = load_engine().predict_probabilities(network, images, tta)
                on_part(1 / self.network_count)
                return probabilities

            means = [
                mean([predict(network, member.tta) for network in networks])
                for networks, member in zip(self.networks, self.members, strict=True)
            ]
            return mean(means, self.weights, logarithmic=self.logarithmic)
        load_engine().check_shape(self.networks[0][0], images)
        images = images.reshape(-1, *self.model.input_shape[1:])
        size = min(BATCH, len(images))  # All batches have one size, so that the model is compiled once.
        filled = np.concatenate([images, np.zeros((-len(images) % size, *images.shape[1:]), np.uint8)])
        batches = []
        for start in range(0, len(filled), size):
            batches.append(self.model.predict_on_batch(filled[start : start + size]))
            on_part(size / len(filled))
        return np.concatenate(batches)[: len(images)]


class Predictor(Ensemble):
    """The saved networks of a finished run or blend."""

    def __init__(self, run: Run, *, tta: bool = True, precision: str | None = "float32", trust: bool = False):
        """Load the saved networks of a finished run or blend, with the recipe's test-time augmentation where `tta`.

        `trust` allows code of the run's own that was not run here before. Raises BadInput if the run is not finished,
        has no models that Keras loads safely, or code that is not trusted.
        """
        self.run, self.record = run, run.finished_record()
        self.classes = tuple(self.record.data.names)
        members = saved_members(run)
        for member in members:
            custom.require_trust(run.name, member.sources, trusted=trust)
        self.leaves_out_tta = not tta and any(member.tta.any for member in members)
        if not tta:
            members = [dataclasses.replace(member, tta=Tta()) for member in members]
        prepare_process(cpu_count(), deterministic=False)
        blend = self.record.blend
        super().__init__(members, logarithmic=blend is not None and blend.mean == "logarithmic", precision=precision)

    def first_network(self) -> Ensemble:
        """Return the first network alone, without test-time augmentation."""
        first = self.members[0]
        return Ensemble([SavedMember(first.models[:1], Tta(), first.sources)])


def newest_run(submissions: Path = SUBMISSIONS) -> Run:
    """Return the newest finished run whose models are there; BadInput if there is none."""
    for run in reversed(all_runs(submissions)):
        with contextlib.suppress(BadInput):
            saved_members(run)
            return run
    train = kit_command("src/train.py", "--recipe", "quick")
    raise BadInput("there is no finished run yet", fix=f"Train one in about a minute: {train}")


def predict_again(run: Run, data_dir: Path | None = None, out: Path | None = None, *, trust: bool = False) -> list[str]:
    """Predict a run's own test images with its saved models, and say how the predictions compare with the run's.

    They are written, as a submission, to `out` alone: the run keeps its own. Raises BadInput if a saved model is
    missing, or one is none that Keras loads safely.
    """
    saved_members(run)  # Before the data are read, which takes seconds.
    record, recorded = run.finished_record(), run.probabilities()[1].argmax(axis=1)
    dataset = record.load_data(data_dir)
    predictor = Predictor(run, precision=None, trust=trust)
    images = dataset.test.images
    with progress_bar(lambda: f"predicting {len(images):,} images", 1) as count:
        predicted = predictor.probabilities(images, one_by_one=True, on_part=count)
    different = int((predicted.argmax(axis=1) != recorded).sum())
    lines = [
        f"{len(predicted):,} images predicted again with the saved models of {run.name}.",
        f"The predictions differ from the run's own in {different} of {len(predicted):,} rows.",
    ]
    if out is not None:
        path = out.with_name("leaked-" + out.name) if record.leaked else out
        path.parent.mkdir(parents=True, exist_ok=True)
        replaced = " (replaces the earlier one)" if path.exists() else ""
        write_submission(path, dataset.test.ids, dataset.form.predictions(predicted), dataset.form)
        lines.append(f"Written: {display_path(path)}{replaced}")
    return lines


SAVED_MODELS_CHECK = "the saved models reproduce the predictions"
SAME_PROBABILITY = 0.02  # The most that may differ: bfloat16 with another number of threads changes some thousandths.


def check_saved_models(
    member: SavedMember, images: np.ndarray, probabilities: np.ndarray, log: Callable[[str], None] = print
) -> Check:
    """Ask whether saved models predict the written probabilities of images uint8 (n, height, width, channels).

    `log`, which every function in a worker gets, is not used.
    """
    try:
        predicted = Ensemble([member], precision=None).probabilities(images, one_by_one=True)
    except KitError as error:
        return failed_check(SAVED_MODELS_CHECK, error)
    largest = np.abs(predicted - probabilities).max(axis=1)
    different = int((largest > SAME_PROBABILITY).sum())
    detail = f"{len(images)} rows predicted again, {different} different; largest difference {largest.max():.0e}"
    return Check(SAVED_MODELS_CHECK, different == 0, detail)
