"""Train by a configuration, or go on with a run."""

from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides
from segzoo.config.load import dump_config
from segzoo.escapes import terminal


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog, explains_keys=True)
    parser.add_argument("--resume", metavar="RUN_DIR", help="go on with the run in this folder")
    parser.add_argument("--print-config", action="store_true", help="show the resolved configuration and stop")
    parser.add_argument("--check", action="store_true", help="build everything, read one batch and stop")
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help="YAML file, or the name of a ready one, such as quickstart"
    )
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    arguments = parse_overrides(parser, argv)

    if arguments.resume and "=" in (arguments.config or ""):  # CONFIG was left out
        arguments.overrides.insert(0, arguments.config)
        arguments.config = None

    from segzoo.checkpoint.transfer import with_starting_settings  # these need torch, which --help does not
    from segzoo.tasks.metrics import percent, score_table
    from segzoo.tasks.processes import is_first_process
    from segzoo.training.resume import requested_config
    from segzoo.training.train import check, train

    config = requested_config(arguments.config, arguments.overrides, arguments.resume)
    if arguments.print_config:
        print(dump_config(with_starting_settings(config)), end="")
    elif arguments.check:
        print(check(config))
    else:
        result = train(config, name=Path(arguments.config or "run").stem, resume=arguments.resume)
        if is_first_process():
            terminal().print(score_table(config.task, result.scores, result.labels.names))
            main = result.main_metric
            print(f"best val {main.title}: {percent(result.summary[f'best_val_{main.name}'])}")
            print(f"run directory: {result.run_dir}")
    return 0
