"""Files that are whole or not there, after a kill and after a power cut too; and files in folders of strangers."""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from segzoo.config.schema import RunConfig
from segzoo.files import atomic_write, locked, open_own, read_json, remove_leftovers, write_atomically
from segzoo.inference.predict import predict
from segzoo.training.run_dir import new_run_dir
from segzoo.training.train import TrainResult


def leftover(target: Path) -> Path:
    """What a killed process leaves that was writing a file."""
    with suppress(RuntimeError), atomic_write(target) as temporary:
        raise RuntimeError
    temporary.write_bytes(b"half")
    return temporary


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says which file a number is")
def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    flush, move = os.fsync, Path.replace

    def fsync(number: int) -> None:
        happened.append("folder" if Path(f"/proc/self/fd/{number}").resolve().is_dir() else "content")
        flush(number)

    def replace(self: Path, target: Path) -> Path:
        happened.append("name")
        return move(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomically(tmp_path / "a", b"content")
    with atomic_write(tmp_path / "b") as temporary:
        temporary.write_text("content")
    assert happened == ["content", "name", "folder"] * 2
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"content"] * 2


def test_a_prediction_clears_away_what_a_killed_one_left(tiny_run: TrainResult, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    names = ("a.png", "areas.csv", "summary.json", "failed.json", "contact_sheet.jpg")
    left = [leftover(output / name) for name in names]
    others = leftover(output / "of_somebody_else.csv")
    predict(tiny_run.run_dir, tmp_path / "a.png", output=output, save=("mask", "areas"))
    assert [path for path in (*left, others) if path.exists()] == [others]


def test_a_new_run_clears_away_what_a_killed_one_left(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    left = [leftover(tmp_path / name) for name in ("config.yaml", "environment.json")]
    with new_run_dir(tiny_config(f"run_dir={tmp_path}"), "run"):
        assert not [path for path in left if path.exists()]


def test_leftovers_of_own_targets_only_are_removed(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        (tmp_path / "folder").mkdir()
        write_atomically(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    other = [leftover(tmp_path / name) for name in ("a.png", "b.png")][1]
    remove_leftovers([tmp_path / "a.png", tmp_path / "nowhere" / "c.png"])
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / "folder"])


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
