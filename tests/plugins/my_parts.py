"""A plug-in as somebody would write it: a decoder with two keys, a loss with one, a data set with one, a metric."""

import numpy as np
from torch import nn
from torch.nn import functional

import segzoo
from segzoo.data import LabelSpace, Sample
from segzoo.models.decoder import Decoder
from segzoo.tasks.losses import SegmentationLoss


class HeadOptions(segzoo.Section):
    channels: int = 8
    """Channels in the middle."""
    sharp: bool = False
    """Resize by copying."""


class PowerOptions(segzoo.Section):
    power: float = 2.0
    """Of the distance between probabilities and truth."""


class Head(Decoder):
    def __init__(self, channels, num_classes, options):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, options.channels, 1), nn.Conv2d(options.channels, num_classes, 1)
        )
        self.mode = "nearest" if options.sharp else "bilinear"

    def forward(self, features, size):
        return functional.interpolate(self.layers(features[-1]), size, mode=self.mode)


@segzoo.register_decoder("head", options=HeadOptions)
def build_head(taps, num_classes, config, options):
    return Head(taps[-1].channels, num_classes, options)


class Power(SegmentationLoss):
    def __init__(self, ignore_index, power):
        super().__init__(ignore_index)
        self.power = power

    def forward(self, logits, target):
        valid = target != self.ignore_index
        truth = functional.one_hot(target.where(valid, 0), logits.shape[1]).movedim(-1, 1)
        distance = (logits.float().softmax(dim=1) - truth).abs().pow(self.power).sum(dim=1)
        return distance[valid].mean() if valid.any() else logits.float().sum() * 0


@segzoo.register_loss("power", options=PowerOptions)
def build_power(config, labels, options):
    return Power(labels.ignore_index, options.power)


class Squares:
    labels = LabelSpace.from_names(["ground", "square"])

    def __init__(self, numbers):
        self.numbers = numbers
        self.ids = [f"square_{number}" for number in numbers]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        mask = np.zeros((64, 64), np.uint8)
        mask[8:40, self.numbers[index] : 32 + self.numbers[index]] = 1
        return Sample(np.repeat(mask[..., None] * np.uint8(200), 3, axis=2), mask, self.ids[index])


class SquaresOptions(segzoo.Section):
    train_images: int = 8
    """Squares to train on; three others are held out."""


@segzoo.register_dataset("squares", options=SquaresOptions)
def build_squares(config, split, options):
    count = options.train_images
    return Squares(range(count) if split == "train" else range(count, count + 3))


@segzoo.register_metric("kappa", title="Cohen's kappa", show=".3f")
def kappa(counts):
    by_chance = (counts.sum(0) * counts.sum(1)).sum() / counts.sum() ** 2
    return 1 - (1 - counts.trace() / counts.sum()) / (1 - by_chance)
