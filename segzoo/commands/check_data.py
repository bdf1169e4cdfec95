"""Examine a data set: every fault in one run, what is in it, and a sheet of samples to look at."""

import json
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides
from segzoo.escapes import terminal


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog, explains_keys=True)
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
