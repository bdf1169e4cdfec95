"""Ways of computing networks, measured in turns: time, ratios, the machine's limits, and memory."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from laboratory.benchmarks.machine import TYPES, LimitProbes, Limits
from laboratory.benchmarks.memory import peak_memory
from laboratory.benchmarks.rounds import Clock, Turns, Way, take_turns
from laboratory.benchmarks.subjects import Subject
from laboratory.benchmarks.work import Work
from segzoo.errors import ConfigError, first_line
from segzoo.inference.engines.agreement import compare
from segzoo.inference.engines.base import Precision
from segzoo.markdown import Column, markdown_table

_logger = logging.getLogger(__name__)

_BYTES: dict[Precision, int] = {precision: kind.itemsize for precision, kind in TYPES.items()}


class Case(Protocol):
    """A network and a way of computing it, which another process can prepare from its description."""

    @property
    def subject(self) -> Subject:
        """The network."""

    @property
    def way(self) -> str:
        """What is special about it."""

    @property
    def precision(self) -> Precision:
        """Of the convolutions."""

    @property
    def compiled(self) -> bool:
        """Whether the first run compiles, which takes memory of its own."""

    @property
    def batch(self) -> int:
        """Images."""

    @property
    def device(self) -> str:
        """Where it computes."""

    def prepare(self) -> Way:
        """Everything that is done once."""

    def work(self) -> Work:
        """What it has to compute."""


@dataclass(frozen=True)
class CaseSpeed:
    """One way of computing one network, measured.

    Args:
        network: which.
        way: how.
        precision: of the convolutions.
        seconds: median over the rounds.
        spread: slowest round less the quickest, over the median.
        images_per_second: of the median.
        ratio: median over the rounds of the first row's time over this one's in the same round.
        macs: multiply-adds of its convolutions and matrix products.
        ratio_per_mac: `ratio`, were its network as large as the first row's.
        of_product: the time that a matrix product of as many multiply-adds takes, over its time.
        of_copy: the time that a copy of as many bytes takes as its convolutions must read and write, over its time;
            caches may make it more than 1.
        peak_bytes: memory at the peak, see `peak_memory`; None where it was not measured.
        memory_ratio: that over the memory of the first row of this precision.
        difference: largest difference of its logits from its network's in eager float32, as a share of their range.
    """

    network: str
    way: str
    precision: Precision
    seconds: float
    spread: float
    images_per_second: float
    ratio: float
    macs: int
    ratio_per_mac: float
    of_product: float
    of_copy: float
    peak_bytes: int | None
    memory_ratio: float | None
    difference: float | None


@dataclass(frozen=True)
class _Ready:
    case: Case
    way: Way
    difference: float | None


def measure_cases(
    cases: Sequence[Case], *, rounds: int, memory: bool, quick: bool, clock: Clock = time.perf_counter
) -> tuple[list[CaseSpeed], Limits]:
    """Prepare all cases, then let them take turns, the machine's limits among them.

    Args:
        cases: the first is what the others are compared with; what cannot be had here is left out, the log says why.
        rounds: counted rounds.
        memory: measure peak memory afterwards, each case in a process of its own; not of compiled ones.
        quick: small limits, which tell nothing.
        clock: tells seconds.
    """
    precisions = tuple(dict.fromkeys(case.precision for case in cases))
    probes = LimitProbes(torch.device(cases[0].device), precisions, quick=quick)
    ready = _prepared(cases)
    turns = take_turns([*(one.way for one in ready), *probes.ways], rounds, clock)
    limits = probes.limits([turns.seconds(len(ready) + index) for index in range(len(probes.ways))])
    peaks = [peak_memory(one.case) if memory and not one.case.compiled else None for one in ready]
    return _speeds(ready, turns, limits, peaks), limits


def case_table(speeds: Sequence[CaseSpeed], *, unit: str) -> str:
    """A Markdown table.

    Args:
        speeds: its rows.
        unit: what a run is, for the heading: image, step.
    """
    columns: list[Column[CaseSpeed]] = [
        Column("network", lambda row: row.network, words=True),
        Column("way", lambda row: row.way, words=True),
        Column("precision", lambda row: row.precision, words=True),
        Column(f"ms a {unit}", lambda row: f"{1000 * row.seconds:,.1f}"),
        Column("images/s", lambda row: f"{row.images_per_second:.2f}"),
        Column("ratio", lambda row: f"{row.ratio:.2f}"),
        Column("GMACs", lambda row: f"{row.macs / 1e9:,.2f}"),
        Column("ratio per GMAC", lambda row: f"{row.ratio_per_mac:.2f}"),
        Column("of matrix product", lambda row: f"{row.of_product:.0%}"),
        Column("of copy", lambda row: f"{row.of_copy:.0%}"),
    ]
    if any(row.peak_bytes is not None for row in speeds):
        columns.append(
            Column("peak MiB", lambda row: "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:,.0f}")
        )
        columns.append(
            Column("memory ratio", lambda row: "" if row.memory_ratio is None else f"{row.memory_ratio:.2f}")
        )
    if any(row.difference is not None for row in speeds):
        columns.append(
            Column("logits differ by", lambda row: "" if row.difference is None else f"{row.difference:.0e}")
        )
    return markdown_table(columns, speeds)


def _prepared(cases: Sequence[Case]) -> list[_Ready]:
    ready: list[_Ready] = []
    expected: dict[int, Tensor] = {}  # a network's plain logits, by the subject that its cases share
    for case in cases:
        _logger.info("preparing: %s, %s, %s", case.subject.title, case.way, case.precision)
        try:
            way = case.prepare()
            result = way()
        except Exception as error:
            if not isinstance(error, ConfigError) and not case.compiled:
                raise
            _logger.info("not measured: %s", first_line(error))  # a compiler that is not there has errors of its own
            continue
        difference = None
        if isinstance(result, Tensor):
            logits = result.float().cpu()
            plain = expected.setdefault(id(case.subject), logits)
            if plain is not logits:  # engines keep a pixel's two dimensions around class scores
                difference = compare(plain, logits.reshape(plain.shape), case.precision).difference
        ready.append(_Ready(case, way, difference))
    return ready


def _speeds(ready: Sequence[_Ready], turns: Turns, limits: Limits, peaks: Sequence[int | None]) -> list[CaseSpeed]:
    of_subjects = {id(one.case.subject): one.case for one in ready}
    counted = {key: case.work() for key, case in of_subjects.items()}
    works = [counted[id(one.case.subject)] for one in ready]
    first_peaks: dict[Precision, int | None] = {}
    speeds = []
    for index, (one, work, peak) in enumerate(zip(ready, works, peaks, strict=True)):
        case, seconds, ratio = one.case, turns.seconds(index), turns.times_faster(index)
        if not case.compiled:
            first_peaks.setdefault(case.precision, peak)
        first_peak = first_peaks.get(case.precision)
        speeds.append(
            CaseSpeed(
                network=case.subject.title,
                way=case.way,
                precision=case.precision,
                seconds=seconds,
                spread=turns.spread(index),
                images_per_second=case.batch / seconds,
                ratio=ratio,
                macs=work.macs,
                ratio_per_mac=ratio * work.macs / works[0].macs,
                of_product=2 * work.macs / limits.flops[case.precision] / seconds,
                of_copy=work.elements * _BYTES[case.precision] / limits.bandwidth / seconds,
                peak_bytes=peak,
                memory_ratio=None if peak is None or first_peak is None else peak / first_peak,
                difference=one.difference,
            )
        )
    return speeds
