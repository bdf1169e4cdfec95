"""What every command does at its end."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from segzoo.cli import CommandParser, parse_overrides, run
from segzoo.commands import call, main
from segzoo.errors import ConfigError


def test_a_reader_that_left_is_no_error() -> None:
    """As `| head` does; what is left in the buffer must not fail at the interpreter's end."""
    reader, writer = os.pipe()
    os.close(reader)
    script = "from segzoo.cli import run; run(lambda: print('x' * 100) or 0)"
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_an_encoding_cannot_show_ends_nothing(encoding: str, capfd, monkeypatch) -> None:
    """A name of any bytes in a line and in a table, where standard output is a file of another encoding."""
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", write_through=True)
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test runner keeps its own
    table = Table(title="写真 \udce9")
    table.add_row("élève → ⌀ 1/8")

    def command() -> int:
        sys.stdout.write("写真 élève \udce9\n")
        Console().print(table)
        raise ConfigError("背景: カー")

    with pytest.raises(SystemExit) as left:
        run(command)
    assert left.value.code == 2
    shown = sys.stdout.buffer.getvalue().decode(encoding)
    said = sys.stderr.buffer.getvalue().decode(encoding)
    written = {"ascii": "\\u5199\\u771f \\xe9l\\xe8ve \\xe9", "cp1252": "\\u5199\\u771f élève \\xe9"}
    assert written.get(encoding, "写真 élève \\xe9") in shown
    assert "1/8" in shown
    assert said.startswith("error: ")


def test_log_lines_in_a_file_are_as_long_as_they_are() -> None:
    """Neither wrapped nor padded to the width of a terminal that is not there."""
    line = "a word and " * 20 + "the end"
    script = (
        f"import logging; from segzoo.cli import run; run(lambda: logging.getLogger('segzoo.x').info({line!r}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, f"{line}\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_name_is_printed_in_every_encoding(encoding: str) -> None:
    script = r"from segzoo.cli import run; run(lambda: print('Stra\xdfe \u5199 caf\udce9') or 0)"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False, env=environment)
    expected = {"ascii": r"Stra\xdfe \u5199 caf\xe9", "cp1252": r"Straße \u5199 caf\xe9", "utf-8": r"Straße 写 caf\xe9"}
    assert done.stdout.decode(encoding).strip() == expected[encoding]


def test_an_option_goes_before_a_key_of_its_name() -> None:
    """`task` is a key of the configuration, and could be an option of a command."""
    parser = CommandParser("", "segzoo", explains_keys=True)
    parser.add_argument("--task")
    parser.add_argument("overrides", nargs="*")
    words = ["--task", "classification", "--seed", "3", "--data.batch_size=4", "task=segmentation"]
    parsed = parse_overrides(parser, words)
    assert parsed.task == "classification"
    assert parsed.overrides == ["seed=3", "data.batch_size=4", "task=segmentation"]


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "", "in"],
        ["predict", "run", "in", "--output", ""],
        ["predict", "run", "in", "--output="],
        ["make-config", ""],
        ["train", "quickstart", "--resume", ""],
        ["compare", "a", ""],
    ],
)
def test_an_empty_argument_is_not_the_working_folder(words: list[str], capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["segzoo", *words])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_key_of_the_configuration_may_be_empty(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "quickstart", "--model.backbone.weights", "", "--run_dir=", "data.root="])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        run(lambda: 0)
    assert left.value.code == 0


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_names_that_no_file_can_have_are_a_line(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    for words in (
        ["make-config", name],
        ["make-config", "d", "--output", name],
        ["check-data", "quickstart", "--output", name],
        ["browse-data", "quickstart", "--output", name],
    ):
        with pytest.raises(ConfigError) as refused:
            call(words[0], words[1:])
        assert len(refused.value.problems) == 1
