"""The commands about networks: `model`, `backbones`, `models` and `export`."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from segzoo.cli import CommandParser, parse_overrides
from segzoo.config.load import for_segmentation, load_config
from segzoo.escapes import terminal


def model(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Show the network of a configuration: its parts, what each puts out, and what it costs for one image."""
    parser = CommandParser(model.__doc__, prog, explains_keys=True)
    parser.add_config()
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="image, in pixels (default: the crop)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parse_overrides(parser, argv)

    from segzoo.data.datasets.spec import count_classes  # these need torch, which --help does not
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


def backbones(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """List the backbones and their published weights, or describe one: its feature maps and what it costs."""
    parser = CommandParser(backbones.__doc__, prog)
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


def models(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """List the published models: each name stands wherever a CHECKPOINT does, or starts a training."""
    parser = CommandParser(models.__doc__, prog)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)

    from segzoo.backbones.weights.models import PUBLISHED_MODELS  # needs torch, which --help does not

    if options.json:
        print(json.dumps([asdict(model) | {"url": model.url} for model in PUBLISHED_MODELS], indent=2))
    else:
        print("\n".join(model.lines for model in PUBLISHED_MODELS))
        print("mIoU in percent, as the authors state it, with the output stride and the scales that they measured at")
    return 0


def export(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Write a checkpoint for other programs, and check what was written against torch."""
    parser = CommandParser(export.__doc__, prog)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help=".ckpt file, run directory or saved model folder")
    formats = "onnx; openvino; torch (TorchScript); or safetensors (a folder with the configuration and a card)"
    add("--format", required=True, metavar="FORMAT", help=formats)
    add("--output", required=True, metavar="FILE", help="file to write, or folder for safetensors")
    images = "take uint8 images (N, H, W, C) as image libraries give them"
    add("--with-preprocessing", action="store_true", help=images)
    add("--with-argmax", action="store_true", help="give class indices, uint8 (N, H, W), in place of logits")
    arguments = parser.parse_args(argv)

    from segzoo.inference.export import export as write_export  # needs torch, which --help does not

    written = write_export(
        arguments.checkpoint,
        arguments.format,
        arguments.output,
        with_preprocessing=arguments.with_preprocessing,
        with_argmax=arguments.with_argmax,
    )
    print(f"{written.path} ({written.note})")
    for check in written.checks:
        print(f"  {check}")
    return 0
