"""Rerun the Xception paper's experiments, and write down what was confirmed.

They are: residual connections (Fig. 9), the activation inside separable convolutions (Fig. 10), channel segments
(section 5) and the depth multiplier. Each network is trained with several seeds by
tools/laboratory/experiments/paper.yaml; the output folder gets the runs, a plot of each experiment and report.md.
Finished runs are skipped and a stopped one goes on, so the same command continues after Ctrl-C, and more --seeds add
to those that are there.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from segzoo.cli import CommandParser, parse_overrides, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__, explains_keys=True)
    add = parser.add_argument
    add("--experiment", metavar="NAME", help="residual, activation, segments or multiplier (default: all)")
    add("--data", metavar="DIR", help="image folder, one folder a class (default: pictures that are drawn)")
    add("--seeds", metavar="N", type=int, default=3, help="runs of each network (default: %(default)s)")
    add("--steps", metavar="N", help="of each run, as trainer.max_steps=N")
    add("--width", metavar="X", help="of all networks, as model.backbone.width=X")
    add("--output", metavar="DIR", type=Path, default=Path("runs", "paper_experiments"), help="(default: %(default)s)")
    add("overrides", metavar="key.sub=value", nargs="*", help="changes to its configuration")
    arguments = parse_overrides(parser, argv)

    from laboratory.experiments.paper import CONFIG, chosen_experiments  # these need torch, which --help does not
    from laboratory.experiments.report import run_experiments
    from segzoo.training.resume import requested_config

    flags = {
        "data.root": arguments.data and json.dumps(arguments.data),  # quoted: a folder 2012 is no number
        "trainer.max_steps": arguments.steps,
        "model.backbone.width": arguments.width,
    }
    overrides = [*arguments.overrides, *(f"{key}={value}" for key, value in flags.items() if value is not None)]
    experiments = chosen_experiments(arguments.experiment)
    config = requested_config(str(CONFIG), overrides)
    outcome = run_experiments(config, experiments, seeds=arguments.seeds, output=arguments.output)
    print(outcome.markdown)
    print(f"\nreport: {outcome.file}")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    run(main)
