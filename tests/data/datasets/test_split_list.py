"""Split lists as people write them."""

import logging
from pathlib import Path

import pytest

from segzoo.data.datasets.splits import read_split_list
from segzoo.errors import DataError


def texts(path: Path) -> list[str]:
    return [line.text for line in read_split_list(path)]


@pytest.mark.parametrize("content", [b"a\nb\n", b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb", b"\n  a \n\n\tb\n\n", b"a\rb"])
def test_line_endings_marks_and_blanks_do_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    assert texts(tmp_path / "train.txt") == ["a", "b"]


def test_lines_know_their_place(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\na\n")
    assert read_split_list(tmp_path / "train.txt")[0].place == f"{tmp_path / 'train.txt'}:2"


def test_duplicates_count_once_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "train.txt").write_text("b\na\nb\n")
    with caplog.at_level(logging.WARNING):
        assert texts(tmp_path / "train.txt") == ["b", "a"]
    assert "train.txt:3: 'b' is listed twice" in caplog.text


@pytest.mark.parametrize("line", ["../id", "train/../../id", "a.png ../b.png", "..\\id"])
def test_lines_that_lead_out_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.txt").write_text(f"fine\n{line}\n")
    with pytest.raises(DataError, match=r"train\.txt:2: .*leads out"):
        read_split_list(tmp_path / "train.txt")


def test_dots_in_names_are_fine(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a..b\n")
    assert texts(tmp_path / "train.txt") == ["a..b"]
