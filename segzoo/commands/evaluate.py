"""Measure a checkpoint on a split of its data set.

Prints scores of each class and of the whole split, and the worst images. Writes metrics.json, per_image.csv,
counts.npz (for `segzoo compare`) and report.html. --submission writes what a benchmark's server takes instead.

Of a classifier: top-1, top-5, mAP and MAP@100, scores of each class, the confusion matrix, and the worst images.
"""

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, check_idle, parse_overrides
from segzoo.errors import ConfigError
from segzoo.escapes import terminal

WORST = 5
OF_SEGMENTERS = ("tta", "tile", "boundary", "submission")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parse_overrides(_parser(prog), words)

    from segzoo.checkpoint.read import read_trained  # these need torch, which --help does not
    from segzoo.evaluation.evaluate import EVALUATORS

    kind = EVALUATORS[read_trained(arguments.checkpoint).description.config.task]
    idle = [name for name in OF_SEGMENTERS if name not in kind.options]
    check_idle(arguments, _parser(), idle, "for segmenters only, and this is a classifier.")
    overrides = [*arguments.overrides, *["evaluation.tta=true"] * arguments.tta]
    overrides += [f"evaluation.tile={arguments.tile}"] if arguments.tile else []
    if not arguments.submission:
        return _evaluate(arguments, overrides, shlex.join(["segzoo", "evaluate", *words]))
    if arguments.boundary or arguments.no_report or arguments.processes != 1:
        raise ConfigError("--submission: measures nothing. Leave --boundary, --no-report and --processes out.")
    return _submit(arguments, overrides)


def _evaluate(arguments: Namespace, overrides: Sequence[str], command: str) -> int:
    from segzoo.evaluation.evaluate import evaluate
    from segzoo.tasks.processes import is_first_process

    result = evaluate(
        arguments.checkpoint,
        overrides,
        split=arguments.split,
        output=arguments.output,
        averaged=not arguments.raw_weights,
        engine=arguments.engine,
        precision=arguments.precision,
        boundary=arguments.boundary,
        processes=arguments.processes,
        report=not arguments.no_report,
        overwrite=arguments.overwrite,
        command=command,
    )
    if is_first_process():
        terminal().print(*result.tables(worst=WORST), sep="\n")
        print(f"{result.images} images; {result.output / ('metrics.json' if arguments.no_report else 'report.html')}")
    return 0


def _submit(arguments: Namespace, overrides: Sequence[str]) -> int:
    from segzoo.evaluation.submission import submit

    archive, masks = submit(
        arguments.submission,
        arguments.checkpoint,
        overrides,
        split=arguments.split,
        output=arguments.output,
        averaged=not arguments.raw_weights,
        engine=arguments.engine,
        precision=arguments.precision,
        overwrite=arguments.overwrite,
    )
    print(f"{masks} masks, read back and in order: {archive}")
    return 0


def _parser(prog: str | None = None) -> CommandParser:
    parser = CommandParser(__doc__, prog, explains_keys=True)
    add = parser.add_argument
    add(
        "checkpoint",
        metavar="CHECKPOINT",
        help=".ckpt file, run directory, saved model (folder, or on the hub), or published model",
    )
    add("--split", help="split to measure (default: the run's validation split; for --submission: test)")
    add("--output", metavar="DIR", help="folder for the files (default: RUN_DIR/evaluation/SPLIT)")
    add("--overwrite", action="store_true", help="replace an evaluation that is in the folder")
    add("--tta", action="store_true", help="average over scales and mirrored images, those of the papers")
    add("--tile", metavar="N", help="cut large images into squares of N pixels, or auto")
    add("--boundary", action="store_true", help="boundary IoU and F-score too")
    add("--processes", metavar="N", type=int, default=1, help="share the images among N processes")
    add("--raw-weights", action="store_true", help="of a run with optimizer.ema_decay, not the averaged weights")
    add("--engine", default="torch", help="torch, onnxruntime, openvino or auto (default: %(default)s)")
    add("--precision", default="fp32", choices=["fp32", "bf16"], help="of the numbers (default: %(default)s)")
    add("--no-report", action="store_true", help="leave report.html out")
    add("--submission", choices=["voc", "cityscapes"], help="write what this benchmark's server takes; measure nothing")
    changeable = "changes to data.*, evaluation.* and model.eval_output_stride"
    add("overrides", metavar="key.sub=value", nargs="*", help=changeable)
    return parser


def compare(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Compare evaluations of the same images: scores side by side, and which differences the images bear out.

    Each is compared with the first: a paired bootstrap of the mIoU, and the Wilcoxon signed-rank test on the images'
    own. The images of a split are taken for independent, which frames of a video are not.
    """
    parser = CommandParser(compare.__doc__, prog)
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="run directory or saved model, or a folder that `segzoo evaluate` wrote"
    )
    parser.add_argument("--split", help="which evaluation, where a run has several")
    parser.add_argument("--output", metavar="FILE", type=Path, help="also write the tables there as Markdown")
    parser.add_argument("--images", metavar="N", type=int, default=5, help="images to name (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file that --output names")
    arguments = parser.parse_args(argv)

    from segzoo.evaluation.compare import as_markdown, as_table, grids  # these need torch, which --help does not
    from segzoo.evaluation.compare import compare as compare_runs
    from segzoo.files import check_outputs, make_output, write_atomically

    if arguments.output:
        check_outputs([arguments.output], overwrite=arguments.overwrite)
        make_output(arguments.output.parent)
    tables = grids(compare_runs(arguments.runs, split=arguments.split, images=arguments.images))
    terminal().print(*map(as_table, tables), sep="\n")
    if arguments.output:
        write_atomically(arguments.output, as_markdown(tables).encode())
    return 0
