"""Convert weights of Keras, timm, Cadene, DeepLab or a segzoo run to segzoo's safetensors, with what they expect."""

from collections.abc import Sequence

from segzoo.cli import CommandParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog)
    parser.add_argument("source", metavar="SOURCE", help="weights file, recognised by its content, or run directory")
    parser.add_argument("target", metavar="TARGET", help="safetensors file to write")
    parser.add_argument("--width", type=float, help="width of the backbone, where the file does not say (default: 1)")
    arguments = parser.parse_args(argv)

    from segzoo.backbones.weights.convert import convert_weights  # needs torch, which --help does not

    done = convert_weights(arguments.source, arguments.target, width=arguments.width)
    recipe = done.recipe
    print(f"{arguments.target}: {done.backbone}, {len(done.tensors)} tensors, {len(done.head)} layers of a head")
    print(f"expects norm_eps {recipe.norm_eps}, padding {recipe.padding}, stem_padding {recipe.stem_padding}")
    print(f"        mean {list(recipe.mean)}, std {list(recipe.std)}")
    return 0
