"""From probabilities to what a run's folder and its record say of them."""

from pathlib import Path

import numpy as np

from digits.data.competition import CLASSES
from digits.data.dataset import Source
from digits.data.submission import write_answers
from digits.paths import written_whole
from digits.runs import scoring


def write_results(
    folder: Path, source: Source, out_of_fold: np.ndarray, test: np.ndarray, out: Path, *, leaked: bool
) -> dict:
    """Write a run's probabilities and submission, and return what run.json says of them.

    Args:
        folder: the run's.
        source: the digits that were trained on and predicted.
        out_of_fold: probabilities float32 (n, 10) of the training rows, NaN where a row was never held out.
        test: probabilities float32 (t, 10) of the test images.
        out: where the submission is copied.
        leaked: whether test images were trained on.
    """
    for name, array in (("out_of_fold", out_of_fold), ("test_probabilities", test)):
        with written_whole(folder / f"{name}.npy") as temporary:
            np.save(temporary, array)
    scored = ~np.isnan(out_of_fold[:, 0])
    known = _figures(out_of_fold[scored], source.train.labels[scored])
    answers = test.argmax(axis=1)
    facts = {
        "out_of_fold": known,
        "expected_score": scoring.expected_score(scoring.Accuracy(known["rows"] - known["wrong"], known["rows"])),
        "test": {"rows": len(test), "class_counts": np.bincount(answers, minlength=CLASSES).tolist()},
        "submission": write_answers(folder, answers, out, leaked=leaked),
    }
    if source.test.labels is not None:
        facts["test"] |= _figures(test, source.test.labels)
    return facts


def _figures(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    return scoring.accuracy(probabilities, labels).facts() | {"loss": scoring.log_loss(probabilities, labels)}
