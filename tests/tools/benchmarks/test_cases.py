"""Rows are made of the times, the work and the memory, which are injected here."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from laboratory.benchmarks import cases as cases_module
from laboratory.benchmarks.cases import case_table, measure_cases
from laboratory.benchmarks.machine import _SHRINK, _SIDES
from laboratory.benchmarks.subjects import Subject
from laboratory.benchmarks.work import Work
from segzoo.errors import ConfigError


class Clock:
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
    macs: int
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

    def work(self):
        return Work(self.macs, elements=10**6)


def test_every_figure_of_a_row(monkeypatch, parsed) -> None:
    small, large = Subject("small", nn.Identity), Subject("large", nn.Identity)
    cases = [
        Fake(small, "eager", "fp32", macs=10**9),
        Fake(small, "impossible", "fp32", macs=10**9, impossible=True),
        Fake(small, "autocast", "bf16", macs=10**9, logits=0.04),
        Fake(large, "eager", "fp32", macs=2 * 10**9),
        Fake(large, "compiled", "fp32", macs=2 * 10**9, compiled=True),
    ]
    peaks = {("small", "eager"): 100, ("small", "autocast"): 80, ("large", "eager"): 50}
    monkeypatch.setattr(cases_module, "peak_memory", lambda case: peaks[case.subject.title, case.way])
    clock = Clock([4.0, 1.0, 2.0, 0.5, 0.25, 0.125, 0.0625])  # four cases, two matrix products and a copy
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
    sides = {precision: side // _SHRINK for precision, side in _SIDES.items()}
    assert limits.flops == {"fp32": 2 * sides["fp32"] ** 3 / 0.25, "bf16": 2 * sides["bf16"] ** 3 / 0.125}
    assert limits.bandwidth == 2 * 32 * 2**20 / 0.0625
    assert rows[2].of_product == pytest.approx(4e9 / limits.flops["fp32"] / 2.0)
    assert rows[1].of_copy == pytest.approx(2e6 / limits.bandwidth / 1.0), "two bytes for each number"
    table = parsed(case_table(rows, unit="image"))
    assert [row["ratio"] for row in table] == ["1.00", "4.00", "2.00", "8.00"]
    assert table[3]["peak MiB"] == ""
    assert list(table[0])[:4] == ["network", "way", "precision", "ms a image"]


def test_only_what_compiles_may_fail_in_ways_of_its_own() -> None:
    subject = Subject("a", nn.Identity)
    cases = [Fake(subject, "eager", "fp32", 1), Fake(subject, "compiled", "fp32", 1, compiled=True, fails=True)]
    rows, _ = measure_cases(cases, rounds=1, memory=False, quick=True)
    assert [row.way for row in rows] == ["eager"]
    with pytest.raises(RuntimeError, match="compiler"):
        measure_cases([*cases, Fake(subject, "broken", "fp32", 1, fails=True)], rounds=1, memory=False, quick=True)


def test_memory_is_left_out_where_it_is_not_asked_for(monkeypatch, parsed) -> None:
    monkeypatch.setattr(cases_module, "peak_memory", lambda case: pytest.fail("asked for"))
    rows, _ = measure_cases([Fake(Subject("a", nn.Identity), "eager", "fp32", 1)], rounds=1, memory=False, quick=True)
    assert "peak MiB" not in parsed(case_table(rows, unit="step"))[0]
