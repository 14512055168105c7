"""CSVs whose rows are training or test images, by their ids: folds, groups, and predictions of other programs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from digits.console import BadInput, error_context, some_of
from digits.data.csv_reader import COLUMN_NAMES, columns_of, read_bytes
from digits.data.folds import Pairs, check_sides
from digits.files import atomic_write, display_path

ROWS = {"row", *COLUMN_NAMES["index"]}
"""The names, in small letters, of a column that numbers the images, from 0 or 1."""


def read_table(path: Path, member: str | None = None) -> pd.DataFrame:
    """Read a CSV with a header: its cells, str; rows that repeat others are left out.

    Raises BadInput, naming the file and line, what was expected and what came.
    """
    with error_context(display_path(path)):
        return pd.DataFrame(columns_of(read_bytes(path, member)), dtype=object).drop_duplicates()


def of_images(table: pd.DataFrame, ids: np.ndarray, *, fewer: bool = False, more: bool = False) -> pd.DataFrame:
    """Return the rows of images with these ids (n,), in their order; the ids are in the column that has most of them.

    A column of row numbers is taken for ids where no other has half of them. The table may have `fewer` rows, and is
    filled with empty cells, or `more`. Raises BadInput, naming some ids that are missing, unknown or there twice.
    """
    keys = pd.Index([str(name) for name in ids.tolist()])
    numbers = [name for name in table if str(name).lower() in ROWS]
    found = {name: len(set(keys) & set(table[name])) for name in table}
    key = max(found, key=lambda name: found[name])
    if numbers and (key in numbers or 2 * found[key] < len(keys)):
        key = numbers[0]
        first = int("0" not in set(table[key]))
        table = table.copy()
        table[key] = [str(int(row) + 1 - first) if row.isdecimal() else row for row in table[key]]
        keys = keys if more else pd.Index([str(row) for row in range(1, len(keys) + 1)])
    table = table.set_index(key).drop(columns=numbers, errors="ignore")
    if repeated := table.index[table.index.duplicated()].tolist():
        raise BadInput(f"expected each {key} once, found {repeated[0][:40]} again")
    missing, unknown = keys.difference(table.index, sort=False), table.index.difference(keys, sort=False)
    if len(missing) and not fewer:
        raise BadInput(f"expected a line for each of {len(keys):,} images, found none of {some_of(missing.tolist())}")
    if len(unknown) and not more:
        raise BadInput(f"expected ids of the {len(keys):,} images only, found {some_of(unknown.tolist())}")
    return table.reindex(keys, fill_value="")


def column_of(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column, which is found in large or small letters; BadInput where there is none."""
    found = [name for name in map(str, table) if name.lower() == column.lower()]
    if not found:
        raise BadInput(f"expected a column {column}, found {', '.join(map(str, table))[:80]}")
    return table[found[0]]


def count_folds(path: Path) -> int:
    """Return how many folds a CSV has; BadInput if it cannot be read, or has fewer than two."""
    table = read_table(path)
    with error_context(display_path(path)):
        count = column_of(table, "fold").nunique()
        if count < 2:
            fix = "Give each row the number of the fold in which it validates"
            raise BadInput(f"expected two folds or more, found {count}", fix=fix)
    return count


def read_folds(path: Path, ids: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, more: bool) -> Pairs:
    """Read the folds of training images with these ids (n,) and labels (n,), as `folds.split_folds` returns them.

    The folds are in the order of their names. With one fold, as a run writes it, the other rows have none. Raises
    BadInput if an id or the fold of an image is missing, or a class has no image on one side of a fold.
    """
    table = read_table(path)
    with error_context(display_path(path)):
        texts = column_of(of_images(table, ids, more=more), "fold").to_numpy(str)
        names = sorted(set(texts.tolist()) - {""}, key=lambda name: (len(name), name))
        without = ids[texts == ""].tolist()
        if without and len(names) > 1:
            raise BadInput(f"expected a fold of each row, found none of {some_of(without)}")
        pairs = [(np.flatnonzero(texts != name), np.flatnonzero(texts == name)) for name in names]
        check_sides(pairs, labels, classes)
    return pairs


def write_folds(path: Path, ids: np.ndarray, validated: Sequence[np.ndarray]) -> None:
    """Write the ids (n,) of training images and the fold, from 1, in which each is `validated`; empty where in none."""
    folds = pd.Series("", index=pd.Index(ids, name="id"), name="fold")
    for number, rows in enumerate(validated, start=1):
        folds.iloc[rows] = str(number)
    with atomic_write(path) as temporary:
        folds.to_csv(temporary)


def group_numbers(values: np.ndarray, copies: np.ndarray | None) -> np.ndarray:
    """Return numbers int (n,) that rows share with the same of `values` (n,) or of `copies` (n,), directly or not."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = np.unique(values, return_inverse=True)[1]
    if copies is None:
        return groups
    first, both = groups.max() + 1, groups.max() + 1 + copies.max() + 1
    links = coo_array((np.ones(len(groups), bool), (groups, first + copies)), shape=(both, both))
    return connected_components(links, directed=False)[1][groups]
