"""Segment images with a checkpoint, or classify them with a classifier's; nothing else is needed."""

from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Literal

from segzoo.cli import CommandParser, check_idle
from segzoo.config.evaluation import TILE_OVERLAP
from segzoo.data.reading.images import MAX_PIXELS
from segzoo.inference.outputs import kinds_text

_EPILOG = f"""\
INPUT is an image, a folder (searched below, hidden files aside), a pattern such as 'photos/**/*.jpg', or a .txt with
one path a line.

KIND is one or several of:
{kinds_text()}

Masks mirror the input's tree; other kinds do so below _<kind>. Beside them there are summary.json, contact_sheet.jpg,
and failed.json where images failed; the exit status is 1 then. done.jsonl says what is done and by which network:
--skip-existing goes on by it, with this network only.

A classifier's checkpoint writes predictions.csv, the most probable classes of each image, and with --save csv,cam class
activation maps over the images below _cam.
"""

_OF_SEGMENTERS = ("tta", "tile", "overlap")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    arguments = _parser(prog).parse_args(argv)

    from segzoo.checkpoint.read import load_trained  # these need torch, which --help does not
    from segzoo.inference.heads import head_of
    from segzoo.inference.jobs import Shard
    from segzoo.inference.predict import predict

    shard = Shard.parse(arguments.shard)
    source = load_trained(arguments.checkpoint)
    head = head_of(source)
    idle = [name for name in _OF_SEGMENTERS if name not in head.options]
    check_idle(arguments, _parser(), idle, "for segmenters only, and this is a classifier.")
    options = {name: getattr(arguments, name) for name in head.options}
    report = predict(
        head.predictor_type(
            source, arguments.device, engine=arguments.engine, precision=arguments.precision, **options
        ),
        arguments.input,
        output=arguments.output,
        save=None if arguments.save is None else arguments.save.split(","),
        top=arguments.top,
        skip_existing=arguments.skip_existing,
        overwrite=arguments.overwrite,
        shard=shard,
        batch_size=arguments.batch_size,
        max_pixels=arguments.max_pixels,
    )
    print(report)
    return 1 if report.failed else 0


def _parser(prog: str | None = None) -> CommandParser:
    parser = CommandParser(__doc__, prog, epilog=_EPILOG)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help=".ckpt file, run directory, saved model or published model (`segzoo models` lists them)",
    )
    parser.add_argument("input", metavar="INPUT", help="image, folder, pattern, or list (.txt)")
    parser.add_argument("--output", metavar="DIR", help="folder for the masks (default: predictions/<run>)")
    parser.add_argument("--save", metavar="KIND,...", help="kinds of output (default: mask; of a classifier csv)")
    parser.add_argument("--top", type=_count, metavar="N", help="classifier: classes of each image (default: 5)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--skip-existing", action="store_true", help="leave out images that are done")
    existing.add_argument("--overwrite", action="store_true", help="replace outputs that are there")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="only every N-th image from the I-th on")
    parser.add_argument("--tta", action="store_true", help="average over scales and mirrored images (slow)")
    parser.add_argument("--tile", type=_tile, metavar="N", help="compute by squares of N pixels, or auto")
    parser.add_argument("--overlap", type=float, default=TILE_OVERLAP, metavar="SHARE", help="of tiles (%(default)s)")
    parser.add_argument(
        "--engine", default="torch", help="torch, onnxruntime, openvino, or auto (default: %(default)s)"
    )
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="(default: %(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--batch-size", type=_count, metavar="N", help="images at once (default: 8 on a GPU, else 1)")
    parser.add_argument(
        "--max-pixels", type=_count, default=MAX_PIXELS, metavar="N", help="refuse larger images (default: %(default)s)"
    )
    return parser


def _tile(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
