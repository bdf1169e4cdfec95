"""A data set for classification examined: every file read, every fault listed, classes and sizes counted."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rich.table import Table

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.inspection.check import Extent
from segzoo.data.inspection.findings import CheckReport, Finding
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import ClassificationDataset
from segzoo.errors import DataError

_NAMED = 3  # images named in a finding about many


@dataclass(frozen=True)
class ClassSplit:
    """What is in a split.

    Args:
        name: of the split.
        images: how many are listed.
        counts: images of each class.
        height: of the readable images, in pixels; None where there is none.
        width: as `height`.
    """

    name: str
    images: int = 0
    counts: tuple[int, ...] = ()
    height: Extent | None = None
    width: Extent | None = None

    def as_dict(self) -> dict[str, Any]:
        """In JSON types."""
        return {
            "images": self.images,
            "class_images": self.counts or None,
            "height": asdict(self.height) if self.height else None,
            "width": asdict(self.width) if self.width else None,
        }


ClassReport = CheckReport[ClassSplit]


@dataclass(frozen=True)
class _Scan:
    """One image, as far as it can be read."""

    name: str
    classes: tuple[int, ...]
    size: tuple[int, int] | None = None
    digest: bytes = b""
    problems: tuple[str, ...] = ()


def check_classification_data(config: ClassificationDataConfig, *, progress: bool = True) -> ClassReport:
    """Read every image of the training and the validation split and say all that is wrong, and what is there.

    Args:
        config: the run's `data` section.
        progress: show a bar on standard error.

    Raises:
        ConfigError: the folder or a split is not there, or there is no such data set.
    """
    findings: list[Finding] = []
    splits, scans, labels = [], {}, None
    for name in dict.fromkeys((config.train_split, config.val_split)):
        try:
            dataset = build_classification_dataset(config, name)
        except DataError as error:
            findings += [Finding("error", "listing", name, line) for line in error.problems]
            splits.append(ClassSplit(name))
            continue
        labels = labels or dataset.labels
        scans[name] = _scanned(dataset, progress=progress)
        findings += [Finding("error", "unreadable file", name, line) for scan in scans[name] for line in scan.problems]
        splits.append(_split(name, scans[name], dataset.labels))
    findings += _duplicates(scans)
    if labels is not None:
        findings += _class_findings(splits, labels)
    findings.sort(key=lambda finding: finding.severity)
    return ClassReport(tuple(findings), tuple(splits), labels)


def class_image_table(report: ClassReport) -> Table:
    """Images of each class, and all images with their sizes, in each split."""
    table = Table("class", *(f"{split.name}: images" for split in report.splits))
    for column in table.columns[1:]:
        column.justify = "right"
    for index, name in enumerate(report.labels.names if report.labels else ()):
        table.add_row(name, *(f"{split.counts[index]:,}" if split.counts else "" for split in report.splits))
    table.add_section()
    table.add_row("all images", *(f"{split.images:,}" for split in report.splits))
    table.add_row("height", *(str(split.height or "") for split in report.splits))
    table.add_row("width", *(str(split.width or "") for split in report.splits))
    return table


def _scanned(dataset: ClassificationDataset, *, progress: bool) -> list[_Scan]:
    return map_on_all_cores(partial(_scan, dataset), range(len(dataset)), "reading images", progress=progress)


def _scan(dataset: ClassificationDataset, index: int) -> _Scan:
    name, classes = dataset.ids[index], dataset.classes[index]
    try:
        image = dataset.read_image(index)
    except DataError as error:
        return _Scan(name, classes, problems=tuple(error.problems))
    digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
    return _Scan(name, classes, (image.shape[0], image.shape[1]), digest)


def _split(name: str, scans: Sequence[_Scan], labels: LabelSpace) -> ClassSplit:
    counts = Counter(index for scan in scans for index in scan.classes)
    sizes = [scan.size for scan in scans if scan.size is not None]
    return ClassSplit(
        name,
        len(scans),
        tuple(counts[index] for index in range(labels.num_classes)),
        Extent.of([height for height, _ in sizes]) if sizes else None,
        Extent.of([width for _, width in sizes]) if sizes else None,
    )


def _duplicates(scans: dict[str, list[_Scan]]) -> Iterator[Finding]:
    """Pictures that are there twice: in training and validation, of two classes, or only twice."""
    groups: dict[bytes, list[tuple[str, _Scan]]] = defaultdict(list)
    for split, found in scans.items():
        for scan in found:
            if scan.digest:
                groups[scan.digest].append((split, scan))
    for copies in (group for group in groups.values() if len(group) > 1):
        splits = list(dict.fromkeys(split for split, _ in copies))
        listed = ", ".join(f"{split}: {scan.name}" for split, scan in copies[:_NAMED])
        more = f" and {len(copies) - _NAMED} more" if len(copies) > _NAMED else ""
        line = f"{listed}{more}: the same picture"
        where = ", ".join(splits)
        if len(splits) > 1:
            advice = "what is measured on it is known from training. Keep it in one split."
            yield Finding("error", "in train and val", where, f"{line}; {advice}")
        elif len({scan.classes for _, scan in copies}) > 1:
            yield Finding("error", "two classes", where, f"{line} under different classes; keep the right one")
        else:
            yield Finding("warning", "duplicate image", where, f"{line}; keep one")


def _class_findings(splits: Sequence[ClassSplit], labels: LabelSpace) -> Iterator[Finding]:
    """Classes that training never sees, or validation never measures."""
    told = (
        "no image of {}; the network cannot learn what it never sees",
        "no image of {}; nothing is measured of what is not there",
    )
    for split, text in zip(splits, told, strict=False):
        absent = [name for name, count in zip(labels.names, split.counts, strict=False) if not count]
        if absent:
            more = f" and {len(absent) - _NAMED} more classes" if len(absent) > _NAMED else ""
            line = f"{split.name}: {text.format(', '.join(absent[:_NAMED]) + more)}"
            yield Finding("warning", "absent class", split.name, line)
