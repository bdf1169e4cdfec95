"""What the files of a data set hold, as far as a configuration depends on it."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from segzoo.config.schema import DataConfig, FolderConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.doctor.scan import mask_facts, pair_mask, stored_kind
from segzoo.data.images import image_kind, read_color_mask
from segzoo.data.labels import IGNORED, LabelSpace
from segzoo.data.listing import LISTINGS, Listing
from segzoo.data.make_config.layout import Layout
from segzoo.data.pairs import Pair, empty_split, raise_all, size_mismatch
from segzoo.data.pixels import PixelFormat
from segzoo.data.sample import mask_extent
from segzoo.errors import ConfigError, DataError

_MOST_PAIRS = 5000  # that are read; of larger sets, pairs from all over them
_KINDS_LOOKED_AT = 20
_STRAY_PIXELS = 16  # at most, of a value in a single mask that is a slip of the brush rather than a class
_STRAY_MASKS = 10  # at least, for that to be odd
_COLORED = frozenset({"RGB", "with alpha", "CMYK"})


@dataclass(frozen=True)
class Facts:
    """A data set in numbers.

    Args:
        train_images: how many.
        val_images: how many.
        height: median, in pixels.
        width: median, in pixels.
        kinds: how many images are stored in which way ("RGB", "16-bit gray").
        colored: whether masks are coloured pictures.
        values: pixels of each value, or colour as a number, in all masks.
        train_values: the same in the training masks that were read.
        labels: None for a folder whose masks alone tell.
        strays: masks with a few pixels of a value that no other mask holds, a line each; `values` leave them out.
    """

    train_images: int
    val_images: int
    height: int
    width: int
    kinds: Counter[str]
    colored: bool
    values: Counter[int]
    train_values: Counter[int]
    labels: LabelSpace | None
    strays: tuple[str, ...] = ()


def collect_facts(layout: Layout, pixels: PixelFormat, *, progress: bool) -> Facts:
    """Read headers of images, and masks.

    Args:
        layout: where they are.
        pixels: what the image files become.
        progress: show a bar on standard error.

    Raises:
        ConfigError: a split is not there.
        DataError: files do not fit together or cannot be read; all problems in one go.
    """
    train, val, problems = _listings(layout, pixels)
    labels = train.labels if layout.name != "folder" or layout.multi_label else None
    colored = labels.raw_colors if labels else _are_colored(train.pairs)
    look = partial(_look, pixels=pixels, labels=labels, colored=colored)
    train_looks = map_on_all_cores(look, _spread(train.pairs), "reading train", progress=progress)
    val_looks = map_on_all_cores(look, _spread(val.pairs), "reading val", progress=progress)
    looks = [*train_looks, *val_looks]
    raise_all([*problems, *(line for found in looks for line in found.problems)])
    heights, widths = zip(*(found.size for found in train_looks), strict=True)
    strays = {} if labels else _strays(looks)
    return Facts(
        len(train.pairs),
        len(val.pairs),
        int(median(heights)),
        int(median(widths)),
        Counter(found.kind for found in looks),
        colored,
        _sum(looks, strays),
        _sum(train_looks, strays),
        labels,
        tuple(strays.values()),
    )


def draft(layout: Layout, pixels: PixelFormat) -> DataConfig:
    """The layout as a `data` section."""
    return DataConfig(
        name=layout.name,
        root=str(layout.root),
        train_split=layout.train_split,
        val_split=layout.val_split,
        folder=FolderConfig(
            images=layout.images,
            masks=layout.masks,
            mask_suffix=layout.mask_suffix,
            multi_label=layout.multi_label,
        ),
        channels=pixels.channels,
        value_range=pixels.value_range,
    )


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int] = (0, 0)
    kind: str = ""
    values: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()
    mask: str = ""


def _look(pair: Pair, pixels: PixelFormat, labels: LabelSpace | None, *, colored: bool) -> _Look:
    """A pair's header and mask."""
    try:
        size = pixels.size(pair.image)
        mask = read_color_mask(pair.mask) if colored else pair_mask(pair, pixels, labels)
    except DataError as error:
        return _Look(problems=tuple(error.problems))
    if size != mask_extent(mask):
        return _Look(problems=(size_mismatch(pair, size, mask_extent(mask)),))
    facts = mask_facts(mask)
    return _Look(size, stored_kind(pair.image).pixels, facts.values, facts.counts, mask=str(pair.mask))


def _are_colored(pairs: Sequence[Pair]) -> bool:
    """Whether masks are coloured pictures, as most of some are; one may be the fault that has to be named."""
    colored = []
    for pair in pairs[:: max(1, len(pairs) // _KINDS_LOOKED_AT)]:
        with suppress(DataError):  # comes up again, with all other problems, when every mask is read
            colored.append(image_kind(pair.mask).pixels in _COLORED)
    return 2 * sum(colored) > len(colored)


def _listings(layout: Layout, pixels: PixelFormat) -> tuple[Listing, Listing, list[str]]:
    """Both splits, and all that their names show to be wrong.

    Raises:
        ConfigError: a split is not there, or there is no pair at all.
        DataError: a split has no pair.
    """
    config = draft(layout, pixels)
    train, val = (LISTINGS[layout.name](config, split) for split in (layout.train_split, layout.val_split))
    problems = [problem.line for listing in (train, val) for problem in listing.problems]
    problems += [empty_split(listing.where) for listing in (train, val) if not listing.pairs and not listing.problems]
    problems = list(dict.fromkeys(problems))
    if not train.pairs and not val.pairs:
        raise ConfigError(problems)
    if not train.pairs or not val.pairs:
        raise_all(problems)
    return train, val, problems


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) <= _MOST_PAIRS:
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, _MOST_PAIRS).astype(int).tolist()]


def _strays(looks: Sequence[_Look]) -> dict[int, str]:
    """Values that are most likely slips, and a line for each."""
    masks = Counter(value for found in looks for value in found.values)
    return {
        value: f"{found.mask}: {count} px of {value}, which no other mask holds; taken for a slip, not for a class. "
        "Training will refuse this mask: mend it, or name the class"
        for found in looks
        for value, count in zip(found.values, found.counts, strict=True)
        if len(looks) >= _STRAY_MASKS and masks[value] == 1 and count <= _STRAY_PIXELS and value != IGNORED
    }


def _sum(looks: Sequence[_Look], without: Collection[int]) -> Counter[int]:
    total: Counter[int] = Counter()
    for found in looks:
        total.update(dict(zip(found.values, found.counts, strict=True)))
    return Counter({value: count for value, count in total.items() if value not in without})
