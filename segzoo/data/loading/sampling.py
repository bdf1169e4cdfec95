"""The order in which samples are seen, as a function of the seed and the step alone.

A run is one endless stream: each epoch is a permutation of the samples, the epochs follow each other, and a
batch is the next piece of the stream, across the end of an epoch too. Whoever knows the step knows the batch, so
a resumed run goes on exactly where it stopped.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from segzoo.errors import ConfigError


class SampleKey(NamedTuple):
    """Which sample of its data set, after how many completed passes over the data."""

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a key


@lru_cache(maxsize=2)  # a batch touches two epochs at most when it is no larger than the data set
def _permutation(seed: int, epoch: int, num_samples: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


class StepBatchSampler(Sampler[list[SampleKey]]):
    """The batches of a whole run, from any step on, for one of several processes.

    A Trainer that passes over it several times calls `set_epoch`, and each pass goes on in the stream.

    Args:
        num_samples: size of the data set.
        batch_size: samples in one step, over all processes together.
        steps: steps in the whole run; also the length, whatever the start.
        seed: decides the order.
        start_step: steps done already, which are left out.
        rank: number of this process.
        world_size: number of processes; each takes a contiguous part of every batch.

    Raises:
        ConfigError: the batch cannot be shared evenly.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        steps: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(f"data.batch_size: {batch_size} cannot be shared evenly among {world_size} devices")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.start_step = start_step
        self.epoch = max(0, start_step - 1) // steps  # the pass that this step is in
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.steps

    @property
    def sampler(self) -> "StepBatchSampler":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say how many passes came before the next one."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first, end = self.epoch * self.steps, (self.epoch + 1) * self.steps
        start = self.start_step if first <= self.start_step <= end else first
        for step in range(start, end):
            yield self.batch(step)

    def batch(self, step: int) -> list[SampleKey]:
        """The samples this process sees after so many steps."""
        share = self.batch_size // self.world_size
        first = step * self.batch_size + self.rank * share
        return [self._key(position) for position in range(first, first + share)]

    def _key(self, position: int) -> SampleKey:
        epoch, offset = divmod(position, self.num_samples)
        return SampleKey(epoch, int(_permutation(self.seed, epoch, self.num_samples)[offset]))


class ChainedBatchSampler(StepBatchSampler):
    """As `StepBatchSampler`, with one sample more behind each batch: the one that its last sample is blended with.

    In the batch of all processes each sample's partner is the next one, and the last one's the first, so that nothing
    depends on how many processes share it.
    """

    def batch(self, step: int) -> list[SampleKey]:
        """The samples this process sees at a step, and the partner of the last one."""
        share = self.batch_size // self.world_size
        offset = (self.rank + 1) * share % self.batch_size
        return [*super().batch(step), self._key(step * self.batch_size + offset)]


class ShardSampler(Sampler[int]):
    """Every sample once, over all processes: this one takes `rank`, `rank + world_size`, ...

    No sample is repeated to even the shares out, so that none is counted twice in a metric.
    """

    def __init__(self, num_samples: int, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, num_samples, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)
