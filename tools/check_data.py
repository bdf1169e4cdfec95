"""Examine a data set: every fault in one run, what is in it, and a sheet of samples to look at."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from segzoo.cli import config_parser, parse_overrides, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = config_parser(__doc__ or "")
    parser.add_argument("config", metavar="CONFIG", help="YAML file, such as those in configs/")
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    parser.add_argument("--output", metavar="DIR", help="folder for the sheet (default: data_check/<config>)")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON and nothing else")
    arguments = parse_overrides(parser, argv)

    from segzoo.config.load import load_config
    from segzoo.data import DATASETS
    from segzoo.data.doctor.check import check_data
    from segzoo.data.doctor.report import class_table, finding_lines, image_table, report_dict, verdict
    from segzoo.data.doctor.samples import write_samples

    config = load_config(arguments.config, arguments.overrides, known_names={"data.name": list(DATASETS)})
    report = check_data(config.data, progress=not arguments.json)
    if arguments.json:
        print(json.dumps(report_dict(report), indent=2))
        return 1 if report.errors else 0

    console = Console()
    for line in finding_lines(report):
        print(line)
    for table in filter(None, (image_table(report), class_table(report))):
        console.print(table)
    sheet = write_samples(
        config.data, report, Path(arguments.output or Path("data_check", Path(arguments.config).stem))
    )
    print(f"{verdict(report)}; samples: {sheet}" if sheet else verdict(report))
    return 1 if report.errors else 0


if __name__ == "__main__":
    run(main)
