"""Measure how fast parts of a run are on this machine: a Markdown table, and JSON with --output."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segzoo.cli import config_parser, parse_overrides, run
from segzoo.config.schema import RunConfig


def main(argv: Sequence[str] | None = None) -> int:
    parser = config_parser(__doc__ or "")
    parser.add_argument("--part", choices=sorted(PARTS), required=True, help="what to measure")
    parser.add_argument("--output", metavar="FILE", type=Path, help="also write the numbers there as JSON")
    parser.add_argument("--rounds", metavar="N", type=int, default=9, help="counted rounds (default: %(default)s)")
    parser.add_argument("--images", metavar="N", type=int, default=48, help="images a round (default: %(default)s)")
    parser.add_argument(
        "--engines", metavar="NAME,...", help="of part engines: which (default: all that are installed)"
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    arguments = parse_overrides(parser, argv)

    from segzoo.config.load import load_config  # needs torch, which --help does not
    from segzoo.tasks.names import known_names

    config = load_config(arguments.config, arguments.overrides, known_names=known_names())
    table, speeds = PARTS[arguments.part](config, arguments)
    print(table)
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(speed) for speed in speeds], indent=2) + "\n", encoding="utf-8")
    return 0


def loader(config: RunConfig, arguments: Namespace) -> tuple[str, Sequence[Any]]:
    from segzoo.data.benchmark import measure_loader, speed_table

    speeds = measure_loader(config.data, images=arguments.images, rounds=arguments.rounds)
    return speed_table(speeds), speeds


def engines(config: RunConfig, arguments: Namespace) -> tuple[str, Sequence[Any]]:
    from segzoo.inference.engines.benchmark import engine_table, images_of, measure_engines
    from segzoo.inference.engines.choose import ENGINES

    names = arguments.engines.split(",") if arguments.engines else ENGINES
    speeds = measure_engines(images_of(config, arguments.images), config, rounds=arguments.rounds, engines=names)
    return engine_table(speeds), speeds


def predict(config: RunConfig, arguments: Namespace) -> tuple[str, Sequence[Any]]:
    from segzoo.data.dataset import build_dataset
    from segzoo.inference.benchmark import measure_predict, predict_table
    from segzoo.inference.engines.benchmark import images_of, untrained
    from segzoo.inference.predictor import Predictor

    folder = images_of(config, 1)[0].parent
    predictor = Predictor(untrained(config, build_dataset(config.data, config.data.val_split).labels))
    speeds = measure_predict(predictor, folder, images=arguments.images, rounds=arguments.rounds)
    return predict_table(speeds), speeds


def evaluate(config: RunConfig, arguments: Namespace) -> tuple[str, Sequence[Any]]:
    from segzoo.evaluation.benchmark import evaluation_table, measure_evaluation

    speeds = measure_evaluation(config, images=arguments.images, rounds=arguments.rounds)
    return evaluation_table(speeds), speeds


PARTS = {"loader": loader, "engines": engines, "predict": predict, "evaluate": evaluate}


if __name__ == "__main__":
    run(main)
