"""A segmenter measured: from whole images to counts, and from counts to scores."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import RunConfig
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.loading.datamodule import evaluation_loader
from segzoo.data.loading.items import Item, WholeDataset
from segzoo.data.reading.pixels import as_picture
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError, data_errors_about, printable
from segzoo.evaluation.counts import ImageCounts, SplitCounts, image_counts
from segzoo.evaluation.evaluator import Evaluator, Job, weights_kind
from segzoo.evaluation.files import COUNTS, REPORT, write_metrics, write_per_image
from segzoo.evaluation.interval import miou_interval
from segzoo.evaluation.report.pictures import Example
from segzoo.evaluation.results import Evaluation, Protocol
from segzoo.evaluation.tables import tables
from segzoo.inference.augment import TestTimeAugmentation, configured_augmentation
from segzoo.inference.predictor import Predictor
from segzoo.models.evaluation import planned_for_evaluation
from segzoo.models.limits import warn_of_other_stride
from segzoo.tasks.metrics import MetricSet, metrics_of
from segzoo.tasks.segmentation import Batch, stack_equal_sizes

CHANGEABLE = ("data.", "evaluation.", "model.eval_output_stride=")


@dataclass(frozen=True)
class MaskEvaluator(Evaluator):
    """A segmenter, measured on whole images by their pixels."""

    config: RunConfig
    dataset: SegmentationDataset
    predictor: Predictor

    changeable = CHANGEABLE
    options = ("tta", "tile", "boundary", "submission")
    tables = staticmethod(tables)

    @classmethod
    def of(cls, job: Job, source: TrainedSegmenter, config: RunConfig, split: str) -> Self:
        """See `Evaluator`."""
        dataset = build_dataset(config.data, split)
        _refuse_other_classes(dataset, config, source)
        if job.boundary and not dataset.labels.coding.exclusive:
            raise ConfigError(
                "--boundary: needs one class a pixel; this model decides every class on its own (multi-label)."
            )
        return cls(job, config, split, dataset, build_predictor(source, config, job))

    def announce(self) -> None:
        """Another output stride than in training."""
        warn_of_other_stride(self.config.model)

    def loader(self, rank: int, world_size: int) -> Any:
        """Lists of whole images."""
        batch_size = self.config.evaluation.batch_size
        return evaluation_loader(
            self.dataset, self.config.data, batch_size=batch_size, rank=rank, world_size=world_size
        )

    def read(self, indices: Sequence[int]) -> list[Item]:
        """A list of whole images."""
        samples = WholeDataset(self.dataset)
        return [samples[index] for index in indices]

    @cached_property
    def measured(self) -> MetricSet:
        """What is measured; it counts each image, and joins all of them in the end."""
        asked = ("boundary",) if self.job.boundary else ()
        labels = self.dataset.labels
        metrics = metrics_of(self.config.task, labels, asked=asked)
        return MetricSet.of_task(metrics, labels, self.config)

    def count(self, batches: Iterable[Sequence[Item]]) -> Iterator[list[ImageCounts]]:
        """Predict batches of whole images and count their pixels; the counts of one batch after the other."""
        for samples in batches:
            yield [counts for batch in stack_equal_sizes(samples) for counts in self._count(batch)]

    def _count(self, batch: Batch) -> Iterator[ImageCounts]:
        with data_errors_about([printable(name) for name in batch["id"]]):
            predictions = self.predictor.scores(batch["image"], self.predictor.labels.coding.predict_mask)
        for name, truth, predicted in zip(batch["id"], batch["mask"], predictions, strict=True):
            self.measured.reset()
            self.measured.to(predicted.device).update(predicted[None], truth[None].to(predicted.device))
            table, *others = self.measured.states()
            yield image_counts(self.index_of[name], printable(name), table["counts"], others)

    def evaluation(self, images: Sequence[ImageCounts], output: Path, command: str | None) -> Evaluation:
        """Scores of the split."""
        counts = self._split_counts(images)
        others = zip(*(image.others for image in images), strict=True)
        return Evaluation(
            measured=self.measured.compute_joined([[{"counts": counts.matrix}], *others]),
            matrix=counts.matrix,
            output=output,
            per_image=tuple(image.judged() for image in images),
            interval=miou_interval(counts.regions),
            config=self.config,
            protocol=self.protocol(),
            command=command,
        )

    def _split_counts(self, images: Sequence[ImageCounts]) -> SplitCounts:
        return SplitCounts.of(images, self.dataset.labels.coding.table_shape)

    def write(self, result: Evaluation, images: Sequence[ImageCounts], *, report: bool) -> None:
        """metrics.json, per_image.csv, counts.npz, and the page."""
        (result.output / REPORT).unlink(missing_ok=True)  # one that is there shows other numbers
        self._split_counts(images).save(result.output / COUNTS)
        head = ["index", "id", "pixels", "miou", "pixel_accuracy", *(f"iou/{name}" for name in result.labels.names)]
        rows = [
            (each.index, each.id, each.pixels, each.miou, each.pixel_accuracy, *each.iou) for each in result.per_image
        ]
        write_per_image(result, head, rows)
        write_metrics(result, _scores(result))
        if report:
            from segzoo.evaluation.report.write import write_report  # with matplotlib, which numbers do not need

            write_report(result, self._example, result.output)

    def _example(self, index: int) -> Example:
        """An image of the split, with what the network says of it."""
        item = WholeDataset(self.dataset)[index]
        coding = self.predictor.labels.coding
        predicted = self.predictor.scores(item["image"][None], coding.predict_mask)[0].cpu().numpy()
        picture = as_picture(item["image"].permute(1, 2, 0).numpy())
        return Example(picture, item["mask"].numpy(), predicted)

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


def _scores(result: Evaluation) -> dict[str, Any]:
    """The metrics as metrics.json has them, with the interval behind mIoU."""
    found: dict[str, Any] = {}
    for name, value in result.measured.tree().items():
        found[name] = value
        if name == "miou":
            found["miou_interval"] = asdict(result.interval) if result.interval else None
    return found


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
