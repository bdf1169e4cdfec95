"""The part of the doctor that is cheap enough for the start of every run."""

import logging
import time
from collections.abc import Sequence

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.classes import regrouped_labels
from segzoo.data.datasets.listing import Listing, Pair, raise_all
from segzoo.data.datasets.spec import DATASETS
from segzoo.data.inspection.findings import Finding, depth_findings, mask_findings, split_findings, value_findings
from segzoo.data.inspection.scan import SplitScan, empty_split_problems, scan_pair
from segzoo.data.reading.pixels import PixelFormat

logger = logging.getLogger(__name__)

_SAMPLES = 50
_SECONDS = 1.0  # for the pixels of one split


def quick_check(config: DataConfig, samples: int = _SAMPLES, seconds: float = _SECONDS) -> None:
    """Look at the names of the training and the validation split, and at some of their samples.

    Whoever passes may still have faults in the samples that were not looked at: `segzoo check-data` reads all.
    Data sets that are no lists of files are not looked at.

    Args:
        config: the run's `data` section.
        samples: of each split, spread over it by chance, the same ones each time.
        seconds: after which no further sample of a split is read.

    Raises:
        ConfigError: the folder or a split is not there.
        DataError: everything that would stop training, one line each.
    """
    list_split = DATASETS[config.name].listing
    if list_split is None:
        return
    findings: list[Finding] = []
    splits = []
    for name in dict.fromkeys((config.train_split, config.val_split)):
        listing = list_split(config, name)
        split = _glance(listing, name, config, samples, seconds)
        findings += split_findings(split)
        findings += value_findings(split, split.labels) if split.labels else ()
        splits.append(split)
    of_all = list(mask_findings(splits, splits[0].labels))
    for finding in of_all:
        if finding.severity == "warning":
            logger.warning("%s", finding.line)
    findings += of_all
    findings += depth_findings(splits)
    raise_all(list(dict.fromkeys(finding.line for finding in findings if finding.severity == "error")))


def _glance(listing: Listing[Pair], name: str, config: DataConfig, samples: int, seconds: float) -> SplitScan:
    labels = regrouped_labels(listing.labels, config) if listing.labels else None
    pixels = PixelFormat.of(config)
    deadline = time.monotonic() + seconds
    scans = []
    for pair in _some(listing.items, samples):
        if time.monotonic() > deadline:
            break
        scans.append(scan_pair(pair, pixels, labels))
    return SplitScan(name, tuple(scans), labels, (*listing.problems, *empty_split_problems(listing)))


def _some(pairs: Sequence[Pair], count: int) -> list[Pair]:
    chosen = np.random.default_rng(0).permutation(len(pairs))[:count]
    return [pairs[index] for index in chosen]
