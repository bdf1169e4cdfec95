"""What the files of a data set hold, as far as a configuration depends on it."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.datasets.classes import infer_labels, regrouped_labels
from segzoo.data.datasets.listing import Listing, Pair, empty_split, raise_all, size_mismatch
from segzoo.data.datasets.spec import DATASETS
from segzoo.data.inspection.make_config.layout import Layout
from segzoo.data.inspection.mask_facts import MaskFacts, find_smoothing, palette_conflict
from segzoo.data.inspection.scan import pair_mask
from segzoo.data.reading.images import is_colored_mask
from segzoo.data.reading.labels import IGNORED, LabelSpace
from segzoo.data.reading.pixels import PixelFormat
from segzoo.errors import ConfigError, DataError, in_groups

_MOST_PAIRS = 5000  # that are read; of larger sets, pairs from all over them
_KINDS_LOOKED_AT = 20
_STRAY_PIXELS = 16  # at most, of a value in a single mask that is a slip of the brush rather than a class
_STRAY_MASKS = 10  # at least, for that to be odd


@dataclass(frozen=True)
class Facts:
    """A data set in numbers.

    Args:
        train_images: how many.
        val_images: how many.
        height: median, in pixels.
        width: median, in pixels.
        largest: pixels of the largest image, of either split.
        kinds: how many images are stored in which way ("RGB", "16-bit gray").
        colored: whether masks are coloured pictures.
        values: pixels of each value, or colour as a number, in all masks.
        train_values: the same in the training masks that were read.
        labels: None for a folder whose masks alone tell.
        warnings: a line each: palettes that differ, and masks with a few pixels of a value that no other mask holds,
            which `values` leave out.
    """

    train_images: int
    val_images: int
    height: int
    width: int
    largest: int
    kinds: Counter[str]
    colored: bool
    values: Counter[int]
    train_values: Counter[int]
    labels: LabelSpace | None
    warnings: tuple[str, ...] = ()


def collect_facts(
    layout: Layout, config: DataConfig, known_colors: Collection[int], *, stated: bool, progress: bool
) -> Facts:
    """Read headers of images, and masks.

    Args:
        layout: where they are.
        config: a `data` section for them, as far as it is known.
        known_colors: of classes, from a list beside the images; palettes of such colours count as colours.
        stated: `config` says what the values in the masks mean.
        progress: show a bar on standard error.

    Raises:
        ConfigError: a split is not there.
        DataError: files do not fit together or cannot be read; all problems in one go.
    """
    train, val, problems = _listings(config)
    pixels = PixelFormat.of(config)
    labels = train.labels if layout.name != "folder" or layout.class_folders or stated else None
    colored = labels.raw_colors if labels else _are_colored(train.items)
    look = partial(_look_at_all, train, val, pixels, labels, progress=progress)
    train_looks, val_looks = look(colored=colored)
    raise_all([*problems, *(line for found in (*train_looks, *val_looks) for line in found.problems)])
    notes = []
    conflict = palette_conflict((found.name, found.mask) for found in (*train_looks, *val_looks))
    if conflict and labels:
        raise DataError(conflict)
    if conflict or _speak_of(known_colors, [*train_looks, *val_looks]):
        colored, (train_looks, val_looks) = True, look(colored=True)
    if conflict:
        _refuse_lone_colors([*train_looks, *val_looks], conflict)
        notes.append(f"{conflict.partition(': palettes differ')[0]}: masks are read by their colours, not by numbers")
    looks = [*train_looks, *val_looks]
    strays = {} if labels else _strays(looks)
    heights, widths = zip(*(found.size for found in train_looks), strict=True)
    values = _sum(looks)
    if not labels and (smoothing := find_smoothing(found.mask for found in looks)):
        raise DataError(smoothing.line(f"masks in {layout.root}", smoothing.blends, colored=colored))
    if stated and not labels:
        labels = infer_labels(values, config)
    return Facts(
        len(train.items),
        len(val.items),
        int(median(heights)),
        int(median(widths)),
        max(height * width for height, width in (found.size for found in looks)),
        Counter(found.kind for found in looks),
        colored,
        _without(values, strays),
        _without(_sum(train_looks), strays),
        regrouped_labels(labels, config) if labels else None,
        (*notes, *strays.values()),
    )


def _look_at_all(
    train: Listing[Pair],
    val: Listing[Pair],
    pixels: PixelFormat,
    labels: LabelSpace | None,
    *,
    colored: bool,
    progress: bool,
) -> tuple[list["_Look"], list["_Look"]]:
    """Pairs of both splits, as many as are read."""
    look = partial(_look, pixels=pixels, labels=labels, colored=colored)
    train_looks = map_on_all_cores(look, _spread(train.items), "reading train", progress=progress)
    return train_looks, map_on_all_cores(look, _spread(val.items), "reading val", progress=progress)


def _speak_of(known_colors: Collection[int], looks: Sequence["_Look"]) -> bool:
    """Whether all masks are indexed, with palettes that give what they hold the colours of known classes."""
    return bool(known_colors) and all(
        found.mask.colors and set(found.mask.colors) <= set(known_colors) for found in looks
    )


def _refuse_lone_colors(looks: Sequence["_Look"], conflict: str) -> None:
    """Colours can stand for classes where most are in several masks.

    Raises:
        DataError: `conflict`; they cannot, or some pixels have none.
    """
    masks = Counter(color for found in looks for color in found.mask.values)
    if any(found.problems for found in looks) or 2 * sum(count > 1 for count in masks.values()) < len(masks):
        raise DataError(conflict)


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int] = (0, 0)
    kind: str = ""
    name: str = ""
    mask: MaskFacts = field(default_factory=lambda: MaskFacts((), ()))
    problems: tuple[str, ...] = ()


def _look(pair: Pair, pixels: PixelFormat, labels: LabelSpace | None, *, colored: bool) -> _Look:
    """A pair's header and mask."""
    try:
        size = pixels.size(pair.image)
        mask_size, facts = pair_mask(pair, pixels, labels, colored=colored)
    except DataError as error:
        return _Look(problems=tuple(error.problems))
    if size != mask_size:
        return _Look(problems=(size_mismatch(pair, size, mask_size),))
    return _Look(size, pixels.kind(pair.image).pixels, str(pair.mask), facts)


def _are_colored(pairs: Sequence[Pair]) -> bool:
    """Whether masks are coloured pictures, as most of some are; one may be the fault that has to be named."""
    colored = []
    for pair in pairs[:: max(1, len(pairs) // _KINDS_LOOKED_AT)]:
        with suppress(DataError):  # comes up again, with all other problems, when every mask is read
            colored.append(is_colored_mask(pair.mask))
    return 2 * sum(colored) > len(colored)


def _listings(config: DataConfig) -> tuple[Listing[Pair], Listing[Pair], list[str]]:
    """Both splits, and all that their names show to be wrong.

    Raises:
        ConfigError: a split is not there, or there is no pair at all.
        DataError: a split has no pair.
    """
    list_split = DATASETS[config.name].listing
    if list_split is None:
        raise ConfigError(f"data.name: {config.name} is not read from files that could be looked at.")
    train, val = (list_split(config, split) for split in (config.train_split, config.val_split))
    problems = [problem.line for listing in (train, val) for problem in listing.problems]
    problems += [empty_split(listing.where) for listing in (train, val) if not listing.items and not listing.problems]
    problems = list(dict.fromkeys(problems))
    if not train.items and not val.items:
        raise ConfigError(in_groups(problems))
    if not train.items or not val.items:
        raise_all(problems)
    return train, val, problems


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) <= _MOST_PAIRS:
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, _MOST_PAIRS).astype(int).tolist()]


def _strays(looks: Sequence[_Look]) -> dict[int, str]:
    """Values that are most likely slips, and a line for each."""
    masks = Counter(value for found in looks for value in found.mask.values)
    return {
        value: f"{found.name}: {count} px of {value}, which no other mask holds; taken for a slip, not for a class. "
        "Training will refuse this mask: mend it, or name the class"
        for found in looks
        for value, count in zip(found.mask.values, found.mask.counts, strict=True)
        if len(looks) >= _STRAY_MASKS and masks[value] == 1 and count <= _STRAY_PIXELS and value != IGNORED
    }


def _sum(looks: Sequence[_Look]) -> Counter[int]:
    total: Counter[int] = Counter()
    for found in looks:
        total.update(dict(zip(found.mask.values, found.mask.counts, strict=True)))
    return total


def _without(values: Counter[int], strays: Collection[int]) -> Counter[int]:
    return Counter({value: count for value, count in values.items() if value not in strays})
