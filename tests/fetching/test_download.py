"""Downloads from a local server that behaves, breaks off, lies or says nothing."""

import hashlib
import io
import os
import resource
import tarfile
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from segzoo.data.datasets.voc import SBD, SOURCE
from segzoo.errors import DataError
from segzoo.fetching.archive import is_archive
from segzoo.fetching.download import Limits, download, verify

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SIZE = len(CONTENT)
SUM = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
CUT = 400_000
LIMITS = Limits(timeout=30.0, tries=6, pause=0.0, window=30.0, least_bytes=10_000)  # however busy the machine is
HASTY = replace(LIMITS, timeout=2.0, window=0.3)  # of servers that never say enough


class Handler(BaseHTTPRequestHandler):
    """The path says how the server behaves; a dash and more after it makes no difference."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.close_connection = True
        self.server.asked.append((self.path, self.headers.get("Range")))
        getattr(self, self.path.strip("/").split("-")[0])()

    def send(self, body, status=200, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length != "unknown":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def start(self):
        """First byte asked for."""
        asked = self.headers.get("Range", "bytes=0-")
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def send_from(self, start, stop=None, content=CONTENT):
        whole = content[start:]
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers = {"Content_Range": place} if start else {}
        self.send(content[start:stop], 206 if start else 200, length=len(whole), **headers)

    def good(self):
        self.send_from(self.start())

    def cut(self):
        """Never more than `CUT` bytes at once."""
        self.send_from(self.start(), self.start() + CUT)

    def strict(self):
        """Says so where nothing is left to send."""
        if self.start() < SIZE:
            self.cut()
        else:
            self.send(b"", 416, Content_Range=f"bytes */{SIZE}")

    def noranges(self):
        self.send(CONTENT)

    def cutnoranges(self):
        self.send(CONTENT[:CUT], length=len(CONTENT))

    def nolength(self):
        self.send(CONTENT, length="unknown")

    def endless(self):
        self.send(CONTENT + CONTENT, length="unknown")

    def wrong(self):
        self.send_from(self.start(), content=CONTENT[::-1])

    def page(self):
        self.send(b"<html>Please log in</html>", Content_Type="text/html")

    def otherrange(self):
        self.send(CONTENT[5:], 206, Content_Range=f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}")

    def missing(self):
        self.send(b"no such file", 404)

    def busy(self):
        self.send(b"", 503)

    def redirect(self):
        self.send(b"", 302, Location="/good")

    def loop(self):
        self.send(b"", 302, Location="/loop")

    def silent(self):
        self.server.closing.wait(20)

    def trickle(self):
        self.send(b"", length=len(CONTENT))
        while not self.server.closing.wait(0.05):
            try:
                self.wfile.write(b"x")
            except OSError:
                return

    def archive(self):
        self.send(tar_of("a.txt"))


def tar_of(*names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client may hang up on what it refuses; nothing is printed amid the tests' dots."""


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadingHTTPServer]:
    server = Server(("127.0.0.1", 0), Handler)
    server.closing = threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(running, monkeypatch) -> ThreadingHTTPServer:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running.asked = []
    return running


def published(server, *paths, size=SIZE, md5=SUM):
    """What is asked for: a file at one or more paths of the server."""
    urls = tuple(f"http://127.0.0.1:{server.server_port}/{path}" for path in paths)
    by_hand = "Fetch it by hand (http://home)."
    known = {"size": size, "checksum": f"md5:{md5}" if md5 else None, "resumed": bool(size and md5)}
    return {"urls": urls, "by_hand": by_hand, **known}


def fetch(what, folder, limits):
    file = folder / "file.tar"
    download(
        **what,
        target=file,
        check=lambda path: "" if what["checksum"] or is_archive(path) else "no archive",
        limits=limits,
    )
    return file


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("path", ["good", "noranges", "nolength", "redirect"])
def test_a_file_arrives_whole(server, tmp_path, path):
    file = fetch(published(server, path), tmp_path, LIMITS)
    assert file.read_bytes() == CONTENT
    assert left_in(tmp_path) == ["file.tar"]


def test_a_file_that_is_there_is_not_asked_for(server, tmp_path):
    (tmp_path / "file.tar").write_bytes(CONTENT)
    fetch(published(server, "good"), tmp_path, LIMITS)
    assert server.asked == []


def test_a_wrong_file_that_is_there_is_refused_and_kept(server, tmp_path):
    (tmp_path / "file.tar").write_bytes(b"other")
    with pytest.raises(DataError, match="md5 is 795f3202b17cb6bc3d4b771d8c6c9eaf, not e5404cd5"):  # md5 -s other
        fetch(published(server, "good", md5="e5404cd5"), tmp_path, LIMITS)
    assert (tmp_path / "file.tar").read_bytes() == b"other"


def test_broken_connections_go_on_where_they_broke(server, tmp_path):
    assert fetch(published(server, "cut"), tmp_path, LIMITS).read_bytes() == CONTENT
    assert server.asked == [("/cut", None), ("/cut", f"bytes={CUT}-"), ("/cut", f"bytes={2 * CUT}-")]


def test_tries_are_counted_and_the_next_run_goes_on(server, tmp_path):
    few = Limits(timeout=1, tries=2, pause=0)
    with pytest.raises(DataError, match=f"broke after {2 * CUT} of {len(CONTENT)} bytes") as caught:
        fetch(published(server, "cut"), tmp_path, few)
    assert "goes on where it stopped" in caught.value.problems[-1]
    assert left_in(tmp_path) == ["file.tar.part"]  # never under its real name
    server.asked.clear()
    assert fetch(published(server, "cut"), tmp_path, few).read_bytes() == CONTENT
    assert server.asked == [("/cut", f"bytes={2 * CUT}-")]


def test_what_starts_over_is_not_said_to_go_on(server, tmp_path):
    few = Limits(timeout=1, tries=1, pause=0)
    with pytest.raises(DataError, match=f"broke after {CUT} of {len(CONTENT)} bytes") as caught:
        fetch(published(server, "cut", size=None, md5=None), tmp_path, few)
    assert left_in(tmp_path) == ["file.tar.part"]
    assert caught.value.problems[-1] == "file.tar: no mirror left. Fetch it by hand (http://home)."


def test_another_mirror_goes_on_with_the_part(server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(CONTENT[:CUT])
    assert fetch(published(server, "missing", "good"), tmp_path, LIMITS).read_bytes() == CONTENT
    assert server.asked == [("/missing", f"bytes={CUT}-"), ("/good", f"bytes={CUT}-")]


def test_a_complete_part_needs_no_server(server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(CONTENT)
    assert fetch(published(server, "missing"), tmp_path, LIMITS).read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_without_ranges_starts_over_but_not_for_ever(server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(CONTENT[:CUT])
    assert fetch(published(server, "noranges"), tmp_path, LIMITS).read_bytes() == CONTENT
    server.asked.clear()
    (tmp_path / "file.tar").unlink()
    with pytest.raises(DataError, match=f"broke after {CUT}"):
        fetch(published(server, "cutnoranges"), tmp_path, LIMITS)
    assert len(server.asked) == 2


@pytest.mark.parametrize("start", [0, 1000, len(CONTENT), len(CONTENT) + 1])
def test_a_wrong_checksum_is_never_promoted(server, tmp_path, start):
    (tmp_path / "file.tar.part").write_bytes(b"x" * start)
    with pytest.raises(DataError, match=r"/wrong: md5 is \w{32}, not") as caught:
        fetch(published(server, "wrong"), tmp_path, LIMITS)
    assert left_in(tmp_path) == []  # nor kept: going on from it would be wrong for ever
    assert "no mirror left. Fetch it by hand (http://home)." in caught.value.problems[-1]
    assert fetch(published(server, "wrong", "good"), tmp_path, LIMITS).read_bytes() == CONTENT


def test_a_run_stopped_while_it_verifies_has_promoted_nothing(server, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", stopped)
        with pytest.raises(KeyboardInterrupt):
            fetch(published(server, "wrong"), tmp_path, LIMITS)
    assert left_in(tmp_path) == ["file.tar.part"]
    assert fetch(published(server, "wrong", "good"), tmp_path, LIMITS).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "HTTP status 404"),
        ("busy", "HTTP status 503"),
        ("loop", "HTTP status 302"),
        ("page", "offers 26 bytes, not 1048576"),
        ("endless", "sends more than 1048576 bytes"),
        ("silent", "timed out"),
        ("trickle", "bytes in 0.3 s"),
    ],
)
def test_each_mirror_says_why_it_failed(server, tmp_path, path, reason):
    with pytest.raises(DataError) as caught:
        fetch(published(server, path, "missing-2"), tmp_path, HASTY)
    first, second, last = caught.value.problems
    assert f"/{path}: " in first
    assert reason in first
    assert "HTTP status 404" in second
    assert "no mirror left" in last
    assert caught.value.exit_status == 1
    assert not (tmp_path / "file.tar").exists()


def test_a_range_that_was_not_asked_for_is_refused(server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(CONTENT[:CUT])
    with pytest.raises(DataError, match="answers another range"):
        fetch(published(server, "otherrange"), tmp_path, LIMITS)
    assert (tmp_path / "file.tar.part").read_bytes() == CONTENT[:CUT]


def test_nobody_answers(tmp_path):
    with pytest.raises(DataError, match="Connection refused"):
        download(["http://127.0.0.1:9/x"], tmp_path / "file.tar", size=1, checksum="md5:0", limits=LIMITS)


@pytest.mark.parametrize(("there", "requests"), [(0, 3), (CUT, 2), (SIZE, 1)])
def test_of_unknown_size_what_a_check_verifies_is_gone_on_from(server, tmp_path, there, requests):
    def wrong(path):
        return "" if path.read_bytes() == CONTENT else "of two versions"

    def fetch_unknown(path):
        url = f"http://127.0.0.1:{server.server_port}/{path}"
        download([url], tmp_path / "file.tar", check=wrong, resumed=True, limits=LIMITS)

    (tmp_path / "file.tar.part").write_bytes(CONTENT[:there])
    fetch_unknown("strict")
    assert (tmp_path / "file.tar").read_bytes() == CONTENT
    assert len(server.asked) == requests

    (tmp_path / "file.tar").unlink()
    (tmp_path / "file.tar.part").write_bytes(b"x" * (SIZE + 1))
    with pytest.raises(DataError, match="strict: HTTP status 416"):
        fetch_unknown("strict")
    fetch_unknown("strict")
    assert (tmp_path / "file.tar").read_bytes() == CONTENT


def test_without_a_checksum_halves_are_never_joined(server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(b"an older version")
    file = fetch(published(server, "archive", size=None, md5=None), tmp_path, LIMITS)
    assert file.read_bytes()[:2] == b"\x1f\x8b"
    assert server.asked == [("/archive", None)]


def test_without_a_checksum_it_is_an_archive_at_least(server, tmp_path):
    with pytest.raises(DataError, match="/page: no archive; what came was deleted"):
        fetch(published(server, "page", size=None, md5=None), tmp_path, LIMITS)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_part_that_is_a_link_is_not_written_through(server, tmp_path, size):
    precious = tmp_path / "precious"
    precious.write_bytes(CONTENT[:CUT])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file.tar.part").symlink_to(precious)
    with pytest.raises(DataError, match=r"file\.tar\.part: cannot be written \(a link") if size else nullcontext():
        fetch(published(server, "good", size=size), folder, LIMITS)
    assert precious.read_bytes() == CONTENT[:CUT]


def test_a_part_that_is_a_pipe_is_not_waited_for(server, tmp_path):
    os.mkfifo(tmp_path / "file.tar.part")
    with pytest.raises(DataError, match=r"file\.tar\.part: cannot be written"):
        fetch(published(server, "good"), tmp_path, LIMITS)


def test_what_cannot_be_written_ends_at_once_and_resumes(server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, before[1]))  # as a disk that is full there
    try:
        with pytest.raises(DataError, match=r"file\.tar\.part: cannot be written \(File too large\)"):
            fetch(published(server, "good", "good-2"), tmp_path, LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path, _ in server.asked] == ["/good"]  # another mirror would help nothing
    assert left_in(tmp_path) == ["file.tar.part"]
    assert (tmp_path / "file.tar.part").read_bytes() == CONTENT[:CUT]
    assert fetch(published(server, "good"), tmp_path, LIMITS).read_bytes() == CONTENT
    assert server.asked[-1] == ("/good", f"bytes={CUT}-")


def test_the_table_is_torchvisions_where_that_has_entries():
    voc = pytest.importorskip("torchvision.datasets.voc").DATASET_YEAR_DICT["2012"]
    sbd = pytest.importorskip("torchvision.datasets.sbd").SBDataset
    assert (SOURCE.filename, SOURCE.md5) == (voc["filename"], voc["md5"])
    assert (SBD.filename, SBD.md5) == (sbd.filename, sbd.md5)
    older = f"{SOURCE.homepage}{SOURCE.filename}"  # the server's other name, in torchvision 0.26
    assert voc["url"] in (older, SOURCE.urls[0])
    assert SBD.urls == (sbd.url,)
    assert SOURCE.folder == voc["base_dir"]


def test_checksums_are_checked_of_any_file(tmp_path):
    (tmp_path / "mine.tar").write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    verify(tmp_path / "mine.tar", f"md5:{SUM}", "file.tar")
    verify(tmp_path / "mine.tar", f"sha256:{sha256}", "file.tar")
    (tmp_path / "mine.tar").write_bytes(CONTENT[:-1])
    found = hashlib.md5(CONTENT[:-1], usedforsecurity=False).hexdigest()
    with pytest.raises(DataError, match=f"mine.tar: md5 is {found}, not {SUM} of file.tar"):
        verify(tmp_path / "mine.tar", f"md5:{SUM}", "file.tar")
    with pytest.raises(DataError, match=f"mine.tar: sha256 is \\w+, not {sha256} of mine.tar"):
        verify(tmp_path / "mine.tar", f"sha256:{sha256}")


@pytest.mark.parametrize(("path", "reason"), [("good", "offers 1048576 bytes"), ("nolength", "sends more than 500000")])
def test_a_file_of_unknown_size_is_bounded(server, tmp_path, path, reason):
    url = f"http://127.0.0.1:{server.server_port}/{path}"
    for _ in range(2):  # what an earlier try left is no reason to go on
        with pytest.raises(DataError, match=reason):
            download(
                [url], tmp_path / "x", check=lambda _: "", resumed=True, limits=replace(LIMITS, most_bytes=500_000)
            )
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < SIZE
    download([url], tmp_path / "x", check=lambda _: "", resumed=True, limits=replace(LIMITS, most_bytes=SIZE))
    assert (tmp_path / "x").read_bytes() == CONTENT
