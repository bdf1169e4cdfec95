"""Peak memory against what is known to be allocated."""

import os
import signal
import sys
from dataclasses import dataclass, field

import pytest
import torch

from laboratory.benchmarks.memory import peak_memory

MIB = 2**20


@dataclass
class Allocation:
    """Keeps some before, takes and gives back some before, then takes and gives back some in each run."""

    kept: int
    passing: int
    taken: int
    device: str = "cpu"
    held: list[torch.Tensor] = field(default_factory=list)

    def prepare(self):
        self.held.append(torch.ones(self.kept * MIB, dtype=torch.uint8))
        torch.ones(self.passing * MIB, dtype=torch.uint8)
        return lambda: [torch.ones(self.taken * MIB // 4, dtype=torch.uint8) for _ in range(4)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells it")
@pytest.mark.parametrize("taken", [32, 128])
def test_only_what_a_run_takes_counts(taken: int) -> None:
    found = peak_memory(Allocation(kept=200, passing=400, taken=taken))
    assert found is not None
    assert taken - 1 <= found / MIB <= taken + 12


@dataclass
class Killed:
    """A process that the system ends, as where memory runs out."""

    device: str = "cpu"

    def prepare(self):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells it")
def test_a_killed_process_costs_its_own_figure_only() -> None:
    assert peak_memory(Killed()) is None
