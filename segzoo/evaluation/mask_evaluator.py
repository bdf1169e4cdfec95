"""A segmenter measured on whole images: what is kept of each, what all say together, and the files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import RunConfig
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.loading.items import WholeDataset
from segzoo.data.reading.pixels import as_picture
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError
from segzoo.evaluation.counts import ImageCounts, SplitCounts, image_counts, miou_interval
from segzoo.evaluation.evaluator import Evaluator, Job
from segzoo.evaluation.report.pictures import Example
from segzoo.evaluation.results import COUNTS, REPORT, Evaluation, ImageScore, Protocol
from segzoo.inference.augment import TestTimeAugmentation, configured_augmentation
from segzoo.inference.predictor import Predictor
from segzoo.models.build import planned_for_evaluation
from segzoo.models.networks import warn_of_other_stride

CHANGEABLE = ("data.", "evaluation.", "model.eval_output_stride=")


@dataclass(frozen=True)
class MaskEvaluator(Evaluator):
    """A segmenter, measured on whole images by their pixels."""

    config: RunConfig
    dataset: SegmentationDataset
    predictor: Predictor

    changeable = CHANGEABLE
    options = ("tta", "tile", "boundary", "submission")

    @classmethod
    def of(cls, job: Job, source: TrainedSegmenter, config: RunConfig, split: str) -> Self:
        """See `Evaluator`."""
        dataset = build_dataset(config.data, split)
        _check_classes(dataset, config, source)
        if job.boundary and not dataset.labels.coding.exclusive:
            raise ConfigError(
                "--boundary: needs one class a pixel; this model decides every class on its own (multi-label)."
            )
        return cls(job, config, split, dataset, build_predictor(source, config, job))

    def announce(self) -> None:
        """Another output stride than in training."""
        warn_of_other_stride(self.config.model)

    @cached_property
    def items(self) -> WholeDataset:
        """Whole images with their masks."""
        return WholeDataset(self.dataset)

    def predict(self, images: Tensor) -> Tensor:
        """The masks."""
        return self.predictor.scores(images, self.predictor.labels.coding.predict_mask)

    def keep(self, index: int, name: str, prediction: Tensor, batch: Any, number: int) -> ImageCounts:
        """What each metric counts in the image."""
        truth = batch["mask"][number].to(prediction.device)
        self.metrics.reset()
        self.metrics.to(prediction.device).update(prediction[None], truth[None])
        table, *others = self.metrics.states()
        return image_counts(index, name, table["counts"], others)

    def evaluation(self, images: Sequence[ImageCounts], output: Path, command: str | None) -> Evaluation:
        """The counts of all images joined."""
        counts = self._split_counts(images)
        others = zip(*(image.others for image in images), strict=True)
        return Evaluation(
            measured=self.metrics.compute_joined([[{"counts": counts.matrix}], *others]),
            matrix=counts.matrix,
            output=output,
            per_image=tuple(map(_judged, images)),
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
        result.write()
        if report:
            from segzoo.evaluation.report.write import write_report  # with matplotlib, which numbers do not need

            write_report(result, self._example, result.output)

    def _example(self, index: int) -> Example:
        """An image of the split, with what the network says of it."""
        item = self.items[index]
        picture = as_picture(item["image"].permute(1, 2, 0).numpy())
        return Example(picture, item["mask"].numpy(), self.predict(item["image"][None])[0].cpu().numpy())

    def protocol(self) -> Protocol:
        """How it measures."""
        engine = self.predictor.engine
        return Protocol(
            dataset=self.config.data.name,
            split=self.split,
            checkpoint=str(self.job.checkpoint),
            weights=self.weights_kind(),
            output_stride=self.config.model.eval_output_stride or self.config.model.output_stride,
            engine=engine.name,
            precision=engine.precision,
            tta=_in_words(self.predictor.tta),
            tile=self.predictor.tile,
            tile_overlap=self.predictor.overlap if self.predictor.tile else None,
        )


def _judged(image: ImageCounts) -> ImageScore:
    scores = image.scores
    return ImageScore(image.index, image.id, scores.miou, scores.pixel_accuracy, scores.iou, image.counted)


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


def _check_classes(dataset: SegmentationDataset, config: RunConfig, source: TrainedSegmenter) -> None:
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
