"""Cut squares by their commonest class out of a segmentation data set: a folder for each class, to classify.

Sequences whose names are given to --hold-out, the part of a file's name before its first "_", become val.
"""

from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segzoo.cli import run
from segzoo.errors import ConfigError

SHARE = 0.6  # of a square's pixels that its class has at least


class Square(NamedTuple):
    """A place of the data set."""

    image: str
    top: int
    left: int


def main(argv: Sequence[str] | None = None) -> int:
    """Write OUTPUT/{train,val}/CLASS/IMAGE_TOP_LEFT.png."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("config", metavar="CONFIG", help="whose training split is cut up")
    add("output", metavar="OUTPUT", type=Path, help="folder to make")
    add("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    add("--hold-out", metavar="NAME,...", required=True, help="sequences that become val")
    add("--side", metavar="N", type=int, default=96, help="pixels (default: %(default)s)")
    add("--train", metavar="N", type=int, default=200, help="squares of a class at most (default: %(default)s)")
    add("--val", metavar="N", type=int, default=80, help="(default: %(default)s)")
    arguments = parser.parse_intermixed_args(argv)

    from segzoo.config.load import for_segmentation, load_config
    from segzoo.data.datasets.spec import build_dataset
    from segzoo.data.reading.images import write_image
    from segzoo.data.reading.pixels import as_picture

    config = for_segmentation(load_config(arguments.config, arguments.overrides)).data
    dataset = build_dataset(config, config.train_split)
    held_out = set(arguments.hold_out.split(","))
    found: dict[tuple[str, int], list[Square]] = defaultdict(list)
    for index, name in enumerate(dataset.ids):
        split = "val" if Path(name).name.split("_")[0] in held_out else "train"
        for class_index, square in squares(name, dataset[index].mask, arguments.side):
            found[split, class_index].append(square)
    most = {"train": arguments.train, "val": arguments.val}
    kept = [k for k in range(dataset.labels.num_classes) if all(len(found[s, k]) >= n / 5 for s, n in most.items())]
    if len(kept) < 2:
        raise ConfigError("--hold-out: fewer than two classes are common enough on both sides")
    index_of = {name: index for index, name in enumerate(dataset.ids)}
    generator = np.random.default_rng(0)
    for split, count in most.items():
        for k in kept:
            places = found[split, k]
            for chosen in sorted(generator.permutation(len(places))[:count]):
                image, top, left = places[chosen]
                picture = as_picture(dataset[index_of[image]].image)[top:, left:][: arguments.side, : arguments.side]
                target = arguments.output / split / dataset.labels.names[k] / f"{Path(image).name}_{top}_{left}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                write_image(target, picture)
    print(f"{len(kept)} classes: {arguments.output}")  # noqa: T201  (a command, as those in tools/)
    return 0


def squares(
    image: str, mask: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", side: int
) -> Iterator[tuple[int, Square]]:
    """Squares with a class that is common in them, each half over the next."""
    height, width = mask.shape[-2:]
    for top in range(0, height - side + 1, side // 2):
        for left in range(0, width - side + 1, side // 2):
            counts = np.bincount(mask[top : top + side, left : left + side].ravel(), minlength=256)[:255]
            if counts.max() >= SHARE * side**2:
                yield int(counts.argmax()), Square(image, top, left)


if __name__ == "__main__":
    run(main)
