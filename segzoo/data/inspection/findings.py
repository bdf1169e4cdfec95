"""What is wrong with samples that can be read: values, classes, ways of storing."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from segzoo.data.datasets.listing import Problem
from segzoo.data.inspection.mask_facts import find_smoothing, palette_conflict
from segzoo.data.inspection.scan import Scan, SplitScan, facts_labels
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import dark_line
from segzoo.errors import printable

_NAMED = 3  # files named in a finding about many


class NamedSplit(Protocol):
    """What a report says of a split."""

    @property
    def name(self) -> str:
        """Of the split."""

    def as_dict(self) -> dict[str, Any]:
        """In JSON types."""


@dataclass(frozen=True)
class Finding:
    """Something a person should look at.

    Args:
        severity: error: the data cannot be used, or numbers measured on it would be wrong; warning: it can.
        kind: the fault in two or three words.
        split: where it was found; several with commas.
        line: file, value, count and what to do, in one line.
    """

    severity: Literal["error", "warning"]
    kind: str
    split: str
    line: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", printable(self.line))


SplitT = TypeVar("SplitT", bound=NamedSplit, covariant=True)


@dataclass(frozen=True)
class CheckReport(Generic[SplitT]):
    """What was found in the data of a run, of either task.

    Args:
        findings: errors first.
        splits: training and validation.
        labels: the classes; None where nothing tells them.
    """

    findings: tuple[Finding, ...]
    splits: tuple[SplitT, ...]
    labels: LabelSpace | None

    @property
    def errors(self) -> int:
        """How many findings keep the data from being used."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many others there are."""
        return len(self.findings) - self.errors

    def as_dict(self) -> dict[str, Any]:
        """The whole report in JSON types."""
        return {
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [asdict(finding) for finding in self.findings],
            "splits": {split.name: split.as_dict() for split in self.splits},
            "classes": list(self.labels.names) if self.labels else None,
        }


def value_findings(split: SplitScan, labels: LabelSpace) -> Iterator[Finding]:
    """Masks with values that are no class, masks that are ignored from edge to edge, 0/255 pictures."""
    binary = []
    labels = facts_labels(labels)
    for scan in split.scans:
        if scan.mask is None:
            continue
        values, counts = scan.mask.arrays()
        refusal = labels.refusal(values, counts)
        if refusal is not None:
            yield Finding("error", "value out of range", split.name, f"{scan.mask_name}: {refusal}")
            continue
        classes = set(labels.encode(values).tolist())
        if classes == {labels.ignore_index}:
            line = f"{scan.mask_name}: all {scan.pixels} px are ignored; nothing can be learned or measured on it"
            yield Finding("warning", "ignored mask", split.name, line)
        elif scan.mask.values == (0, 255) and classes == {0, labels.ignore_index}:
            binary.append(scan)
    if binary:
        severity: Literal["error", "warning"] = "warning" if _marks_ignored(split) else "error"
        for scan in binary:
            yield Finding(severity, "0/255 mask", split.name, _binary_line(scan, labels))


def mask_findings(splits: Sequence[SplitScan], labels: LabelSpace | None) -> Iterator[Finding]:
    """What the masks say together: palettes that differ, and values that only smoothing makes.

    Args:
        splits: as they were read.
        labels: what is known of the values without the masks; None: nothing.
    """
    masks = [(scan.mask_name, scan.mask) for split in splits for scan in split.scans if scan.mask is not None]
    names = ", ".join(split.name for split in splits)
    if labels is not None and not labels.coding.exclusive:
        return
    if line := palette_conflict(masks):
        yield Finding("error", "palettes differ", names, line)
    smoothing = find_smoothing(facts for _, facts in masks)
    if smoothing is None:
        return
    blends = set(smoothing.blends)
    severity: Literal["error", "warning"] = "error"
    if labels is not None:  # somebody said what values mean; those that became classes of their own are worth a look
        known = labels.meanings
        shared = {labels.ignore_index, *(known.get(value) for value in smoothing.pixels if value not in blends)}
        blends = {value for value in blends if value not in known or known[value] not in shared}
        severity = "warning" if blends <= known.keys() else "error"
    if len(blends) > 1:
        line = smoothing.line(f"masks of {names}", blends, colored=labels is not None and labels.raw_colors)
        yield Finding(severity, "smoothed masks", names, line)


def class_findings(train: SplitScan, val: SplitScan, labels: LabelSpace) -> Iterator[Finding]:
    """Classes that training never sees."""
    seen = {split.name: _classes(split, labels) for split in (train, val)}
    absent = [index for index in range(labels.num_classes) if index not in seen[train.name]]
    if not seen[train.name] or not absent:
        return
    measured = [labels.names[index] for index in absent if index in seen[val.name]]
    nowhere = [labels.names[index] for index in absent if index not in seen[val.name]]
    if nowhere:
        line = f"no pixel of {_listed(nowhere)} in any mask; the network cannot learn what it never sees"
        yield Finding("warning", "absent class", f"{train.name}, {val.name}", line)
    if measured:
        line = (
            f"no pixel of {_listed(measured)} in {train.name}, but in {val.name}: their IoU will be near 0; "
            "split the images anew, or take the classes out with data.ignore_classes"
        )
        yield Finding("warning", "class only in val", f"{train.name}, {val.name}", line)


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
    names = ", ".join(split.name for split in splits)
    if len(stored) > 1:
        parts = [
            f"{len(files)} {kind} ({files[0]})"
            for kind, files in sorted(stored.items(), key=lambda item: -len(item[1]))
        ]
        line = (
            f"images are stored in different ways: {'; '.join(parts)}. Training makes one kind of them; is that meant?"
        )
        yield Finding("warning", "mixed images", names, line)
    if unclear:
        line = (
            f"{_listed(unclear)}: turned or mirrored by the EXIF orientation, {len(unclear)} images; "
            "look at the sheet whether their masks are too"
        )
        yield Finding("warning", "turned image", names, line)


def depth_findings(splits: Sequence[SplitScan]) -> Iterator[Finding]:
    """16-bit images that use so few of their bits that they would come out all but black."""
    images = [(scan.image_name, scan.image) for split in splits for scan in split.scans if scan.image]
    deep = [(name, image.highest) for name, image in images if image.highest is not None]
    line = dark_line([name for name, _ in deep], max((number for _, number in deep), default=0))
    if line is not None:
        yield Finding("error", "dark images", ", ".join(split.name for split in splits), line)


def duplicate_findings(splits: Sequence[SplitScan]) -> Iterator[Finding]:
    """Pictures that are there twice: in one split, or, worse, in training and validation."""
    groups: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for split in splits:
        for scan in split.scans:
            if scan.image is not None:
                groups[scan.image.digest].append((split.name, scan.image_name))
    for copies in groups.values():
        if len(copies) < 2:
            continue
        names = [name for _, name in copies]
        where = list(dict.fromkeys(split for split, _ in copies))
        if len(where) > 1:
            line = (
                f"{names[-1]}: the same picture as {_listed(names[:-1])}, in {' and '.join(where)}; what is measured "
                "on it is known from training. Keep it in one split."
            )
            yield Finding("error", "in train and val", ", ".join(where), line)
        else:
            line = f"{names[0]}: the same picture as {_listed(names[1:])}, {len(names)} times; keep one"
            yield Finding("warning", "duplicate image", where[0], line)


def split_findings(split: SplitScan) -> Iterator[Finding]:
    """What listing and reading a split have shown."""
    for problem in split.errors:
        yield _finding("error", problem, split)
    for problem in split.warnings:
        yield _finding("warning", problem, split)
    for scan in split.scans:
        for problem in scan.problems:
            yield _finding("error", problem, split)


def is_sound(scan: Scan, labels: LabelSpace) -> bool:
    """Whether a sample can be trained on."""
    if scan.image is None or scan.mask is None:
        return False
    return facts_labels(labels).refusal(*scan.mask.arrays()) is None


def _finding(severity: Literal["error", "warning"], problem: Problem, split: SplitScan) -> Finding:
    return Finding(severity, problem.kind, split.name, problem.line)


def _marks_ignored(split: SplitScan) -> bool:
    """Whether masks with several classes use 255 too, so that there it stands for ignored pixels."""
    return any(scan.mask is not None and 255 in scan.mask.values and len(scan.mask.values) > 2 for scan in split.scans)


def _binary_line(scan: Scan, labels: LabelSpace) -> str:
    counts = dict(zip(scan.mask.values, scan.mask.counts, strict=True)) if scan.mask else {}
    line = (
        f"{scan.mask_name}: holds only 0 ({counts.get(0)} px) and 255 ({counts.get(255)} px), which is ignored; if 255 "
        "is a class, write its number"
    )
    if labels.num_classes > 2:  # which two stated values would leave out
        return line
    return f"{line}, or state it: data.folder.mask_values={{{labels.names[0]}: 0, object: 255}}"


def _classes(split: SplitScan, labels: LabelSpace) -> set[int]:
    """Class indices in the readable masks of a split."""
    found: set[int] = set()
    for scan in split.scans:
        if scan.mask is not None and is_sound(scan, labels):
            found.update(facts_labels(labels).encode(scan.mask.arrays()[0]).tolist())
    return found - {labels.ignore_index}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
