"""From the values in a folder's masks to classes, and to the keys that say so."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segzoo.data.datasets.classes import ClassList
from segzoo.data.inspection.make_config.facts import Facts
from segzoo.data.inspection.masks import GRAY, pixels_of_classes
from segzoo.data.reading.labels import IGNORED, LabelSpace, color_number, shown_color
from segzoo.errors import DataError

_MOST_CLASSES = 64  # more values than this are shades, not classes
_IGNORED_NAME = "ignored"


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Args:
        names: one for each class.
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


def choose_classes(facts: Facts, root: Path, listed: ClassList) -> Classes:
    """What the values in the masks most likely mean.

    Args:
        facts: of the data set.
        root: of the data set, for messages.
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


def _by_color_map(facts: Facts, root: Path, listed: ClassList) -> Classes:
    """Colours that a file names.

    Raises:
        DataError: the masks hold others.
    """
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


def _as_colors(classes: Classes, facts: Facts) -> Classes:
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
