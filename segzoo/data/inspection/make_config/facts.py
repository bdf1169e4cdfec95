"""What the files of a data set hold, as far as a configuration depends on it."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.datasets.classes import infer_labels, regrouped_labels
from segzoo.data.datasets.listing import Listing, Pair, raise_all
from segzoo.data.datasets.spec import DATASETS
from segzoo.data.inspection.make_config.layout import Layout
from segzoo.data.inspection.masks import MaskFacts, find_smoothing, palette_conflict, total_pixels
from segzoo.data.inspection.scan import Scan, empty_split_problems, scan_pair
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
    labels = train.labels if layout.name != "folder" or layout.class_folders or stated else None
    colored = labels.raw_colors if labels else _are_colored(train.items)
    scans = _scans(config, train, val, labels, colored=colored, progress=progress)
    raise_all([*problems, *_problems(scans)])
    masks = _masks(scans)
    conflict = palette_conflict(masks)
    if conflict and labels:
        raise DataError(conflict)
    if conflict or _speak_of(known_colors, [mask for _, mask in masks]):
        colored, scans = True, _scans(config, train, val, labels, colored=True, progress=progress)
        masks = _masks(scans)
        if conflict and (_problems(scans) or _are_of_chance([mask for _, mask in masks])):
            raise DataError(conflict)
        raise_all(_problems(scans))
    values = total_pixels(mask for _, mask in masks)
    if not labels and (smoothing := find_smoothing(mask for _, mask in masks)):
        raise DataError(smoothing.line(f"masks in {layout.root}", smoothing.blends, colored=colored))
    strays = {} if labels else _strays(masks)
    notes = []
    if conflict:
        notes.append(f"{conflict.partition(': palettes differ')[0]}: masks are read by their colours, not by numbers")
    if stated and not labels:
        labels = infer_labels(values, config)
    sizes = [[scan.image.size for scan in split if scan.image] for split in scans]
    return Facts(
        len(train.items),
        len(val.items),
        int(median(height for height, _ in sizes[0])),
        int(median(width for _, width in sizes[0])),
        max(height * width for height, width in (*sizes[0], *sizes[1])),
        Counter(scan.image.kind.pixels for split in scans for scan in split if scan.image),
        colored,
        _without(values, strays),
        _without(total_pixels(scan.mask for scan in scans[0] if scan.mask), strays),
        regrouped_labels(labels, config) if labels else None,
        (*notes, *strays.values()),
    )


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
    found = [*train.problems, *val.problems, *empty_split_problems(train), *empty_split_problems(val)]
    problems = list(dict.fromkeys(problem.line for problem in found))
    if not train.items and not val.items:
        raise ConfigError(in_groups(problems))
    if not train.items or not val.items:
        raise_all(problems)
    return train, val, problems


def _scans(
    config: DataConfig,
    train: Listing[Pair],
    val: Listing[Pair],
    labels: LabelSpace | None,
    *,
    colored: bool,
    progress: bool,
) -> tuple[list[Scan], list[Scan]]:
    """Pairs of both splits, as many as are read."""
    read = partial(scan_pair, pixels=PixelFormat.of(config), labels=labels, colored=colored, decoded=False)
    of_train = map_on_all_cores(read, _spread(train.items), "reading train", progress=progress)
    return of_train, map_on_all_cores(read, _spread(val.items), "reading val", progress=progress)


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) <= _MOST_PAIRS:
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, _MOST_PAIRS).astype(int).tolist()]


def _problems(scans: tuple[list[Scan], list[Scan]]) -> list[str]:
    return [problem.line for split in scans for scan in split for problem in scan.problems]


def _masks(scans: tuple[list[Scan], list[Scan]]) -> list[tuple[str, MaskFacts]]:
    """The masks of both splits, each with its file's name."""
    return [(scan.mask_name, scan.mask) for split in scans for scan in split if scan.mask]


def _are_colored(pairs: Sequence[Pair]) -> bool:
    """Whether masks are coloured pictures, as most of some are; one may be the fault that has to be named."""
    colored = []
    for pair in pairs[:: max(1, len(pairs) // _KINDS_LOOKED_AT)]:
        with suppress(DataError):  # comes up again, with all other problems, when every mask is read
            colored.append(is_colored_mask(pair.mask))
    return 2 * sum(colored) > len(colored)


def _speak_of(known_colors: Collection[int], masks: Sequence[MaskFacts]) -> bool:
    """Whether all masks are indexed, with palettes that give what they hold the colours of known classes."""
    known = set(known_colors)
    return bool(known) and all(mask.colors and known.issuperset(mask.colors.values()) for mask in masks)


def _are_of_chance(masks: Sequence[MaskFacts]) -> bool:
    """Whether most colours are in a single mask only, so that they cannot stand for classes."""
    found = Counter(color for mask in masks for color in mask.pixels)
    return 2 * sum(count > 1 for count in found.values()) < len(found)


def _strays(masks: Sequence[tuple[str, MaskFacts]]) -> dict[int, str]:
    """Values that are most likely slips, and a line for each."""
    found = Counter(value for _, mask in masks for value in mask.pixels)
    return {
        value: f"{name}: {count} px of {value}, which no other mask holds; taken for a slip, not for a class. "
        "Training will refuse this mask: mend it, or name the class"
        for name, mask in masks
        for value, count in mask.pixels.items()
        if len(masks) >= _STRAY_MASKS and found[value] == 1 and count <= _STRAY_PIXELS and value != IGNORED
    }


def _without(values: Counter[int], strays: Collection[int]) -> Counter[int]:
    return Counter({value: count for value, count in values.items() if value not in strays})
