"""One way of measuring for every benchmark: ways that take turns, rows of one kind, one table, one report.

Ways run one after the other, round after round, so that other load on the machine meets all of them alike.
"""

import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from laboratory.benchmarks.machine import LimitProbes, Limits, Way, machine_line
from laboratory.benchmarks.memory import peak_memory
from laboratory.benchmarks.subjects import Subject
from segzoo.errors import ConfigError, first_line
from segzoo.escapes import Column, markdown_table
from segzoo.models.agreement import Precision, compare

Clock = Callable[[], float]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Turns:
    """Seconds that each way took in each counted round.

    Args:
        rounds: of each round, one time for each way, in the ways' order.
    """

    rounds: tuple[tuple[float, ...], ...]

    def seconds(self, way: int) -> float:
        """Median over the rounds."""
        return statistics.median(row[way] for row in self.rounds)

    def times_faster(self, way: int) -> float:
        """Median over the rounds of the first way's time over this one's in the same round.

        >>> Turns(((4.0, 1.0), (8.0, 4.0), (9.0, 3.0))).times_faster(1)
        3.0
        """
        return statistics.median(row[0] / row[way] for row in self.rounds)


def take_turns(ways: Sequence[Way], rounds: int, clock: Clock = time.perf_counter) -> Turns:
    """Run all ways one after the other, round after round; a round before the first is not counted.

    Args:
        ways: each does its work once and returns when it is done.
        rounds: counted rounds.
        clock: tells seconds; `time.process_time` where other processes should not count.
    """
    times = [tuple(_seconds(way, clock) for way in ways) for _ in range(rounds + 1)]
    return Turns(tuple(times[1:]))


@dataclass(frozen=True)
class Prepared:
    """A way that is ready to be timed, and what a row says of it.

    Args:
        way: what is special about it.
        run: does its work once.
        images: that one run works through.
        network: which.
        precision: of the convolutions.
        difference: largest difference of its logits from its network's in eager float32, as a share of their range;
            None where it is computed so, or computes none.
    """

    way: str
    run: Way
    images: int
    network: str | None = None
    precision: Precision | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Row:
    """One way, measured; what a benchmark does not measure is None, and no column.

    Args:
        network: which.
        way: how.
        precision: of the convolutions.
        seconds: of a run, median over the rounds.
        images_per_second: of the median.
        ratio: median over the rounds of the first row's time over this one's in the same round.
        difference: as `Prepared` has it.
        macs: multiply-adds of its convolutions and matrix products in a run.
        ratio_per_mac: `ratio`, were its network as large as the first row's.
        of_product: the time that a matrix product of as many multiply-adds takes, over its time.
        peak_bytes: memory at the peak, see `peak_memory`.
        memory_ratio: that over the memory of the first row of this precision.
    """

    network: str | None
    way: str
    precision: Precision | None
    seconds: float
    images_per_second: float
    ratio: float
    difference: float | None = None
    macs: int | None = None
    ratio_per_mac: float | None = None
    of_product: float | None = None
    peak_bytes: int | None = None
    memory_ratio: float | None = None


_COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "network": ("network", str),
    "way": ("way", str),
    "precision": ("precision", str),
    "seconds": ("ms a run", lambda seconds: f"{1000 * seconds:,.1f}"),
    "images_per_second": ("images/s", lambda rate: f"{rate:.2f}"),
    "ratio": ("ratio", lambda ratio: f"{ratio:.2f}"),
    "macs": ("GMACs", lambda macs: f"{macs / 1e9:,.2f}"),
    "ratio_per_mac": ("ratio per GMAC", lambda ratio: f"{ratio:.2f}"),
    "of_product": ("of matrix product", lambda share: f"{share:.0%}"),
    "peak_bytes": ("peak MiB", lambda size: f"{size / 2**20:,.0f}"),
    "memory_ratio": ("memory ratio", lambda ratio: f"{ratio:.2f}"),
    "difference": ("logits differ by", lambda difference: f"{difference:.0e}"),
}


def row_table(rows: Sequence[Row]) -> str:
    """A Markdown table; a column stands there if any row has something in it."""

    def column(name: str) -> Column[Row]:
        heading, text = _COLUMNS[name]
        words = name in ("network", "way", "precision")
        return Column(heading, lambda row: "" if getattr(row, name) is None else text(getattr(row, name)), words=words)

    filled = [name for name in _COLUMNS if any(getattr(row, name) is not None for row in rows)]
    return markdown_table([column(name) for name in filled], rows)


@dataclass(frozen=True)
class Report:
    """A part that was measured: a Markdown table to read, and rows for a JSON file.

    Args:
        part: its name.
        table: Markdown.
        rows: dataclasses, for JSON.
        notes: what one has to know beside the table, a line each.
        facts: for JSON, beside the rows.
        device: where it was computed.
    """

    part: str
    table: str
    rows: Sequence[Any]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def with_machine(self, note: str | None) -> "Report":
        """The same with a line about the machine, and a note about what went on there."""
        machine = machine_line(torch.device(self.device))
        notes = (*self.notes, machine, *filter(None, [note]))
        return replace(self, notes=notes, facts={"machine": machine, **self.facts})

    def markdown(self) -> str:
        """The table, and the notes below it."""
        return "\n".join([self.table, "", *(f"* {note}" for note in self.notes)])

    def json(self) -> str:
        """Everything, for a program to read."""
        tree = {"part": self.part, **self.facts, "notes": self.notes, "rows": [asdict(row) for row in self.rows]}
        return json.dumps(tree, indent=2) + "\n"


def measure_ways(ways: Sequence[Prepared], rounds: int, clock: Clock = time.perf_counter) -> list[Row]:
    """Let ways take turns; the first is what the others are compared with."""
    return _rows(ways, take_turns([one.run for one in ways], rounds, clock))


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

    def macs(self) -> int:
        """Multiply-adds that it has to compute."""


def measure_cases(
    cases: Sequence[Case], *, rounds: int, memory: bool, quick: bool, clock: Clock = time.perf_counter
) -> tuple[list[Row], Limits]:
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
    turns = take_turns([*(one.run for _, one in ready), *probes.ways], rounds, clock)
    limits = probes.limits([turns.seconds(len(ready) + index) for index in range(len(probes.ways))])
    rows = _rows([one for _, one in ready], turns)
    return _with_work([case for case, _ in ready], rows, limits, memory=memory), limits


def _seconds(way: Way, clock: Clock) -> float:
    start = clock()
    way()
    return clock() - start


def _rows(ways: Sequence[Prepared], turns: Turns) -> list[Row]:
    rows = []
    for index, one in enumerate(ways):
        seconds = turns.seconds(index)
        rate, ratio = one.images / seconds, turns.times_faster(index)
        rows.append(Row(one.network, one.way, one.precision, seconds, rate, ratio, one.difference))
    return rows


def _prepared(cases: Sequence[Case]) -> list[tuple[Case, Prepared]]:
    ready: list[tuple[Case, Prepared]] = []
    expected: dict[int, Tensor] = {}  # a network's plain logits, by the subject that its cases share
    for case in cases:
        title, way, precision = case.subject.title, case.way, case.precision
        _logger.info("preparing: %s, %s, %s", title, way, precision)
        try:
            run = case.prepare()
            result = run()
        except Exception as error:
            if not isinstance(error, ConfigError) and not case.compiled:
                raise
            _logger.info("not measured: %s", first_line(error))  # a compiler that is not there has errors of its own
            continue
        difference = None
        if isinstance(result, Tensor):
            logits = result.float().cpu()
            plain = expected.setdefault(id(case.subject), logits)
            difference = None if plain is logits else compare(plain, logits, precision).difference
        ready.append((case, Prepared(way, run, case.batch, title, precision, difference)))
    return ready


def _with_work(cases: Sequence[Case], rows: Sequence[Row], limits: Limits, *, memory: bool) -> list[Row]:
    """The rows with what their networks take: multiply-adds, and memory where it is asked for."""
    macs = {key: case.macs() for key, case in {id(case.subject): case for case in cases}.items()}
    first_macs = macs[id(cases[0].subject)]
    first_peaks: dict[Precision, int | None] = {}
    found = []
    for case, row in zip(cases, rows, strict=True):
        own = macs[id(case.subject)]
        peak = peak_memory(case) if memory and not case.compiled else None
        if not case.compiled:
            first_peaks.setdefault(case.precision, peak)
        first = first_peaks.get(case.precision)
        found.append(
            replace(
                row,
                macs=own,
                ratio_per_mac=row.ratio * own / first_macs,
                of_product=2 * own / limits.flops[case.precision] / row.seconds,
                peak_bytes=peak,
                memory_ratio=None if peak is None or first is None else peak / first,
            )
        )
    return found
