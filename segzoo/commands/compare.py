"""Compare evaluations of the same images: scores side by side, and which differences the images bear out.

Each is compared with the first: a paired bootstrap of the mIoU, and the Wilcoxon signed-rank test on the images' own.
The images of a split are taken for independent, which frames of a video are not.
"""

from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser
from segzoo.escapes import terminal


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog)
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="run directory or saved model, or a folder that `segzoo evaluate` wrote"
    )
    parser.add_argument("--split", help="which evaluation, where a run has several")
    parser.add_argument("--output", metavar="FILE", type=Path, help="also write the tables there as Markdown")
    parser.add_argument("--images", metavar="N", type=int, default=5, help="images to name (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file that --output names")
    arguments = parser.parse_args(argv)

    from segzoo.evaluation.compare import as_markdown, as_table, compare, grids
    from segzoo.files import (  # these need torch, which --help does not
        check_outputs,
        make_output,
        write_atomically,
    )

    if arguments.output:
        check_outputs([arguments.output], overwrite=arguments.overwrite)
        make_output(arguments.output.parent)
    tables = grids(compare(arguments.runs, split=arguments.split, images=arguments.images))
    terminal().print(*map(as_table, tables), sep="\n")
    if arguments.output:
        write_atomically(arguments.output, as_markdown(tables).encode())
    return 0
