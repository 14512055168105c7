"""Images that a table lists by their ids: train.csv beside folders of image files."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from digits.config import Options, nearest
from digits.console import BadInput, counted, some_of
from digits.data.arrays import split_of
from digits.data.csv_reader import COLUMN_NAMES, SIDES, first_line
from digits.data.image_files import images_below

Columns = dict[str, list[str]]
"""The fields of a table by the names of its columns."""


@dataclass(frozen=True)
class ListedImages:
    """The image files that a table lists, in its order; `labels` are empty where it has none."""

    files: list[Path]
    ids: list[str]
    name: str = ""  # Of the table.
    labels: list[str] = field(default_factory=list)
    label_columns: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def may_list(data: bytes) -> bool:
    """Return whether a table is too narrow for the pixels of images, so that it may list them."""
    return 1 < len(first_line(data)[1]) < SIDES[0] ** 2


class ImageIndex:
    """The image files below a folder, to be found by their names, with or without folder and extension."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = images_below(folder)

    def of(self, split: str | None) -> list[Path]:
        """Return the files in folders of that split by their names; None: in those of no split."""
        folders = {file.parent for file in self.files}
        splits = {
            path: next(filter(None, map(split_of, path.relative_to(self.folder).parts)), None) for path in folders
        }
        return [file for file in self.files if splits[file.parent] == split]

    def by_name(self, split: str, ids: Sequence[str]) -> dict[str, list[Path]]:
        """Return the files that each name may mean; those in the split's own folders hide those in no split's."""
        depth = 1 + max((name.count("/") for name in ids), default=0)
        own, common = self.of(split), self.of(None)
        found: dict[str, list[Path]] = {}
        for files in (own, common) if own or common else (self.files,):
            named: dict[str, list[Path]] = {}
            for file in files:
                parts = file.relative_to(self.folder).parts
                for length in range(1, 1 + min(depth, len(parts))):
                    name = PurePosixPath(*parts[-length:])
                    named.setdefault(str(name), []).append(file)
                    named.setdefault(str(name.with_suffix("")), []).append(file)
            found = named | found
        return found

    def files_of(self, split: str, ids: Sequence[str]) -> list[Path]:
        """Return the file of each id; BadInput, naming the ids that have no image, or several."""
        names = self.by_name(split, ids)
        missing = list(dict.fromkeys(name for name in ids if name not in names))
        if missing:
            raise BadInput(
                f"expected an image for each id, found none for {len(missing):,} of {len(ids):,}: {some_of(missing)}",
                fix="Add the images, or remove these rows.",
            )
        if doubtful := next((name for name in ids if len(names[name]) > 1), None):
            found = some_of([str(file.relative_to(self.folder)) for file in names[doubtful]])
            raise BadInput(f"expected one image for each id, found for {doubtful!r} {found}")
        return [names[name][0] for name in ids]


def list_images(
    index: ImageIndex, split: str, columns: Columns, options: Options, label_columns: Sequence[str]
) -> ListedImages:
    """Return the images that the rows of a table list, with their labels.

    Of columns that no flag names, the id's is the one with the names of most images; the label's is one of
    `label_columns`, those of sample_submission.csv, else one with a usual name, the only other one, or one a class.
    Test images have the labels that are in the columns of the training images' labels. Raises BadInput where the
    columns do not say enough, an id has no image or two labels.
    """
    columns = {name: values for name, values in columns.items() if name.lower() not in COLUMN_NAMES["index"]}
    id_column = _given(options.id_column, "--id-column", columns) or _id_column(index, split, columns)
    ids = columns[id_column]
    listed = ListedImages(index.files_of(split, ids), ids)
    others = {name: values for name, values in columns.items() if name != id_column}
    if split == "test" and not set(label_columns) <= others.keys():
        return listed
    return _each_once(_with_labels(listed, others, options, label_columns))


def _given(name: str | None, flag: str, columns: Columns) -> str | None:
    """Return the column that a flag names; None where it was not given."""
    if name is not None and name not in columns:
        raise BadInput(
            f"expected one of the columns {', '.join(columns)}.{nearest(name, columns)}", at=f"{flag} {name}"
        )
    return name


def _id_column(index: ImageIndex, split: str, columns: Columns) -> str:
    """Return the column that holds the names of most images."""
    names = index.by_name(split, [value for values in columns.values() for value in values])
    if any(name in names for name in columns):
        raise BadInput("expected names of columns, found names of images", at="line 1", fix="Put id,label above it")
    found = {name: len(set(values) & names.keys()) for name, values in columns.items()}
    best = max(found, key=lambda name: found[name])
    if not found[best]:
        shown = ", ".join(f"{name} ({values[0][:30]})" for name, values in columns.items())
        image = index.files[0].relative_to(index.folder)
        raise BadInput(f"expected a column with the images' names, such as {image}, found {shown}"[:400])
    return best


def _with_labels(
    listed: ListedImages, columns: Columns, options: Options, label_columns: Sequence[str]
) -> ListedImages:
    """Return the images with their labels from one of the columns, or from several of which one is 1 in each row."""
    given = _given(options.label_column, "--label-column", columns)
    usual = [name for name in columns if name.lower() in COLUMN_NAMES["label"]]
    expected = [name for name in label_columns if name in columns]
    for names in ([given] if given else [], expected, usual, list(columns)):
        if len(names) == 1:
            is_plain = given or names in (usual, expected)
            notes = () if is_plain else (f"column {names[0]!r} taken as the label",)
            return replace(listed, labels=columns[names[0]], label_columns=names, notes=notes)
    names = expected or list(columns)
    rows = [[field.removesuffix(".0") for field in row] for row in zip(*(columns[name] for name in names), strict=True)]
    if not names or any(sorted(row) != ["0"] * (len(names) - 1) + ["1"] for row in rows):
        found = ", ".join(columns) or "none beside the id"
        raise BadInput(f"expected one column with the label, found {found}", fix="Name it: --label-column NAME")
    labels, notes = [names[row.index("1")] for row in rows], (f"columns {some_of(names)} taken as the classes",)
    return replace(listed, labels=labels, label_columns=names, notes=notes)


def _each_once(listed: ListedImages) -> ListedImages:
    """Return the images without rows that repeat others; BadInput where two say different labels."""
    first: dict[Path, int] = {}
    for row, (file, label) in enumerate(zip(listed.files, listed.labels, strict=True)):
        other = listed.labels[first.setdefault(file, row)]
        if label != other:
            raise BadInput(f"expected one label for each id, found {other!r} and {label!r} for {listed.ids[row]!r}")
    rows, repeated = list(first.values()), len(listed.files) - len(first)
    if not repeated:
        return listed
    return replace(
        listed,
        files=[listed.files[row] for row in rows],
        ids=[listed.ids[row] for row in rows],
        labels=[listed.labels[row] for row in rows],
        notes=(*listed.notes, f"{counted(repeated, 'row')} left out as repeating others"),
    )
