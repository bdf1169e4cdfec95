"""Fetch, verify and unpack a data set: Pascal VOC, SBD (VOC's trainaug), Cityscapes, ADE20K, CamVid or CIFAR-10."""

from collections.abc import Sequence

from segzoo.cli import CommandParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog)
    parser.add_argument(
        "name", metavar="NAME", help="voc, sbd, cityscapes, ade20k, camvid, cifar10, or one of a plug-in"
    )
    parser.add_argument("--root", metavar="DIR", default="data", help="folder of all data sets (default: data)")
    parser.add_argument(
        "--archive",
        metavar="FILE",
        action="append",
        default=[],
        help="use a file fetched by hand instead of a download; may be given several times",
    )
    arguments = parser.parse_args(argv)

    from segzoo.data.datasets.prepare import prepare  # needs the loaders, which --help does not
    from segzoo.errors import DataError

    prepared = prepare(arguments.name, arguments.root, arguments.archive)
    print("\n".join(prepared.lines))
    if prepared.problems:
        raise DataError(prepared.problems)
    print(f"train on it: {prepared.command}")
    return 0
