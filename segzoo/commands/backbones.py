"""List the backbones and their published weights, or describe one: its feature maps and what it costs."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from segzoo.cli import CommandParser
from segzoo.escapes import terminal


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog)
    parser.add_argument("name", nargs="?", help="a backbone; all of them without it")
    parser.add_argument("--size", nargs=2, type=int, default=(513, 513), metavar=("H", "W"), help="image, in pixels")
    parser.add_argument("--output-stride", type=int, default=16, help="8, 16 or 32")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies channel counts")
    parser.add_argument("--weights", action="store_true", help="list the published weights instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)

    from segzoo.backbones import list_backbones  # these need torch, which --help does not
    from segzoo.backbones.describe import cost_table, describe_backbone, tap_table
    from segzoo.backbones.weights.published import PUBLISHED, published_for, weights_table

    if options.weights:
        entries = published_for(options.name) if options.name else PUBLISHED
        if options.json:
            print(json.dumps([asdict(entry) | {"source": entry.source} for entry in entries], indent=2))
        else:
            terminal().print(weights_table(entries))
        return 0
    names = [options.name] if options.name else list_backbones()
    size = (options.size[0], options.size[1])
    found = [
        describe_backbone(name, size=size, output_stride=options.output_stride, width=options.width) for name in names
    ]
    if options.json:
        print(json.dumps(asdict(found[0]) if options.name else [asdict(one) for one in found], indent=2))
    else:
        terminal().print(cost_table(found), *map(tap_table, found if options.name else []))
    return 0
