"""Archives that would take for ever, or all memory, or the whole disk: refused in one line, and nothing is left."""

import gzip
import io
import shutil
import struct
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from segzoo.config.classification import ClassificationDataConfig
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.errors import DataError
from segzoo.fetching.archive import is_archive, unpack


def header(name: str, kind: bytes, size: int) -> bytes:
    """One block of a tar; sizes that eight octal digits do not hold are written as GNU writes them."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    octal = 0 <= size < 8**11
    block[124:136] = (
        f"{size:011o}\0".encode()
        if octal
        else (b"\xff" if size < 0 else b"\x80")
        + struct.pack(">3xq", size).replace(bytes(3), b"\xff" * 3 if size < 0 else bytes(3), 1)
    )
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def pax(**records: str) -> bytes:
    """The extended header of the member that follows."""
    content = b""
    for key, value in records.items():
        text = f" {key.replace('_', '.')}={value}\n".encode()
        length = next(n for n in range(len(text), len(text) + 9) if n == len(text) + len(str(n)))
        content += str(length).encode() + text
    return header("pax", tarfile.XHDTYPE, len(content)) + content + bytes(-len(content) % 512)


FOLDER = header("set", tarfile.DIRTYPE, 0)
FILE = header("set/a", tarfile.REGTYPE, 3) + b"abc".ljust(512, b"\0")

TRAPS = {
    "a negative size in an extended header": FOLDER + pax(size="-1536") + header("set/b", b"0", 0) + bytes(40_000),
    "a negative size": FOLDER + header("set/b", b"0", -1536) + FILE,
    "a negative size of a name": FOLDER + header("x", tarfile.GNUTYPE_LONGNAME, -1) + FILE,
    "a name of a terabyte": FOLDER + header("x", tarfile.GNUTYPE_LONGNAME, 2**40) + FILE,
    "a link's target of a terabyte, first": header("x", tarfile.GNUTYPE_LONGLINK, 2**40) + FOLDER + FILE,
    "an extended header of 20 gigabytes": FOLDER + header("x", tarfile.XHDTYPE, 20 * 2**30) + FILE,
    "a thousand extended headers": FOLDER + pax(comment="x") * 1000 + FILE,
    "a map that is no map": FOLDER + pax(GNU_sparse_map="a,b", GNU_sparse_size="abc") + FILE,
    "a map that ends too early": FOLDER + pax(GNU_sparse_major="1", GNU_sparse_minor="0") + FILE,
    "holes": FOLDER + pax(GNU_sparse_map="0,1", GNU_sparse_size="9" * 15, GNU_sparse_numblocks="1") + FILE,
    "holes as GNU wrote them": FOLDER + header("set/b", tarfile.GNUTYPE_SPARSE, 0) + FILE,
    "a name with a zero byte": FOLDER + pax(path="set/a\0b") + FILE,
    "a header that is no header": FOLDER + FILE + b"?" * 512 + FILE,
    "half a header": FOLDER + FILE + header("set/b", b"0", 0)[:300],
}


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def trap(request: pytest.FixtureRequest, tmp_path: Path):
    def write(content: bytes, name: str = "trap.tar") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if request.param else content)
        return path

    return write


@pytest.mark.parametrize("content", TRAPS.values(), ids=TRAPS)
def test_headers_that_are_traps(content, trap, tmp_path):
    with pytest.raises(DataError, match=r"trap\.tar: damaged or no tar or zip archive \(.+\)$") as caught:
        unpack(trap(content), "set", tmp_path / "target")
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trap.tar"]


@pytest.mark.parametrize("trapped", ["a negative size in an extended header", "an extended header of 20 gigabytes"])
def test_traps_in_the_archive_that_cifar10_is_read_from(trapped, trap, tmp_path):
    trap(TRAPS[trapped], "cifar-10-binary.tar.gz")
    config = ClassificationDataConfig(name="cifar10", root=str(tmp_path))
    with pytest.raises(DataError, match="damaged or incomplete"):
        build_classification_dataset(config, "train")


def test_cifar10_is_not_looked_for_in_gigabytes(trap, tmp_path):
    trap(header("zeros", b"0", 2**35) + bytes(2**20), "cifar-10-binary.tar.gz")
    config = ClassificationDataConfig(name="cifar10", root=str(tmp_path))
    with pytest.raises(DataError, match="zeros is no file of CIFAR-10"):
        build_classification_dataset(config, "train")


@pytest.mark.parametrize("mtime", ["nan", "1e400", "-1e400", "1e18", "-5", "soon"])
def test_times_that_no_clock_shows_do_no_harm(mtime, trap, tmp_path):
    file = trap(FOLDER + pax(mtime=mtime) + FILE)
    assert is_archive(file)
    unpack(file, "set", tmp_path / "target")
    assert (tmp_path / "target" / "a").read_bytes() == b"abc"


Usage = namedtuple("Usage", "total used free")


def archive_of(path: Path, kind: str, size: int) -> Path:
    """`set/zeros`, of so many zeros."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("set/zeros", "w") as file:
            for _ in range(0, size, 2**20):
                file.write(bytes(2**20))
    else:
        member = tarfile.TarInfo("set/zeros")
        member.size = size
        with tarfile.open(path, f"w:{kind}") as archive:
            archive.addfile(member, io.BytesIO(bytes(size)))
    return path


@pytest.mark.parametrize("kind", ["", "gz", "zip"])
def test_what_the_disk_has_no_room_for_is_not_begun(kind, tmp_path, monkeypatch):
    file = archive_of(tmp_path / "large", kind, 2**20)
    written = []
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: written.append(list(Path(folder).iterdir())) or Usage(2**40, 2**40, 2**28)
    )
    with pytest.raises(DataError, match=r"large: would fill the disk: [\d,]+ bytes .* and 268,435,456 are free"):
        unpack(file, "set", tmp_path / "target")
    assert written == [[]]
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_a_disk_that_fills_on_the_way_is_left_some_room(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "two.tar.gz", "w:gz") as archive:
        for name in ("set/a", "set/b"):
            member = tarfile.TarInfo(name)
            member.size = 2**20
            archive.addfile(member, io.BytesIO(bytes(2**20)))

    def usage(folder: Path) -> Usage:
        used = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        return Usage(2**40, 0, 2**28 + 3 * 2**19 - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(DataError, match="would fill the disk"):
        unpack(tmp_path / "two.tar.gz", "set", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["two.tar.gz"]


@pytest.mark.parametrize("kind", ["gz", "xz", "zip"])
def test_bombs_are_refused(kind, tmp_path):
    file = archive_of(tmp_path / "bomb", kind, 2**25 + 2**24)
    assert file.stat().st_size < 2**18
    with pytest.raises(DataError, match="bomb: refused, it would unpack to more than 100 times its size"):
        unpack(file, "set", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["bomb"]
