"""A classifier measured on the centres of images: what is kept of each, what all say together, and the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segzoo.checkpoint.read import TrainedClassifier
from segzoo.config.classification import ClassificationRunConfig
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.loading.items import CentralDataset
from segzoo.data.sample import ClassificationDataset
from segzoo.data.transforms.classification import CenterView
from segzoo.errors import ConfigError
from segzoo.evaluation.evaluator import Evaluator, Job
from segzoo.evaluation.results import REPORT, ClassEvaluation, ClassifiedImage, ClassProtocol
from segzoo.inference.class_predictor import ClassPredictor
from segzoo.tasks.losses.base import one_for_each_class


@dataclass(frozen=True)
class ImageScores:
    """What the network says of one image.

    Args:
        index: its number in the split.
        scores: logits, float32 (K,).
    """

    index: int
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassEvaluator(Evaluator):
    """A classifier, measured on the centres of images."""

    config: ClassificationRunConfig
    dataset: ClassificationDataset
    predictor: ClassPredictor

    changeable = ("data.", "evaluation.")
    options = ()

    @classmethod
    def of(cls, job: Job, source: TrainedClassifier, config: ClassificationRunConfig, split: str) -> Self:
        """See `Evaluator`."""
        if job.boundary:
            raise ConfigError("--boundary: for segmenters only, and this is a classifier. Leave it out.")
        dataset = build_classification_dataset(config.data, split)
        _check_classes(dataset, config, source)
        one_for_each_class(config.evaluation.class_weights, dataset.labels, "evaluation.class_weights")
        predictor = ClassPredictor(source, engine=job.engine, precision=job.precision)
        return cls(job, config, split, dataset, predictor)

    @cached_property
    def items(self) -> CentralDataset:
        """Centres of images with their classes."""
        return CentralDataset(self.dataset, CenterView(self.config.data))

    def predict(self, images: Tensor) -> Tensor:
        """The logits."""
        return self.predictor.scores(images).cpu()

    def keep(self, index: int, name: str, prediction: Tensor, batch: Any, number: int) -> ImageScores:
        """The logits, of which the metrics are made when all are there: they rank the images of a class."""
        return ImageScores(index, prediction.numpy())

    def evaluation(self, images: Sequence[ImageScores], output: Path, command: str | None) -> ClassEvaluation:
        """Scores of the split."""
        logits = torch.from_numpy(np.stack([image.scores for image in images]))
        coding = self.dataset.labels.coding
        target = torch.from_numpy(np.stack([coding.image_target(own) for own in self.dataset.classes]))
        self.metrics.reset()
        self.metrics.update(logits, target)
        return ClassEvaluation(
            measured=self.metrics.compute_joined([[state] for state in self.metrics.states()]),
            matrix=coding.count(coding.predict(logits).long(), target.long()),
            per_image=tuple(self._images(logits)),
            output=output,
            config=self.config,
            protocol=self._protocol(),
            command=command,
        )

    def write(self, result: ClassEvaluation, images: Sequence[ImageScores], *, report: bool) -> None:
        """metrics.json, per_image.csv, and the page."""
        (result.output / REPORT).unlink(missing_ok=True)  # one that is there shows other numbers
        result.write()
        if report:
            from segzoo.evaluation.report.write import write_class_report  # with matplotlib, which numbers do not need

            write_class_report(result, self.dataset.read_image, result.output)

    def _images(self, logits: Tensor) -> Iterator[ClassifiedImage]:
        names = self.dataset.labels.names
        chances = self.dataset.labels.coding.probabilities(logits.double())
        order = torch.sort(logits, dim=1, descending=True, stable=True).indices
        ranks = torch.empty_like(order).scatter_(1, order, torch.arange(1, len(names) + 1).expand_as(order))
        for index, own in enumerate(self.dataset.classes):
            first = int(order[index, 0])
            best = min(own, key=lambda k: int(ranks[index, k])) if own else None
            yield ClassifiedImage(
                index=index,
                id=self.dataset.ids[index],
                truth=tuple(names[k] for k in own),
                predicted=names[first],
                probability=float(chances[index, first]),
                truth_probability=None if best is None else float(chances[index, best]),
                rank=None if best is None else int(ranks[index, best]),
            )

    def _protocol(self) -> ClassProtocol:
        engine = self.predictor.engine
        plain = (engine.name, engine.precision) == ("torch", "fp32")
        return ClassProtocol(
            dataset=self.config.data.name,
            split=self.split,
            checkpoint=str(self.job.checkpoint),
            weights=self.weights_kind(),
            image_size=self.config.data.image_size,
            center_crop=self.config.data.center_crop,
            class_weights=self.config.evaluation.class_weights,
            engine=None if plain else f"{engine.name}, {engine.precision}",
        )


def _check_classes(dataset: ClassificationDataset, config: ClassificationRunConfig, source: TrainedClassifier) -> None:
    found, trained = dataset.labels, source.labels
    if not found.is_like(trained):
        raise ConfigError(
            f"data: {config.data.name} has {_shown(found.names)}, and {source.path} was trained on "
            f"{_shown(trained.names)}. Name the data set it was trained on, or its classes: data.classes."
        )


def _shown(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > 10 else ""
    return f"the {len(names)} classes {', '.join(names[:10])}{more}"
