"""The commands that train: `quickstart`, `train` and `find-lr`."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides
from segzoo.config.load import dump_config, for_segmentation, packaged_configs
from segzoo.escapes import terminal

SCENES = 12
"""Images that the quickstart predicts."""


def quickstart(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The first two minutes: train on synthetic scenes, segment a folder of them, say where to look."""
    parser = CommandParser(quickstart.__doc__, prog, explains_keys=True)
    parser.add_overrides()
    arguments = parse_overrides(parser, argv)

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


def train(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train by a configuration, or go on with a run."""
    parser = CommandParser(train.__doc__, prog, explains_keys=True)
    parser.add_argument("--resume", metavar="RUN_DIR", help="go on with the run in this folder")
    parser.add_argument("--print-config", action="store_true", help="show the resolved configuration and stop")
    parser.add_argument("--check", action="store_true", help="build everything, read one batch and stop")
    parser.add_config(nargs="?")
    arguments = parse_overrides(parser, argv)

    if arguments.resume and "=" in (arguments.config or ""):  # CONFIG was left out
        arguments.overrides.insert(0, arguments.config)
        arguments.config = None

    from segzoo.checkpoint.transfer import with_starting_settings  # these need torch, which --help does not
    from segzoo.tasks.metrics import percent, score_table
    from segzoo.tasks.processes import is_first_process
    from segzoo.training.resume import requested_config
    from segzoo.training.train import check
    from segzoo.training.train import train as run_training

    config = requested_config(arguments.config, arguments.overrides, arguments.resume)
    if arguments.print_config:
        print(dump_config(with_starting_settings(config)), end="")
    elif arguments.check:
        print(check(config))
    else:
        result = run_training(config, name=Path(arguments.config or "run").stem, resume=arguments.resume)
        if is_first_process():
            terminal().print(score_table(config.task, result.scores, result.labels.names))
            main = result.main_metric
            print(f"best val {main.title}: {percent(result.summary[f'best_val_{main.name}'])}")
            print(f"run directory: {result.run_dir}")
    return 0


def find_lr(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Find a learning rate: train a few steps while it rises, draw the loss, suggest a range."""
    parser = CommandParser(find_lr.__doc__, prog, explains_keys=True)
    parser.add_config()
    add = parser.add_argument
    add("--range", nargs=2, type=float, default=(1e-5, 1.0), metavar=("LOW", "HIGH"), help="of the sweep")
    add("--steps", type=int, default=100, help="length of the sweep (default: 100)")
    add("--output", type=Path, default="find_lr.png", metavar="FILE", help="plot (default: find_lr.png)")
    add("--overwrite", action="store_true", help="replace the plot that is there")
    arguments = parse_overrides(parser, argv)

    from segzoo.data.datasets.spec import input_folders  # these need torch, which --help does not
    from segzoo.files import check_outputs, make_output
    from segzoo.training.find_lr import find_learning_rate, plot
    from segzoo.training.resume import requested_config

    config = requested_config(arguments.config, arguments.overrides)
    check_outputs([arguments.output], overwrite=arguments.overwrite, inputs=input_folders(config.data))
    make_output(arguments.output.parent)
    lowest, highest = arguments.range
    test = find_learning_rate(config, lowest=lowest, highest=highest, steps=arguments.steps)
    plot(test, arguments.output)
    print(f"{len(test.losses)} steps from {lowest:g} to {test.rates[-1]:.2g}; {arguments.output}")
    print(f"loss lowest at: {test.rates[test.lowest]:.2g}")
    if test.suggestion is None:
        print("the loss never fell: nothing to suggest. Try a wider --range.")
        return 1
    careful, bold = test.suggestion
    print(f"suggested: optimizer.learning_rate={careful:.2g} (careful) to {bold:.2g} (bold)")
    return 0
