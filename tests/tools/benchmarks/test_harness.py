"""Turns, rows and reports, of times, work and memory that are injected here."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from laboratory.benchmarks import harness
from laboratory.benchmarks.harness import Prepared, Report, measure_cases, measure_ways, row_table, take_turns
from laboratory.benchmarks.machine import SIDES
from laboratory.benchmarks.subjects import Subject
from segzoo.errors import ConfigError


class Clock:
    """Stands still but for what ways say that they take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def way(self, name, seconds, log):
        left = iter(seconds)

        def run() -> None:
            log.append(name)
            self.now += next(left)

        return run


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    clock, log = Clock(), []
    ways = [clock.way("a", [100, 4, 8, 9], log), clock.way("b", [1, 1, 4, 3], log)]
    turns = take_turns(ways, 3, clock)
    assert log == ["a", "b"] * 4
    assert turns.rounds == ((4, 1), (8, 4), (9, 3))


def test_medians_and_ratios_are_those_of_the_times() -> None:
    clock = Clock()
    turns = take_turns([clock.way("a", [0, 4, 8, 9], []), clock.way("b", [0, 1, 4, 3], [])], 3, clock)
    assert (turns.seconds(0), turns.seconds(1)) == (8, 3)
    assert turns.times_faster(0) == 1
    assert turns.times_faster(1) == 3  # the middle one of 4, 2 and 3, not 8 / 3


def test_a_report_is_a_table_to_read_and_rows_to_parse(parsed) -> None:
    clock = Clock()
    ways = [Prepared("a", clock.way("a", [0, 8], []), 4), Prepared("b", clock.way("b", [0, 2], []), 4)]
    rows = measure_ways(ways, 1, clock)
    report = Report("part", row_table(rows), rows, ("a note",), {"more": 1}).with_machine("another")
    assert parsed(report.markdown()) == [
        {"way": "a", "ms a run": "8,000.0", "images/s": "0.50", "ratio": "1.00"},
        {"way": "b", "ms a run": "2,000.0", "images/s": "2.00", "ratio": "4.00"},
    ]
    found = json.loads(report.json())
    machine = found["machine"]
    assert f"torch {torch.__version__}" in machine
    assert report.markdown().endswith(f"* a note\n* {machine}\n* another")
    assert (found["part"], found["more"], found["notes"]) == ("part", 1, ["a note", machine, "another"])
    assert [(row["way"], row["ratio"], row["macs"]) for row in found["rows"]] == [("a", 1, None), ("b", 4, None)]


class Intervals:
    """Every interval that is measured takes the next number of seconds."""

    def __init__(self, seconds):
        self.seconds, self.now, self.calls = list(seconds), 0.0, 0

    def __call__(self):
        self.calls += 1
        if self.calls % 2 == 0:
            self.now += self.seconds[(self.calls // 2 - 1) % len(self.seconds)]
        return self.now


@dataclass(frozen=True)
class Fake:
    subject: Subject
    way: str
    precision: str
    count: int
    logits: float = 0.0
    compiled: bool = False
    batch: int = 2
    device: str = "cpu"
    impossible: bool = False
    fails: bool = False

    def prepare(self):
        if self.fails:
            raise RuntimeError("no working C++ compiler")
        if self.impossible:
            raise ConfigError("not here")
        return lambda: torch.tensor([[0.0, 1.0 + self.logits, 4.0]])

    def macs(self):
        return self.count


def test_every_figure_of_a_row(monkeypatch, parsed) -> None:
    small, large = Subject("small", nn.Identity), Subject("large", nn.Identity)
    cases = [
        Fake(small, "eager", "fp32", count=10**9),
        Fake(small, "impossible", "fp32", count=10**9, impossible=True),
        Fake(small, "autocast", "bf16", count=10**9, logits=0.04),
        Fake(large, "eager", "fp32", count=2 * 10**9),
        Fake(large, "compiled", "fp32", count=2 * 10**9, compiled=True),
    ]
    peaks = {("small", "eager"): 100, ("small", "autocast"): 80, ("large", "eager"): 50}
    monkeypatch.setattr(harness, "peak_memory", lambda case: peaks[case.subject.title, case.way])
    clock = Intervals([4.0, 1.0, 2.0, 0.5, 0.25, 0.125])  # four cases and two matrix products
    rows, limits = measure_cases(cases, rounds=3, memory=True, quick=True, clock=clock)
    assert [(row.network, row.way, row.ratio) for row in rows] == [
        ("small", "eager", 1.0),
        ("small", "autocast", 4.0),
        ("large", "eager", 2.0),
        ("large", "compiled", 8.0),
    ]
    assert [row.seconds for row in rows] == [4.0, 1.0, 2.0, 0.5]
    assert rows[1].images_per_second == 2
    assert [row.ratio_per_mac for row in rows] == [1.0, 4.0, 4.0, 16.0]
    assert [row.peak_bytes for row in rows] == [100, 80, 50, None]
    assert [row.memory_ratio for row in rows] == [1.0, 1.0, 0.5, None], "over the first row of the same precision"
    assert [row.difference for row in rows] == [None, pytest.approx(0.01, rel=1e-4), None, 0.0]
    sides = {precision: side // 16 for precision, side in SIDES.items()}
    assert limits.flops == {"fp32": 2 * sides["fp32"] ** 3 / 0.25, "bf16": 2 * sides["bf16"] ** 3 / 0.125}
    assert rows[2].of_product == pytest.approx(4e9 / limits.flops["fp32"] / 2.0)
    table = parsed(row_table(rows))
    assert [row["ratio"] for row in table] == ["1.00", "4.00", "2.00", "8.00"]
    assert table[3]["peak MiB"] == ""
    assert list(table[0])[:4] == ["network", "way", "precision", "ms a run"]


def test_only_what_compiles_may_fail_in_ways_of_its_own() -> None:
    subject = Subject("a", nn.Identity)
    cases = [Fake(subject, "eager", "fp32", 1), Fake(subject, "compiled", "fp32", 1, compiled=True, fails=True)]
    rows, _ = measure_cases(cases, rounds=1, memory=False, quick=True)
    assert [row.way for row in rows] == ["eager"]
    with pytest.raises(RuntimeError, match="compiler"):
        measure_cases([*cases, Fake(subject, "broken", "fp32", 1, fails=True)], rounds=1, memory=False, quick=True)


def test_memory_is_left_out_where_it_is_not_asked_for(monkeypatch, parsed) -> None:
    monkeypatch.setattr(harness, "peak_memory", lambda case: pytest.fail("asked for"))
    rows, _ = measure_cases([Fake(Subject("a", nn.Identity), "eager", "fp32", 1)], rounds=1, memory=False, quick=True)
    assert "peak MiB" not in parsed(row_table(rows))[0]
