"""Test-time augmentation: what a network says of an image at several scales and mirrored, as one answer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor

from segzoo.config.schema import RunConfig
from segzoo.data.datasets.spec import DATASETS
from segzoo.data.reading.coding import MaskCoding
from segzoo.inference.tiles import GRID, Compute

_FINEST_STEP = 16  # 1/16: scales between have no grid that makes tiles exact


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Which versions of an image a network sees.

    Args:
        scales: sizes over the image's own.
        flip: each of them also mirrored, left and right.
    """

    __test__ = False  # pytest takes classes called Test... for tests

    scales: tuple[float, ...]
    flip: bool

    @property
    def is_none(self) -> bool:
        """Whether the only version is the image itself."""
        return self.scales == (1.0,) and not self.flip

    @property
    def grid(self) -> int:
        """Pixels at whose multiples tiles begin, so that every scale's tiles begin at multiples of the largest stride.

        Mirrored tiles do where the tile's and the image's width are multiples, too.

        >>> published_augmentation("voc").grid
        128
        """
        return GRID * math.lcm(*(Fraction(scale).limit_denominator(_FINEST_STEP).denominator for scale in self.scales))


_VOC = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def published_augmentation(dataset_name: str) -> TestTimeAugmentation:
    """What the DeepLab papers evaluate with; VOC's for data sets that they do not have.

    Source: Chen et al. 2018, arXiv:1802.02611v3, section 4 for VOC; the authors' evaluation for Cityscapes.

    >>> published_augmentation("cityscapes").scales
    (0.75, 1.0, 1.25)
    """
    scales = DATASETS[dataset_name].scales if dataset_name in DATASETS else None
    return TestTimeAugmentation(scales or _VOC, flip=True)


def configured_augmentation(config: RunConfig) -> TestTimeAugmentation | None:
    """What `evaluation.tta`, `tta_scales` and `tta_flip` ask for; null ones take the published set's."""
    wanted = config.evaluation
    if not wanted.tta:
        return None
    published = published_augmentation(config.data.name)
    return TestTimeAugmentation(
        published.scales if wanted.tta_scales is None else wanted.tta_scales,
        published.flip if wanted.tta_flip is None else wanted.tta_flip,
    )


@dataclass(frozen=True)
class AlignedCorners:
    """How the versions of an image are made for a network that aligns corners whenever sizes change.

    As in the DeepLab authors' evaluation, the image is padded first, and the versions are those of the padded image: so
    a mirrored one has its padding at the left, and each scale pools over its own canvas.

    Args:
        stride: image pixels between two of the network's scores.
        padded: height and width that the network pads an image of some height and width to.
        fill: what it pads with, for each channel, in units of the full range.
    """

    stride: int
    padded: Callable[[tuple[int, int]], tuple[int, int]]
    fill: tuple[float, ...]


def augmented_scores(
    compute: Compute,
    images: Tensor,
    augmentation: TestTimeAugmentation,
    coding: MaskCoding,
    aligned: AlignedCorners | None = None,
) -> Tensor:
    """Logits whose probabilities are the mean over all versions of the image.

    So they go wherever logits go. With the image itself as the only version they are its logits, untouched.

    Images and probabilities are resized bilinearly from border to border (`align_corners=False`), to whole pixels, so
    that a pixel's probabilities come back to where it was; for a network that aligns corners, from corner to corner.

    Args:
        compute: the network: logits of images.
        images: uint8, or float from 0 to 1.
        augmentation: the versions.
        coding: says how scores and probabilities belong together.
        aligned: of a network that aligns corners; `compute` must not pad to a canvas of its own then.

    Shape: (N, C, H, W) to (N, K, H, W).

    Source: the mean of probabilities over scales and flips, as in the DeepLab papers' evaluation; with `aligned`, the
    sizes, the order of resizing and softmax, and the padding are those of the authors' code, too.
    """
    height, width = images.shape[-2:]
    whole = images if aligned is None else _padded(_as_float(images), aligned)
    if augmentation.is_none:
        return compute(whole)[..., :height, :width]
    mirrors = (False, True) if augmentation.flip else (False,)
    versions = [(scale, mirrored) for scale in augmentation.scales for mirrored in mirrors]
    total = _probabilities(compute, whole, *versions[0], coding, aligned)
    for scale, mirrored in versions[1:]:
        total = total.add_(_probabilities(compute, whole, scale, mirrored, coding, aligned))
    return coding.scores(total.div_(len(versions))[..., :height, :width])


def _padded(images: Tensor, aligned: AlignedCorners) -> Tensor:
    """Images as the network pads them, before they are normalised."""
    height, width = images.shape[-2:]
    size = aligned.padded((height, width))
    fill = images.new_tensor(aligned.fill)[:, None, None].expand(len(images), -1, *size)
    padded = fill.clone()
    padded[..., :height, :width] = images
    return padded


def _probabilities(
    compute: Compute,
    images: Tensor,
    scale: float,
    mirrored: bool,
    coding: MaskCoding,
    aligned: AlignedCorners | None,
) -> Tensor:
    height, width = images.shape[-2:]
    if aligned is not None:
        size = (_between_corners(height, scale), _between_corners(width, scale))
        seen = _resized(images, *size, corners=True)
        scores = compute(seen.flip(-1) if mirrored else seen)
        grid = [_between_corners(side, max(1, scale) / aligned.stride) for side in (height, width)]
        scores = _resized(_resized(scores, *grid, corners=True), height, width, corners=True)
        return coding.probabilities(scores.flip(-1) if mirrored else scores)
    seen = _resized(_as_float(images), _scaled(height, scale), _scaled(width, scale)) if scale != 1 else images
    probabilities = coding.probabilities(compute(seen.flip(-1) if mirrored else seen))
    return _resized(probabilities.flip(-1) if mirrored else probabilities, height, width)


def _as_float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float() / 255


def _scaled(size: int, scale: float) -> int:
    return max(1, math.floor(size * scale + 0.5))


def _between_corners(size: int, scale: float) -> int:
    """Pixels of a side whose first and last stay where they are, rounded down as the authors' code does."""
    return int((size - 1) * scale + 1)


def _resized(images: Tensor, height: int, width: int, *, corners: bool = False) -> Tensor:
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=corners)
