"""Which files of a folder hold the tables of a competition, and reading them."""

import contextlib
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from digits.console import BadInput, error_context
from digits.data import arrays
from digits.data.arrays import PACKINGS
from digits.data.competition import Competition
from digits.data.csv_reader import MAX_CLASSES, Table, as_ids, is_wanted, parse, read_bytes, records
from digits.data.image_files import NotADigitImage, class_folders, gray, image_files, read_image
from digits.files import display_path

TABLES = ("train", "test")


@dataclass(frozen=True)
class LocatedFile:
    """A file, or a member of a zip."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Its name, inside the zip where it is in one."""
        return self.member or self.path.name

    @property
    def place(self) -> str:
        """What error messages call it."""
        shown = display_path(self.path)
        return f"{self.member} in {shown}" if self.member else shown

    def read_table(self, *, labelled: bool) -> Table:
        """Read it as a CSV of images; BadInput where it is none."""
        data = read_bytes(self.path, self.member)
        with error_context(self.place):
            table = parse(data, labelled=labelled)
        return replace(table, name=self.name)


def find_file(folder: Path, name: str, competition: Competition | None = None) -> LocatedFile | None:
    """Return the file that holds the table `name` ("train", "test", "sample_submission"), or None.

    That is NAME.csv, plain or packed; or in the competition's zip, or the folder's only one; or the folder's only other
    CSV with NAME in its name.

    Raises:
        BadInput: if several files could be meant.
    """
    for packing in PACKINGS:
        path = folder / f"{name}.csv{packing}"
        if path.exists() or path.is_symlink():
            return LocatedFile(path)
    names = _names_in(folder)
    archives = [other for other in names if other.endswith(".zip") and not other.endswith(".csv.zip")]
    archive = competition.archive if competition and competition.archive in archives else None
    if archive or len(archives) == 1:
        path = folder / (archive or archives[0])
        member = _member_of(path, f"{name}.csv")
        if archive or member:
            return LocatedFile(path, member or f"{name}.csv")  # Reading it says what is wrong.
    ends = tuple(f".csv{packing}" for packing in PACKINGS)
    others = [other for other in names if name in other.lower() and other.lower().endswith(ends)]
    if len(others) > 1:
        raise BadInput(f"expected one file {name}.csv, found {', '.join(others[:4])}", at=display_path(folder),
                       fix=f"Name one {name}.csv.")  # fmt: skip
    return LocatedFile(folder / others[0]) if others else None


def _names_in(folder: Path) -> list[str]:
    """Return what a folder holds, but for hidden files; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return []


def _member_of(archive: Path, name: str) -> str | None:
    """Return the path of the file `name` inside a zip: its only member of that name, whatever its folder."""
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.namelist() if is_wanted(member) and Path(member).name == name]
        if len(members) == 1:
            return members[0]
    return None


def read_file(folder: Path, name: str, competition: Competition | None = None) -> Table:
    """Read the table `name` ("train" or "test") of a folder.

    Raises:
        BadInput: if there is none in any form, or it is not what it should be.
    """
    file = find_file(folder, name, competition)
    if file is None:
        raise BadInput(f"there is no such file. {_what_is_in(folder)}", at=f"{display_path(folder / name)}.csv")
    return file.read_table(labelled=name == "train")


def _what_is_in(folder: Path) -> str:
    """Return what a folder holds instead of the data, and where the data seem to be."""
    path = display_path(folder)
    if folder.is_file():
        hint = f". Take the data out of it: scripts/download.sh --zip {path}" if zipfile.is_zipfile(folder) else ""
        return f"{path} is a file, not a folder{hint}"
    if not folder.is_dir():
        return f"{path} is no folder"
    below = next((display_path(path.parent) for path in sorted(folder.glob("*/train.csv*"))), None)
    if below:
        return f"There is one in {below}: --data-dir {below}"
    names = _names_in(folder)
    return f"The folder holds {some_of(names)}" if names else "The folder is empty"


def some_of(names: Sequence[str]) -> str:
    """Return the first four names, to print."""
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "")


def read_folder(folder: Path, competition: Competition | None) -> dict[str, Table]:
    """Read what a folder holds: the tables "train" and "test", named after their files.

    That is train.csv and test.csv, plain, packed or in a zip; or .npz, .npy or IDX files; or a folder of images for
    each class. Only the user's own files may lack "test".

    Raises:
        BadInput: naming file and place, what was expected and what came.
    """
    if folder.is_dir() and not any(find_file(folder, name, competition) for name in TABLES):
        if tables := _tables_of_arrays(folder):
            return tables
        if tables := _tables_of_images(folder):
            return tables
    wanted = [name for name in TABLES if competition or name == "train" or find_file(folder, name, competition)]
    with ThreadPoolExecutor(2) as threads:
        read = threads.map(lambda name: read_file(folder, name, competition), wanted)
        return dict(zip(wanted, read, strict=True))


def _tables_of_arrays(folder: Path) -> dict[str, Table]:
    """Read a folder's .npz, or its IDX files; empty where there are none."""
    archives = sorted(folder.glob("*.npz"))
    if len(archives) == 1:
        tables = arrays.read_sets(archives[0])
        tables = {"train" if split == "images" else split: table for split, table in tables.items()}
        return {split: replace(table, name=archives[0].name) for split, table in tables.items()}
    files: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if "ubyte" in path.name and path.is_file() and (role := arrays.role_of(path.name)):
            files[role].append(path)
    for (split, kind), paths in files.items():
        if len(paths) > 1:
            raise BadInput(
                f"expected one IDX file of {split} {kind}, found {some_of([path.name for path in paths])}",
                at=display_path(folder),
            )
    read: dict[str, np.ndarray] = {}
    for [path] in files.values():
        data = read_bytes(path)
        with error_context(display_path(path)):
            read[path.name] = arrays.parse_idx(data)
    if not read:
        return {}
    with error_context(display_path(folder)):
        tables = arrays.tables_of(read)
    return {split: replace(table, name=files[split, "images"][0].name) for split, table in tables.items()}


def _tables_of_images(folder: Path) -> dict[str, Table]:
    """Return the tables of a folder of images: CLASS/*.png, or train/CLASS/*.png and test/*.png or test/CLASS/*.png.

    Empty where there are no images.
    """
    tables = {}
    roots = {"train": folder / "train", "test": folder / "test"} if (folder / "train").is_dir() else {"train": folder}
    for split, root in roots.items():
        if not root.is_dir():
            continue
        classes = class_folders(root)
        files = image_files(root) if split == "test" and not classes else []
        labels = None if files else [name for name, images in classes.items() for _ in images]
        files = files or [file for images in classes.values() for file in images]
        if len(classes) > MAX_CLASSES:
            raise BadInput(
                f"expected at most {MAX_CLASSES} classes, found {len(classes)} folders", at=display_path(root)
            )
        if files:
            tables[split] = replace(_table_of_images(files, labels), name=f"{split} images")
    return tables


def _table_of_images(files: Sequence[Path], labels: Sequence[str] | None) -> Table:
    """Read image files of one size in grey, one row each; a row's id is its file's name, or CLASS/NAME if names repeat.

    Raises:
        BadInput: naming the file, what was expected and what came.
    """
    images: list[np.ndarray] = []
    for file in files:
        with error_context(display_path(file)):
            try:
                images.append(gray(read_image(file)))
            except NotADigitImage as error:
                raise BadInput(f"expected an image, found: {error}") from None
            height, width = images[-1].shape
            first_height, first_width = images[0].shape
            if height != width or (height, width) != (first_height, first_width):
                expected = "a square image" if height != width else f"{first_width} × {first_height} as {files[0].name}"
                raise BadInput(f"expected {expected}, found {width} × {height} pixels", fix="Give all images one size")
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = [f"{file.parent.name}/{file.name}" for file in files]
    with error_context(display_path(files[0].parent)):
        return arrays.table_of(np.stack(images), None if labels is None else np.array(labels), as_ids(names))


def sample_submission(folder: Path, competition: Competition | None) -> tuple[tuple[str, str], list[str] | None]:
    """Return a submission's header, and its ids where the folder's sample_submission.csv tells them."""
    if competition:
        return competition.header, None
    file = find_file(folder, "sample_submission") if folder.is_dir() else None
    if file is None:
        return ("id", "label"), None
    data = read_bytes(file.path, file.member)
    with error_context(f"{display_path(folder)}, {file.name}"):
        (_, header), *lines = list(records(data)) or [(0, [])]
        if len(header) != 2 or any(len(fields) != 2 for _, fields in lines):
            raise BadInput(f"expected two columns, the id and the label, found {','.join(header)[:60]!r}")
    return (header[0], header[1]), [fields[0] for _, fields in lines]
