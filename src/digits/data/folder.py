"""Which files of a folder hold the tables of a competition, and reading them."""

import contextlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from digits.console import BadInput
from digits.data import arrays, image_files
from digits.data.cache import read_cached
from digits.data.competition import Competition
from digits.data.csv_reader import Table, is_wanted, read_bytes, records
from digits.files import display_path

TABLES = ("train", "test")
PACKINGS = ("", ".gz", ".zip", ".bz2", ".xz")


def find_file(folder: Path, name: str, competition: Competition | None = None) -> tuple[Path, str | None] | None:
    """Return the file that holds the table `name` ("train", "test", "sample_submission"), with its name in a zip.

    That is NAME.csv, plain or packed; or in the competition's zip, or the folder's only one; or the folder's only other
    CSV with NAME in its name.

    Raises:
        BadInput: if several files could be meant.
    """
    for packing in PACKINGS:
        path = folder / f"{name}.csv{packing}"
        if path.exists() or path.is_symlink():
            return path, None
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return None
    archives = [other for other in names if other.endswith(".zip") and not other.endswith(".csv.zip")]
    archive = competition.archive if competition and competition.archive in archives else None
    if archive or len(archives) == 1:
        path = folder / (archive or archives[0])
        member = member_of(path, f"{name}.csv")
        if archive or member:
            return path, member or f"{name}.csv"  # Reading it says what is wrong.
    ends = tuple(f".csv{packing}" for packing in PACKINGS)
    others = [other for other in names if name in other.lower() and other.lower().endswith(ends)]
    if len(others) > 1:
        raise BadInput(
            f"{display_path(folder)}: expected one file {name}.csv, found {', '.join(others[:4])}. Name one {name}.csv"
        )
    return (folder / others[0], None) if others else None


def member_of(archive: Path, name: str) -> str | None:
    """Return the path of the file `name` inside a zip: its only member of that name, whatever its folder."""
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        with zipfile.ZipFile(archive) as opened:
            found = [member for member in opened.namelist() if is_wanted(member) and Path(member).name == name]
        if len(found) == 1:
            return found[0]
    return None


def read_file(folder: Path, name: str, remedy: str, competition: Competition | None = None) -> tuple[str, Table]:
    """Return the name of the file that holds the table `name` ("train" or "test"), and the table, checked.

    Raises:
        BadInput: if there is none in any form, or it is not what it should be.
    """
    found = find_file(folder, name, competition)
    if found is None:
        raise BadInput(f"{display_path(folder / name)}.csv: there is no such file. {_what_is_in(folder)}{remedy}")
    path, member = found
    return member or path.name, read_cached(path, member, labelled=name == "train", remedy=remedy)


def _what_is_in(folder: Path) -> str:
    """Say what a folder holds instead of the data, and where the data seem to be."""
    if folder.is_file():
        path = display_path(folder)
        hint = f" Take the data out of it: scripts/download.sh --zip {path}." if zipfile.is_zipfile(folder) else ""
        return f"{path} is a file, not a folder.{hint} "
    if not folder.is_dir():
        return f"{display_path(folder)} is no folder. "
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    below = next((path.parent for path in sorted(folder.glob("*/train.csv*"))), None)
    if below:
        return f"There is one in {display_path(below)}: --data-dir {display_path(below)}. "
    return f"The folder holds {', '.join(names[:4])}{' …' * (len(names) > 4)}. " if names else "The folder is empty. "


def read_folder(folder: Path, competition: Competition | None, remedy: str) -> dict[str, tuple[str, Table]]:
    """Read what a folder holds: the tables "train" and "test", each as (its file's name, the table).

    That is train.csv and test.csv, plain, packed or in a zip; or one .npz; or IDX files; or a folder of images for each
    class. Only one's own files may lack "test".
    """
    if not any(find_file(folder, name, competition) for name in TABLES) and folder.is_dir():
        archives = sorted(folder.glob("*.npz"))
        if len(archives) == 1:
            tables = arrays.tables_of_npz(archives[0], remedy)
            return {split: (archives[0].name, table) for split, table in tables.items()}
        if idx := arrays.find_idx(folder):
            tables = arrays.tables_of_idx(idx, remedy)
            return {split: (next(iter(idx[split].values())).name, table) for split, table in tables.items()}
        if tables := image_files.tables_of_images(folder, remedy):
            return {split: (f"{split} images", table) for split, table in tables.items()}
    wanted = [name for name in TABLES if competition or name == "train" or find_file(folder, name, competition)]
    with ThreadPoolExecutor(2) as threads:
        read = threads.map(lambda name: read_file(folder, name, remedy, competition), wanted)
        return dict(zip(wanted, read, strict=True))


def sample_submission(
    folder: Path, competition: Competition | None, remedy: str
) -> tuple[tuple[str, str], list | None]:
    """Return a submission's header, and its ids where the folder's sample_submission.csv tells them."""
    if competition:
        return competition.header, None
    found = find_file(folder, "sample_submission") if folder.is_dir() else None
    if found is None:
        return ("id", "label"), None
    path, member = found
    place = f"{display_path(folder)}, {member or path.name}"
    (_, header), *lines = list(records(read_bytes(path, member, remedy), place, remedy)) or [(0, [])]
    if len(header) != 2 or any(len(fields) != 2 for _, fields in lines):
        raise BadInput(
            f"{place}: expected two columns, the id and the label, found {','.join(header)[:60]!r}. {remedy}"
        )
    return (header[0], header[1]), [fields[0] for _, fields in lines]
