import os
import tarfile
from pathlib import Path

import pytest

import torn_files
from digits.console import BadInput, KitError
from digits.data import archive
from digits.data.competition import Form
from torn_files import ARCHIVE

NAMES = {"train.csv", "test.csv", "sample_submission.csv"}


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("form", ["", ".gz", ".zip"])
def test_a_single_file_is_installed_unpacked(tmp_path, name, form):
    data = torn_files.competition_members()[name]
    pack = {"": bytes, ".gz": torn_files.gzip_bytes, ".zip": lambda content: torn_files.zip_bytes({name: content})}
    path = tmp_path / f"{name}{form}"
    path.write_bytes(pack[form](data))
    assert list(archive.install(path, tmp_path / "data")) == [tmp_path / "data" / name]
    assert (tmp_path / "data" / name).read_bytes() == data


def test_a_file_that_a_browser_renamed_is_known_by_its_name_and_one_installed_onto_itself_stays(tmp_path):
    path = tmp_path / "train (1).csv"
    path.write_bytes(torn_files.train_bytes(ending="\r\n"))
    for _ in range(2):
        assert list(archive.install(path, tmp_path / "data")) == [tmp_path / "data/train.csv"]
        assert torn_files.everything_in(tmp_path / "data") == {"train.csv": path.read_bytes()}
        path = tmp_path / "data/train.csv"  # Installed onto itself, it stays.


def test_a_full_disk_leaves_every_file_as_it_was(tmp_path, monkeypatch):
    folder = torn_files.write_pair(tmp_path / "data")
    before = torn_files.everything_in(folder)
    path = torn_files.write_zip(tmp_path)
    write_bytes, written = Path.write_bytes, []

    def full(self, data):
        written.append(self)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(KitError, match="with room to write in, found: No space left on device"):
        archive.install(path, folder)
    assert torn_files.everything_in(folder) == before


def test_a_disk_too_small_to_unpack_on_is_not_a_damaged_archive(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.zipfile.ZipFile, "extractall", full)
    with pytest.raises(KitError, match="with room to write in, found: No space left"):
        archive.install(torn_files.write_zip(tmp_path), tmp_path / "data")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "data" / "test.csv").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"test\.csv: expected a file or nothing, found a folder"):
        archive.install(torn_files.write_zip(tmp_path), tmp_path / "data")
    assert torn_files.everything_in(tmp_path / "data") == {}


def test_data_are_complete_when_both_files_are_there_and_good(tmp_path):
    folder = tmp_path / "data"
    torn_files.write_zip(folder)
    assert not archive.installed_files(folder), "not unpacked"
    torn_files.write_pair(folder)
    assert archive.installed_files(folder)[0].line.endswith("train.csv: 40 rows, not Kaggle's file")
    (folder / "test.csv").write_bytes(torn_files.predict_bytes()[:-3000])
    assert not archive.installed_files(folder)
    (folder / "test.csv").unlink()
    assert not archive.installed_files(folder)


IMAGE = b"\x89PNG"
ANY = {"train.csv": b"id,label\na,1\n", "train/a.png": IMAGE, "test.zip": torn_files.zip_bytes({"b.png": IMAGE})}
UNPACKED = {"train.csv": ANY["train.csv"], "train/a.png": IMAGE, "test/b.png": IMAGE}


def test_the_archive_of_any_competition_is_unpacked_whole_and_replaces_what_is_there(tmp_path):
    folder = tmp_path / "data"
    for _ in range(2):
        assert archive.unpack(torn_files.write_zip(folder, ANY, "cats.zip"), folder) == ["test", "train", "train.csv"]
        assert torn_files.everything_in(folder) == UNPACKED | {"cats.zip": (folder / "cats.zip").read_bytes()}
        (folder / "train/old.png").write_bytes(IMAGE)


def test_members_of_a_tar_stay_in_the_folder(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("../outside.png", "/root.png", "train/a.png"):
            tar.addfile(tarfile.TarInfo(name))
    archive.unpack(tmp_path / "x.tar", tmp_path / "data")
    assert sorted(torn_files.everything_in(tmp_path / "data")) == ["outside.png", "root.png", "train/a.png"]
    assert not (tmp_path / "outside.png").exists()


@pytest.mark.parametrize(
    ("members", "limit", "message"),
    [
        pytest.param(ANY, 20, "expected 1 to 20 bytes unpacked, found", id="too large"),
        pytest.param(ANY | {"test.zip": ANY["test.zip"][:-30]}, 10**6, "test.zip: expected a whole", id="damaged"),
        pytest.param({"__MACOSX/x": b""}, 10**6, "bytes unpacked, found 0", id="nothing inside"),
        pytest.param(None, 10**6, "expected a whole zip or tar", id="no archive"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_changes_nothing(tmp_path, monkeypatch, members, limit, message):
    monkeypatch.setattr(archive, "MAX_UNPACKED", limit)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").write_bytes(b"mine")
    path = torn_files.write_zip(tmp_path, members or {}, "cats.zip")
    if members is None:
        path.write_bytes(b"<html>")
    with pytest.raises(BadInput, match=f"cats.zip.*{message}"):
        archive.unpack(path, tmp_path / "data")
    assert torn_files.everything_in(tmp_path / "data") == {"train.csv": b"mine"}


REAL = os.environ.get("DIGITS_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="DIGITS_DATA names no folder with digit-recognizer.zip")
def test_kaggles_own_zip_is_installed_and_known(tmp_path):
    paths = archive.install(Path(REAL) / ARCHIVE, tmp_path)
    assert {path.name for path in paths} == NAMES
    assert archive.installed_files(tmp_path)
    assert archive.installed_files(tmp_path)[0].form is Form.IDENTICAL
    (tmp_path / "train.csv").write_bytes((tmp_path / "train.csv").read_bytes().replace(b"\r\n", b"\n"))
    assert archive.installed_files(tmp_path)[0].form is Form.SAME_CONTENT
