"""Unpacking: whole or not at all, and nothing outside, whatever the archive says."""

import io
import os
import resource
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from segzoo.errors import DataError
from segzoo.fetching.archive import is_archive, unpack

GOOD = {"set/a.txt": b"alpha", "set/sub/b.txt": b"beta" * 1000, "README": b"read me"}


def tar_with(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    """A tar of `GOOD` with more members between its files."""
    with tarfile.open(path, mode) as archive:
        for number, (name, content) in enumerate(GOOD.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            for member in members if number == 0 else ():
                archive.addfile(member, io.BytesIO(b"x" * member.size) if member.size else None)
    return path


def zip_with(path: Path, members: dict[str, bytes] | None = None, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
        for name, content in (members or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, links not followed, and the files' content."""
    paths = sorted(Path(top, name) for top, *names in os.walk(folder) for name in [*names[0], *names[1]])
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in paths
    }


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_folder_of_an_archive_becomes_the_target(tmp_path, archives, suffix):
    file = archives / f"a.{suffix}"
    compression = suffix.partition(".")[2]
    zip_with(file) if suffix == "zip" else tar_with(file, mode=f"w:{compression}")
    file = file.rename(archives / "no suffix")  # told by content
    unpack(file, "set", tmp_path / "root" / "deep" / "target")
    assert tree(tmp_path / "root") == {
        "deep": None,
        "deep/target": None,
        "deep/target/a.txt": b"alpha",
        "deep/target/sub": None,
        "deep/target/sub/b.txt": b"beta" * 1000,
    }


OUT = [
    pytest.param(lambda out: member("../evil", size=4), "evil", id="parent"),
    pytest.param(lambda out: member("set/../../evil", size=4), "evil", id="parent from a folder"),
    pytest.param(lambda out: member(f"{out}/evil", size=4), "is an absolute path", id="absolute"),
    pytest.param(lambda out: member("C:/evil", size=4), "is an absolute path", id="drive"),
    pytest.param(lambda out: member("set/l", tarfile.SYMTYPE, "../../evil"), "set/l", id="link out"),
    pytest.param(lambda out: member("set/l", tarfile.SYMTYPE, f"{out}/evil"), "set/l", id="absolute link"),
    pytest.param(lambda out: member("set/l", tarfile.LNKTYPE, "../secret"), "set/l", id="hard link out"),
    pytest.param(lambda out: member("set/d", tarfile.CHRTYPE), "set/d", id="device"),
    pytest.param(lambda out: member("set/d", tarfile.FIFOTYPE), "set/d", id="pipe"),
]


@pytest.mark.parametrize(("hostile", "named"), OUT)
def test_hostile_tars_are_refused_and_leave_nothing(tmp_path, archives, hostile, named):
    outside = tmp_path / "outside"
    outside.mkdir()
    file = tar_with(archives / "a.tar", hostile(outside))
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"a\.tar: refused, ") as caught:
        unpack(file, "set", tmp_path / "root" / "target")
    assert named in str(caught.value)
    assert len(caught.value.problems) == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/evil", "set\\..\\..\\evil", "C:\\evil"])
def test_hostile_zips_are_refused_and_leave_nothing(tmp_path, archives, name):
    file = zip_with(archives / "a.zip", {name: b"evil"})
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"a\.zip: refused, .*evil"):
        unpack(file, "set", tmp_path / "target")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd"])
def test_zip_links_that_lead_out_are_refused(tmp_path, archives, target):
    file = zip_with(archives / "a.zip", {"set/link": target.encode()}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="the link 'set/link' leads out"):
        unpack(file, "set", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_links_inside_are_left_out(tmp_path, archives):
    """Chains of harmless-looking links have led out past the standard filter."""
    links = [member("set/l", tarfile.SYMTYPE, "sub"), member("set/h", tarfile.LNKTYPE, "set/a.txt")]
    unpack(tar_with(archives / "a.tar", *links), "set", tmp_path / "tar")
    unpack(zip_with(archives / "a.zip", {"set/l": b"sub"}, stat.S_IFLNK | 0o777), "set", tmp_path / "zip")
    for kind in ("tar", "zip"):
        assert sorted(tree(tmp_path / kind)) == ["a.txt", "sub", "sub/b.txt"]


TAR_MODES = {"cut.tgz": "gz", "cut.tar": "", "cut.zip": ""}


def damaged(archives: Path, kind: str) -> Path:
    file = archives / f"a.{kind}"
    if kind == "zip":
        content = bytearray(zip_with(file).read_bytes())
        content[content.index(b"a.txt") + 6] ^= 0xFF  # in the compressed bytes of the first file
        file.write_bytes(content)
    else:
        whole = (zip_with(file) if kind == "cut.zip" else tar_with(file, mode=f"w:{TAR_MODES[kind]}")).read_bytes()
        file.write_bytes(whole[: whole.index(b"beta") + 50 if kind == "cut.tar" else len(whole) // 2])
    return file


@pytest.mark.parametrize("kind", ["cut.zip", "cut.tgz", "cut.tar", "zip"])
def test_damaged_archives_leave_nothing(tmp_path, archives, kind):
    file = damaged(archives, kind)
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"a\..*: damaged or no tar or zip archive"):
        unpack(file, "set", tmp_path / "target")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04"])
def test_other_files_are_no_archives(tmp_path, archives, content):
    (archives / "a").write_bytes(content)
    assert not is_archive(archives / "a")
    with pytest.raises(DataError, match="damaged or no tar or zip archive"):
        unpack(archives / "a", "set", tmp_path / "target")


def test_another_archive_is_told_by_its_missing_folder(tmp_path, archives):
    with pytest.raises(DataError, match="holds no folder other; is this the right archive"):
        unpack(tar_with(archives / "a.tar"), "other", tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]


def test_what_is_there_is_never_overwritten(tmp_path, archives):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").write_text("mine")
    with pytest.raises(DataError, match="target: is there already"):
        unpack(tar_with(archives / "a.tar"), "set", tmp_path / "target")
    assert tree(tmp_path / "target") == {"mine": b"mine"}


def test_what_a_killed_run_left_is_cleared_away(tmp_path, archives):
    (tmp_path / ".target.part" / "set").mkdir(parents=True)
    (tmp_path / ".target.part" / "set" / "half").write_text("half")
    unpack(tar_with(archives / "a.tar"), "set", tmp_path / "target")
    assert sorted(tree(tmp_path / "target")) == ["a.txt", "sub", "sub/b.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives", "target"]


def test_an_unpack_that_fails_on_the_way_is_never_taken_for_complete(tmp_path, archives):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r"could not be unpacked into .* \(Not a directory\)"):
        unpack(tar_with(archives / "a.tar"), "set", tmp_path / "file" / "target")

    file = tar_with(archives / "a.tar")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # as a disk that is full after a.txt
    try:
        with pytest.raises(DataError, match=r"a\.tar: could not be unpacked into .*target \(File too large\)"):
            unpack(file, "set", tmp_path / "target")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives", "file"]
