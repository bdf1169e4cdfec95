"""Look at a folder of images and masks and write a configuration that trains on it."""

import shlex
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from segzoo.errors import printable


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = ArgumentParser(prog=prog, description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the images and masks")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="configuration to write (default: <folder>.yaml, here)"
    )
    arguments = parser.parse_args(argv)

    from segzoo.data.make_config.make import make_config

    made = make_config(arguments.folder, arguments.output)
    for line in made.findings:
        print(printable(line))
    print(f"written: {printable(made.path)}")
    names = f"name the classes in {made.path}, " if made.nameless else ""
    print(f"next: {names}look at what is read, and train:")
    print(f"  segzoo check-data {shlex.quote(printable(made.path))}")
    print(f"  segzoo train {shlex.quote(printable(made.path))}")
    return 0
