"""What a user of SMP gets from the same images in as many steps: a plain loop, measured by our protocol."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from laboratory.baseline import ENCODER, baseline_network, baseline_with_our_encoder
from laboratory.benchmarks.loader import PlainDataset
from laboratory.benchmarks.subjects import CHANNELS, as_trained
from segzoo.config.schema import RunConfig
from segzoo.data.datasets.listing import FileDataset
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.loading.sampling import StepBatchSampler
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError
from segzoo.evaluation.evaluate import measure
from segzoo.evaluation.evaluator import Job
from segzoo.evaluation.mask_evaluator import MaskEvaluator, build_predictor
from segzoo.evaluation.results import Evaluation, check_results

_IGNORED = 255
_TELL_EVERY = 20  # steps

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Baseline:
    """SMP's DeepLabV3+ to train.

    Args:
        encoder: SMP's name of what it stands on.
        network: in evaluation mode.
    """

    encoder: str
    network: nn.Module


def train_baseline(config: RunConfig, output: Path, *, overwrite: bool = False) -> Evaluation:
    """Train SMP's DeepLabV3+ as its users write it, and measure it on whole images as `evaluate` does.

    Pillow and albumentations on whole pictures, cross-entropy, AdamW over all parameters, the learning rate falling by
    the poly rule, bfloat16 by autocast where the configuration has it. Of a configuration it takes data, weights,
    steps, seed, and the learning rates of backbone and decoder. Weights need our encoder in SMP, since SMP's own takes
    timm's only; without, the encoder is timm's Xception-65.

    Args:
        config: of a segmentation of files in pairs.
        output: gets metrics.json and the tables of an evaluation.
        overwrite: replace an evaluation that is there.

    Raises:
        ConfigError: no `trainer.max_steps`, other data, or an output that cannot be made or would be replaced.
        CheckpointError: weights that do not fit.
    """
    steps = config.trainer.max_steps
    if steps is None:
        raise ConfigError("trainer.max_steps: null, but the baseline is trained by steps. Give their number.")
    dataset = build_dataset(config.data, config.data.train_split)
    if not isinstance(dataset, FileDataset):
        raise ConfigError(
            f"data.name: {config.data.name} is not read from pairs of files; the baseline reads no other."
        )
    if _needs_more_than_reading(dataset.labels) or config.data.channels != CHANNELS:
        raise ConfigError(
            f"data.name: {config.data.name}: the baseline reads RGB images, and masks that hold the classes' numbers."
        )
    torch.manual_seed(config.seed)
    baseline = _baseline(config, dataset.labels.num_classes)
    plain = PlainDataset(dataset.pairs, config.data)
    plain.pipeline.set_random_seed(config.seed)
    order = StepBatchSampler(len(dataset), config.images_per_step, steps, config.seed)
    split = config.evaluation.split or config.data.val_split
    measured = build_dataset(config.data, split)  # what is wrong with it is said before the training
    check_results(output, config.data, report=False, overwrite=overwrite)
    train_plainly(baseline.network, iter(DataLoader(plain, batch_sampler=order)), config, steps)
    return _measured(baseline, config, split, measured, output)


def _needs_more_than_reading(labels: LabelSpace) -> bool:
    """Whether a mask's values are not the numbers of its classes, those that are none aside."""
    moved = any(
        raw != index and (index != labels.ignore_index or raw < labels.num_classes) for raw, index in labels.raw_ids
    )
    return moved or labels.raw_colors or labels.multi_label


def _baseline(config: RunConfig, classes: int) -> Baseline:
    backbone = config.model.backbone
    if backbone.weights is None:
        return Baseline(ENCODER, baseline_network(classes))
    return Baseline(f"segzoo-{backbone.name}", baseline_with_our_encoder(classes, backbone.name, backbone.weights))


def train_plainly(network: nn.Module, batches: Iterator[list[Tensor]], config: RunConfig, steps: int) -> None:
    network.to(memory_format=torch.channels_last)
    network.train()
    rate = config.optimizer.learning_rate
    factors = {"encoder": config.optimizer.backbone_lr_factor, "decoder": 1, "segmentation_head": 1}
    groups = [
        {"params": network.get_submodule(name).parameters(), "lr": rate * factor} for name, factor in factors.items()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.optimizer.weight_decay)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, config.optimizer.poly_power)
    for step, (image, mask) in enumerate(batches, start=1):
        with torch.autocast("cpu", torch.bfloat16, enabled=config.trainer.precision == "bf16"):
            logits = network(image.contiguous(memory_format=torch.channels_last))
        loss = loss_without_void(logits.float(), mask)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % _TELL_EVERY == 0 or step == steps:
            logger.info("step %d of %d: loss %.3f", step, steps, loss.item())
    network.eval()


def loss_without_void(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy; numbers that are no class are void."""
    return F.cross_entropy(logits, mask.where(mask < logits.shape[1], _IGNORED), ignore_index=_IGNORED)


def _measured(
    baseline: Baseline, config: RunConfig, split: str, dataset: SegmentationDataset, output: Path
) -> Evaluation:
    name = Path(f"SMP, {baseline.encoder}")
    source = as_trained(baseline.network, config, dataset.labels)
    job = Job(name, (), split, averaged=True, engine="torch", precision="fp32", boundary=False)
    evaluator = MaskEvaluator(job, config, split, dataset, build_predictor(source, config, job))
    return measure(evaluator, output, processes=1, report=False, command=None)
