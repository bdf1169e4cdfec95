"""The machine that will train: what decides how large a network and a batch may be."""

import os
from dataclasses import dataclass
from pathlib import Path

_GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """A machine in numbers.

    Args:
        threads: that computations run on.
        memory: of the processor, in GiB.
        gpu: name of the first GPU; None where there is none.
        gpu_memory: in GiB; 0 without a GPU.
        fast_bf16: whether bfloat16 is quicker than float32 here.
    """

    threads: int
    memory: float
    gpu: str | None = None
    gpu_memory: float = 0.0
    fast_bf16: bool = False

    def __str__(self) -> str:
        if self.gpu:
            return f"{self.gpu} with {self.gpu_memory:.0f} GiB"
        return f"no GPU, {self.threads} thread{'' if self.threads == 1 else 's'}, {self.memory:.0f} GiB"


def this_machine() -> Machine:
    """What this process can see."""
    import torch  # seconds, which the rest of this package does without

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB if hasattr(os, "sysconf") else 8.0
    threads = torch.get_num_threads()
    if not torch.cuda.is_available():
        return Machine(threads, memory, fast_bf16=_has_matrix_units())
    properties = torch.cuda.get_device_properties(0)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Machine(threads, memory, properties.name, properties.total_memory / _GIB, fast_bf16=bf16)


def _has_matrix_units() -> bool:
    """Whether the processor multiplies bfloat16 matrices by itself; without such units float32 is quicker."""
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and "amx_bf16" in cpu.read_text(encoding="utf-8", errors="replace")
