"""Which files of a folder hold the tables of a competition, and reading them."""

import contextlib
import re
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np

from digits.config import Options
from digits.console import BadInput, error_context, some_of
from digits.data import arrays
from digits.data.arrays import PACKINGS, split_of
from digits.data.competition import DIGIT_RECOGNIZER, Competition, find_competition
from digits.data.csv_reader import MAX_CLASSES, Table, as_ids, columns_of, is_wanted, parse, read_bytes, records
from digits.data.image_files import NotADigitImage, class_folders, image_files, read_header, read_image, resize
from digits.data.image_form import fitting_size
from digits.data.listing import ImageIndex, ListedImages, list_images, may_list
from digits.data.submission import SubmissionForm, known_form
from digits.files import display_path, kit_command

TABLES = ("train", "test")
T = TypeVar("T")


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
    for packing in PACKINGS:
        path = folder / f"{name}.csv{packing}"
        if path.exists() or path.is_symlink():
            return LocatedFile(path, path.name)
    names, is_known = _names_in(folder), competition is not None and competition.is_known
    archives = [other for other in names if other.endswith(".zip") and not other.endswith(".csv.zip")]
    archive = competition.archive if competition and competition.archive in archives else None
    if archive or len(archives) == 1:
        path = folder / (archive or archives[0])
        member = _member_of(path, f"{name}.csv")
        if member or (archive and is_known):
            member = member or f"{name}.csv"  # Reading it says what is wrong.
            return LocatedFile(path, member, member)
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


def _member_of(archive: Path, name: str) -> str | None:
    """Return the path of the file `name` inside a zip: its only member of that name, whatever its folder."""
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.namelist() if is_wanted(member) and Path(member).name == name]
        if len(members) == 1:
            return members[0]
    return None


def _read_table(folder: Path, name: str, competition: Competition | None) -> Table:
    """Read the table `name` ("train" or "test") of a folder."""
    file = find_file(folder, name, competition)
    if file is None:
        fix = ""
        if zipfile.is_zipfile(folder):
            fix = f"Unpack it: {unpack_command(folder)}"
        at = f"{display_path(folder / name)}.csv"
        raise BadInput(f"there is no such file. {_what_is_in(folder)}", at=at, fix=fix)
    return file.read_table(labelled=name == "train")


def unpack_command(archive: Path) -> str:
    """Return the command that unpacks an archive, for the competition that it is named after."""
    is_slug = re.fullmatch(r"[a-zA-Z0-9-]+", archive.stem)
    competition = find_competition(archive.stem) if is_slug else DIGIT_RECOGNIZER
    return kit_command("scripts/download.sh", "--zip", archive) + competition.flag


def _what_is_in(folder: Path) -> str:
    """Return what a folder holds instead of the data."""
    path = display_path(folder)
    if folder.is_file():
        return f"{path} is a file, not a folder"
    if not folder.is_dir():
        return f"{path} is no folder"
    names = _names_in(folder)
    return f"The folder holds {some_of(names)}" if names else "The folder is empty"


def read_folder(folder: Path, competition: Competition | None, options: Options | None = None) -> dict[str, Table]:
    """Read what a folder holds: the tables "train", "test" and perhaps "val", named after their files.

    That is train.csv and test.csv of pixels, plain, packed or in a zip, or beside the images that they list; or .npz,
    .npy or IDX files; or a folder of images for each class; or a single CSV. Only data of no known competition may lack
    "test", or lie one folder deeper. `options` may name columns.
    """
    is_known = competition is not None and competition.is_known
    if listed := {} if is_known else listed_images(folder, competition, options):
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
    # Outside the threads, too: in them one would take back what makes NumPy's warnings errors for the other.
    with warnings.catch_warnings(action="error"), ThreadPoolExecutor(2) as threads:
        read = threads.map(lambda name: _read_table(folder, name, competition), wanted)
        return dict(zip(wanted, read, strict=True))


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


def listed_images(
    folder: Path, competition: Competition | None, options: Options | None = None
) -> dict[str, ListedImages]:
    """Return the images that train.csv lists, and the test images of sample_submission.csv, test.csv or a folder.

    Empty where train.csv has the pixels themselves, or there are no images. `options` may name columns.
    """
    train = find_file(folder, "train", competition) if folder.is_dir() else None
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
        listed = {"train": list_images(index, "train", columns_of(data), options or Options(), form.columns[1:])}
    if form.ids:
        with error_context(f"{display_path(folder)}, sample_submission.csv"):
            listed["test"] = ListedImages(index.files_of("test", form.ids), list(form.ids))
    elif test is not None:
        with error_context(test.shown):
            columns = columns_of(test.read())
            listed["test"] = list_images(index, "test", columns, options or Options(), listed["train"].label_columns)
    elif files := index.of("test"):
        has_suffix = bool(PurePath(listed["train"].ids[0]).suffix)
        listed["test"] = ListedImages(files, [file.name if has_suffix else file.stem for file in files])
    used = {file for images in listed.values() for file in images.files}
    if left_out := [str(file.relative_to(folder)) for file in index.files if file not in used]:
        note = f"{len(left_out):,} images that no table lists are left out ({some_of(left_out)})"
        listed["train"] = replace(listed["train"], notes=(*listed["train"].notes, note))
    names = {"train": train.name, "test": test.name if test else "test images"}
    return {split: replace(images, name=names[split]) for split, images in listed.items()}


def refuse_columns(options: Options | None) -> None:
    """Refuse flags that name columns of a list of images, where there is none."""
    options = options or Options()
    for flag, name in (("--id-column", options.id_column), ("--label-column", options.label_column)):
        if name is not None:
            raise BadInput("expected no such flag, for no train.csv lists images here", at=f"{flag} {name}")


def _tables_of_images(folder: Path, test_ids: Sequence[str] | None) -> dict[str, Table]:
    """Return the tables of a folder of images: CLASS/*.png, or train/CLASS/*.png, and test/*.png or test/CLASS/*.png.

    The folders of the sets may have other names (see `arrays.split_of`). Test images without labels are those of
    `test_ids`, where these are known. Empty where there are no images.
    """
    roots = {split: folder / name for name in _names_in(folder) if (split := _split_of_folder(folder / name))}
    tables: dict[str, Table] = {}
    for split, root in ({"train": folder} | roots).items():
        classes = class_folders(root)
        if root == folder:
            classes = {name: files for name, files in classes.items() if not _split_of_folder(folder / name)}
        if len(classes) > MAX_CLASSES:
            message = f"expected at most {MAX_CLASSES} classes, found {len(classes)} folders"
            raise BadInput(message, at=display_path(root))
        labels = [name for name, images in classes.items() for _ in images]
        files, ids = [file for images in classes.values() for file in images], None
        if not files and split == "test" and test_ids:
            ids = test_ids
            with error_context("sample_submission.csv"):
                files = ImageIndex(root).files_of(split, ids)
        elif not files and root != folder:
            files = image_files(root)
        if files:
            tables[split] = _table_of_images(files, labels, ids, tables.get("train"))
            tables[split] = replace(tables[split], name=f"{split} images")
    return tables


def _split_of_folder(path: Path) -> str | None:
    """Return which set a folder of images is, by its whole name: "train", "val", "test", "unlabelled", or None."""
    name = path.name.lower()
    if not path.is_dir() or not re.fullmatch(r"train(ing)?|test(ing)?|val(id|idation)?|unlabell?ed|unknown", name):
        return None
    return split_of(name) or "unlabelled"


def _table_of_images(
    files: Sequence[Path], labels: Sequence[str], ids: Sequence[str] | None, train: Table | None
) -> Table:
    """Read image files, with labels or none, in the size of those to train on; ids None: names, or CLASS/NAME."""
    images, notes = _read_images(files, train.images.shape[1:3] if train else None)
    names = [file.name for file in files] if ids is None else list(ids)
    if ids is None and len(set(names)) < len(names):
        names = [f"{file.parent.name}/{file.name}" for file in files]
    with error_context(display_path(files[0].parent)):
        table = arrays.table_of(images, np.array(labels) if labels else None, as_ids(names))
    return replace(table, notes=(*notes, *table.notes))


def _read_images(files: Sequence[Path], size: tuple[int, int] | None) -> tuple[np.ndarray, list[str]]:
    """Return images uint8 (n, height, width, 3), and what was changed; `size` None: the most frequent, within SIDES."""
    headers = [_decode(read_header, file) for file in files]
    size = size or Counter(fitting_size(header.size) for header in headers).most_common(1)[0][0]
    images = np.empty((len(files), *size, 3), np.uint8)
    long_side, in_grey = max(size), 0
    for row, file in enumerate(files):
        pixels = _decode(read_image, file, long_side=2 * long_side, first_frame=True)
        images[row] = resize(pixels, size)
        in_grey += pixels.shape[2] == 1
    others = Counter(header.size for header in headers if header.size != size)
    sizes = ", ".join(f"{width} × {height}" for (height, width), _ in others.most_common(3))
    more = " …" if len(others) > 3 else ""
    is_mixed = in_grey and not (images == images[..., :1]).all()
    counts = {
        f"of other sizes ({sizes}{more}) are resized to {size[1]} × {size[0]}": others.total(),
        "in grey are read as RGB, as the others are": in_grey if is_mixed else 0,
        "are animations: the first frame is read": sum(header.is_animated for header in headers),
        "may be transparent: what is gets the image's colour, black or white": sum(h.is_transparent for h in headers),
        "have 16 bits or more: each is scaled to 8 by its brightest pixel": sum(header.is_deep for header in headers),
    }
    return images, [f"{count:,} of {len(files):,} images {text}" for text, count in counts.items() if count]


def _decode(read: Callable[..., T], file: Path, **options) -> T:
    """Return what `read` reads of an image file; BadInput, naming it, where that is none."""
    with error_context(display_path(file)):
        try:
            return read(file, **options)
        except NotADigitImage as error:
            raise BadInput(f"expected an image, found: {error}") from None


def sample_submission(folder: Path, competition: Competition | None) -> SubmissionForm:
    """Return the form of a submission, without its classes: a known competition's, else as the folder's sample has it.

    Raises BadInput if sample_submission.csv is no table of an id and further columns.
    """
    if competition and competition.is_known:
        return known_form(competition)
    file = find_file(folder, "sample_submission", competition) if folder.is_dir() else None
    if file is None:
        return SubmissionForm(("id", "label"))
    data = read_bytes(file.path, file.member)
    with error_context(f"{display_path(folder)}, {file.name}"):
        header, *rows = [fields for _, fields in records(data)] or [[]]
        if len(header) < 2 or any(len(fields) != len(header) for fields in rows):
            expected = "two columns, the id and the label, or an id and a column for each class"
            raise BadInput(f"expected {expected}, found {','.join(header)[:60]!r}")
        ids = tuple(fields[0] for fields in rows)
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        if repeated or not ids:
            found = f"found {some_of(repeated)} again" if repeated else "found none"
            raise BadInput(f"expected a row for each test image, {found}", fix="Take the competition's own file.")
    return SubmissionForm(tuple(header), ids=ids, examples=frozenset(fields[1] for fields in rows))
