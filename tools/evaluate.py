"""Measure a checkpoint: per-class IoU, mIoU, pixel accuracy, in a table and in metrics.json."""

from collections.abc import Sequence

from rich.console import Console

from segzoo.cli import config_parser, parse_overrides, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = config_parser(__doc__ or "")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=".ckpt file or run directory")
    parser.add_argument(
        "overrides",
        metavar="key.sub=value",
        nargs="*",
        help="changes to data.*, evaluation.* and model.eval_output_stride",
    )
    parser.add_argument("--split", help="split to measure (default: the run's validation split)")
    parser.add_argument("--output", metavar="DIR", help="folder for metrics.json")
    arguments = parse_overrides(parser, argv)

    from segzoo.evaluation.evaluate import evaluate  # needs torch, which --help does not
    from segzoo.tasks.table import per_class_table

    result = evaluate(arguments.checkpoint, arguments.overrides, split=arguments.split, output=arguments.output)
    Console().print(per_class_table(result.scores, result.labels.names))
    print(f"{result.images} images; {result.output / 'metrics.json'}")
    return 0


if __name__ == "__main__":
    run(main)
