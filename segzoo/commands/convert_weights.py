"""Convert weights to segzoo's own files: a backbone to safetensors, DeepLab's published segmenters to saved models."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from segzoo.cli import CommandParser
from segzoo.config.model import OutputStride
from segzoo.errors import ConfigError

_BACKBONE = ".safetensors"


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="weights of Keras, timm, Cadene, DeepLab (TensorFlow checkpoint, .tar.gz or .pb) or segzoo, recognised by "
        "their content; or a run directory",
    )
    parser.add_argument(
        "target", metavar="TARGET", help=f"a file *{_BACKBONE} for the backbone; else a folder for DeepLab's segmenter"
    )
    parser.add_argument("--width", type=float, help="of a backbone whose file does not say (default: 1)")
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="of a segmenter: names of its classes, one a line (default: VOC's, "
        "Cityscapes' or ADE20K's, by their number)",
    )
    parser.add_argument(
        "--output-stride", type=int, choices=get_args(OutputStride), help="of a segmenter: to evaluate at (default: 16)"
    )
    parser.add_argument(
        "--canvas",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of a segmenter: size that smaller images are padded to (default: 513 513; 1025 2049 for Cityscapes)",
    )
    arguments = parser.parse_args(argv)
    if not arguments.target.endswith(_BACKBONE):
        return _convert_segmenter(arguments)
    if arguments.classes or arguments.output_stride or arguments.canvas:
        raise ConfigError(
            f"--classes, --output-stride and --canvas: of segmenters, and {arguments.target} takes the backbone alone."
        )

    from segzoo.backbones.weights.convert import convert_weights  # needs torch, which --help does not

    done = convert_weights(arguments.source, arguments.target, width=arguments.width)
    recipe = done.recipe
    print(f"{arguments.target}: {done.backbone}, {len(done.tensors)} tensors, {len(done.head)} layers of a head")
    print(f"expects norm_eps {recipe.norm_eps}, padding {recipe.padding}, stem_padding {recipe.stem_padding}")
    print(f"        mean {list(recipe.mean)}, std {list(recipe.std)}")
    return 0


def _convert_segmenter(arguments: Namespace) -> int:
    if arguments.width is not None:
        raise ConfigError("--width: a segmenter's file says it. Leave it out.")

    from segzoo.checkpoint.deeplab import Protocol
    from segzoo.checkpoint.saved import save_published
    from segzoo.data.datasets.classes import listed_names

    names = None if arguments.classes is None else listed_names(arguments.classes)
    if names == ():
        raise ConfigError(f"{arguments.classes}: no names of classes in it, or no such file.")
    canvas = None if arguments.canvas is None else (arguments.canvas[0], arguments.canvas[1])
    saved = save_published(arguments.source, arguments.target, Protocol(names, arguments.output_stride, canvas))
    model, tensors = saved.config.model, saved.network.state_dict()
    print(
        f"{arguments.target}: {model.decoder} with {model.deeplab.pyramid} on {model.backbone.name}, "
        f"{len(tensors)} tensors"
    )
    print(f"{saved.labels.num_classes} classes of {saved.config.data.name}: {', '.join(saved.labels.names[:4])}, ...")
    print(f"evaluated at output stride {model.eval_output_stride or model.output_stride} on a canvas of {model.canvas}")
    return 0
