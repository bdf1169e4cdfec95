"""Built-in scenes: buildings, trees, tents, balls and poles in a landscape, drawn from a seed, no files needed.

Any class may have any colour, so colours hardly tell the classes apart. Texture, shape and place do: windows in
a grid, speckled leaves, slanted stripes, round shading, banded poles. Nearer things hide farther ones, and a
border of ignored pixels surrounds each thing, as in Pascal VOC.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.spec import register_dataset, unknown_split
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import Sample
from segzoo.errors import ConfigError

Floats = npt.NDArray[np.floating]
Region = npt.NDArray[np.bool_]

SKY, GROUND, BUILDING, TREE, TENT, BALL, POLE = range(7)
LABELS = LabelSpace(
    names=("sky", "ground", "building", "tree", "tent", "ball", "pole"),
    palette=(
        (135, 190, 235),
        (150, 120, 80),
        (190, 70, 60),
        (60, 140, 60),
        (240, 150, 40),
        (150, 70, 190),
        (250, 225, 70),
    ),
)

_SPLITS = {"train": 1, "val": 2}  # part of every scene's seed
_KEPT_BYTES = 2**28  # scenes stay in memory up to this much: drawing one takes longer than augmenting it
_DESIGN_HEIGHT = 96  # lengths below are pixels at this height
# Where each class's colours tend to lie on the colour circle; the others lie anywhere.
_HUES = {SKY: 0.58, GROUND: 0.15, BUILDING: 0.03, TREE: 0.3, TENT: 0.1, BALL: 0.85, POLE: 0.0}
_LIKELY_HUE = 0.7


class SyntheticDataset:
    """Scenes drawn when asked for; the same index is the same scene on every run and in every process.

    The size is (height, width) in pixels; each split, "train" or "val", has its own seeds.
    """

    labels = LABELS

    def __init__(self, count: int, size: tuple[int, int], split: str) -> None:
        self.size = size
        self.ids = tuple(f"{split}_{index:05d}" for index in range(count))
        self._split_seed = _SPLITS[split]
        self._kept: dict[int, Sample] = {}
        self._room = _KEPT_BYTES // (4 * size[0] * size[1])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """The scene of a number; its arrays are read-only."""
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        image, mask = draw_scene(np.random.default_rng((self._split_seed, index)), self.size)
        image.flags.writeable = mask.flags.writeable = False
        sample = Sample(image, mask, self.ids[index])
        if len(self._kept) < self._room:
            self._kept[index] = sample
        return sample


# Its options are a key of the schema and none of a registration: who takes a configuration of scenes and names another
# data set in it may leave them there.
@register_dataset("synthetic", reads=(), labels=LABELS, drawn=True)
def build_synthetic(config: DataConfig, split: str) -> SyntheticDataset:
    """As many scenes of the size as `data.synthetic` asks for.

    Raises:
        ConfigError: another split, or keys that ask for other pixels than 8-bit RGB.
    """
    if not config.is_rgb8:
        raise ConfigError("data: channels, value_range: synthetic scenes are 8-bit RGB; leave both out")
    counts = {"train": config.synthetic.train_images, "val": config.synthetic.val_images}
    if split not in counts:
        raise unknown_split(split, list(counts), "the synthetic data set")
    return SyntheticDataset(counts[split], config.synthetic.size, split)


def draw_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one scene of (height, width) pixels and its mask; `rng` is the only source of chance.

    Shape: image (H, W, 3), mask (H, W).
    """
    canvas = _blank(size)
    _draw_sky(rng, canvas)
    horizon = _draw_ground(rng, canvas)
    things: list[tuple[float, Painter]] = [
        (horizon + rng.uniform(low, high) * (1 - horizon), painter)
        for painter, most, low, high in _THINGS
        for _ in range(int(rng.integers(1, most + 1)))
    ]
    # What stands lower in the picture is nearer and hides what is behind.
    for foot, painter in sorted(things, key=lambda thing: thing[0]):
        painter(rng, canvas, foot * size[0])
    light = np.float32(rng.uniform(0.8, 1.1)) + rng.uniform(-0.06, 0.06, 3).astype(np.float32)
    grain = rng.standard_normal(canvas.image.shape, dtype=np.float32) * np.float32(0.02)
    return (np.clip(canvas.image * light + grain, 0, 1) * 255).astype(np.uint8), canvas.mask


@dataclass(frozen=True)
class _Canvas:
    """A picture and its mask, or a rectangle of them, while things are painted over each other."""

    image: Floats  # colours from 0 to 1, (H, W, 3)
    mask: npt.NDArray[np.uint8]  # class indices, (H, W)
    rows: Floats  # row numbers in the whole picture, (H, 1)
    columns: Floats  # column numbers in it, (1, W)
    unit: float  # pixels that stand for one pixel of the design

    def part(self, foot: float, height: float, middle: float, width: float) -> "_Canvas":
        """The rectangle that stands on row `foot` around column `middle`, and a little more for its border."""
        rows = slice(max(0, int(foot - height) - 2), max(0, int(foot) + 3))
        columns = slice(max(0, int(middle - width / 2) - 2), max(0, int(middle + width / 2) + 3))
        image, mask = self.image[rows, columns], self.mask[rows, columns]
        return _Canvas(image, mask, self.rows[rows], self.columns[:, columns], self.unit)

    def paint(self, index: int, region: Region, colors: Floats) -> None:
        """Cover `region` with `colors` (any shape that broadcasts) and ignore the pixels around it."""
        self.mask[_grown(region)] = LABELS.ignore_index
        self.mask[region] = index
        np.copyto(self.image, colors, where=region[..., None])

    def noise(self, rng: np.random.Generator, cell: float) -> Floats:
        """Smooth noise (H, W) between -1 and 1 whose spots are about `cell` pixels of the design wide."""
        rows = _between_knots(self.mask.shape[0], cell * self.unit)
        columns = _between_knots(self.mask.shape[1], cell * self.unit)
        knots = rng.uniform(-1, 1, (rows.shape[1], columns.shape[1])).astype(np.float32)
        return rows @ knots @ columns.T


Painter = Callable[[np.random.Generator, _Canvas, float], None]


def _blank(size: tuple[int, int]) -> _Canvas:
    return _Canvas(
        image=np.zeros((*size, 3), np.float32),
        mask=np.zeros(size, np.uint8),
        rows=np.arange(size[0], dtype=np.float32)[:, None],
        columns=np.arange(size[1], dtype=np.float32)[None, :],
        unit=min(size) / _DESIGN_HEIGHT,
    )


def _place(rng: np.random.Generator, canvas: _Canvas) -> float:
    """A column for the middle of a thing."""
    return float(rng.uniform(0.06, 0.94)) * canvas.columns.size


def _draw_sky(rng: np.random.Generator, canvas: _Canvas) -> None:
    """A gradient behind soft clouds."""
    clouds = 0.5 * np.clip(canvas.noise(rng, 30) + 0.5 * canvas.noise(rng, 14), 0, 1)
    color = _mixed(_color(rng, SKY), _color(rng, SKY), canvas.rows / canvas.rows.size)
    white = np.ones(3, np.float32)
    canvas.paint(SKY, np.ones(canvas.mask.shape, np.bool_), _mixed(color, white, clouds))


def _draw_ground(rng: np.random.Generator, canvas: _Canvas) -> float:
    """Grainy, gently waved land; returns the horizon's height, 0 at the top and 1 at the bottom."""
    horizon = float(rng.uniform(0.4, 0.6))
    phase = canvas.columns / canvas.columns.size * float(rng.uniform(2, 7)) + float(rng.uniform(0, 6))
    region = canvas.rows > (horizon + 0.03 * np.sin(phase)) * canvas.rows.size
    blades = rng.random(canvas.mask.shape, np.float32) - np.float32(0.5)
    shade = 1 + 0.44 * blades + 0.12 * canvas.noise(rng, 16)
    canvas.paint(GROUND, region, _color(rng, GROUND) * shade[..., None])
    return horizon


def _draw_building(rng: np.random.Generator, canvas: _Canvas, foot: float) -> None:
    """A block with a grid of windows, dark or lit."""
    middle, width, height = _place(rng, canvas), _length(rng, canvas, 24, 36), _length(rng, canvas, 30, 48)
    part = canvas.part(foot, height, middle, width)
    across, up = part.columns - (middle - width / 2), foot - part.rows
    pitch = _length(rng, canvas, 6, 8)
    window = (across % pitch > 0.4 * pitch) & (up % pitch > 0.4 * pitch)
    wall = _color(rng, BUILDING)
    glass = _color(rng, BUILDING) * (np.float32(0.25) if rng.random() < 0.5 else np.float32(1))
    region = (across >= 0) & (across < width) & (up >= 0) & (up < height)
    part.paint(BUILDING, region, np.where(window[..., None], glass, wall))


def _draw_tree(rng: np.random.Generator, canvas: _Canvas, foot: float) -> None:
    """A ragged crown of speckled leaves on a short trunk."""
    middle, radius = _place(rng, canvas), _length(rng, canvas, 10, 15)
    part = canvas.part(foot, 2.8 * radius, middle, 2.6 * radius)
    across, up = np.abs(part.columns - middle), foot - part.rows
    crown = np.hypot(across, up - 1.5 * radius) < radius * (1 + 0.25 * part.noise(rng, 6))
    trunk = (across < 0.22 * radius) & (up >= 0) & (up < 1.5 * radius)
    brightness = np.where(crown, 0.85 + 0.65 * part.noise(rng, 2.5), np.float32(0.6))
    part.paint(TREE, crown | trunk, np.clip(_color(rng, TREE) * brightness[..., None], 0, 1))


def _draw_tent(rng: np.random.Generator, canvas: _Canvas, foot: float) -> None:
    """A triangle of slanted stripes."""
    middle, height = _place(rng, canvas), _length(rng, canvas, 18, 26)
    part = canvas.part(foot, height, middle, 1.4 * height)
    up = foot - part.rows
    region = (up >= 0) & (np.abs(part.columns - middle) < 0.7 * (height - up))
    slanted = part.columns + (part.rows if rng.random() < 0.5 else -part.rows)
    stripe = slanted % (8 * part.unit) < 4 * part.unit
    part.paint(TENT, region, _two_colors(rng, TENT, stripe))


def _draw_ball(rng: np.random.Generator, canvas: _Canvas, foot: float) -> None:
    """A smooth sphere, lit from above."""
    middle, radius = _place(rng, canvas), _length(rng, canvas, 7, 11)
    part = canvas.part(foot, 2 * radius, middle, 2 * radius)
    across, down = (part.columns - middle) / radius, (part.rows - foot) / radius + 1
    squared = across**2 + down**2
    toward_viewer = np.sqrt(np.clip(1 - squared, 0, 1))
    from_side = 0.4 * across if rng.random() < 0.5 else -0.4 * across
    lit = np.clip(0.6 * toward_viewer - 0.6 * down + from_side, 0, 1)[..., None]
    part.paint(BALL, squared < 1, np.clip(_color(rng, BALL) * (0.2 + lit) + 0.5 * lit**8, 0, 1))


def _draw_pole(rng: np.random.Generator, canvas: _Canvas, foot: float) -> None:
    """A thin pole with bands of two colours."""
    middle, height = _place(rng, canvas), _length(rng, canvas, 35, 60)
    width = _length(rng, canvas, 4.5, 6)
    part = canvas.part(foot, height, middle, width)
    up = foot - part.rows
    region = (up >= 0) & (up < height) & (np.abs(part.columns - middle) < width / 2)
    band = up % (10 * part.unit) < 5 * part.unit
    part.paint(POLE, region, _two_colors(rng, POLE, band))


# Painter, at most how many, and how far its feet lie between the horizon (0) and the lower edge (1).
_THINGS: tuple[tuple[Painter, int, float, float], ...] = (
    (_draw_building, 2, 0.0, 0.25),
    (_draw_tree, 3, 0.1, 0.6),
    (_draw_tent, 2, 0.3, 0.8),
    (_draw_pole, 2, 0.2, 0.9),
    (_draw_ball, 3, 0.4, 0.95),
)


def _color(rng: np.random.Generator, index: int) -> Floats:
    """A colour (3,), loosely after the class."""
    likely = rng.normal(_HUES[index], 0.05) if rng.random() < _LIKELY_HUE else rng.random()
    return np.array(colorsys.hsv_to_rgb(likely % 1, rng.uniform(0.2, 0.75), rng.uniform(0.35, 0.95)), np.float32)


def _two_colors(rng: np.random.Generator, index: int, choice: Region) -> Floats:
    """A bright colour where `choice` is true and a dark one elsewhere."""
    bright, dark = 0.45 + 0.55 * _color(rng, index), 0.45 * _color(rng, index)
    return np.where(choice[..., None], bright, dark)


def _length(rng: np.random.Generator, canvas: _Canvas, shortest: float, longest: float) -> float:
    """A length in pixels, from a range given in the design's pixels."""
    return float(rng.uniform(shortest, longest)) * canvas.unit


def _mixed(first: Floats, second: Floats, share: Floats) -> Floats:
    """`first` and `second` colours, weighted per pixel."""
    return first + (second - first) * share[..., None]


def _grown(region: Region) -> Region:
    """`region` and its eight neighbours' pixels."""
    grown = region.copy()
    grown[1:] |= region[:-1]
    grown[:-1] |= region[1:]
    wide = grown.copy()
    wide[:, 1:] |= grown[:, :-1]
    wide[:, :-1] |= grown[:, 1:]
    return wide


def _between_knots(length: int, cell: float) -> Floats:
    """Weights (length, knots) that interpolate linearly between knots `cell` pixels apart."""
    knots = int(length / cell) + 2
    distance = np.abs(np.arange(length, dtype=np.float32)[:, None] / cell - np.arange(knots, dtype=np.float32))
    return np.clip(1 - distance, 0, None)
