"""The command `segzoo`: one entry of `COMMANDS` for each of its words.

Each word is a function `(argv, prog)`, which parses the rest of the line, calls what does the work, prints, and returns
the exit status. The scripts in tools/ call the same functions. They may import everything, what needs torch only after
the line was parsed, so that `--help` is quick.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from segzoo import __version__
from segzoo.errors import did_you_mean


class Command(NamedTuple):
    """A word of `segzoo`.

    Args:
        home: the module of this package, and the function in it.
        meaning: what it does; written here, so that listing the commands imports none.
    """

    home: str
    meaning: str


COMMANDS: Mapping[str, Command] = {
    "quickstart": Command(
        "training.quickstart", "Train on drawn scenes, segment a folder of them, and say where to look."
    ),
    "make-config": Command("data.make_config", "Write a configuration for a folder of images and masks."),
    "prepare-data": Command("data.prepare_data", "Fetch, verify and unpack a known data set."),
    "check-data": Command("data.check_data", "Find every fault of a data set in one run."),
    "browse-data": Command("data.browse_data", "Draw what the network sees, after augmentation."),
    "find-lr": Command("training.find_lr", "Find a learning rate."),
    "train": Command("training.train", "Train by a configuration, or go on with a run."),
    "evaluate": Command("evaluate.main", "Measure a checkpoint on a split of its data set."),
    "compare": Command("evaluate.compare", "Compare evaluations: which differences the images bear out."),
    "predict": Command("predict.main", "Segment or classify images with a checkpoint."),
    "export": Command("networks.export", "Write a checkpoint for other programs."),
    "model": Command("networks.model", "Show the network of a configuration and its cost."),
    "backbones": Command("networks.backbones", "List the backbones and their published weights."),
    "models": Command("networks.models", "List the published models that may be used by name."),
    "convert-weights": Command("convert_weights.main", "Convert weights of Keras, timm, Cadene or DeepLab."),
}

OF_THE_REPOSITORY: Mapping[str, str] = {
    "benchmark": "benchmark.py",
    "train-peer": "train_baseline.py",
    "paper-experiments": "paper_experiments.py",
    "config-schema": "config_schema.py",
}
"""Commands of before, and the scripts in tools/ that do their work in a copy of the repository."""


def main() -> NoReturn:
    """What the installed command, and `python -m segzoo`, run."""
    name, *rest = sys.argv[1:] or [""]
    if name in ("-h", "--help"):
        sys.stdout.write(overview())
    elif name == "--version":
        sys.stdout.write(f"segzoo {__version__}\n")
    elif name in COMMANDS:
        from segzoo.cli import run  # needs the schema, which the list of commands does not

        run(lambda: call(name, rest))
    else:
        sys.stderr.write(f"error: {_why_not(name)}\n")
        sys.exit(2)
    sys.exit(0)


def _why_not(name: str) -> str:
    """Why a word is no command, and what to type instead."""
    if name in OF_THE_REPOSITORY:
        script = f"python tools/{OF_THE_REPOSITORY[name]}"
        return f"{name}: not in the package. Run `{script}` in a copy of the repository."
    return f"unknown command {name!r}. {did_you_mean(name, COMMANDS)}" if name else "no command. Try --help."


def call(name: str, argv: Sequence[str]) -> int:
    """Run a command in this process.

    Args:
        name: one of `COMMANDS`.
        argv: the words after it.
    """
    module, _, function = COMMANDS[name].home.partition(".")
    status: int = getattr(import_module(f"segzoo.commands.{module}"), function)(argv, f"segzoo {name}")
    return status


def overview() -> str:
    """What `segzoo --help` prints."""
    lines = [f"  {name:<19}{command.meaning}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: segzoo COMMAND ...",
            "",
            "Semantic segmentation with Xception encoders.",
            "",
            *lines,
            "",
            "`segzoo COMMAND --help` explains one of them; `segzoo --version` names the version.",
            "Parts of your own, in any command: `--plugin FILE`.",
            "",
        ]
    )
