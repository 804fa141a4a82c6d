from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from resnet_tl.errors import UserError
from resnet_tl.files import replacing, replacing_folder, write_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_at_the_end_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "table.csv"
    with replacing(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
    assert target.read_text() == "half"
    assert names(target.parent) == ["table.csv"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_old_file_stays_when_the_writer_fails(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")

    def write() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_a_writer_that_replaces_the_temporary_file_itself_is_fine(tmp_path: Path) -> None:
    """As a writer does that is atomic on its own."""
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.unlink()
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Süß\nwürzig\n")
    assert (tmp_path / "a.txt").read_bytes() == "Süß\nwürzig\n".encode()
    write_text(tmp_path / "a.txt", "shorter")
    assert (tmp_path / "a.txt").read_bytes() == b"shorter"


@posix
def test_files_and_folders_have_the_permissions_that_the_user_set(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "")
        with replacing_folder(tmp_path / "folder"):
            pass
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_folder_appears_whole_at_the_end_and_not_before(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "data") as temporary:
        (temporary / "1.txt").write_text("1")
        assert not (tmp_path / "data").exists()
    assert names(tmp_path / "data") == ["1.txt"]


def test_of_a_folder_that_could_not_be_filled_nothing_is_left(tmp_path: Path) -> None:
    def fill() -> None:
        with replacing_folder(tmp_path / "data") as temporary:
            (temporary / "1.txt").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill()
    assert names(tmp_path) == []


def test_a_folder_that_another_process_finished_first_is_kept(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "data") as mine:
        (mine / "mine.txt").write_text("")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "theirs.txt").write_text("")
    assert names(tmp_path / "data") == ["theirs.txt"]
    assert names(tmp_path) == ["data"]


def test_an_empty_folder_of_that_name_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with replacing_folder(tmp_path / "data") as temporary:
        (temporary / "1.txt").write_text("1")
    assert names(tmp_path / "data") == ["1.txt"]


def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be made \(.*\); choose another folder"):
        replacing_folder(tmp_path / "file" / "data").__enter__()
