"""Measure how fast parts of a run are on this machine: a Markdown table, and JSON with --output."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from segzoo.cli import config_parser, parse_overrides, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = config_parser(__doc__ or "")
    parser.add_argument("--part", choices=["loader"], required=True, help="what to measure")
    parser.add_argument("--output", metavar="FILE", type=Path, help="also write the numbers there as JSON")
    parser.add_argument("--rounds", metavar="N", type=int, default=9, help="counted rounds (default: %(default)s)")
    parser.add_argument("--images", metavar="N", type=int, default=48, help="images a round (default: %(default)s)")
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    arguments = parse_overrides(parser, argv)

    from segzoo.config.load import load_config  # these need torch, which --help does not
    from segzoo.data.benchmark import measure_loader, speed_table
    from segzoo.tasks.names import known_names

    config = load_config(arguments.config, arguments.overrides, known_names=known_names())
    speeds = measure_loader(config.data, images=arguments.images, rounds=arguments.rounds)
    print(speed_table(speeds))
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(speed) for speed in speeds], indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
