"""Examine a data set: every fault in one run, what is in it, and a sheet of samples to look at."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segzoo.cli import CommandParser, parse_overrides
from segzoo.escapes import terminal

if TYPE_CHECKING:
    from segzoo.config.classification_data import ClassificationDataConfig


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog, explains_keys=True)
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a ready one, such as quickstart")
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    shown = parser.add_mutually_exclusive_group()  # there is a sheet, or there is nothing but JSON
    shown.add_argument("--output", metavar="DIR", help="folder for the sheet of masks (default: data_check/<config>)")
    shown.add_argument("--json", action="store_true", help="print the whole report as JSON and nothing else")
    parser.add_argument("--overwrite", action="store_true", help="replace a sheet in the folder of --output")
    arguments = parse_overrides(parser, argv)

    from segzoo.config.load import load_config
    from segzoo.config.schema import RunConfig
    from segzoo.data.datasets.spec import data_set_names, input_folders
    from segzoo.data.inspection import report as show
    from segzoo.data.inspection.browse import SAMPLES, write_samples
    from segzoo.data.inspection.check import check_data
    from segzoo.errors import ConfigError
    from segzoo.files import check_outputs, make_output

    config = load_config(arguments.config, arguments.overrides, known_names=data_set_names())
    if not isinstance(config, RunConfig):
        if arguments.output:
            raise ConfigError("--output: classification data has no sheet of samples. Leave the option out.")
        return _check_classes(config.data, as_json=arguments.json)
    if arguments.output:
        sheet_file = Path(arguments.output, SAMPLES)
        check_outputs([sheet_file], overwrite=arguments.overwrite, inputs=input_folders(config.data))
        make_output(sheet_file.parent)  # before every file is read
    report = check_data(config.data, progress=not arguments.json)
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=2))
        return 1 if report.errors else 0

    for line in show.finding_lines(report):
        print(line)
    terminal().print(show.image_table(report))
    print(show.SIZE_NOTE, show.COLOR_NOTE, sep="\n")
    classes = show.class_table(report)
    if classes is not None:
        terminal().print(classes)
        print(show.WEIGHT_NOTE)
    sheet = write_samples(
        config.data, report, Path(arguments.output or Path("data_check", Path(arguments.config).stem))
    )
    print(f"{show.verdict(report)}; samples: {sheet}" if sheet else show.verdict(report))
    return 1 if report.errors else 0


def _check_classes(config: "ClassificationDataConfig", *, as_json: bool) -> int:
    from segzoo.data.inspection.classification import check_classification_data, class_image_table
    from segzoo.data.inspection.report import SIZE_NOTE, finding_lines, verdict

    report = check_classification_data(config, progress=not as_json)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        for line in finding_lines(report):
            print(line)
        terminal().print(class_image_table(report))
        print(SIZE_NOTE)
        print(verdict(report))
    return 1 if report.errors else 0
