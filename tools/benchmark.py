"""Measure how fast this machine runs what segzoo does, beside what a user would run instead: a Markdown table.

Parts: inference and training (ours beside SMP's network in every mode that torch has for it), engines (from files to
masks), loader, and scaling (time and memory against image area, batch and processes). All rows of a table take turns in
one process. For figures worth keeping, leave the machine alone meanwhile.
"""

from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from laboratory.benchmarks.settings import PARTS, Settings, unread
from segzoo.cli import CommandParser, check_idle, parse_overrides, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__, explains_keys=True)
    parser.add_argument("--part", choices=PARTS, required=True, help="what to measure")
    parser.add_argument("--output", metavar="FILE", type=Path, help="also write the numbers there as JSON")
    parser.add_argument("--overwrite", action="store_true", help="replace files that --output and --plot name")
    _add_settings(parser)
    parser.add_config()
    arguments = parse_overrides(parser, argv)
    check_idle(arguments, parser, unread(arguments.part), f"--part {arguments.part} does not read it.")

    from laboratory.benchmarks.parts import measure_part  # needs torch, which --help does not
    from segzoo.config.load import for_segmentation, load_config
    from segzoo.data.datasets.spec import input_folders
    from segzoo.files import check_outputs, make_output, write_atomically
    from segzoo.tasks.names import known_names

    config = for_segmentation(load_config(arguments.config, arguments.overrides, known_names=known_names()))
    for option, file in (("--output", arguments.output), ("--plot", arguments.plot)):
        if file is not None:
            inputs = input_folders(config.data)
            check_outputs([file], overwrite=arguments.overwrite, inputs=inputs, option=option)
            make_output(file.parent, option)
    settings = Settings(**{setting.name: getattr(arguments, setting.name) for setting in fields(Settings)})
    report = measure_part(arguments.part, config, settings)
    print(report.markdown())
    if arguments.output:
        write_atomically(arguments.output, report.json().encode())
    return 0


def _add_settings(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--rounds", metavar="N", type=int, default=Settings.rounds, help="counted rounds (default: %(default)s)")
    add("--images", metavar="N", type=int, default=Settings.images, help="of loader and engines: images a round "
        "(default: %(default)s)")  # fmt: skip
    add("--engines", metavar="NAME,...", type=_names, default=(), help="which (default: all that are installed)")
    add("--size", metavar="N", type=int, help="of inference and training: pixels a side (default: 512; 256)")
    add("--batch", metavar="N", type=int, help="of inference and training: images at a time (default: 1; 4)")
    add("--device", default=Settings.device, help="of inference, training and scaling (default: %(default)s)")
    add("--compiled", action=BooleanOptionalAction, help="rows of torch.compile (default: in inference)")
    add("--memory", action=BooleanOptionalAction, default=Settings.memory, help="measure peak memory")
    add("--plot", metavar="FILE", type=Path, help="of scaling: PNG to write")
    add("--quick", action="store_true", help="the smallest sizes, only to see that everything runs")


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


if __name__ == "__main__":
    run(main)
