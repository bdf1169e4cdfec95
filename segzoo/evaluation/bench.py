"""From images to counts: what one process does in an evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from segzoo.checkpoint.read import TrainedSegmenter, load_segmenter, model_name, run_dir_of
from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.config.schema import RunConfig
from segzoo.data.dataset import SegmentationDataset, build_dataset
from segzoo.data.items import Item
from segzoo.errors import ConfigError, DataError, data_errors_about, printable
from segzoo.evaluation.boundary import count_boundary
from segzoo.evaluation.counts import ImageCounts, image_counts
from segzoo.evaluation.results import Protocol
from segzoo.inference.augment import TestTimeAugmentation, configured_augmentation
from segzoo.inference.engines.base import Precision
from segzoo.inference.predictor import Predictor
from segzoo.models.evaluation import planned_for_evaluation
from segzoo.tasks.names import known_names
from segzoo.tasks.segmentation import Batch, stack_equal_sizes

CHANGEABLE = ("data.", "evaluation.", "model.eval_output_stride=")

_TRAINED = ("channels", "value_range", "preprocessing")
_Run = TypeVar("_Run", RunConfig, ClassificationRunConfig)


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
class Bench:
    """A network and the images that it is measured on.

    Args:
        job: what was asked for.
        config: the run's configuration with the changes.
        split: which.
        dataset: its images.
        predictor: the network.
    """

    job: Job
    config: RunConfig
    split: str
    dataset: SegmentationDataset
    predictor: Predictor

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Numbers of the images by their names."""
        return {name: index for index, name in enumerate(self.dataset.ids)}

    def count(self, batches: Iterable[Sequence[Item]]) -> Iterator[list[ImageCounts]]:
        """Predict batches of whole images and count their pixels; the counts of one batch after the other."""
        for samples in batches:
            yield [counts for batch in stack_equal_sizes(samples) for counts in self._count(batch)]

    def _count(self, batch: Batch) -> Iterator[ImageCounts]:
        labels = self.dataset.labels
        with data_errors_about([printable(name) for name in batch["id"]]):
            predictions = self.predictor.classes(batch["image"])
        for name, truth, predicted in zip(batch["id"], batch["mask"], predictions, strict=True):
            table = labels.coding.count(predicted[None], truth[None].to(predicted.device))
            outlines = None
            if self.job.boundary:
                mask = predicted.cpu().numpy()
                outlines = count_boundary(truth.numpy(), mask, labels.num_classes, labels.ignore_index)
            yield image_counts(self.index_of[name], printable(name), table, outlines)

    def protocol(self) -> Protocol:
        """How it measures."""
        engine = self.predictor.engine
        return Protocol(
            dataset=self.config.data.name,
            split=self.split,
            checkpoint=str(self.job.checkpoint),
            weights=weights_kind(self.config, averaged=self.job.averaged),
            output_stride=self.config.model.eval_output_stride or self.config.model.output_stride,
            engine=engine.name,
            precision=engine.precision,
            tta=_in_words(self.predictor.tta),
            tile=self.predictor.tile,
            tile_overlap=self.predictor.overlap if self.predictor.tile else None,
        )


def prepare(job: Job) -> Bench:
    """Load the network and list the images.

    Raises:
        ConfigError: no such key, data set or split, or other classes than it was trained on.
        CheckpointError: refused, with the reason.
        DataError: the data set's content is wrong.
    """
    source = load_segmenter(job.checkpoint, averaged=job.averaged)
    config = changed_config(source.config, job.overrides, CHANGEABLE)
    split = job.split or config.evaluation.split or config.data.val_split
    dataset = build_dataset(config.data, split)
    _refuse_other_classes(dataset, config, source)
    if len(set(dataset.ids)) < len(dataset):
        raise DataError(f"data: {config.data.name} has images of one id in split '{split}'; each needs its own.")
    if job.boundary and not dataset.labels.coding.exclusive:
        raise ConfigError(
            "--boundary: needs one class a pixel; this model decides every class on its own (multi-label)."
        )
    return Bench(job, config, split, dataset, build_predictor(source, config, job))


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


def build_predictor(source: TrainedSegmenter, config: RunConfig, job: Job) -> Predictor:
    """The network at the output stride, with the tiles and the augmentation that a configuration asks for."""
    segmenter = planned_for_evaluation(source.segmenter, config.model, source.labels.num_classes)
    return Predictor(
        TrainedSegmenter(segmenter, source.description, source.path),
        engine=job.engine,
        precision=job.precision,
        tile=config.evaluation.tile,
        overlap=config.evaluation.tile_overlap,
        tta=configured_augmentation(config),
    )


def _in_words(augmentation: TestTimeAugmentation | None) -> str | None:
    if augmentation is None:
        return None
    scales = ", ".join(f"{scale:g}" for scale in augmentation.scales)
    return f"scales {scales}{' and mirrored' if augmentation.flip else ''}"


def default_output(checkpoint: Path, split: str) -> Path:
    """Where results go unless somebody says otherwise: into the run directory, if there is one."""
    return (run_dir_of(checkpoint) or Path("evaluations", model_name(checkpoint))) / "evaluation" / split


def _refuse_other_classes(dataset: SegmentationDataset, config: RunConfig, source: TrainedSegmenter) -> None:
    if dataset.labels.coding.exclusive != source.labels.coding.exclusive:
        raise ConfigError(
            f"data: {config.data.name} and {source.path} differ in whether a pixel may have several classes. Name the "
            "data set it was trained on."
        )
    if dataset.labels.names != source.labels.names:
        raise ConfigError(
            f"data: {config.data.name} has the classes {', '.join(dataset.labels.names)}, and {source.path} was "
            f"trained on {', '.join(source.labels.names)}. Name the data set it was trained on."
        )
