"""A data set examined: all findings, all statistics, in one run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from segzoo.config.schema import DataConfig
from segzoo.data.doctor.findings import (
    Finding,
    class_findings,
    depth_findings,
    duplicate_findings,
    is_sound,
    mask_findings,
    split_findings,
    storage_findings,
    value_findings,
)
from segzoo.data.doctor.splits import SplitScan, scan_splits
from segzoo.data.doctor.summary import ClassSummary, ImageSummary, class_summary, image_summary
from segzoo.data.folder_labels import infer_labels
from segzoo.data.labels import IGNORED, LabelSpace
from segzoo.data.pairs import Pair
from segzoo.data.regroup import regrouped_labels, single_class
from segzoo.errors import DataError


@dataclass(frozen=True)
class SplitReport:
    """What is in a split.

    Args:
        name: of the split.
        samples: image and mask files that belong together.
        images: None where none can be read.
        classes: None where the masks' values mean nothing.
        pairs: those that can be used.
    """

    name: str
    samples: int
    images: ImageSummary | None
    classes: ClassSummary | None
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Report:
    """What the doctor found.

    Args:
        findings: errors first.
        splits: training and validation.
        labels: None where the masks' values mean nothing.
    """

    findings: tuple[Finding, ...]
    splits: tuple[SplitReport, ...]
    labels: LabelSpace | None

    @property
    def errors(self) -> int:
        """How many findings keep the data from being used."""
        return len([finding for finding in self.findings if finding.severity == "error"])

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """What `loss.class_weights=balanced` takes; None where the training masks hold no class."""
        classes = self.splits[0].classes
        return classes.weights if classes is not None and any(classes.pixels) else None


def check_data(config: DataConfig, *, progress: bool = True) -> Report:
    """Read every file of the training and the validation split and say all that is wrong, and what is there.

    Args:
        config: the run's `data` section.
        progress: show a bar on standard error.

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
    reports = tuple(_split_report(split, labels) for split in splits)
    return Report(_sorted(findings), reports, labels)


def _split_report(split: SplitScan, labels: LabelSpace | None) -> SplitReport:
    classes = class_summary(split, labels) if labels else None
    sound = (scan.pair for scan in split.scans if scan.pair and labels and is_sound(scan, labels))
    return SplitReport(split.name, len(split.scans), image_summary(split.scans), classes, tuple(sound))


def _labels(splits: Sequence[SplitScan], config: DataConfig, *, sound: bool) -> tuple[LabelSpace | None, list[Finding]]:
    """The label space, from the masks' values where nothing else tells, and what is wrong with those.

    Args:
        splits: as they were read.
        config: the run's `data` section.
        sound: whether values tell: they are neither smoothed nor of palettes that differ.
    """
    known = next((split.labels for split in splits if split.labels is not None), None)
    if known is not None and (line := single_class(known)):
        return known, [Finding("error", "single class", ", ".join(split.name for split in splits), line)]
    masks = [set(scan.mask.values) for scan in splits[0].scans if scan.mask is not None]
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
