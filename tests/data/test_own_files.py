"""Files with names that are known beforehand, in a folder where somebody else was first."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from segzoo.data.own_files import locked, open_own, read_json


@pytest.mark.parametrize("flags", [os.O_RDWR | os.O_CREAT, os.O_WRONLY, os.O_WRONLY | os.O_APPEND])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_link(flags: int, there: bool, tmp_path: Path) -> None:
    outside, link = tmp_path / "outside", tmp_path / "link"
    if there:
        outside.write_text("theirs")
    link.symlink_to(outside)
    with pytest.raises(OSError, match="a link"):
        open_own(link, flags)
    assert outside.exists() == there
    assert not there or outside.read_text() == "theirs"


def test_a_file_that_is_opened_keeps_its_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    os.close(open_own(file, os.O_RDWR | os.O_CREAT))
    assert file.read_text() == "content"
    (tmp_path / "link").symlink_to(file)
    with os.fdopen(open_own(tmp_path / "link", os.O_RDONLY)) as opened:  # reading through it harms nobody
        assert opened.read() == "content"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_without_waiting(flags: int, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "here"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/null")
    with pytest.raises(OSError):  # noqa: PT011  # in the system's words, which differ
        open_own(path, flags)


def _try(path: Path, answer: object) -> None:
    try:
        with locked(path, wait=False):
            answer.put("got it")
    except BlockingIOError:
        answer.put("busy")


def test_a_lock_is_one_processs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answer = context.Queue()

    def ask() -> str:
        process = context.Process(target=_try, args=(tmp_path / "lock", answer))
        process.start()
        said = answer.get(timeout=60)
        process.join(30)
        return said

    with locked(tmp_path / "lock", wait=False):
        assert ask() == "busy"
    assert ask() == "got it"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5_000])
def test_what_is_no_json_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011  # each in the decoder's words
        read_json(path)
    path.write_text(json.dumps({"ü": [1]}))
    assert read_json(path) == {"ü": [1]}
