"""A classifier measured: from the centres of images to scores of the classes, and to what these say."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segzoo.checkpoint.read import TrainedClassifier
from segzoo.config.classification import ClassificationRunConfig
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.loading.classification_datamodule import central_loader
from segzoo.data.loading.classification_items import CentralDataset, as_class_batch
from segzoo.data.sample import ClassificationDataset
from segzoo.data.transforms.classification import CenterView
from segzoo.errors import ConfigError, data_errors_about
from segzoo.evaluation.evaluator import Evaluator, Job, weights_kind
from segzoo.evaluation.files import REPORT, write_metrics, write_per_image
from segzoo.evaluation.results import ClassEvaluation, ClassifiedImage, ClassProtocol
from segzoo.evaluation.tables import class_tables
from segzoo.inference.class_predictor import ClassPredictor
from segzoo.tasks.losses.registry import one_for_each_class
from segzoo.tasks.metrics import MetricSet, metrics_of


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
    tables = staticmethod(class_tables)

    @classmethod
    def of(cls, job: Job, source: TrainedClassifier, config: ClassificationRunConfig, split: str) -> Self:
        """See `Evaluator`."""
        if job.boundary:
            raise ConfigError("--boundary: for segmenters only, and this is a classifier. Leave it out.")
        dataset = build_classification_dataset(config.data, split)
        _refuse_other_classes(dataset, config, source)
        one_for_each_class(config.evaluation.class_weights, dataset.labels, "evaluation.class_weights")
        predictor = ClassPredictor(source, engine=job.engine, precision=job.precision)
        return cls(job, config, split, dataset, predictor)

    def loader(self, rank: int, world_size: int) -> Any:
        """Batches of centres; an empty list in a process without images."""
        return central_loader(self.dataset, self.config.data, self.config.evaluation.batch_size, rank, world_size)

    def read(self, indices: Sequence[int]) -> dict[str, Any]:
        """A batch of centres."""
        images = CentralDataset(self.dataset, CenterView(self.config.data))
        return as_class_batch([images[index] for index in indices])

    def count(self, batches: Iterable[Any]) -> Iterator[list[ImageScores]]:
        """The scores of each image."""
        for batch in filter(None, batches):
            with data_errors_about(batch["id"]):
                scores = self.predictor.scores(batch["image"]).cpu().numpy()
            yield [ImageScores(self.index_of[name], row) for name, row in zip(batch["id"], scores, strict=True)]

    def evaluation(self, images: Sequence[ImageScores], output: Path, command: str | None) -> ClassEvaluation:
        """Scores of the split."""
        logits = torch.from_numpy(np.stack([image.scores for image in images]))
        labels = self.dataset.labels
        target = torch.from_numpy(np.stack([labels.coding.image_target(own) for own in self.dataset.classes]))
        measured = MetricSet.of_task(metrics_of(self.config.task, labels), labels, self.config)
        measured.update(logits, target)
        return ClassEvaluation(
            measured=measured.compute_joined([[state] for state in measured.states()]),
            matrix=labels.coding.count(labels.coding.predict(logits).long(), target.long()),
            per_image=tuple(self._images(logits)),
            output=output,
            config=self.config,
            protocol=self._protocol(),
            command=command,
        )

    def write(self, result: ClassEvaluation, images: Sequence[ImageScores], *, report: bool) -> None:
        """metrics.json, per_image.csv, and the page."""
        (result.output / REPORT).unlink(missing_ok=True)  # one that is there shows other numbers
        head = ["index", "id", "truth", "predicted", "probability", "truth_probability", "rank"]
        rows = [
            (
                each.index,
                each.id,
                ";".join(each.truth),
                each.predicted,
                each.probability,
                each.truth_probability,
                each.rank,
            )
            for each in result.per_image
        ]
        write_per_image(result, head, rows)
        write_metrics(result, result.measured.tree())
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
            weights=weights_kind(self.config, averaged=self.job.averaged),
            image_size=self.config.data.image_size,
            center_crop=self.config.data.center_crop,
            class_weights=self.config.evaluation.class_weights,
            engine=None if plain else f"{engine.name}, {engine.precision}",
        )


def _refuse_other_classes(
    dataset: ClassificationDataset, config: ClassificationRunConfig, source: TrainedClassifier
) -> None:
    found, trained = dataset.labels, source.labels
    if not found.is_like(trained):
        raise ConfigError(
            f"data: {config.data.name} has {_shown(found.names)}, and {source.path} was trained on "
            f"{_shown(trained.names)}. Name the data set it was trained on, or its classes: data.classes."
        )


def _shown(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > 10 else ""
    return f"the {len(names)} classes {', '.join(names[:10])}{more}"
