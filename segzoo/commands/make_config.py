"""Look at a folder of images and masks and write a configuration that trains on it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides
from segzoo.errors import printable


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the images and masks")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="configuration to write (default: <folder>.yaml, here)"
    )
    parser.add_argument(
        "overrides",
        metavar="data.key=value",
        nargs="*",
        help="what you know of the data: data.train_split=day1, data.folder.masks=truth, ...",
    )
    arguments = parse_overrides(parser, argv)

    from segzoo.data.inspection.make_config import make_config

    made = make_config(arguments.folder, arguments.output, arguments.overrides)
    for line in made.findings:
        print(printable(line))
    print(f"written: {printable(made.path)}")
    names = f"name the classes in {made.path}, " if made.nameless else ""
    print(f"next: {names}look at what is read, and train:")
    print(f"  segzoo check-data {shlex.quote(printable(made.path))}")
    print(f"  segzoo train {shlex.quote(printable(made.path))}")
    return 0
