"""Show the network of a configuration: its parts, what each puts out, and what it costs for one image."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from segzoo.cli import CommandParser, parse_overrides
from segzoo.config.load import for_segmentation, load_config
from segzoo.escapes import terminal


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog, explains_keys=True)
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a ready one, such as quickstart")
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="image, in pixels (default: the crop)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parse_overrides(parser, argv)

    from segzoo.data.datasets.spec import count_classes  # these need torch
    from segzoo.models.describe import describe_segmenter, segmenter_table
    from segzoo.tasks.names import known_names

    config = for_segmentation(load_config(arguments.config, arguments.overrides, known_names=known_names()))
    num_classes, source = count_classes(config.data)
    height, width = arguments.size or config.data.crop_size
    described = describe_segmenter(config.model, num_classes, size=(height, width), in_channels=config.data.channels)
    if arguments.json:
        print(json.dumps(asdict(described) | {"num_classes_from": source}, indent=2))
    else:
        terminal().print(segmenter_table(described))
        print(f"{num_classes} classes: {source}")
        print("kept: what training keeps of one image for the backward pass, in float32")
    return 0
