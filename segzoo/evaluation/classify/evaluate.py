"""Measuring a classifier on a split."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed

from segzoo.checkpoint.read import TrainedClassifier, find_checkpoint, load_classifier
from segzoo.config.classification import ClassificationRunConfig
from segzoo.data.classification.datamodule import central_loader
from segzoo.data.classification.dataset import ClassificationDataset, build_classification_dataset
from segzoo.data.progress import counted
from segzoo.errors import ConfigError, data_errors_about
from segzoo.evaluation.bench import changed_config, default_output, weights_kind
from segzoo.evaluation.classify.files import write_metrics, write_per_image
from segzoo.evaluation.classify.results import ClassEvaluation, ClassifiedImage, ClassProtocol
from segzoo.evaluation.files import REPORT, check_results
from segzoo.evaluation.numbers import class_scores
from segzoo.evaluation.processes import launched_processes
from segzoo.inference.class_predictor import ClassPredictor
from segzoo.log import show_log
from segzoo.tasks.classification_metrics import classification_scores
from segzoo.tasks.losses.registry import one_for_each_class
from segzoo.tasks.processes import is_first_process, process_count, process_number

logger = logging.getLogger(__name__)

_CHANGEABLE = ("data.", "evaluation.")


def evaluate_classifier(
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    output: str | Path | None = None,
    averaged: bool = True,
    report: bool = False,
    overwrite: bool = False,
    command: str | None = None,
) -> ClassEvaluation:
    """Measure a classifier on the central crops of a split's images.

    Neither the order of the images nor the number of torchrun's processes changes a number; the batch size changes
    none beyond the network's own rounding.

    Args:
        checkpoint: a `.ckpt` or a run directory of a classifier.
        overrides: `key=value` changes to the configuration it was trained with, such as `data.root=...`.
        split: which split; None takes `evaluation.split`, else `data.val_split`.
        output: folder for the files; None takes <run directory>/evaluation/<split>.
        averaged: as in `evaluate`.
        report: write report.html and plots, too.
        overwrite: replace an evaluation that is in the folder.
        command: the command line that asks for this, for the report.

    Raises:
        ConfigError: no such checkpoint, key, data set or split, other classes than it was trained on, or an evaluation
            that would be replaced.
        CheckpointError: refused, with the reason.
        DataError: the data set's content is wrong.
    """
    show_log()
    path = find_checkpoint(checkpoint)
    with launched_processes(1):
        bench = _Bench.of(load_classifier(path, averaged=averaged), overrides, split, averaged=averaged)
        folder = Path(output) if output else default_output(path, bench.split)
        check_results(folder, bench.config.data, report=report, overwrite=overwrite)
        result = bench.evaluation(bench.logits(), folder, command)
        if is_first_process():
            (folder / REPORT).unlink(missing_ok=True)  # one that is there shows other numbers
            write_per_image(result)
            write_metrics(result)
            if report:
                from segzoo.evaluation.classify.report import write_report  # with matplotlib, which numbers do not need

                write_report(result, bench.dataset.read_image)
        return result


@dataclass(frozen=True)
class _Bench:
    """A network and the images that it is measured on."""

    predictor: ClassPredictor
    config: ClassificationRunConfig
    dataset: ClassificationDataset
    split: str
    averaged: bool

    @classmethod
    def of(cls, source: TrainedClassifier, overrides: Sequence[str], split: str | None, *, averaged: bool) -> "_Bench":
        config = changed_config(source.config, overrides, _CHANGEABLE)
        split = split or config.evaluation.split or config.data.val_split
        dataset = build_classification_dataset(config.data, split)
        _refuse_other_classes(dataset, config, source)
        one_for_each_class(config.evaluation.class_weights, dataset.labels, "evaluation.class_weights")
        return cls(ClassPredictor(source), config, dataset, split, averaged)

    def logits(self) -> Tensor:
        """Of every image in the split's order, whoever computed them: float32 (N, K) on the CPU."""
        rank, world_size = (process_number(), process_count()) if process_count() > 1 else (0, 1)
        if rank == 0:
            logger.info("evaluating: %d images of split %s", len(self.dataset), self.split)
        loader = central_loader(self.dataset, self.config.data, self.config.evaluation.batch_size, rank, world_size)
        batches = counted(loader, len(loader), "evaluating") if rank == 0 else loader
        mine = [self._logits(batch["id"], batch["image"]) for batch in batches if batch]
        parts = _of_all_processes(torch.cat(mine) if mine else None)
        logits = torch.empty(len(self.dataset), self.dataset.labels.num_classes)
        for number, part in enumerate(parts):
            if part is not None:
                logits[number::world_size] = part
        return logits

    def _logits(self, names: Sequence[str], images: Tensor) -> Tensor:
        with data_errors_about(names):
            return self.predictor.logits(images).cpu()

    def evaluation(self, logits: Tensor, folder: Path, command: str | None) -> ClassEvaluation:
        labels = self.dataset.labels
        target = torch.from_numpy(np.stack([labels.coding.image_target(own) for own in self.dataset.classes]))
        scores = classification_scores(logits, target, labels, self.config.evaluation.class_weights)
        return ClassEvaluation(
            scores=scores,
            classes=class_scores(scores["confusion_matrix"]),
            labels=labels,
            per_image=tuple(self._images(logits)),
            output=folder,
            config=self.config,
            protocol=self._protocol(),
            command=command,
        )

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
        return ClassProtocol(
            dataset=self.config.data.name,
            split=self.split,
            checkpoint=str(self.predictor.source.path),
            weights=weights_kind(self.config, averaged=self.averaged),
            image_size=self.config.data.image_size,
            center_crop=self.config.data.center_crop,
            class_weights=self.config.evaluation.class_weights,
        )


def _of_all_processes(mine: Tensor | None) -> list[Tensor | None]:
    if process_count() == 1:
        return [mine]
    parts: list[Tensor | None] = [None] * process_count()
    distributed.all_gather_object(parts, mine)
    return parts


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
