"""Segmentation as a LightningModule: loss, confusion matrix, scores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Self, TypedDict, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from segzoo.checkpoint.format import parse_description
from segzoo.checkpoint.read import load_strictly, network_state, read_checkpoint
from segzoo.config.load import config_from_tree, for_segmentation
from segzoo.config.schema import ModelConfig, RunConfig
from segzoo.cpu.recompute import TrainingPass
from segzoo.data.loading.items import Item
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter, planned_for_evaluation
from segzoo.models.segmenter import Segmenter
from segzoo.tasks.confusion import Scores
from segzoo.tasks.losses import SegmentationLoss, build_loss, loss_weight_of
from segzoo.tasks.metrics import MetricSet, validation_metrics
from segzoo.tasks.names import known_names
from segzoo.tasks.optim import batch_advice
from segzoo.tasks.task import Task, ids_of


class Batch(TypedDict):
    """Images and masks of one size, and the samples' names.

    Shape: image (N, C, H, W), uint8 or float32 from 0 to 1; mask integer (N, H, W), or (N, K, H, W) where a pixel may
        have several classes.
    """

    image: Tensor
    mask: Tensor
    id: list[str]


class SegmentationTask(Task):
    """A segmenter that trains and is measured by mIoU, under `segzoo.train` or any `lightning.Trainer`.

    It is made of a configuration, or by `from_network` of parts. A batch for training is a dictionary of `image`
    and `mask`, and `id` where messages should name images; or a pair (image, mask). A validation takes the same, or a
    list of samples of unequal sizes. It logs `train/loss`, `val/miou`, `val/pixel_accuracy` and `val/iou/<class>`.

    `step_loss` is the loss of the newest step, over all processes; `scores` are the newest validation's.

    Args:
        config: the run.
        labels: classes, palette and ignore index of the data set.
        steps: optimiser steps in the whole run, for the schedule; None takes the Trainer's length.
        pretrained: start from the weights that the configuration names; not where a checkpoint follows.
        samples: images in the training split, for a schedule that counts passes over it.
        network: in place of the configuration's; images in, logits of their size out.
        loss: in place of the configuration's; logits and masks in, a scalar out.
        optimizer: in place of the configuration's; makes one of the network, whose learning rate stays.
    """

    config: RunConfig
    scores: Scores | None
    method = "training_logits"

    def __init__(
        self,
        config: RunConfig,
        labels: LabelSpace,
        steps: int | None = None,
        *,
        pretrained: bool = True,
        samples: int | None = None,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        optimizer: Callable[[nn.Module], Optimizer] | None = None,
    ) -> None:
        super().__init__(config, labels, steps, samples=samples)
        is_described = getattr(network, "built_from", None) is not None
        own = {"network": None if is_described else network, "loss": loss, "optimizer": optimizer}
        self.own_parts = {name: _name_of(part) for name, part in own.items() if part is not None}
        self.loss = build_loss(config.loss, labels) if loss is None else loss  # first, for it may refuse the classes
        self.segmenter = self._built(pretrained) if network is None else cast(Segmenter, network)
        if not isinstance(self.segmenter, Segmenter):
            self._training_pass = TrainingPass("forward", recompute=False)
        self._own_optimizer = optimizer
        self.measured = MetricSet.of_task(validation_metrics(config, labels), labels, config)
        self._evaluated = self._plan_evaluation()  # now, so that what cannot be planned is refused before training
        if config.trainer.channels_last:
            self.segmenter.to(memory_format=torch.channels_last)

    def _built(self, pretrained: bool) -> Segmenter:
        channels = self.config.data.channels
        return build_segmenter(self.config.model, self.labels.num_classes, in_channels=channels, pretrained=pretrained)

    @classmethod
    def from_network(
        cls,
        network: Mapping[str, Any] | nn.Module,
        labels: LabelSpace | Sequence[str],
        *,
        loss: str | Mapping[str, Any] | nn.Module = "cross_entropy",
        optimizer: Mapping[str, Any] | Callable[[nn.Module], Optimizer] | None = None,
        steps: int | None = None,
        preprocessing: Mapping[str, Sequence[float]] | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
    ) -> Self:
        """A task without a run's configuration.

        Args:
            network: a `model` section, such as {"decoder": "unet", "backbone": {"name": "xception"}}; a segmenter that
                segzoo built; or any module from images (N, C, H, W) to logits (N, K, H, W). Checkpoints of the first
                two are read by every command.
            labels: the classes, or their names.
            loss: name, `loss` section, or a module from logits and masks to a scalar.
            optimizer: `optimizer` section, or what makes an optimiser of the network, whose learning rate then stays;
                None takes the section's defaults, which are DeepLab's.
            steps: optimiser steps in the whole run, for the schedule; None takes the Trainer's length.
            preprocessing: `mean` and `std` of each channel, in units of the full range; None is 0.5 for three.
            accumulate: parts that a batch passes the network in, one after the other.
            clip_norm: largest gradient norm; None does not clip.

        Raises:
            ConfigError: a key or a value that a section does not have, or parts that do not fit together.

        >>> SegmentationTask.from_network(torch.nn.Conv2d(3, 2, 1), ["ground", "square"]).labels.num_classes
        2
        """
        pixels = {name: list(values) for name, values in (preprocessing or {}).items()}
        tree = {
            "data": {"name": "in_memory", "channels": len(pixels.get("mean", "RGB")), "preprocessing": pixels or None},
            "model": _section(getattr(network, "built_from", network)),
            "loss": {"name": loss} if isinstance(loss, str) else _section(loss),
            "optimizer": _section(optimizer),
            # One of the two lengths has to stand there; without steps the Trainer's counts.
            "trainer": {"accumulate": accumulate, "clip_norm": clip_norm}
            | ({"max_epochs": 1} if steps is None else {"max_steps": steps}),
        }
        if not pixels:
            del tree["data"]["preprocessing"]
        if "weights" in tree["model"]:
            raise ConfigError("model.weights: a task does not start from a checkpoint. Take load_from_checkpoint.")
        names = {key: known for key, known in known_names().items() if key != "data.name"}
        config = config_from_tree(tree, known_names=names)
        return cls(
            for_segmentation(config),
            labels if isinstance(labels, LabelSpace) else LabelSpace.from_names(labels),
            steps,
            network=None if isinstance(network, Mapping) else network,
            loss=loss if isinstance(loss, nn.Module) else None,
            optimizer=None if isinstance(optimizer, Mapping) else optimizer,
        )

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's takes what the constructor takes
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device | None = None,
        *,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        optimizer: Callable[[nn.Module], Optimizer] | None = None,
    ) -> Self:
        """The task of a checkpoint, read without executing anything from it.

        Args:
            checkpoint_path: of a run, or what `ModelCheckpoint` saved.
            map_location: device of the task.
            network: as the task had it, where it was a module that no configuration describes.
            loss: as `network`; without it the task does not go on training as it did.
            optimizer: as `loss`.

        Raises:
            CheckpointError: refused, with the reason.
        """
        path = Path(checkpoint_path)
        content = read_checkpoint(path)
        found = parse_description(content["segzoo"], str(path), needs_network=network is None)
        config = for_segmentation(found.config)
        task = cls(config, found.labels, network=network, loss=loss, optimizer=optimizer, pretrained=False)
        load_strictly(task.network, network_state(content["state_dict"], found), path)
        return task.to(map_location or "cpu")

    @property
    def network(self) -> Segmenter:
        """The segmenter."""
        return self.segmenter

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, K, H, W) of a batch's images (N, C, H, W), as evaluation sees them in `eval()`."""
        segmenter = self.segmenter if self.training else self._evaluated[0]
        logits: Tensor = segmenter(self._pixels(image))
        return logits

    def _plan_evaluation(self) -> tuple[Segmenter]:
        """The network at `model.eval_output_stride`; in a tuple, so that its weights do not count as a second set."""
        if "network" in self.own_parts:
            return (self.segmenter,)
        return (planned_for_evaluation(self.segmenter, self.config.model, self.labels.num_classes),)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """As every task's, after the loss has heard the step."""
        if isinstance(self.loss, SegmentationLoss):
            self.loss.at_step(self.global_step)
        groups = batches_of(batch)
        if len(groups) != 1:
            sizes = ", ".join("×".join(map(str, group["image"].shape[-2:])) for group in groups)
            raise ConfigError(
                f"training batches: images of several sizes ({sizes}), and a step takes one size. Crop or resize them "
                "in the data set, or take batch_size=1."
            )
        _check_masks(groups[0], self.labels)
        return super().training_step(groups[0], batch_index)

    def loss_weight(self, batch: Batch) -> Tensor:
        """The pixels that count, or the sum of their weights; 1 for a loss that is no mean over pixels."""
        return loss_weight_of(self.loss, self._target(batch), self.labels.ignore_index)

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss on the logits, plus the weighted one on the auxiliary head's where there is one."""
        target = self._target(batch)
        outputs = self._trained(batch["image"])
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss: Tensor = self.loss(logits, target)
        for others in auxiliary:
            loss = loss + self.config.model.auxiliary_weight * self.loss(others, target)
        return loss

    def _target(self, batch: Batch) -> Tensor:
        """The masks as losses take them."""
        return self.labels.coding.mask_target(batch["mask"])

    def on_validation_start(self) -> None:
        """Plan the evaluated network anew: moving to a device has replaced the buffers that it shares."""
        super().on_validation_start()
        self._evaluated = self._plan_evaluation()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Count one batch's pixels, at the images' own resolution."""
        for group in batches_of(batch):
            _check_masks(group, self.labels)
            self.measured.update(self.predicted(group["image"], ids_of(group)), group["mask"])

    def predict_step(self, batch: Any, batch_index: int) -> Tensor | list[Tensor]:
        """The masks of images, uint8 (N, H, W), whether or not truth lies beside them; of unequal sizes, a list."""
        groups = batches_of(batch)
        if len(groups) == 1:
            return self.predicted(groups[0]["image"], ids_of(groups[0]))
        alone = [group for sample in batch for group in batches_of([sample])]
        return [self.predicted(group["image"], ids_of(group))[0] for group in alone]

    def predicted(self, image: Tensor, ids: Sequence[str]) -> Tensor:
        """The masks of whole images, as a validation measures them.

        Args:
            image: (N, C, H, W).
            ids: of the images, for what is said of scores that are no numbers.
        """
        return self.labels.coding.predict_mask(self.checked_scores(self(image), ids))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The user's, or the configuration's."""
        return super().configure_optimizers() if self._own_optimizer is None else self._own_optimizer(self.network)

    def _advice(self, images_per_step: int) -> str | None:
        return batch_advice(self.config.optimizer, images_per_step)


def _section(part: object) -> dict[str, Any]:
    """A section of a configuration; empty for a part that none describes."""
    if isinstance(part, ModelConfig):
        return part.model_dump(mode="json", exclude_unset=True)
    return dict(part) if isinstance(part, Mapping) else {}


def _name_of(part: object) -> str:
    kind = part if hasattr(part, "__qualname__") else type(part)
    return f"{kind.__module__}.{kind.__qualname__}"


def batches_of(batch: Any) -> list[Batch]:
    """What a loader gives, as batches of equal sizes.

    Args:
        batch: what torch's `default_collate` makes of samples, or a list of them. A sample is a dictionary, a pair
            (image, mask), or an image alone; names, and masks where they are only predicted, may be missing.
    """
    if isinstance(batch, Mapping | Tensor) or (batch and isinstance(batch[0], Tensor) and batch[0].dim() == 4):
        return [cast(Batch, _by_name(batch))]
    return list(stack_equal_sizes([cast(Item, _by_name(sample)) for sample in batch]))


def _by_name(parts: Any) -> Mapping[str, Any]:
    """Image and mask, of a sample or a batch, as a dictionary."""
    if isinstance(parts, Mapping):
        return parts
    return dict(zip(("image", "mask"), (parts,) if isinstance(parts, Tensor) else parts, strict=False))


def stack_equal_sizes(samples: Sequence[Item]) -> Iterator[Batch]:
    """Samples as batches, one for each image size, so that no image is padded to fit its neighbours."""

    def size(sample: Item) -> tuple[int, ...]:
        return tuple(sample["image"].shape)

    for _, group in groupby(sorted(samples, key=size), key=size):
        columns: dict[str, list[Any]] = {}
        for member in group:
            for name in ("image", "mask", "id"):
                if name in member:
                    columns.setdefault(name, []).append(member[name])
        yield cast(Batch, {name: values if name == "id" else torch.stack(values) for name, values in columns.items()})


def _check_masks(batch: Batch, labels: LabelSpace) -> None:
    """Refuse a batch whose masks are not there, or not of the images' size.

    Raises:
        ConfigError: what a mask has to be.
    """
    image, mask = batch["image"], batch.get("mask")
    expected = (len(image), *labels.coding.axes, *image.shape[-2:])
    if mask is None or mask.shape != expected:
        found = "none" if mask is None else f"of shape {tuple(mask.shape)}"
        raise ConfigError(f"masks of a batch: {found}, where images {tuple(image.shape)} need {expected}")
