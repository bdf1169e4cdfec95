"""What to train with, from what the data and the machine are; a reason for each choice."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.data.inspection.make_config.classes import Classes
from segzoo.data.inspection.make_config.facts import Facts

_GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """A machine in numbers.

    Args:
        threads: that computations run on.
        memory: of the processor, in GiB.
        gpu: name of the first GPU; None where there is none.
        gpu_memory: in GiB; 0 without a GPU.
        fast_bf16: whether bfloat16 is quicker than float32 here.
    """

    threads: int
    memory: float
    gpu: str | None = None
    gpu_memory: float = 0.0
    fast_bf16: bool = False

    def __str__(self) -> str:
        if self.gpu:
            return f"{self.gpu} with {self.gpu_memory:.0f} GiB"
        return f"no GPU, {self.threads} thread{'' if self.threads == 1 else 's'}, {self.memory:.0f} GiB"


def this_machine() -> Machine:
    """What this process can see."""
    import torch  # seconds, which the rest of this package does without

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB if hasattr(os, "sysconf") else 8.0
    threads = torch.get_num_threads()
    if not torch.cuda.is_available():
        return Machine(threads, memory, fast_bf16=_has_matrix_units())
    properties = torch.cuda.get_device_properties(0)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Machine(threads, memory, properties.name, properties.total_memory / _GIB, fast_bf16=bf16)


def _has_matrix_units() -> bool:
    """Whether the processor multiplies bfloat16 matrices by itself; without such units float32 is quicker."""
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and "amx_bf16" in cpu.read_text(encoding="utf-8", errors="replace")


_MULTIPLE = 32  # size of the pixel that the deepest tap sees; a multiple wastes nothing
_CPU_CROP_AREA = 192 * 256
_LARGE_CPU_CROP_AREA = 256 * 512  # for images so large that a smaller crop would show one thing only
_LARGE_SHARE = 1 / 16  # of a large image that a crop should show
_GPU_CROP = 512
_SMALL_SIDE = 320  # pixels; pictures below are details rather than scenes
_FEW_CLASSES = 4
_RARE = 0.2  # of an even share of the pixels
_CPU_SECONDS = 420
# Pixels a second and thread of a network of width 0.25 to 0.35 in training, measured on a server processor of 2023.
_PIXELS_A_SECOND = {False: 130_000, True: 240_000}
_THREAD_GAIN = 0.7  # of each further thread
_GIB_PER_PIXEL = 1.2 / 512**2  # of GPU memory, Xception-65 in training at 16 bits
_GPU_STEPS = 10_000
_LARGEST_WHOLE = 2048**2  # pixels of an image that validation takes whole
_TILE = 1024


@dataclass(frozen=True)
class Choice:
    """The value of a key, and why.

    Args:
        value: plain YAML types.
        reason: a few words; empty where the key says it all.
    """

    value: Any
    reason: str = ""


Choices = dict[str, Choice]
"""Dotted key to its choice, in the order in which they are written."""


def choose_training(facts: Facts, classes: Classes, machine: Machine) -> Choices:
    """All keys but those that say where the data is and what its masks mean.

    Args:
        facts: of the data set.
        classes: what the masks hold.
        machine: that will train.
    """
    scenes = len(classes.names) > _FEW_CLASSES and min(facts.height, facts.width) >= _SMALL_SIDE
    crop = _crop(facts, machine)
    batch = _batch(facts, machine, crop)
    return {
        **_data_choices(facts, machine, crop, batch, scenes=scenes),
        **_model_choices(classes, machine, scenes=scenes),
        **_loss_choices(classes),
        **_optimizer_choices(machine, batch),
        **_trainer_choices(facts, machine, crop, batch),
        **_evaluation_choices(facts),
    }


def _evaluation_choices(facts: Facts) -> Choices:
    if facts.largest <= _LARGEST_WHOLE:
        return {}
    return {"evaluation.tile": Choice(_TILE, "pixels a side: validation and evaluation see large images by parts")}


def _crop(facts: Facts, machine: Machine) -> tuple[int, int]:
    """As large as helps: three quarters of the median image on a processor, all of it on a GPU, up to a limit."""
    if machine.gpu:
        height, width = min(facts.height, _GPU_CROP), min(facts.width, _GPU_CROP)
    else:
        area = facts.height * facts.width
        allowed = min(max(_CPU_CROP_AREA, _LARGE_SHARE * area), _LARGE_CPU_CROP_AREA)
        shrink = min(0.75, math.sqrt(allowed / area))
        height, width = int(facts.height * shrink), int(facts.width * shrink)
    return max(_MULTIPLE, height // _MULTIPLE * _MULTIPLE), max(_MULTIPLE, width // _MULTIPLE * _MULTIPLE)


def _batch(facts: Facts, machine: Machine, crop: tuple[int, int]) -> int:
    if machine.gpu:
        fits = int((machine.gpu_memory - 2) / (_GIB_PER_PIXEL * crop[0] * crop[1]))
        wanted = min(16, max(2, fits))
    else:
        wanted = 4 if facts.train_images < 200 or crop[0] * crop[1] > _CPU_CROP_AREA else 8
    return max(1, min(wanted, facts.train_images))


def _data_choices(facts: Facts, machine: Machine, crop: tuple[int, int], batch: int, *, scenes: bool) -> Choices:
    size = f"{facts.height} x {facts.width}"
    where = f"{machine.gpu_memory:.0f} GiB of GPU memory" if machine.gpu else "a processor: many steps, small batches"
    choices = {
        "data.batch_size": Choice(batch, f"for {where}"),
        "data.crop_size": Choice(list(crop), f"of images of {size} (median); multiples of {_MULTIPLE} waste nothing"),
        "data.scale_range": Choice([0.5, 2.0], "things come near and far in scenes"),
        "data.flip_probability": Choice(0.5, "left and right look alike; 0 where they do not, as with writing"),
    }
    if facts.height >= 3 * crop[0] and facts.width >= 3 * crop[1]:
        choices["data.scale_range"] = Choice([0.5, 1.0], "crops are small beside the images: smaller scales show more")
    elif not scenes:
        choices["data.scale_range"] = Choice([0.75, 1.25], "few classes or small images: sizes differ little")
    if machine.gpu and facts.train_images < 1000:
        choices["data.augmentation.recipe"] = Choice("strong", f"only {facts.train_images} images for a long run")
    return choices


def _model_choices(classes: Classes, machine: Machine, *, scenes: bool) -> Choices:
    if scenes:
        decoder = Choice("deeplabv3plus", f"{len(classes.names)} classes in large images: it sees the surroundings")
    else:
        decoder = Choice("unet", "few classes or small images: it draws fine borders")
    if machine.gpu:
        return {
            "model.decoder": decoder,
            "model.output_stride": Choice(16),
            "model.backbone.name": Choice("xception65", "DeepLabV3+'s own; a GPU carries it"),
            "model.backbone.width": Choice(1.0),
            "model.backbone.weights": Choice("imagenet", "downloaded once; without a network a file, or null"),
        }
    width = 0.35 if scenes else 0.25
    return {
        "model.decoder": decoder,
        "model.output_stride": Choice(16, "a sixteenth of the image's size at the deepest tap"),
        "model.backbone.name": Choice("xception"),
        "model.backbone.width": Choice(width, "small enough for a processor; 1.0 on a GPU"),
        "model.backbone.weights": Choice(None, "random: published weights have width 1.0"),
    }


def _loss_choices(classes: Classes) -> Choices:
    weights = {"loss.class_weights": _class_weights(classes)}
    if classes.exclusive:
        return weights
    return {"loss.name": Choice("binary_cross_entropy", "each class is decided on its own"), **weights}


def _class_weights(classes: Classes) -> Choice:
    total = max(sum(classes.pixels), 1)
    seen = [(count / total, name) for count, name in zip(classes.pixels, classes.names, strict=True) if count]
    share, name = min(seen, default=(0.0, "nothing"))
    if share < _RARE / len(classes.names):
        return Choice("balanced", f"{name} has {100 * share:.2g} % of the pixels: rare classes count more")
    return Choice(None, f"no class is rare: {name} has {100 * share:.2g} % of the pixels")


def _optimizer_choices(machine: Machine, batch: int) -> Choices:
    if machine.gpu:
        return {
            "optimizer.name": Choice("sgd", "the DeepLabV3+ recipe"),
            "optimizer.learning_rate": Choice(round(0.007 * batch / 16, 5), f"0.007 for 16 images, here {batch}"),
            "optimizer.weight_decay": Choice(4e-5),
        }
    return {
        "optimizer.name": Choice("adamw", "learns fast from random weights; sgd for long runs"),
        "optimizer.learning_rate": Choice(0.004),
        "optimizer.weight_decay": Choice(0.01),
        "optimizer.warmup_steps": Choice(20),
    }


def _trainer_choices(facts: Facts, machine: Machine, crop: tuple[int, int], batch: int) -> Choices:
    if machine.gpu:
        epochs = min(300, max(30, math.ceil(_GPU_STEPS * batch / facts.train_images)))
        steps = math.ceil(epochs * facts.train_images / batch)
        choices = {"trainer.max_epochs": Choice(epochs, f"about {steps} steps")}
        precision = Choice("bf16" if machine.fast_bf16 else "16", "half the memory, faster, about the same result")
    else:
        rate = _PIXELS_A_SECOND[machine.fast_bf16] * (1 + _THREAD_GAIN * (machine.threads - 1))
        steps = int(min(20_000, max(200, _CPU_SECONDS * rate / (batch * crop[0] * crop[1])))) // 50 * 50
        passes = steps * batch / facts.train_images
        reason = f"about {_CPU_SECONDS // 60} minutes on this machine, {passes:.0f} passes; more learn more"
        choices = {"trainer.max_steps": Choice(steps, reason)}
        reason = "this processor computes it faster" if machine.fast_bf16 else "bf16 on processors with AMX"
        precision = Choice("bf16" if machine.fast_bf16 else "32", reason)
    choices["trainer.val_every_steps"] = Choice(max(1, steps // (20 if machine.gpu else 5)), "the best network is kept")
    choices["trainer.precision"] = precision
    return choices
