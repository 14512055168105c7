"""Out-of-fold and test predictions of another program, in a folder, to blend with runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput, error_context, some_of
from digits.data.arrays import read_arrays
from digits.data.by_id import column_of, of_images, read_table
from digits.data.csv_reader import positions_among
from digits.data.dataset import Dataset
from digits.files import SUBMISSIONS, display_path
from digits.runs.store import FOLDS_CSV, RUN_JSON, Run, find_run

STARTS = {"out-of-fold": ("oof", "out_of_fold", "out-of-fold"), "test": ("test",)}
"""How the names of the files begin, in small letters."""
NEEDED = (
    "A blend needs probabilities, not labels: oof.csv and test.csv with an id and a column for each class, or oof.npy "
    "and test.npy of shape (images, classes)"
)
MOST_OFF = 0.01  # By which probabilities may miss 1 as a sum: so much is rounding, and corrected.


@dataclass(frozen=True)
class ForeignFolder:
    """A folder with the predictions of another program."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, marked as foreign."""
        return f"{self.folder.resolve().name} (foreign)"

    def read(self, data: Dataset) -> tuple[np.ndarray, np.ndarray, str]:
        """Read the probabilities of training and test images, float32 (n, classes) and (t, classes), and their hash.

        Training images may have none, which are NaN. Raises BadInput if a file is missing, or is not of these images
        and classes.
        """
        with error_context(display_path(self.folder)):
            out_of_fold = self._read("out-of-fold", data.train.ids, data.classes)
            test = self._read("test", data.test.ids, data.classes)
            if np.isnan(test).any():
                ids = data.test.ids[np.isnan(test).any(axis=1)].tolist()
                raise BadInput(f"expected probabilities of each test image, found none of {some_of(ids)}")
        return out_of_fold, test, hashlib.sha256(out_of_fold.tobytes() + test.tobytes()).hexdigest()

    def _read(self, kind: str, ids: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        names = sorted(path.name for path in self.folder.iterdir() if path.suffix in (".csv", ".npy"))
        files = [name for name in names if name.lower().startswith(STARTS[kind])]
        if len(files) != 1:
            found = some_of(files or names) or "none"
            raise BadInput(f"expected one file of {kind} probabilities, found {found}", fix=NEEDED)
        path, shape = self.folder / files[0], (len(ids), len(classes))
        with error_context(files[0]):
            if path.suffix == ".csv":
                array = _read_csv(path, ids, classes, fewer=kind == "out-of-fold")
            else:
                [array] = read_arrays(path).values()
            if array.shape != shape or array.dtype.kind != "f":
                found = f"{array.dtype} {array.shape}"
                raise BadInput(f"expected fractions of shape {shape}: images, classes; found {found}", fix=NEEDED)
            return _as_probabilities(array, ids)

    def has_folds_of(self, run: Run, ids: np.ndarray) -> bool:
        """Return whether the folder and the run say that their folds are the same; False where one does not say it.

        Raises BadInput if they say that the folds differ.
        """
        paths = self.folder / FOLDS_CSV, run.folder / FOLDS_CSV
        if not all(path.is_file() for path in paths):
            return False
        foreign, own = (column_of(of_images(read_table(path), ids, more=True), "fold") for path in paths)
        pairs = set(zip(foreign, own, strict=True))
        if not len(pairs) == foreign.nunique() == own.nunique():
            problem = f"expected the folds of run {run.name}, found {foreign.nunique()} others"
            raise BadInput(problem, at=display_path(paths[0]), fix="Train on these: src/train.py --folds FILE")
        return True


def find_run_or_folder(name: str, submissions: Path = SUBMISSIONS) -> Run | ForeignFolder:
    """Return the run, or the folder without a run, that a user names; BadInput where there is neither."""
    is_run = any((folder / RUN_JSON).is_file() for folder in (Path(name), submissions / name))
    return find_run(name, submissions) if is_run or not Path(name).is_dir() else ForeignFolder(Path(name))


def _read_csv(path: Path, ids: np.ndarray, classes: Sequence[str], *, fewer: bool) -> np.ndarray:
    """Return the columns of the classes float64 (n, classes), NaN where a row may be missing, and is."""
    table = of_images(read_table(path), ids, fewer=fewer)
    names = [str(name) for name in table]
    columns = {position: name for name, position in zip(names, positions_among(names, classes), strict=True)}
    if len(names) != len(classes) or columns.keys() != set(range(len(classes))):
        problem = f"expected an id and a column for each of the classes {some_of(classes)}, found {some_of(names)}"
        raise BadInput(problem, fix=NEEDED)
    cells = table[[columns[position] for position in range(len(classes))]]
    try:
        return cells.replace("", "nan").to_numpy(np.float64)
    except ValueError as error:
        raise BadInput(f"expected numbers, found another cell ({error})") from None


def _as_probabilities(array: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return probabilities float32 whose rows sum to 1, rounding corrected; BadInput for other numbers than these."""
    sums = array.sum(axis=1)
    is_wrong = (array < 0).any(axis=1) | (np.abs(sums - 1) > MOST_OFF)
    if is_wrong.any():
        row = int(is_wrong.argmax())
        found = ", ".join(f"{value:.4g}" for value in array[row, :4])
        found += f" … of {ids[row]}, sum {sums[row]:.4g}"
        raise BadInput(
            f"expected probabilities from 0 to 1 that sum to 1, found {found}", fix="Of logits write the softmax"
        )
    return (array / sums[:, None]).astype(np.float32)
