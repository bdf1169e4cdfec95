"""What is wrong with a data set: functions of what was read of it, each for one kind of fault."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segzoo.data.datasets.listing import Problem
from segzoo.data.inspection.masks import find_smoothing, palette_conflict, pixels_of_classes
from segzoo.data.inspection.scan import Scan, SplitScan
from segzoo.data.reading.labels import IGNORED, LabelSpace
from segzoo.data.reading.pixels import dark_line
from segzoo.errors import DataError, printable

Severity = Literal["error", "warning"]

_NAMED = 3  # files named in a finding about many
_KNOWN_FROM_TRAINING = "what is measured on it is known from training. Keep it in one split."


@dataclass(frozen=True)
class Finding:
    """Something a person should look at.

    Args:
        severity: error: the data cannot be used, or numbers measured on it would be wrong; warning: it can.
        kind: the fault in two or three words.
        split: where it was found; several with commas.
        line: file, value, count and what to do, in one line.
    """

    severity: Severity
    kind: str
    split: str
    line: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", printable(self.line))


def split_findings(split: SplitScan) -> Iterator[Finding]:
    """What listing and reading a split have shown."""

    def found(severity: Severity, problems: Sequence[Problem]) -> Iterator[Finding]:
        return (Finding(severity, problem.kind, split.name, problem.line) for problem in problems)

    yield from found("error", split.errors)
    yield from found("warning", split.warnings)
    for scan in split.scans:
        yield from found("error", scan.problems)


def value_findings(split: SplitScan, labels: LabelSpace) -> Iterator[Finding]:
    """Masks with values that are no class, masks that are ignored from edge to edge, 0/255 pictures."""
    binary: list[str] = []
    for scan in split.scans:
        if scan.mask is None:
            continue
        pixels = scan.mask.pixels
        try:
            classes = set(np.flatnonzero(pixels_of_classes(pixels, labels)).tolist())
        except DataError as error:
            yield Finding("error", "value out of range", split.name, f"{scan.mask_name}: {error}")
            continue
        if classes == {labels.ignore_index}:
            line = f"{scan.mask_name}: all {sum(pixels.values())} px are ignored; nothing can be learned or measured on"
            yield Finding("warning", "ignored mask", split.name, f"{line} it")
        elif pixels.keys() == {0, IGNORED} and classes == {0, labels.ignore_index}:
            line = f"{scan.mask_name}: holds only 0 ({pixels[0]} px) and 255 ({pixels[IGNORED]} px), which is ignored"
            binary.append(f"{line}; if 255 is a class, write its number{_as_stated(labels)}")
    # Where masks with several classes use 255, too, it stands for ignored pixels.
    marks = any(scan.mask and IGNORED in scan.mask.pixels and len(scan.mask.pixels) > 2 for scan in split.scans)
    yield from (Finding("warning" if marks else "error", "0/255 mask", split.name, line) for line in binary)


def _as_stated(labels: LabelSpace) -> str:
    """How to state 0 and 255, where no class would be left out by it."""
    if labels.num_classes > 2:
        return ""
    return f", or state it: data.folder.mask_values={{{labels.names[0]}: 0, object: 255}}"


def mask_findings(splits: Sequence[SplitScan], labels: LabelSpace | None) -> Iterator[Finding]:
    """What the masks say together: palettes that differ, and values that only smoothing makes.

    `labels` is what is known of the values without the masks.
    """
    if labels is not None and not labels.coding.exclusive:
        return
    masks = [(scan.mask_name, scan.mask) for split in splits for scan in split.scans if scan.mask is not None]
    if line := palette_conflict(masks):
        yield Finding("error", "palettes differ", _names(splits), line)
    smoothing = find_smoothing(facts for _, facts in masks)
    if smoothing is None:
        return
    blends = set(smoothing.blends)
    severity: Severity = "error"
    if labels is not None:  # somebody said what values mean; those that became classes of their own are worth a look
        known = labels.meanings
        shared = {labels.ignore_index, *(known.get(value) for value in smoothing.pixels if value not in blends)}
        blends = {value for value in blends if value not in known or known[value] not in shared}
        severity = "warning" if blends <= known.keys() else "error"
    if len(blends) > 1:
        colored = labels is not None and labels.raw_colors
        line = smoothing.line(f"masks of {_names(splits)}", blends, colored=colored)
        yield Finding(severity, "smoothed masks", _names(splits), line)


def class_findings(train: SplitScan, val: SplitScan, labels: LabelSpace) -> Iterator[Finding]:
    """Classes that training never sees."""
    seen = {split.name: _classes(split, labels) for split in (train, val)}
    absent = [index for index in range(labels.num_classes) if index not in seen[train.name]]
    if not seen[train.name] or not absent:
        return
    where = f"{train.name}, {val.name}"
    measured = [labels.names[index] for index in absent if index in seen[val.name]]
    nowhere = [labels.names[index] for index in absent if index not in seen[val.name]]
    if nowhere:
        line = f"no pixel of {_listed(nowhere)} in any mask; the network cannot learn what it never sees"
        yield Finding("warning", "absent class", where, line)
    if measured:
        line = (
            f"no pixel of {_listed(measured)} in {train.name}, but in {val.name}: their IoU will be near 0; "
            "split the images anew, or take the classes out with data.ignore_classes"
        )
        yield Finding("warning", "class only in val", where, line)


def _classes(split: SplitScan, labels: LabelSpace) -> set[int]:
    """Class indices in the readable samples of a split."""
    sound = [scan.mask.pixels for scan in split.scans if scan.mask and is_sound(scan, labels)]
    found = {index for pixels in sound for index in np.flatnonzero(pixels_of_classes(pixels, labels)).tolist()}
    return found - {labels.ignore_index}


def is_sound(scan: Scan, labels: LabelSpace) -> bool:
    """Whether a sample can be trained on."""
    if scan.image is None or scan.mask is None:
        return False
    try:
        pixels_of_classes(scan.mask.pixels, labels)
    except DataError:
        return False
    return True


def storage_findings(splits: Sequence[SplitScan]) -> Iterator[Finding]:
    """Images stored in different ways in one set, and images that EXIF turns without the mask showing whether it is."""
    stored: dict[str, list[str]] = defaultdict(list)
    unclear = []
    for name, image in ((scan.image_name, scan.image) for split in splits for scan in split.scans):
        if image is None:
            continue
        stored[image.kind.pixels].append(name)
        # A quarter turn of an oblong picture would show as a size mismatch.
        if image.kind.turned and (image.size[0] == image.size[1] or not image.kind.quarter_turn):
            unclear.append(name)
    if len(stored) > 1:
        most_first = sorted(stored.items(), key=lambda item: -len(item[1]))
        parts = "; ".join(f"{len(files)} {kind} ({files[0]})" for kind, files in most_first)
        line = f"images are stored in different ways: {parts}. Training makes one kind of them; is that meant?"
        yield Finding("warning", "mixed images", _names(splits), line)
    if unclear:
        line = (
            f"{_listed(unclear)}: turned or mirrored by the EXIF orientation, {len(unclear)} images; "
            "look at the sheet whether their masks are too"
        )
        yield Finding("warning", "turned image", _names(splits), line)


def depth_findings(splits: Sequence[SplitScan]) -> Iterator[Finding]:
    """16-bit images that use so few of their bits that they would come out all but black."""
    images = [(scan.image_name, scan.image) for split in splits for scan in split.scans if scan.image]
    deep = [(name, image.highest) for name, image in images if image.highest is not None]
    line = dark_line([name for name, _ in deep], max((number for _, number in deep), default=0))
    if line is not None:
        yield Finding("error", "dark images", _names(splits), line)


def duplicate_findings(splits: Sequence[SplitScan]) -> Iterator[Finding]:
    """Pictures that are there twice: in one split, or, worse, in training and validation."""
    for copies in _copies(splits):
        names = [scan.image_name for _, scan in copies]
        where = list(dict.fromkeys(split for split, _ in copies))
        if len(where) > 1:
            line = f"{names[-1]}: the same picture as {_listed(names[:-1])}, in {' and '.join(where)}"
            yield Finding("error", "in train and val", ", ".join(where), f"{line}; {_KNOWN_FROM_TRAINING}")
        else:
            line = f"{names[0]}: the same picture as {_listed(names[1:])}, {len(names)} times; keep one"
            yield Finding("warning", "duplicate image", where[0], line)


def whole_image_findings(splits: Sequence[SplitScan], labels: LabelSpace) -> Iterator[Finding]:
    """In classification: pictures that are there twice, perhaps as two classes, and classes that a split lacks."""
    for copies in _copies(splits):
        where = list(dict.fromkeys(split for split, _ in copies))
        line = f"{_listed([f'{split}: {scan.image_name}' for split, scan in copies])}: the same picture"
        if len(where) > 1:
            yield Finding("error", "in train and val", ", ".join(where), f"{line}; {_KNOWN_FROM_TRAINING}")
        elif len({scan.classes for _, scan in copies}) > 1:
            yield Finding("error", "two classes", where[0], f"{line} under different classes; keep the right one")
        else:
            yield Finding("warning", "duplicate image", where[0], f"{line}; keep one")
    consequences = ("the network cannot learn what it never sees", "nothing is measured of what is not there")
    for split, consequence in zip(splits, consequences, strict=False):
        seen = {index for scan in split.scans for index in scan.classes}
        absent = [name for index, name in enumerate(labels.names) if index not in seen]
        if split.labels is not None and absent:
            listed = f"{_listed(absent)} classes" if len(absent) > _NAMED else _listed(absent)
            line = f"{split.name}: no image of {listed}; {consequence}"
            yield Finding("warning", "absent class", split.name, line)


def _copies(splits: Sequence[SplitScan]) -> Iterator[list[tuple[str, Scan]]]:
    """Samples with the same picture, each with its split."""
    groups: dict[bytes, list[tuple[str, Scan]]] = defaultdict(list)
    for split in splits:
        for scan in split.scans:
            if scan.image is not None:
                groups[scan.image.digest].append((split.name, scan))
    yield from (copies for copies in groups.values() if len(copies) > 1)


def _names(splits: Sequence[SplitScan]) -> str:
    return ", ".join(split.name for split in splits)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
