"""What every command does at its end."""

import os
import subprocess
import sys


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
