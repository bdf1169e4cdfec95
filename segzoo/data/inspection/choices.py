"""What to train with: a table of decisions, each from facts of the data and the machine to keys with their reasons."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.data.inspection.classes import Classes, FolderFacts

_GIB = 2**30
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
class Machine:
    """A machine in numbers.

    Args:
        memory: of the processor, in GiB.
        gpu: name of the first GPU; None without one.
        gpu_memory: in GiB.
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


@dataclass(frozen=True)
class Choice:
    """The value of a key in plain YAML types, and why in a few words; no words where the key says it all."""

    value: Any
    reason: str = ""


Choices = dict[str, Choice]
"""Dotted key to its choice, in the order in which they are written."""


@dataclass(frozen=True)
class Facts:
    """All that decisions are taken from. What several of them need is a property."""

    data: FolderFacts
    classes: Classes
    machine: Machine

    @property
    def are_scenes(self) -> bool:
        """Whether images show many kinds of things, near and far, rather than details."""
        return len(self.classes.names) > _FEW_CLASSES and min(self.data.height, self.data.width) >= _SMALL_SIDE

    @property
    def crop(self) -> tuple[int, int]:
        """As large as helps: three quarters of the median image on a processor, all of it on a GPU, up to a limit."""
        height, width = self.data.height, self.data.width
        if self.machine.gpu:
            height, width = min(height, _GPU_CROP), min(width, _GPU_CROP)
        else:
            area = height * width
            allowed = min(max(_CPU_CROP_AREA, _LARGE_SHARE * area), _LARGE_CPU_CROP_AREA)
            shrink = min(0.75, math.sqrt(allowed / area))
            height, width = int(height * shrink), int(width * shrink)
        return max(_MULTIPLE, height // _MULTIPLE * _MULTIPLE), max(_MULTIPLE, width // _MULTIPLE * _MULTIPLE)

    @property
    def batch_size(self) -> int:
        """What fits a GPU; on a processor few images, for many steps."""
        height, width = self.crop
        if self.machine.gpu:
            fits = int((self.machine.gpu_memory - 2) / (_GIB_PER_PIXEL * height * width))
            wanted = min(16, max(2, fits))
        else:
            wanted = 4 if self.data.train_images < 200 or height * width > _CPU_CROP_AREA else 8
        return max(1, min(wanted, self.data.train_images))

    @property
    def gpu_epochs(self) -> int:
        """Passes over the data on a GPU."""
        return min(300, max(30, math.ceil(_GPU_STEPS * self.batch_size / self.data.train_images)))

    @property
    def steps(self) -> int:
        """Of the whole training."""
        if self.machine.gpu:
            return math.ceil(self.gpu_epochs * self.data.train_images / self.batch_size)
        rate = _PIXELS_A_SECOND[self.machine.fast_bf16] * (1 + _THREAD_GAIN * (self.machine.threads - 1))
        steps = _CPU_SECONDS * rate / (self.batch_size * math.prod(self.crop))
        return int(min(20_000, max(200, steps))) // 50 * 50


def _batch_size(facts: Facts) -> Choices:
    gpu = f"{facts.machine.gpu_memory:.0f} GiB of GPU memory"
    where = gpu if facts.machine.gpu else "a processor: many steps, small batches"
    return {"data.batch_size": Choice(facts.batch_size, f"for {where}")}


def _crop_size(facts: Facts) -> Choices:
    size = f"{facts.data.height} x {facts.data.width}"
    reason = f"of images of {size} (median); multiples of {_MULTIPLE} waste nothing"
    return {"data.crop_size": Choice(list(facts.crop), reason)}


def _scale_range(facts: Facts) -> Choices:
    if facts.data.height >= 3 * facts.crop[0] and facts.data.width >= 3 * facts.crop[1]:
        choice = Choice([0.5, 1.0], "crops are small beside the images: smaller scales show more")
    elif facts.are_scenes:
        choice = Choice([0.5, 2.0], "things come near and far in scenes")
    else:
        choice = Choice([0.75, 1.25], "few classes or small images: sizes differ little")
    return {"data.scale_range": choice}


def _flips(facts: Facts) -> Choices:
    return {"data.flip_probability": Choice(0.5, "left and right look alike; 0 where they do not, as with writing")}


def _augmentation(facts: Facts) -> Choices:
    if not facts.machine.gpu or facts.data.train_images >= 1000:
        return {}
    return {"data.augmentation.recipe": Choice("strong", f"only {facts.data.train_images} images for a long run")}


def _decoder(facts: Facts) -> Choices:
    if facts.are_scenes:
        reason = f"{len(facts.classes.names)} classes in large images: it sees the surroundings"
        return {"model.decoder": Choice("deeplabv3plus", reason)}
    return {"model.decoder": Choice("unet", "few classes or small images: it draws fine borders")}


def _backbone(facts: Facts) -> Choices:
    if facts.machine.gpu:
        return {
            "model.output_stride": Choice(16),
            "model.backbone.name": Choice("xception65", "DeepLabV3+'s own; a GPU carries it"),
            "model.backbone.width": Choice(1.0),
            "model.backbone.weights": Choice("imagenet", "downloaded once; without a network a file, or null"),
        }
    width = 0.35 if facts.are_scenes else 0.25
    return {
        "model.output_stride": Choice(16, "a sixteenth of the image's size at the deepest tap"),
        "model.backbone.name": Choice("xception"),
        "model.backbone.width": Choice(width, "small enough for a processor; 1.0 on a GPU"),
        "model.backbone.weights": Choice(None, "random: published weights have width 1.0"),
    }


def _loss(facts: Facts) -> Choices:
    if facts.classes.exclusive:
        return {}
    return {"loss.name": Choice("binary_cross_entropy", "each class is decided on its own")}


def _class_weights(facts: Facts) -> Choices:
    pixels, names = facts.classes.pixels, facts.classes.names
    total = max(sum(pixels), 1)
    seen = [(count / total, name) for count, name in zip(pixels, names, strict=True) if count]
    share, name = min(seen, default=(0.0, "nothing"))
    if share < _RARE / len(names):
        choice = Choice("balanced", f"{name} has {100 * share:.2g} % of the pixels: rare classes count more")
    else:
        choice = Choice(None, f"no class is rare: {name} has {100 * share:.2g} % of the pixels")
    return {"loss.class_weights": choice}


def _optimizer(facts: Facts) -> Choices:
    if facts.machine.gpu:
        rate = round(0.007 * facts.batch_size / 16, 5)
        return {
            "optimizer.name": Choice("sgd", "the DeepLabV3+ recipe"),
            "optimizer.learning_rate": Choice(rate, f"0.007 for 16 images, here {facts.batch_size}"),
            "optimizer.weight_decay": Choice(4e-5),
        }
    return {
        "optimizer.name": Choice("adamw", "learns fast from random weights; sgd for long runs"),
        "optimizer.learning_rate": Choice(0.004),
        "optimizer.weight_decay": Choice(0.01),
        "optimizer.warmup_steps": Choice(20),
    }


def _length(facts: Facts) -> Choices:
    if facts.machine.gpu:
        return {"trainer.max_epochs": Choice(facts.gpu_epochs, f"about {facts.steps} steps")}
    passes = facts.steps * facts.batch_size / facts.data.train_images
    reason = f"about {_CPU_SECONDS // 60} minutes on this machine, {passes:.0f} passes; more learn more"
    return {"trainer.max_steps": Choice(facts.steps, reason)}


def _validations(facts: Facts) -> Choices:
    times = 20 if facts.machine.gpu else 5
    return {"trainer.val_every_steps": Choice(max(1, facts.steps // times), "the best network is kept")}


def _precision(facts: Facts) -> Choices:
    fast = facts.machine.fast_bf16
    if facts.machine.gpu:
        choice = Choice("bf16" if fast else "16", "half the memory, faster, about the same result")
    elif fast:
        choice = Choice("bf16", "this processor computes it faster")
    else:
        choice = Choice("32", "bf16 on processors with AMX")
    return {"trainer.precision": choice}


def _tiles(facts: Facts) -> Choices:
    if facts.data.largest <= _LARGEST_WHOLE:
        return {}
    return {"evaluation.tile": Choice(_TILE, "pixels a side: validation and evaluation see large images by parts")}


DECISIONS: tuple[Callable[[Facts], Choices], ...] = (
    _batch_size,
    _crop_size,
    _scale_range,
    _flips,
    _augmentation,
    _decoder,
    _backbone,
    _loss,
    _class_weights,
    _optimizer,
    _length,
    _validations,
    _precision,
    _tiles,
)
"""All keys but those that say where the data is and what its masks mean, in the order in which they are written."""


def choose_training(facts: Facts) -> Choices:
    """Take all decisions."""
    return {key: choice for decide in DECISIONS for key, choice in decide(facts).items()}
