"""What the files of a folder hold, and which classes the values in its masks most likely are."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.datasets.classes import ClassList, infer_labels, regrouped_labels
from segzoo.data.datasets.listing import Listing, Pair, raise_all
from segzoo.data.datasets.spec import DATASETS
from segzoo.data.inspection.masks import (
    GRAY,
    MaskFacts,
    find_smoothing,
    palette_conflict,
    pixels_of_classes,
    total_pixels,
)
from segzoo.data.inspection.scan import Scan, empty_split_problems, scan_pair
from segzoo.data.reading.labels import IGNORED, LabelSpace, color_number, shown_color
from segzoo.data.reading.masks import is_colored_mask
from segzoo.data.reading.pixels import PixelFormat
from segzoo.errors import ConfigError, DataError, in_groups

_MOST_PAIRS = 5000  # that are read; of larger sets, pairs from all over them
_KINDS_LOOKED_AT = 20
_STRAY_PIXELS = 16  # at most, of a value in a single mask that is a slip of the brush rather than a class
_STRAY_MASKS = 10  # at least, for that to be odd
_MOST_CLASSES = 64  # more values than this are shades, not classes
_IGNORED_NAME = "ignored"


@dataclass(frozen=True)
class FolderFacts:
    """A folder of images and masks in numbers.

    Args:
        height: the median, in pixels, as is `width`.
        largest: pixels of the largest image, of either split.
        kinds: how many images are stored in which way ("RGB", "16-bit gray").
        colored: whether masks are coloured pictures.
        values: pixels of each value, or colour as a number, in all masks.
        train_values: the same in the training masks.
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
    config: DataConfig, known_colors: Collection[int], *, meanings_stated: bool, progress: bool
) -> FolderFacts:
    """Read headers of images, and masks: all of them, or some thousands from all over.

    Args:
        config: a `data` section for them, as far as it is known.
        known_colors: of classes, from a list beside the images; palettes of such colours count as colours.
        meanings_stated: `config` says what the values in the masks mean.
        progress: show a bar on standard error.

    Raises:
        ConfigError: a split is not there.
        DataError: files do not fit together or cannot be read; all problems in one go.
    """
    train, val, problems = _listings(config)
    knows_itself = config.name != "folder" or config.folder.multi_label
    labels = train.labels if knows_itself or meanings_stated else None
    colored = labels.raw_colors if labels else _are_colored(train.items)
    read = partial(_scans, config, train, val, labels, progress=progress)
    of_train, scans = read(colored=colored)
    raise_all([*problems, *_problems(scans)])
    conflict = palette_conflict(_masks(scans))
    if conflict and labels:
        raise DataError(conflict)
    if conflict or _speak_of(known_colors, scans):
        colored, (of_train, scans) = True, read(colored=True)
        if conflict and (_problems(scans) or _are_of_chance(scans)):
            raise DataError(conflict)
        raise_all(_problems(scans))
    strays = {} if labels else _strays(_masks(scans))
    warnings = [*strays.values()]
    if conflict:
        by_colors = "masks are read by their colours, not by numbers"
        warnings.insert(0, f"{conflict.partition(': palettes differ')[0]}: {by_colors}")
    values = total_pixels(mask for _, mask in _masks(scans))
    if not labels and (smoothing := find_smoothing(mask for _, mask in _masks(scans))):
        raise DataError(smoothing.line(f"masks in {config.root}", smoothing.blends, colored=colored))
    if meanings_stated and not labels:
        labels = infer_labels(values, config)
    heights, widths = zip(*(scan.image.size for scan in of_train if scan.image), strict=True)
    return FolderFacts(
        len(train.items),
        len(val.items),
        int(median(heights)),
        int(median(widths)),
        max(height * width for height, width in (scan.image.size for scan in scans if scan.image)),
        Counter(scan.image.kind.pixels for scan in scans if scan.image),
        colored,
        _without(values, strays),
        _without(total_pixels(mask for _, mask in _masks(of_train)), strays),
        regrouped_labels(labels, config) if labels else None,
        tuple(warnings),
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
    """Pairs of training, and of both splits, as many as are read."""
    read = partial(scan_pair, pixels=PixelFormat.of(config), labels=labels, colored=colored, decoded=False)
    of_train = map_on_all_cores(read, _spread(train.items), "reading train", progress=progress)
    return of_train, of_train + map_on_all_cores(read, _spread(val.items), "reading val", progress=progress)


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) <= _MOST_PAIRS:
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, _MOST_PAIRS).astype(int).tolist()]


def _problems(scans: Sequence[Scan]) -> list[str]:
    return [problem.line for scan in scans for problem in scan.problems]


def _masks(scans: Sequence[Scan]) -> list[tuple[str, MaskFacts]]:
    """Each with its file's name."""
    return [(scan.mask_name, scan.mask) for scan in scans if scan.mask]


def _are_colored(pairs: Sequence[Pair]) -> bool:
    """Whether masks are coloured pictures, as most of some are; one may be the fault that has to be named."""
    colored = []
    for pair in pairs[:: max(1, len(pairs) // _KINDS_LOOKED_AT)]:
        with suppress(DataError):  # comes up again, with all other problems, when every mask is read
            colored.append(is_colored_mask(pair.mask))
    return 2 * sum(colored) > len(colored)


def _speak_of(known_colors: Collection[int], scans: Sequence[Scan]) -> bool:
    """Whether all masks are indexed, with palettes that give what they hold the colours of known classes."""
    known = set(known_colors)
    return bool(known) and all(mask.colors and known.issuperset(mask.colors.values()) for _, mask in _masks(scans))


def _are_of_chance(scans: Sequence[Scan]) -> bool:
    """Whether most colours are in a single mask only, so that they cannot stand for classes."""
    found = Counter(color for _, mask in _masks(scans) for color in mask.pixels)
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


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Args:
        pixels: of each class in the training masks.
        key: the key that states them ("data.classes", "data.folder.colors"); empty where the data set knows them.
        values: what stands for each class in the masks: numbers, or colours.
        reason: why so, in words.
        offset: what is subtracted from the numbers in the masks.
        ignored: numbers in the masks that stand for no class, beside 255.
        ignored_names: of `names`, whose pixels do not count.
        exclusive: whether a pixel has only one.
    """

    names: tuple[str, ...]
    pixels: tuple[int, ...]
    key: str
    values: tuple[int | list[int], ...]
    reason: str
    offset: int = 0
    ignored: tuple[int, ...] = ()
    ignored_names: tuple[str, ...] = ()
    exclusive: bool = True

    @property
    def nameless(self) -> bool:
        """Whether the classes have numbers for names, because nothing says what they are."""
        names = [name for name in self.names if name not in self.ignored_names]
        return len(names) > 2 and tuple(names) == _made_up_names(len(names))


def choose_classes(facts: FolderFacts, root: Path, listed: ClassList) -> Classes:
    """What the values in the masks most likely mean.

    Args:
        facts: what the masks hold, among others.
        root: where they are, for messages.
        listed: classes that a file beside the images names.

    Raises:
        DataError: the values cannot be classes.
    """
    if facts.labels is not None:
        known = _known_pixels(facts.labels, facts.train_values)
        if not facts.labels.coding.exclusive:
            names, reason = facts.labels.names, "the folders of the masks"
            return Classes(names, known, "data.classes", (), reason, exclusive=False)
        return Classes(facts.labels.names, known, "", (), f"the {facts.labels.num_classes} classes of the data set")
    values = sorted(facts.values)
    if len(values) > _MOST_CLASSES:
        kind = "colours" if facts.colored else "values"
        raise DataError(
            f"{root}: the masks hold {len(values)} different {kind}; smoothed borders or a lossy format spoil masks. "
            f"Save them again without smoothing, one value for each class."
        )
    if len(values) < 2:
        raise DataError(f"{root}: all masks hold the single value {values[0]}; there is nothing to tell apart")
    if facts.colored and listed.colors:
        return _by_color_map(facts, root, listed)
    if facts.colored and not all(value == (value & 255) * GRAY for value in values):
        return _by_color(values, facts.train_values, listed)
    if facts.colored:
        return _as_colors(_by_number([value & 255 for value in values], _levels(facts.train_values), listed), facts)
    return _by_number(values, facts.train_values, listed)


def _by_color_map(facts: FolderFacts, root: Path, listed: ClassList) -> Classes:
    """Colours that a file names; the masks may hold no others."""
    known = dict(zip(map(color_number, listed.colors), listed.names, strict=False))
    if others := [value for value in sorted(facts.values) if value not in known]:
        shown = ", ".join(f"{shown_color(value)} ({facts.values[value]} px)" for value in others[:8])
        raise DataError(
            f"{root}: {listed.file} names {len(known)} colours, and the masks hold {len(others)} others: {shown}. Add "
            f"them to {listed.file}, or mend the masks."
        )
    counts = tuple(facts.train_values[color_number(color)] for color in listed.colors)
    colors: tuple[int | list[int], ...] = tuple(list(color) for color in listed.colors)
    return Classes(listed.names, counts, "data.folder.colors", colors, f"the colours and names of {listed.file}")


def _by_color(values: Sequence[int], pixels: Counter[int], listed: ClassList) -> Classes:
    """Colours without names: a list of names would not say which is whose."""
    counts = tuple(pixels[value] for value in values)
    reason = f"the masks hold {len(values)} colours"
    if listed.names:
        reason = f"{reason}; give them the {len(listed.names)} names in {listed.file}, which says nothing of colours"
    return Classes(_made_up_names(len(values)), counts, "data.folder.colors", _colors(values), reason)


def _as_colors(classes: Classes, facts: FolderFacts) -> Classes:
    """Class numbers that were saved as gray pictures, stated as colours."""
    levels = classes.values or tuple(index + classes.offset for index in range(len(classes.names)))
    numbers = [level for level in levels if isinstance(level, int)]
    others = sorted({value & 255 for value in facts.values} - {*numbers})
    names, pixels = list(classes.names), list(classes.pixels)
    ignored = [f"{_IGNORED_NAME}_{level}" if len(others) > 1 else _IGNORED_NAME for level in others]
    train = _levels(facts.train_values)
    return replace(
        classes,
        names=(*names, *ignored),
        pixels=(*pixels, *(train[level] for level in others)),
        key="data.folder.colors",
        values=_colors([level * GRAY for level in (*numbers, *others)]),
        offset=0,
        ignored_names=tuple(ignored),
    )


def _levels(colors: Counter[int]) -> Counter[int]:
    """Pixels of each gray level."""
    return Counter({color & 255: count for color, count in colors.items()})


def _colors(values: Sequence[int]) -> tuple[int | list[int], ...]:
    return tuple([value >> 16, value >> 8 & 255, value & 255] for value in values)


def _by_number(values: Sequence[int], pixels: Counter[int], listed: ClassList) -> Classes:
    classes = _of_numbers([value for value in values if value >= 0], pixels, listed)
    below = tuple(value for value in values if value < 0)
    if not below:
        return classes
    if len(values) - len(below) < 2:  # -1 and 1: nothing is left without the negative ones
        return _of_values(values, pixels, listed)
    shown = ", ".join(map(str, below))
    return replace(classes, ignored=below, reason=f"{classes.reason}; {shown}, below 0, is ignored")


def _of_numbers(values: Sequence[int], pixels: Counter[int], listed: ClassList) -> Classes:
    numbers = [value for value in values if value != IGNORED]
    if len(numbers) < 2 or max(numbers) >= 4 * len(numbers):  # 0 and 255, or gray levels: 255 is one of them
        numbers = list(values)
    named = listed.names
    if numbers and numbers[-1] == len(named) and (listed.objects or len(named) == 1):
        named = ("background", *named)
    if numbers and numbers[-1] == len(named):  # one number more than names: 0 has none, as in ADE20K
        counts = tuple(pixels[value + 1] for value in range(len(named)))
        reason = f"the masks hold up to {len(named)}, and there are {len(named)} names: 0 is unlabelled, and ignored"
        return Classes(named, counts, "data.classes", (), reason, offset=1)
    if numbers == list(range(len(numbers))) or (len(numbers) < len(named) and max(numbers, default=0) < len(named)):
        names = named if len(named) >= len(numbers) else _names(len(numbers), listed)
        counts = tuple(pixels[value] for value in range(len(names)))
        ignored = ", 255 is ignored" if IGNORED in values else ""
        return Classes(names, counts, "data.classes", (), f"the masks hold 0 to {max(numbers, default=0)}{ignored}")
    return _of_values(numbers, pixels, listed)


def _of_values(numbers: Sequence[int], pixels: Counter[int], listed: ClassList) -> Classes:
    """Each number stated."""
    names, counts = _names(len(numbers), listed), tuple(pixels[value] for value in numbers)
    shown = ", ".join(map(str, numbers))
    return Classes(names, counts, "data.folder.mask_values", tuple(numbers), f"the masks hold {shown}")


def _known_pixels(labels: LabelSpace, pixels: Counter[int]) -> tuple[int, ...]:
    """Pixels of each class where the data set says what its values mean."""
    try:
        total = pixels_of_classes(pixels, labels)
    except DataError as error:
        raise DataError(f"masks: {error}") from None
    return tuple(total[: labels.num_classes].tolist())


def _names(count: int, listed: ClassList) -> tuple[str, ...]:
    """The names of so many classes; a list of objects, or of a single one, says nothing of the background."""
    if len(listed.names) == count:
        return listed.names
    if len(listed.names) == count - 1 and (listed.objects or count == 2):
        return ("background", *listed.names)
    return _made_up_names(count)


def _made_up_names(count: int) -> tuple[str, ...]:
    return ("background", "object") if count == 2 else tuple(f"class_{index}" for index in range(count))
