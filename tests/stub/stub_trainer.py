"""A softmax regression in NumPy in the place of `digits.model.engine`, for processes in which DIGITS_ENGINE names it.

It trains in milliseconds, and what surrounds training is real: processes, checkpoints, files. STUB_EPOCH_SECONDS makes
each epoch last longer.
"""

import dataclasses
import json
import os
import time


@dataclasses.dataclass(frozen=True)
class Epoch:
    """As `trainer.Epoch`."""

    epoch: int
    accuracy: float
    loss: float
    learning_rate: float
    seconds: float
    images_per_second: float
    held_out_accuracy: float | None = None
    held_out_rows: int | None = None


class Trainer:
    """As `trainer.Trainer`: a network is its weights float64 (pixels, classes)."""

    def __init__(self, recipe, network, images, labels, seed, precision="float32"):
        import numpy as np

        self.recipe, self.seed, self.epochs_done, self.history = recipe, seed, 0, []
        self._pixels, self._labels = images.reshape(len(images), -1) / 255, labels
        self.images_per_epoch = len(images) // 32 * 32
        self.network = np.random.default_rng(seed).normal(0, 0.01, (self._pixels.shape[1], 10))

    def run_epoch(self, on_batch=lambda images: None):
        import numpy as np

        from digits.console import TrainingFailedError

        time.sleep(float(os.environ.get("STUB_EPOCH_SECONDS", "0")))
        order = np.random.default_rng((*self.seed, self.epochs_done)).permutation(len(self._labels))
        for rows in order[: self.images_per_epoch].reshape(-1, 32):
            error = _softmax(self._pixels[rows] @ self.network) - np.eye(10)[self._labels[rows]]
            self.network -= min(1e300, 10 * self.recipe.learning_rate) * self._pixels[rows].T @ error / len(rows)
            on_batch(len(rows))
        self.epochs_done += 1
        right = _softmax(self._pixels @ self.network)[np.arange(len(self._labels)), self._labels]
        loss = float(-np.log(right).mean())
        if not np.isfinite(loss):
            raise TrainingFailedError(
                f"the loss was {loss} in epoch {self.epochs_done}: the learning rate may be too high"
            )
        return Epoch(self.epochs_done, float((right > 0.5).mean()), loss, 0.1, 0.01, 1e4)

    def score(self, images, labels):
        return float((predict_probabilities(self.network, images).argmax(axis=1) == labels).mean())

    def finish(self):
        return self.network

    def save(self, path):
        from digits.files import write_npz

        history = json.dumps([dataclasses.asdict(epoch) for epoch in self.history])
        write_npz(path, {"network": self.network, "epochs_done": self.epochs_done, "history": history})

    def load(self, path):
        from digits.files import read_npz

        state = read_npz(path)
        self.network, self.epochs_done = state["network"], int(state["epochs_done"])
        self.history = [Epoch(**epoch) for epoch in json.loads(str(state["history"]))]


def _softmax(logits):
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def predict_image_sets(network, image_sets, tta):
    import numpy as np

    return [
        (_softmax(images.reshape(len(images), len(network)) / 255 @ network).astype(np.float32),) * 2
        for images in image_sets
    ]


def predict_probabilities(network, images, tta=None):
    return predict_image_sets(network, [images], tta)[0][0]


def save_network(network, path):
    from digits.files import write_npz

    write_npz(path.with_suffix(".npz"), {"network": network})
    path.with_suffix(".npz").rename(path)


def load_network(path, sources=None, precision=None):
    from digits.files import read_npz

    return read_npz(path)["network"]
