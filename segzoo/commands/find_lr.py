"""Find a learning rate: train a few steps while it rises, draw the loss, suggest a range."""

from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog, explains_keys=True)
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a ready one, such as quickstart")
    parser.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")
    parser.add_argument(
        "--range", nargs=2, type=float, default=(1e-5, 1.0), metavar=("LOW", "HIGH"), help="of the sweep"
    )
    parser.add_argument("--steps", type=int, default=100, help="length of the sweep (default: 100)")
    parser.add_argument(
        "--output", type=Path, default="find_lr.png", metavar="FILE", help="plot (default: find_lr.png)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the plot that is there")
    arguments = parse_overrides(parser, argv)

    from segzoo.data.datasets.spec import input_folders
    from segzoo.files import check_outputs, make_output  # these need torch, which --help does not
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
