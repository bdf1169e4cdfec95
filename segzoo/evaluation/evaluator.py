"""A network measured on the images of a split, whatever the task: the one loop over the images is `Evaluator.count`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor

from segzoo.checkpoint.read import model_name, run_dir_of
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.data.loading.datamodule import evaluation_loader
from segzoo.data.loading.items import EvaluationItems
from segzoo.errors import ConfigError, data_errors_about, printable
from segzoo.evaluation.results import Measurement
from segzoo.models.agreement import Precision
from segzoo.tasks.metrics import MetricSet, metrics_of
from segzoo.tasks.names import known_names
from segzoo.tasks.segmentation import Batch, batches_of

_TRAINED = ("channels", "value_range", "preprocessing")
_Run = TypeVar("_Run", bound=AnyRunConfig)


@dataclass(frozen=True)
class Job:
    """What to measure, in words that another process understands too; as the arguments of `evaluate`."""

    checkpoint: Path
    overrides: tuple[str, ...]
    split: str | None
    averaged: bool
    engine: str
    precision: Precision
    boundary: bool


@dataclass(frozen=True)
class Evaluator(ABC):
    """A network and the images that it is measured on; a task says what is kept of an image, and what that says."""

    job: Job
    config: Any
    split: str
    dataset: Any
    predictor: Any

    changeable: ClassVar[tuple[str, ...]]
    """What changes to the configuration may begin with."""
    options: ClassVar[tuple[str, ...]]
    """Options of the command that other tasks do not have."""

    @classmethod
    @abstractmethod
    def of(cls, job: Job, source: Any, config: Any, split: str) -> Self:
        """The evaluator of a trained network of the task.

        Raises:
            ConfigError: no such data set or split, other classes than it was trained on, or what the task has not.
            DataError: the data set's content is wrong.
        """

    @cached_property
    @abstractmethod
    def items(self) -> EvaluationItems:
        """The images as a network takes them, with their truth."""

    @abstractmethod
    def predict(self, images: Tensor) -> Tensor:
        """What is compared with the truth of images (N, C, H, W)."""

    @abstractmethod
    def keep(self, index: int, name: str, prediction: Tensor, batch: Any, number: int) -> Any:
        """What is kept of an image, which has this number in its batch; something with its `index` in the split."""

    @abstractmethod
    def evaluation(self, images: Sequence[Any], output: Path, command: str | None) -> Measurement:
        """What all images say together, given what was kept of each in the split's order."""

    @abstractmethod
    def write(self, result: Any, images: Sequence[Any], *, report: bool) -> None:
        """Write an evaluation's files, and of what it was made; where asked for, the page, too."""

    def announce(self) -> None:
        """Say what whoever reads the numbers should know beforehand."""
        return

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Numbers of the images by their names."""
        return {name: index for index, name in enumerate(self.dataset.ids)}

    @cached_property
    def metrics(self) -> MetricSet:
        """What is measured, counted as a validation counts it."""
        asked, labels = ("boundary",) if self.job.boundary else (), self.dataset.labels
        return MetricSet.of_task(metrics_of(self.config.task, labels, asked=asked), labels, self.config)

    def loader(self, rank: int, world_size: int) -> Any:
        """Batches of the split, each image in the one of so many processes."""
        return evaluation_loader(self.items, self.config.data, self.config.evaluation.batch_size, rank, world_size)

    def read(self, indices: Sequence[int]) -> Any:
        """A batch of images by their numbers."""
        return self.items.collate([self.items[index] for index in indices])

    def count(self, batches: Iterable[Any]) -> Iterator[list[Any]]:
        """Predict batches of images, and compare: what is kept of each image, one batch after the other."""
        for batch in batches:
            yield [kept for group in batches_of(batch) for kept in self._compared(group)]

    def _compared(self, group: Batch) -> Iterator[Any]:
        names = [printable(name) for name in group["id"]]
        with data_errors_about(names):
            predictions = self.predict(group["image"])
        for number, name in enumerate(names):
            yield self.keep(self.index_of[group["id"][number]], name, predictions[number], group, number)

    def weights_kind(self) -> str:
        """Which weights are measured: "averaged", "raw", or "trained" where the run kept no average."""
        if self.config.optimizer.ema_decay is None:
            return "trained"
        return "averaged" if self.job.averaged else "raw"


def changed_config(config: _Run, overrides: Sequence[str], changeable: tuple[str, ...]) -> _Run:
    """The run's configuration with `key=value` changes, which may begin with some words only.

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


def default_output(checkpoint: Path, split: str) -> Path:
    """Where results go unless somebody says otherwise: into the run directory, if there is one."""
    return (run_dir_of(checkpoint) or Path("evaluations", model_name(checkpoint))) / "evaluation" / split
