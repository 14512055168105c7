"""A run's saved networks, loaded once and ready to predict new images."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.config import Tta
from digits.console import BadInput
from digits.data.submission import write_submission
from digits.files import SUBMISSIONS, display_path
from digits.model.backend import cpu_count, load_keras, prepare_process
from digits.runs.averaging import mean
from digits.runs.record import FinishedRecord
from digits.runs.store import Run, all_runs, find_run


def predict_again(run: Run, data_dir: Path | None = None, out: Path | None = None) -> list[str]:
    """Predict a run's own test images with its saved models, and say how the answers compare with the run's.

    Args:
        run: it keeps its own submission.
        data_dir: where the test images are; None: where the run found them.
        out: where to write the answers, as a submission; None: nowhere.

    Raises:
        BadInput: if a saved model is missing, or one is none that Keras loads safely.
    """
    record = run.finished_record()
    if record.blend:
        names = " ".join(dict.fromkeys(member.name.partition("/")[0] for member in record.blend.members))
        raise BadInput(f"Run {run.name} is a blend, without models of its own; give one of the runs it blends: {names}")
    models, own = run.models(), run.probabilities()[1].argmax(axis=1)
    dataset = record.load_data(data_dir)
    prepare_process(cpu_count(), deterministic=False)
    tta = record.recipe.tta if record.recipe else Tta()
    answers = predict_saved(models, dataset.test.images, tta).argmax(axis=1)
    lines = [
        f"{len(answers):,} images predicted again with the saved models of {run.name}.",
        f"The answers differ from the run's own in {int((answers != own).sum())} of {len(answers):,} rows.",
    ]
    if out is not None:
        path = out.with_name("leaked-" * record.leaked + out.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_submission(path, dataset.test.ids, answers, header=dataset.header, classes=dataset.classes)
        lines.append(f"Written: {display_path(path)}")
    return lines


def predict_saved(
    models: Sequence[Path], images: np.ndarray, tta: Tta, log: Callable[[str], None] = print
) -> np.ndarray:
    """Return the mean probabilities float32 (n, classes) of saved models for images uint8 (n, side, side).

    Raises:
        BadInput: if one is not a model that Keras loads safely.
    """
    load_keras()
    from digits.model.predict import load_network, predict_probabilities

    return mean([predict_probabilities(load_network(path), images, tta) for path in models])


BATCH = 256


@dataclass(frozen=True)
class SavedMember:
    """Saved networks that are averaged, with their test-time augmentation and their weight among the members."""

    models: list[Path]
    tta: Tta
    record: FinishedRecord
    """Of the run that trained them."""
    weight: float = 1.0


def newest_run(submissions: Path = SUBMISSIONS) -> Run:
    """Return the newest finished run whose models are there.

    Raises:
        BadInput: if there is none.
    """
    for run in reversed(all_runs(submissions)):
        with contextlib.suppress(BadInput):
            saved_members(run)
            return run
    raise BadInput("There is no finished run yet. Train one in about a minute: python src/train.py --recipe quick")


def saved_members(run: Run) -> list[SavedMember]:
    """Return the members of a run or a blend: of a run all its networks at once, of a blend those of its runs.

    Raises:
        BadInput: if the run is not finished, or a model is missing.
    """
    record = run.finished_record()
    if record.blend is None:
        return [SavedMember(run.models(), record.recipe.tta if record.recipe else Tta(), record)]
    members = []
    for member in record.blend.members:
        name, _, network = member.name.partition("/")
        own = find_run(name, run.folder.parent)
        blend = own.finished_record().blend
        if blend and blend.mean == "logarithmic" and len(record.blend.members) > 1:
            raise BadInput(f"Run {run.name} averages the logarithmic blend {name}; only such blends alone can be used.")
        for found in saved_members(own):
            models = own.models(int(network.rpartition("-")[2])) if network else found.models  # RUN/NETWORK-MEMBER
            members.append(SavedMember(models, found.tta, found.record, found.weight * member.weight))
    return members


class Predictor:
    """A run's saved networks as one function from images to probabilities."""

    def __init__(self, run: Run, *, tta: bool = True):
        """Load the saved networks; without `tta` each image is seen once, as it is.

        Raises:
            BadInput: if the run is not finished, or has no models that Keras loads safely.
        """
        self.run, self.record, self.members = run, run.finished_record(), saved_members(run)
        prepare_process(cpu_count(), deterministic=False)
        load_keras()
        from digits.inference.serving import EnsembleMember, serving_model
        from digits.model.predict import load_network

        loaded = [
            EnsembleMember([load_network(path) for path in member.models], member.tta if tta else Tta(), member.weight)
            for member in self.members
        ]
        self.loaded = loaded
        self.logarithmic = self.record.blend is not None and self.record.blend.mean == "logarithmic"
        self.model = serving_model(loaded, logarithmic=self.logarithmic)
        self.classes = tuple(self.record.data.names)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the mean probabilities float32 (n, classes) of images uint8 (n, side, side)."""
        size = min(BATCH, len(images))  # All batches have one size, so that the model is compiled once.
        filled = np.concatenate([images, np.zeros((-len(images) % size, *images.shape[1:]), np.uint8)])
        batches = [self.model.predict_on_batch(filled[start : start + size]) for start in range(0, len(filled), size)]
        return np.concatenate(batches)[: len(images)]

    def separately(self, images: np.ndarray) -> np.ndarray:
        """Return what `probabilities` does, each network asked on its own, as after training but in float32."""
        from digits.inference.serving import in_float32
        from digits.model.predict import predict_probabilities

        means = [
            mean([predict_probabilities(in_float32(network), images, member.tta) for network in member.networks])
            for member in self.loaded
        ]
        return mean(means, [member.weight for member in self.loaded], logarithmic=self.logarithmic)

    def of_first(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities float32 (n, classes) by the first network alone, without augmented copies."""
        from digits.model.predict import predict_probabilities

        return predict_probabilities(self.loaded[0].networks[0], images)
