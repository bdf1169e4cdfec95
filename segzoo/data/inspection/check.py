"""A data set examined: what is in it and everything that is wrong with it, in one run; some of that before training."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segzoo.config.classification import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.datasets.classes import infer_labels, regrouped_labels, single_class
from segzoo.data.datasets.listing import Pair, raise_all
from segzoo.data.datasets.spec import DATASETS
from segzoo.data.inspection.browse import write_samples
from segzoo.data.inspection.findings import (
    Finding,
    class_findings,
    depth_findings,
    duplicate_findings,
    is_sound,
    mask_findings,
    split_findings,
    storage_findings,
    value_findings,
    whole_image_findings,
)
from segzoo.data.inspection.report import ClassificationReport, ClassSummary, ImageSummary, Report, SplitReport
from segzoo.data.inspection.scan import (
    Scan,
    SplitScan,
    scan_classification_splits,
    scan_pair,
    scan_splits,
    split_of_listing,
)
from segzoo.data.reading.labels import IGNORED, LabelSpace
from segzoo.data.reading.pixels import PixelFormat
from segzoo.errors import DataError

logger = logging.getLogger(__name__)

_SAMPLES = 50  # of each split that the quick check reads
_SECONDS = 1.0  # for the pixels of one split


def check_data(config: DataConfig, *, progress: bool = True) -> Report:
    """Read every file of the training and the validation split and say all that is wrong, and what is there.

    Raises:
        ConfigError: the folder or both splits are not there, or there is no such data set.
    """
    splits = scan_splits(config, progress=progress)
    findings = list(mask_findings(splits, next((split.labels for split in splits if split.labels is not None), None)))
    labels, refusals = _labels(splits, config, sound=not any(finding.severity == "error" for finding in findings))
    findings += refusals
    for split in splits:
        findings += split_findings(split)
        findings += value_findings(split, labels) if labels else ()
    findings += duplicate_findings(splits)
    findings += storage_findings(splits)
    findings += depth_findings(splits)
    findings += class_findings(splits[0], splits[-1], labels) if labels else ()
    return Report(_sorted(findings), labels, tuple(_split_report(split, labels) for split in splits))


def _split_report(split: SplitScan, labels: LabelSpace | None) -> SplitReport:
    classes = ClassSummary.of(split, labels) if labels else None
    sound = (scan.pair for scan in split.scans if scan.pair and labels and is_sound(scan, labels))
    return SplitReport(split.name, len(split.scans), ImageSummary.of(split), classes, tuple(sound))


def _labels(splits: Sequence[SplitScan], config: DataConfig, *, sound: bool) -> tuple[LabelSpace | None, list[Finding]]:
    """The label space, from the masks' values where nothing else tells, and what is wrong with those.

    The values are asked only where they are `sound`: neither smoothed, nor of palettes that differ.
    """
    known = next((split.labels for split in splits if split.labels is not None), None)
    if known is not None and (line := single_class(known)):
        return known, [Finding("error", "single class", ", ".join(split.name for split in splits), line)]
    masks = [set(scan.mask.pixels) for scan in splits[0].scans if scan.mask is not None]
    if known is not None or not masks or not sound:
        return known, []
    try:
        return regrouped_labels(infer_labels(set().union(*masks), config), config), []
    except DataError as error:
        likely = _values_of_most(masks)
        if likely is not None:  # the masks with other values are the ones to mend, and will be named
            return regrouped_labels(infer_labels(likely, config), config), []
        return None, [Finding("error", "no class numbers", splits[0].name, line) for line in error.problems]


def _values_of_most(masks: Sequence[set[int]]) -> set[int] | None:
    """0, 1, 2, ... without a gap, if most masks hold nothing else but the ignored value."""
    values = set().union(*masks)
    counting = set(takewhile(values.__contains__, count()))
    fitting = sum(mask <= {*counting, IGNORED} for mask in masks)
    return counting if len(counting) > 1 and fitting > len(masks) / 2 else None


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors first, by kind, each line once, in the order in which they were found."""
    unique: dict[str, Finding] = {}
    for finding in findings:
        unique.setdefault(finding.line, finding)
    kinds = list(dict.fromkeys(finding.kind for finding in findings))
    return tuple(sorted(unique.values(), key=lambda finding: (finding.severity, kinds.index(finding.kind))))


def check_classification_data(config: ClassificationDataConfig, *, progress: bool = True) -> ClassificationReport:
    """As `check_data`, of whole images with classes.

    Raises:
        ConfigError: the folder or a split is not there, or there is no such data set.
    """
    splits = scan_classification_splits(config, progress=progress)
    labels = next((split.labels for split in splits if split.labels is not None), None)
    findings = [finding for split in splits for finding in split_findings(split)]
    findings += whole_image_findings(splits, labels) if labels is not None else ()
    findings.sort(key=lambda finding: finding.severity)
    return ClassificationReport(tuple(findings), labels, tuple(map(_classification_split, splits)))


def _classification_split(split: SplitScan) -> SplitReport:
    counts = Counter(index for scan in split.scans for index in scan.classes)
    images = tuple(counts[index] for index in range(split.labels.num_classes if split.labels else 0))
    classes = ClassSummary((), images, 0) if split.labels else None
    return SplitReport(split.name, len(split.scans), ImageSummary.of(split), classes)


class Inspection(NamedTuple):
    """How the data of one task is checked, and its samples drawn where there are masks to see."""

    check: Callable[..., Report]
    write_samples: Callable[..., Path | None] | None


INSPECTIONS: Mapping[str, Inspection] = {
    "segmentation": Inspection(check_data, write_samples),
    "classification": Inspection(check_classification_data, None),
}
"""Task -> how its data is checked."""


def quick_check(config: DataConfig, samples: int = _SAMPLES, seconds: float = _SECONDS) -> None:
    """Look at the names of the training and the validation split, and at some of their samples: cheap for every run.

    Whoever passes may still have faults in the samples that were not looked at: `segzoo check-data` reads all.
    Data sets that are no lists of files are not looked at.

    Args:
        config: the run's `data` section.
        samples: how many of each split are read, chosen at random, and the same ones each time.
        seconds: after which no further sample of a split is read.

    Raises:
        ConfigError: the folder or a split is not there.
        DataError: everything that would stop training, one line each.
    """
    list_split = DATASETS[config.name].listing
    if list_split is None:
        return
    splits = []
    for name in dict.fromkeys((config.train_split, config.val_split)):
        listing = list_split(config, name)
        labels = regrouped_labels(listing.labels, config) if listing.labels else None
        scans = _scans_in_time(listing.items, PixelFormat.of(config), labels, samples, seconds)
        splits.append(split_of_listing(name, listing, labels, scans))
    findings: list[Finding] = []
    for split in splits:
        findings += split_findings(split)
        findings += value_findings(split, split.labels) if split.labels else ()
    of_all = list(mask_findings(splits, splits[0].labels))
    for finding in of_all:
        if finding.severity == "warning":
            logger.warning("%s", finding.line)
    findings += of_all
    findings += depth_findings(splits)
    raise_all(list(dict.fromkeys(finding.line for finding in findings if finding.severity == "error")))


def _scans_in_time(
    pairs: Sequence[Pair], pixels: PixelFormat, labels: LabelSpace | None, samples: int, seconds: float
) -> list[Scan]:
    deadline = time.monotonic() + seconds
    scans: list[Scan] = []
    for index in np.random.default_rng(0).permutation(len(pairs))[:samples].tolist():
        if time.monotonic() > deadline:
            break
        scans.append(scan_pair(pairs[index], pixels, labels))
    return scans
