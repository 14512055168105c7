"""Folds and groups that a user gives in CSVs, and the folds.csv of a run."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput, error_context, some_of
from digits.data.csv_reader import COLUMN_NAMES, read_bytes, records
from digits.data.folds import Pairs, check_sides
from digits.files import atomic_write, display_path

FOLDS_CSV = "folds.csv"
"""The folds of a run, in its folder."""
ROWS = {"row", *COLUMN_NAMES["index"]}
"""The names of a column that numbers the rows of the training data, from 0 or 1."""


@dataclass(frozen=True)
class Values:
    """A column of a CSV: its values by the ids of the rows, or by their numbers from 1."""

    by_key: dict[str, str]
    are_rows: bool

    def of_images(self, ids: np.ndarray, *, limited: bool) -> list[str]:
        """Return the values of the images with these ids (n,), which must be those of the CSV.

        Where the images are `limited` the CSV may have more. Row numbers are then found among the ids.

        Raises:
            BadInput: naming some ids that are missing or unknown.
        """
        keys = [str(row) for row in (range(1, len(ids) + 1) if self.are_rows and not limited else ids.tolist())]
        missing, unknown = [key for key in keys if key not in self.by_key], self.by_key.keys() - set(keys)
        name = "row" if self.are_rows else "id"
        if missing:
            raise BadInput(
                f"expected a line for each of {len(keys):,} training images, found none of {some_of(missing)}"
            )
        if unknown and not limited:
            found = some_of(sorted(unknown))
            raise BadInput(f"expected the {name}s of the {len(keys):,} training images only, found {found}")
        return [self.by_key[key] for key in keys]


def read_values(path: Path, column: str, id_column: str | None = None, member: str | None = None) -> Values:
    """Read the values of a `column`, which is found in any case, of a CSV with a column of ids or of row numbers.

    That is `id_column`, one named as such columns are, or the only other one; a table without any has row numbers.

    Raises:
        BadInput: naming the file and line, what was expected and what came.
    """
    with error_context(display_path(path)):
        lines = records(read_bytes(path, member))
        _, header = next(lines, (1, []))
        names = [name.lower() for name in header]
        if column.lower() not in names:
            raise BadInput(f"expected a column {column}, found {', '.join(header)[:80] or 'none'}", at="line 1")
        position, key = names.index(column.lower()), _key_position(names, column.lower(), id_column)
        values: dict[str, str] = {}
        for number, fields in lines:
            if len(fields) != len(names):
                raise BadInput(f"expected {len(names)} fields, found {len(fields)}", at=f"line {number}")
            name = str(len(values) + 1) if key is None else fields[key]
            if name in values:
                raise BadInput(f"expected each {header[key or 0]} once, found {name[:40]} again", at=f"line {number}")
            values[name] = fields[position]
    are_rows = key is None or (names[key] in ROWS and names[key] != (id_column or "").lower())
    if are_rows and "0" in values:
        values = {str(int(row) + 1) if row.isdecimal() else row: value for row, value in values.items()}
    return Values(values, are_rows)


def _key_position(names: Sequence[str], column: str, id_column: str | None) -> int | None:
    known = {id_column.lower()} if id_column else COLUMN_NAMES["id"]
    found = [name for name in names if name in known and name != column]
    found = found or [name for name in names if name in ROWS and name != column]
    if not found and len(names) == 2:
        found = [name for name in names if name != column]
    return names.index(found[0]) if found else None


def count_folds(path: Path) -> int:
    """Return how many folds a CSV has.

    Raises:
        BadInput: if it cannot be read, or has fewer than two folds.
    """
    count = len(set(read_values(path, "fold").by_key.values()))
    if count < 2:
        fix = "Give each row the number of the fold in which it validates"
        raise BadInput(f"expected two folds or more, found {count}", at=display_path(path), fix=fix)
    return count


def read_folds(path: Path, ids: np.ndarray, labels: np.ndarray, *, limited: bool, classes: Sequence[str]) -> Pairs:
    """Read the folds of training images with these ids (n,) and labels (n,), as `folds.split_folds` returns them.

    The folds are in the order of their names. With one fold, as a run writes it, the other rows have none.

    Raises:
        BadInput: if an id or the fold of an image is missing, or a class has no image on one side of a fold.
    """
    values = read_values(path, "fold")
    with error_context(display_path(path)):
        texts = np.array(values.of_images(ids, limited=limited))
        names = sorted(set(texts) - {""}, key=lambda name: (len(name), name))
        without = ids[texts == ""].tolist()
        if without and len(names) > 1:
            raise BadInput(f"expected a fold of each row, found none of {some_of(without)}")
        pairs = [(np.flatnonzero(texts != name), np.flatnonzero(texts == name)) for name in names]
        check_sides(pairs, labels, classes)
    return pairs


def write_folds(path: Path, ids: np.ndarray, validated: Sequence[np.ndarray]) -> None:
    """Write the ids (n,) of training images and the fold, from 1, in which each is `validated`; empty where in none."""
    folds = np.zeros(len(ids), int)
    for number, rows in enumerate(validated, start=1):
        folds[rows] = number
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "fold"))
        writer.writerows(zip(ids.tolist(), (fold or "" for fold in folds.tolist()), strict=True))


def group_numbers(values: Sequence[str], copies: np.ndarray | None) -> np.ndarray:
    """Return numbers int (n,) that rows share that have the same value, or are `copies` (n,), or linked by others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = np.unique(values, return_inverse=True)[1]
    if copies is None:
        return groups
    first, both = groups.max() + 1, groups.max() + 1 + copies.max() + 1
    links = coo_array((np.ones(len(groups), bool), (groups, first + copies)), shape=(both, both))
    return connected_components(links, directed=False)[1][groups]
