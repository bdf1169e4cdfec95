"""What every command does at its end."""

import os
import subprocess
import sys

from segzoo.cli import config_parser, parse_overrides


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


def test_log_lines_in_a_file_are_as_long_as_they_are() -> None:
    """Neither wrapped nor padded to the width of a terminal that is not there."""
    line = "a word and " * 20 + "the end"
    script = (
        f"import logging; from segzoo.cli import run; run(lambda: logging.getLogger('segzoo.x').info({line!r}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, f"{line}\n")


def test_an_option_goes_before_a_key_of_its_name() -> None:
    """`task` is a key of the configuration, and an option of `segzoo benchmark`."""
    parser = config_parser("", "segzoo")
    parser.add_argument("--task")
    parser.add_argument("overrides", nargs="*")
    words = ["--task", "classification", "--seed", "3", "--data.batch_size=4", "task=segmentation"]
    parsed = parse_overrides(parser, words)
    assert parsed.task == "classification"
    assert parsed.overrides == ["seed=3", "data.batch_size=4", "task=segmentation"]
