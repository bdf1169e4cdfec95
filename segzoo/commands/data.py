"""The commands about data: `prepare-data`, `make-config`, `check-data` and `browse-data`."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides
from segzoo.errors import printable
from segzoo.escapes import terminal


def prepare_data(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Fetch, verify and unpack a data set: Pascal VOC, SBD (VOC's trainaug), Cityscapes, ADE20K, CamVid or CIFAR-10."""
    parser = CommandParser(prepare_data.__doc__, prog)
    parser.add_argument(
        "name", metavar="NAME", help="voc, sbd, cityscapes, ade20k, camvid, cifar10, or one of a plug-in"
    )
    parser.add_argument("--root", metavar="DIR", default="data", help="folder of all data sets (default: data)")
    parser.add_argument(
        "--archive",
        metavar="FILE",
        action="append",
        default=[],
        help="use a file fetched by hand instead of a download; may be given several times",
    )
    arguments = parser.parse_args(argv)

    from segzoo.data.datasets.prepare import prepare  # needs the loaders, which --help does not
    from segzoo.errors import DataError

    prepared = prepare(arguments.name, arguments.root, arguments.archive)
    print("\n".join(prepared.lines))
    if prepared.problems:
        raise DataError(prepared.problems)
    print(f"train on it: {prepared.command}")
    return 0


def make_config(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Look at a folder of images and masks and write a configuration that trains on it."""
    parser = CommandParser(make_config.__doc__, prog)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the images and masks")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="configuration to write (default: <folder>.yaml, here)"
    )
    parser.add_argument(
        "overrides",
        metavar="data.key=value",
        nargs="*",
        help="what you know of the data: data.train_split=day1, data.folder.masks=truth, ...",
    )
    arguments = parse_overrides(parser, argv)

    from segzoo.data.inspection.make_config import make_config as write_config

    made = write_config(arguments.folder, arguments.output, arguments.overrides)
    for line in made.findings:
        print(printable(line))
    print(f"written: {printable(made.path)}")
    names = f"name the classes in {made.path}, " if made.nameless else ""
    print(f"next: {names}look at what is read, and train:")
    print(f"  segzoo check-data {shlex.quote(printable(made.path))}")
    print(f"  segzoo train {shlex.quote(printable(made.path))}")
    return 0


def check_data(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Examine a data set: every fault in one run, what is in it, and a sheet of samples to look at."""
    parser = CommandParser(check_data.__doc__, prog, explains_keys=True)
    parser.add_config()
    shown = parser.add_mutually_exclusive_group()  # there is a sheet, or there is nothing but JSON
    shown.add_argument("--output", metavar="DIR", help="folder for the sheet of masks (default: data_check/<config>)")
    shown.add_argument("--json", action="store_true", help="print the whole report as JSON and nothing else")
    parser.add_argument("--overwrite", action="store_true", help="replace a sheet in the folder of --output")
    arguments = parse_overrides(parser, argv)

    from segzoo.config.load import load_config  # these need torch, which --help does not
    from segzoo.data.datasets.spec import data_set_names, input_folders
    from segzoo.data.inspection.browse import SAMPLES
    from segzoo.data.inspection.check import INSPECTIONS
    from segzoo.data.inspection.report import finding_lines, verdict
    from segzoo.errors import ConfigError
    from segzoo.files import check_outputs, make_output

    config = load_config(arguments.config, arguments.overrides, known_names=data_set_names())
    inspection = INSPECTIONS[config.task]
    if arguments.output and inspection.write_samples is None:
        raise ConfigError(f"--output: {config.task} data has no sheet of samples. Leave the option out.")
    folder = Path(arguments.output or Path("data_check", Path(arguments.config).stem))
    if arguments.output:
        check_outputs([folder / SAMPLES], overwrite=arguments.overwrite, inputs=input_folders(config.data))
        make_output(folder)  # before every file is read
    report = inspection.check(config.data, progress=not arguments.json)
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=2))
        return 1 if report.errors else 0

    for line in finding_lines(report):
        print(line)
    for part in report.tables():
        show = print if isinstance(part, str) else terminal().print
        show(part)
    sheet = inspection.write_samples(config.data, report, folder) if inspection.write_samples else None
    print(f"{verdict(report)}; samples: {sheet}" if sheet else verdict(report))
    return 1 if report.errors else 0


def browse_data(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Draw what the network sees: samples of a run after augmentation, with their masks, as one picture."""
    parser = CommandParser(browse_data.__doc__, prog, explains_keys=True)
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
