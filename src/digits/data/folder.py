"""Which files of a folder hold the tables of a competition, and reading them."""

import contextlib
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from digits.config import Options
from digits.console import BadInput, error_context, some_of
from digits.data import arrays
from digits.data.arrays import PACKINGS, split_of
from digits.data.competition import DIGIT_RECOGNIZER, Competition, find_competition
from digits.data.csv_reader import (
    Table,
    as_ids,
    columns_of,
    is_wanted,
    parse,
    read_bytes,
    readable,
    rows_of,
)
from digits.data.image_files import read_header, read_image, resize
from digits.data.image_form import fitting_size
from digits.data.listing import ImageIndex, ListedImages, list_images, may_list
from digits.data.submission import SubmissionForm, known_form
from digits.files import display_path, kit_command

TABLES = ("train", "test")


@dataclass(frozen=True)
class LocatedFile:
    """A file, or a member of a zip."""

    path: Path
    name: str  # Below the folder, or inside the zip.
    member: str | None = None

    @property
    def shown(self) -> str:
        """Its path, to print."""
        return f"{self.member} in {display_path(self.path)}" if self.member else display_path(self.path)

    def read(self) -> bytes:
        """Return its content, unpacked."""
        return read_bytes(self.path, self.member)

    def read_table(self, *, labelled: bool) -> Table:
        """Read it as a CSV of images; BadInput where it is none."""
        data = self.read()
        with error_context(self.shown):
            return replace(parse(data, labelled=labelled), name=self.name)


def find_file(folder: Path, name: str, competition: Competition | None = None) -> LocatedFile | None:
    """Return the file that holds the table `name` ("train", "test", "sample_submission"), None where there is none.

    That is NAME.csv, plain or packed; or in the competition's zip, or the folder's only one; or the folder's only other
    CSV with NAME in its name, custom data also one folder deeper. Several raise BadInput.
    """
    names, is_known = _names_in(folder), competition is not None and competition.is_known
    if plain := [f"{name}.csv{packing}" for packing in PACKINGS if f"{name}.csv{packing}" in names]:
        return LocatedFile(folder / plain[0], plain[0])
    zips = [other for other in names if other.endswith(".zip") and not other.endswith(".csv.zip")]
    if competition and competition.archive in zips:
        zips = [competition.archive]
    if len(zips) == 1:
        with error_context(display_path(folder / zips[0])), readable(), zipfile.ZipFile(folder / zips[0]) as opened:
            members = [member for member in opened.namelist() if is_wanted(member)]
        if len(same := [member for member in members if PurePath(member).name == f"{name}.csv"]) == 1:
            return LocatedFile(folder / zips[0], same[0], same[0])
    others = [other for other in _csvs(names) if _plain(name) in _plain(other)]
    if not others and not is_known:
        below = [f"{inner}/{other}" for inner in names for other in _csvs(_names_in(folder / inner))]
        others = [other for other in below if _plain(name) in _plain(PurePath(other).name)]
    if len(others) > 1:
        fix = f"Name one {name}.csv, or give its folder: --data-dir DIR"
        raise BadInput(f"expected one file {name}.csv, found {some_of(others)}", at=display_path(folder), fix=fix)
    return LocatedFile(folder / others[0], others[0]) if others else None


def _plain(name: str) -> str:
    """Return a name in small letters alone, for sampleSubmission and sample_submission are the same."""
    return re.sub(r"[\W_]+", "", name.lower())


def _csvs(names: list[str]) -> list[str]:
    """Return which of the names are those of CSVs, plain or packed."""
    return [name for name in names if arrays.has_suffix(name, ".csv")]


def _names_in(folder: Path) -> list[str]:
    """Return what a folder holds, but for hidden files; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return []


def _read_table(folder: Path, name: str, competition: Competition | None) -> Table:
    """Read the table `name` ("train" or "test") of a folder."""
    if file := find_file(folder, name, competition):
        return file.read_table(labelled=name == "train")
    found = f"{display_path(folder)} is no folder"
    if folder.is_dir():
        found = f"The folder holds {some_of(_names_in(folder)) or 'nothing'}"
    fix = f"Unpack it: {unpack_command(folder)}" if zipfile.is_zipfile(folder) else ""
    raise BadInput(f"there is no such file. {found}", at=f"{display_path(folder / name)}.csv", fix=fix)


def unpack_command(archive: Path) -> str:
    """Return the command that unpacks an archive, for the competition that it is named after."""
    is_slug = re.fullmatch(r"[a-zA-Z0-9-]+", archive.stem)
    competition = find_competition(archive.stem) if is_slug else DIGIT_RECOGNIZER
    return kit_command("scripts/download.sh", "--zip", archive) + competition.flag


def read_folder(folder: Path, competition: Competition | None, options: Options) -> dict[str, Table]:
    """Read what a folder holds: the tables "train", "test" and perhaps "val", named after their files.

    That is train.csv and test.csv of pixels, plain, packed or in a zip, or beside the images that they list; or .npz,
    .npy or IDX files; or a folder of images for each class; or a single CSV. Only data of no known competition may lack
    "test", or lie one folder deeper. `options` may name columns.
    """
    is_known = competition is not None and competition.is_known
    if not is_known and (listed := listed_images(folder, competition, options)):
        tables: dict[str, Table] = {}
        for split, each in listed.items():
            tables[split] = _table_of_images(each.files, each.labels, each.ids, tables.get("train"))
        notes = {split: (*each.notes, *tables[split].notes) for split, each in listed.items()}
        return {split: replace(tables[split], name=each.name, notes=notes[split]) for split, each in listed.items()}
    refuse_columns(options)
    if folder.is_dir() and not any(find_file(folder, name, competition) for name in TABLES):
        if tables := _tables_of_arrays(folder) or _tables_of_images(folder, sample_submission(folder, competition).ids):
            return tables
        names = _names_in(folder)
        if not is_known and len(csvs := _csvs(names)) == 1:
            return {"train": LocatedFile(folder / csvs[0], csvs[0]).read_table(labelled=True)}
        inner = [folder / name for name in names if (folder / name).is_dir()]
        if not is_known and len(inner) == 1:
            return read_folder(inner[0], competition, options)
    wanted = [name for name in TABLES if is_known or name == "train" or find_file(folder, name, competition)]
    return {name: _read_table(folder, name, competition) for name in wanted}


def _tables_of_arrays(folder: Path) -> dict[str, Table]:
    """Read a folder's .npz, or its .npy, IDX and .npz files of one array each; empty where there are none."""
    names = [name for name in _names_in(folder) if arrays.has_suffix(name, *arrays.ARRAY_SUFFIXES)]
    packed = [f"{name}{packing}" for name in names for packing in PACKINGS[1:]]  # Of a file that is there plain too.
    paths = [folder / name for name in names if name not in packed]
    if len(paths) == 1:
        tables = {split: replace(table, name=paths[0].name) for split, table in arrays.read_sets(paths[0]).items()}
    else:
        tables = _tables_of_single_arrays(folder, paths)
    return {"train" if split == "images" else split: table for split, table in tables.items()}


def _tables_of_single_arrays(folder: Path, paths: list[Path]) -> dict[str, Table]:
    """Read files of one array each, whose names say what they hold; others are left out."""
    files: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in paths:
        if role := arrays.role_of(path.name):
            files[role].append(path)
    read: dict[str, np.ndarray] = {}
    for (split, kind), fitting in files.items():
        content = arrays.read_arrays(fitting[0]) if len(fitting) == 1 else {}
        if len(content) != 1:
            shown = some_of(list(content) or [path.name for path in fitting])
            raise BadInput(f"expected one array of {split} {kind}, found {shown}", at=display_path(folder))
        read[fitting[0].name] = next(iter(content.values()))
    with error_context(display_path(folder)):
        return arrays.tables_of(read) if read else {}


def listed_images(folder: Path, competition: Competition | None, options: Options) -> dict[str, ListedImages]:
    """Return the images that train.csv lists, and the test images of sample_submission.csv, test.csv or a folder.

    Empty where train.csv has the pixels themselves, or there are no images. `options` may name columns.
    """
    train = find_file(folder, "train", competition)
    others = [name for name in _csvs(_names_in(folder)) if "submission" not in _plain(name)]
    if train is None and len(others) == 1:
        train = LocatedFile(folder / others[0], others[0])
    if train is None:
        return {}
    with error_context(train.shown):
        if not may_list(data := train.read()):
            return {}
    index, test = ImageIndex(folder), find_file(folder, "test", competition)
    if not index.files and train.member:
        fix = f"Unpack it: {unpack_command(train.path)}"
        raise BadInput("expected pixels, found a list of images", at=train.shown, fix=fix)
    if not index.files:
        return {}
    form = sample_submission(folder, competition)
    with error_context(train.shown):
        listed = {"train": list_images(index, "train", columns_of(data), options, form.columns[1:])}
    if form.ids:
        with error_context(f"{display_path(folder)}, sample_submission.csv"):
            listed["test"] = ListedImages(index.files_of("test", form.ids), list(form.ids))
    elif test is not None:
        with error_context(test.shown):
            columns = columns_of(test.read())
            listed["test"] = list_images(index, "test", columns, options, listed["train"].label_columns)
    elif files := index.of("test"):
        has_suffix = bool(PurePath(listed["train"].ids[0]).suffix)
        listed["test"] = ListedImages(files, [file.name if has_suffix else file.stem for file in files])
    used = {file for images in listed.values() for file in images.files}
    if left_out := [str(file.relative_to(folder)) for file in index.files if file not in used]:
        note = f"{len(left_out):,} images that no table lists are left out ({some_of(left_out)})"
        listed["train"] = replace(listed["train"], notes=(*listed["train"].notes, note))
    names = {"train": train.name, "test": test.name if test else "test images"}
    return {split: replace(images, name=names[split]) for split, images in listed.items()}


def refuse_columns(options: Options) -> None:
    """Refuse flags that name columns of a list of images, where there is none."""
    for flag, name in (("--id-column", options.id_column), ("--label-column", options.label_column)):
        if name is not None:
            raise BadInput("expected no such flag, for no train.csv lists images here", at=f"{flag} {name}")


def _tables_of_images(folder: Path, test_ids: Sequence[str] | None) -> dict[str, Table]:
    """Return the tables of a folder of images: CLASS/*.png, or train/CLASS/*.png, and test/*.png or test/CLASS/*.png.

    The folders of the sets may have other names (see `_set_of`). Test images without labels are those of `test_ids`,
    where these are known. Empty where there are no images.
    """
    roots = {split: folder / name for name in _names_in(folder) if (split := _set_of(name))}
    tables: dict[str, Table] = {}
    for split, root in ({"train": folder} | roots).items():
        index, ids = ImageIndex(root), None
        files = [file for file in index.files if file.parent.parent == root]
        if root == folder:
            files = [file for file in files if not _set_of(file.parent.name)]
        labels = [file.parent.name for file in files]
        if not files and split == "test" and test_ids:
            ids = test_ids
            with error_context("sample_submission.csv"):
                files = index.files_of(split, ids)
        elif not files and root != folder:
            files = [file for file in index.files if file.parent == root]
        if files:
            table = _table_of_images(files, labels, ids, tables.get("train"))
            tables[split] = replace(table, name=f"{split} images")
    return tables


def _set_of(folder: str) -> str | None:
    """Return which set a folder of images is, by its whole name: "train", "val", "test", "unlabelled", or None."""
    pattern = r"train(ing)?|test(ing)?|val(id|idation)?|(unlabell?ed|unknown)"
    match = re.fullmatch(pattern, folder.lower())
    return match and (split_of(folder) or "unlabelled")


def _table_of_images(
    files: Sequence[Path], labels: Sequence[str], ids: Sequence[str] | None, train: Table | None
) -> Table:
    """Read image files, with labels or none, in the size of those to train on; ids None: names, or CLASS/NAME."""
    images, notes = _read_images(files, train.images.shape[1:3] if train else None)
    names = ids or [file.name for file in files]
    if len(set(names)) < len(names):
        names = [f"{file.parent.name}/{file.name}" for file in files]
    with error_context(display_path(files[0].parent)):
        table = arrays.table_of(images, np.array(labels) if labels else None, as_ids(names))
    return replace(table, notes=(*notes, *table.notes))


def _read_images(files: Sequence[Path], size: tuple[int, int] | None) -> tuple[np.ndarray, list[str]]:
    """Return images uint8 (n, height, width, 3), and what was changed; `size` None: the most frequent, within SIDES."""
    headers = []
    for file in files:
        with error_context(display_path(file)):
            headers.append(read_header(file))
    size = size or Counter(fitting_size(size) for size, _ in headers).most_common(1)[0][0]
    images = np.empty((len(files), *size, 3), np.uint8)
    in_grey = 0
    for row, file in enumerate(files):
        with error_context(display_path(file)):
            pixels = read_image(file, long_side=2 * max(size), first_frame=True)
        images[row] = resize(pixels, size)
        in_grey += pixels.shape[2] == 1
    others = Counter(other for other, _ in headers if other != size)
    changes: Counter[str] = Counter()
    if others:
        sizes = some_of([f"{width} × {height}" for (height, width), _ in others.most_common()])
        changes[f"of other sizes ({sizes}) are resized to {size[1]} × {size[0]}"] = others.total()
    if in_grey and not (images == images[..., :1]).all():
        changes["in grey are read as RGB, as the others are"] = in_grey
    changes.update(change for _, changes_of_one in headers for change in changes_of_one)
    return images, [f"{count:,} of {len(files):,} images {change}" for change, count in changes.items()]


def sample_submission(folder: Path, competition: Competition | None) -> SubmissionForm:
    """Return the form of a submission, without its classes: a known competition's, else as the folder's sample has it.

    Raises BadInput if sample_submission.csv is no table of an id and further columns.
    """
    if competition and competition.is_known:
        return known_form(competition)
    file = find_file(folder, "sample_submission", competition)
    if file is None:
        return SubmissionForm(("id", "label"))
    data = file.read()
    with error_context(f"{display_path(folder)}, {file.name}"):
        header, rows = rows_of(data)
        if len(header) < 2:
            expected = "two columns, the id and the label, or an id and a column for each class"
            raise BadInput(f"expected {expected}, found {','.join(header)[:60]!r}")
        ids = tuple(fields[0] for _, fields in rows)
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        if repeated or not ids:
            found = f"found {some_of(repeated)} again" if repeated else "found none"
            raise BadInput(f"expected a row for each test image, {found}", fix="Take the competition's own file.")
    return SubmissionForm(tuple(header), ids=ids, examples=frozenset(fields[1] for _, fields in rows))
