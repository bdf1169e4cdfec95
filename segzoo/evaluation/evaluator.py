"""What an evaluation of any task does in one process: from a job's words to what was found in each image."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from rich.table import Table

from segzoo.checkpoint.read import model_name, run_dir_of
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.errors import ConfigError
from segzoo.inference.engines.base import Precision
from segzoo.inference.heads import AnyPredictor
from segzoo.tasks.names import known_names

_TRAINED = ("channels", "value_range", "preprocessing")
_Run = TypeVar("_Run", bound=AnyRunConfig)


@dataclass(frozen=True)
class Job:
    """What to measure, in words that another process understands too.

    Args:
        checkpoint: the file.
        overrides: `key=value` changes to the configuration it was trained with.
        split: which; None takes `evaluation.split`, else `data.val_split`.
        averaged: with the averaged weights, where the run kept an average.
        engine: what computes.
        precision: of its numbers.
        boundary: count outlines too.
    """

    checkpoint: Path
    overrides: tuple[str, ...]
    split: str | None
    averaged: bool
    engine: str
    precision: Precision
    boundary: bool


@dataclass(frozen=True)
class Evaluator(ABC):
    """A network and the images that it is measured on; a task says what is found in an image, and what that says.

    Args:
        job: what was asked for.
        config: the run's configuration with the changes.
        split: which.
        dataset: its images.
        predictor: the network.
    """

    job: Job
    config: Any
    split: str
    dataset: Any
    predictor: AnyPredictor

    changeable: ClassVar[tuple[str, ...]]
    """What changes to the configuration may begin with."""
    options: ClassVar[tuple[str, ...]]
    """Of the command, which other tasks have not."""

    @classmethod
    @abstractmethod
    def of(cls, job: Job, source: Any, config: Any, split: str) -> Self:
        """The evaluator of a trained network of the task.

        Raises:
            ConfigError: no such data set or split, other classes than it was trained on, or what the task has not.
            DataError: the data set's content is wrong.
        """

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Numbers of the images by their names."""
        return {name: index for index, name in enumerate(self.dataset.ids)}

    def announce(self) -> None:
        """Say what whoever reads the numbers should know beforehand."""
        return

    @abstractmethod
    def loader(self, rank: int, world_size: int) -> Any:
        """Batches of the split, each image in the one of so many processes."""

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Any:
        """A batch of images by their numbers."""

    @abstractmethod
    def count(self, batches: Iterable[Any]) -> Iterator[list[Any]]:
        """What is found in batches of images; for each image something with its `index`, one batch after the other."""

    @abstractmethod
    def evaluation(self, images: Sequence[Any], output: Path, command: str | None) -> Any:
        """What the images say together.

        Args:
            images: what `count` found in each, in the split's order.
            output: folder for the files.
            command: the command line that asked for it.
        """

    @abstractmethod
    def write(self, result: Any, images: Sequence[Any], *, report: bool) -> None:
        """Write an evaluation's files, and of what it was made; where asked for, the page, too."""

    @staticmethod
    @abstractmethod
    def tables(result: Any, /, *, worst: int) -> list[Table]:
        """An evaluation for the terminal, with so many of the worst images."""


def changed_config(config: _Run, overrides: Sequence[str], changeable: tuple[str, ...]) -> _Run:
    """The run's configuration with changes; most of it has to be what was trained.

    Args:
        config: of the run.
        overrides: `key=value` changes.
        changeable: what they may begin with.

    Raises:
        ConfigError: a key that cannot change, or a wrong value.
    """
    wrong = [text for text in overrides if not text.startswith(changeable)]
    if wrong:
        *keys, last = (f"{start}*" if start.endswith(".") else start.removesuffix("=") for start in changeable)
        allowed = f"only {', '.join(keys)} and {last} can change in an evaluation"
        raise ConfigError([f"{text}: {allowed}." for text in wrong])
    tree = apply_overrides(config.model_dump(mode="json"), overrides)
    changed = config_from_tree(tree, known_names=known_names())
    if not isinstance(changed, type(config)):
        raise ConfigError("task: belongs to the trained network; it cannot change here.")
    fixed = [key for key in _TRAINED if getattr(changed.data, key) != getattr(config.data, key)]
    if fixed:
        raise ConfigError([f"data.{key}: belongs to the trained network; it cannot change here." for key in fixed])
    return changed


def weights_kind(config: AnyRunConfig, *, averaged: bool) -> str:
    """Which weights of a run were measured: "averaged", "raw", or "trained" where it kept no average."""
    if config.optimizer.ema_decay is None:
        return "trained"
    return "averaged" if averaged else "raw"


def default_output(checkpoint: Path, split: str) -> Path:
    """Where results go unless somebody says otherwise: into the run directory, if there is one."""
    return (run_dir_of(checkpoint) or Path("evaluations", model_name(checkpoint))) / "evaluation" / split
