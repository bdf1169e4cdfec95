"""The command `segzoo`: one word for each thing that it does, each a module of this package.

Every module has `main(argv, prog)`, which parses its words, calls what does the work, prints, and returns the exit
status. The scripts in tools/ call the same functions.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

from segzoo import __version__
from segzoo.errors import did_you_mean

COMMANDS: Mapping[str, str] = {
    "quickstart": "Train on drawn scenes, segment a folder of them, and say where to look.",
    "make-config": "Write a configuration for a folder of images and masks.",
    "prepare-data": "Fetch, verify and unpack a known data set.",
    "check-data": "Find every fault of a data set in one run.",
    "browse-data": "Draw what the network sees, after augmentation.",
    "find-lr": "Find a learning rate.",
    "train": "Train by a configuration, or go on with a run.",
    "evaluate": "Measure a checkpoint on a split of its data set.",
    "compare": "Compare evaluations: which differences the images bear out.",
    "predict": "Segment or classify images with a checkpoint.",
    "export": "Write a checkpoint for other programs.",
    "model": "Show the network of a configuration and its cost.",
    "backbones": "List the backbones and their published weights.",
    "convert-weights": "Convert weights of Keras, timm or Cadene.",
}
"""Each command and what it does; written here, so that listing them imports none."""

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
        sys.stderr.write(f"error: {_refusal(name)}\n")
        sys.exit(2)
    sys.exit(0)


def _refusal(name: str) -> str:
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
    status: int = import_module(f"segzoo.commands.{name.replace('-', '_')}").main(argv, f"segzoo {name}")
    return status


def overview() -> str:
    """What `segzoo --help` prints."""
    lines = [f"  {name:<19}{meaning}" for name, meaning in COMMANDS.items()]
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
