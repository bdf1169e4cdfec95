"""The first two minutes: train on synthetic scenes, segment a folder of them, say where to look."""

import shutil
import sys
from collections.abc import Sequence

from segzoo.cli import CommandParser, parse_overrides
from segzoo.escapes import terminal

SCENES = 12


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog, explains_keys=True)
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    arguments = parse_overrides(parser, argv)

    from segzoo.config.load import for_segmentation
    from segzoo.config.packaged import packaged_configs
    from segzoo.data.datasets.spec import build_dataset  # these need torch, which --help does not
    from segzoo.data.reading.images import write_image
    from segzoo.data.reading.pixels import as_picture
    from segzoo.inference.predict import predict
    from segzoo.tasks.metrics import percent, score_table
    from segzoo.training.resume import requested_config
    from segzoo.training.train import train

    config = for_segmentation(requested_config(str(packaged_configs()["quickstart"]), arguments.overrides))
    result = train(config, name="quickstart")
    terminal().print(score_table(config.task, result.scores, result.labels.names))
    scenes = build_dataset(config.data, config.data.val_split)
    images = result.run_dir / "images"
    images.mkdir()
    for index in range(min(SCENES, len(scenes))):
        write_image(images / f"{scenes[index].id}.png", as_picture(scenes[index].image))
    report = predict(result.run_dir, images, output=result.run_dir / "predictions", save=("mask", "overlay"))
    print(f"trained:     {result.run_dir}  (val mIoU {percent(result.summary['best_val_miou'])})")
    print(f"images:      {images}")
    print(f"masks:       {report.output}")
    print(f"look here:   {report.output / '_overlay'}")
    command = "segzoo" if shutil.which("segzoo") else f"{sys.executable} -m segzoo"  # make activates nothing
    print(f"next:        {command} make-config YOUR_FOLDER  (with images/ and masks/)")
    return 1 if report.failed else 0
