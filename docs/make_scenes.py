"""Draw scenes with coloured masks into a folder, for those who have no data at hand."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import run


def main(argv: Sequence[str] | None = None) -> int:
    """Write images/0000.jpg and masks/0000.png, an RGB picture with a colour for each class, and so on."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder to make")
    parser.add_argument("--count", metavar="N", type=int, default=60, help="scenes (default: %(default)s)")
    arguments = parser.parse_args(argv)

    from segzoo.config.schema import DataConfig, SyntheticConfig
    from segzoo.data.datasets.spec import build_dataset
    from segzoo.data.reading.images import write_image
    from segzoo.data.reading.pixels import as_picture

    config = DataConfig(name="synthetic", synthetic=SyntheticConfig(train_images=arguments.count, size=(192, 256)))
    scenes = build_dataset(config, "train")
    for name in ("images", "masks"):
        (arguments.folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(arguments.count):
        scene = scenes[number]
        write_image(arguments.folder / "images" / f"{number:04d}.jpg", as_picture(scene.image))
        write_image(arguments.folder / "masks" / f"{number:04d}.png", scenes.labels.coding.paint(scene.mask))
    print(f"{arguments.count} scenes: {arguments.folder}")  # noqa: T201  (a command, as those in tools/)
    return 0


if __name__ == "__main__":
    run(main)
