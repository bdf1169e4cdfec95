"""Train SMP's DeepLabV3+ in a plain loop on a configuration's data, and measure it as `segzoo evaluate` does.

What the README compares with. Of the configuration it takes data, steps, seed, precision, and the learning rates. With
model.backbone.weights it stands on our backbone inside SMP, which reads them; with null on timm's Xception-65.
"""

import resource
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides, run
from segzoo.escapes import terminal


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__, explains_keys=True)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder for its evaluation")
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation that is there")
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a ready one")
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    arguments = parse_overrides(parser, argv)

    from laboratory.benchmarks.accuracy import train_baseline  # needs torch, which --help does not
    from segzoo.config.load import for_segmentation, load_config
    from segzoo.tasks.names import known_names

    config = for_segmentation(load_config(arguments.config, arguments.overrides, known_names=known_names()))
    result = train_baseline(config, arguments.output, overwrite=arguments.overwrite)
    terminal().print(*result.tables(worst=0), sep="\n")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{usage.ru_utime + usage.ru_stime:.0f} s of processor time, {usage.ru_maxrss / 2**20:.1f} GiB at most")
    return 0


if __name__ == "__main__":
    run(main)
