import numpy as np
import pytest

from digits.console import BadInput
from digits.runs import pseudo_labels
from digits.runs.record import PseudoLabelsUsed
from digits.runs.store import FoldResult, Run, save_fold_result
from made_run import made_record

IDENTITY = {"data": "abc", "fold_seed": 0, "recipe.folds": 2}


def said(*pairs):
    """Return probabilities of test images: of each pair (digit, how sure)."""
    probabilities = np.zeros((len(pairs), 10), np.float32)
    for row, (digit, sure) in enumerate(pairs):
        probabilities[row] = (1 - sure) / 9
        probabilities[row, digit] = sure
    return probabilities


@pytest.fixture
def earlier(tmp_path):
    run = Run(tmp_path / "earlier")
    run.results_folder.mkdir(parents=True)
    run.write_record(made_record(identity=IDENTITY))
    by_fold = {1: said((3, 0.99), (4, 0.5), (5, 0.95)), 2: said((3, 0.99), (4, 0.97), (6, 0.95))}
    for fold, test in by_fold.items():
        part = FoldResult(fold, 1, "compact", np.array([fold - 1]), said((1, 0.9)), test, [], 0.0, 0)
        save_fold_result(run.result_path(fold, 1), part)
    return run


def test_a_fold_gets_only_what_its_own_networks_were_sure_of_and_the_record_says_what_share(earlier):
    found = pseudo_labels.pseudo_labels_of(earlier, IDENTITY)
    assert [array.tolist() for array in found.by_fold[1]] == [[0, 2], [3, 5]]
    assert [array.tolist() for array in found.by_fold[2]] == [[0, 1, 2], [3, 4, 6]]
    used = pseudo_labels.pseudo_labels_of(earlier, IDENTITY, threshold=0.96).used()
    assert used == PseudoLabelsUsed("earlier", 0.96, {"1": 0.3333, "2": 0.6667})


@pytest.mark.parametrize("key", IDENTITY)
def test_a_run_of_other_folds_or_data_is_refused_because_labels_would_leak(earlier, key):
    with pytest.raises(BadInput, match=f"its {key} differ.*labels would leak"):
        pseudo_labels.pseudo_labels_of(earlier, IDENTITY | {key: 3})


def test_a_run_that_lacks_a_fold_or_is_not_finished_is_refused(earlier):
    earlier.result_path(2, 1).unlink()
    with pytest.raises(BadInput, match="has no network of fold 2 yet"):
        pseudo_labels.pseudo_labels_of(earlier, IDENTITY)
    earlier.write_record(made_record(False, identity=IDENTITY))
    with pytest.raises(BadInput, match="not finished"):
        pseudo_labels.pseudo_labels_of(earlier, IDENTITY)
