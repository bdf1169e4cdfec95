"""Draw pictures of seven things into a folder for each, to classify, for those who have no images at hand."""

from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder to make; one that is there stays")
    parser.add_argument("--train", metavar="N", type=int, default=400, help="of each thing (default: %(default)s)")
    parser.add_argument("--val", metavar="N", type=int, default=100, help="of each thing (default: %(default)s)")
    arguments = parser.parse_args(argv)

    from laboratory.experiments.crops import write_crops

    write_crops(arguments.folder, train=arguments.train, val=arguments.val)
    print(f"pictures: {arguments.folder}")
    return 0


if __name__ == "__main__":
    run(main)
