"""Draw what the network sees: samples of a run after augmentation, with their masks, as one picture."""

from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog, explains_keys=True)
    parser.add_config()
    parser.add_argument("--split", help="split to draw (default: data.train_split; others come without augmentation)")
    parser.add_argument("--count", metavar="N", type=int, default=6, help="images to draw (default: 6)")
    parser.add_argument("--output", metavar="FILE", help="picture to write (default: data_check/<config>/<split>.png)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that --output names")
    arguments = parse_overrides(parser, argv)
    if arguments.count < 1:
        parser.error("--count: draw at least one image")

    from segzoo.config.load import for_segmentation, load_config  # these need torch, which --help does not
    from segzoo.data.datasets.spec import data_set_names
    from segzoo.data.inspection.browse import browse

    config = for_segmentation(load_config(arguments.config, arguments.overrides, known_names=data_set_names()))
    split = arguments.split or config.data.train_split
    output = Path(arguments.output or Path("data_check", Path(arguments.config).stem, f"{split}.png"))
    overwrite = arguments.overwrite or arguments.output is None  # a place of ours is drawn anew
    print(browse(config, output, split=split, count=arguments.count, overwrite=overwrite))
    return 0
