"""Several ways of doing the same work, timed in turns, so that other load on the machine meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Way = Callable[[], object]
Clock = Callable[[], float]


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

    def spread(self, way: int) -> float:
        """Slowest round less the quickest, over the median."""
        times = [row[way] for row in self.rounds]
        return (max(times) - min(times)) / statistics.median(times)

    def times_faster(self, way: int, than: int = 0) -> float:
        """Median over the rounds of another way's time over this one's in the same round.

        >>> Turns(((4.0, 1.0), (8.0, 4.0), (9.0, 3.0))).times_faster(1)
        3.0
        """
        return statistics.median(row[than] / row[way] for row in self.rounds)

    def times_longer(self, way: int, than: int = 0) -> float:
        """Median over the rounds of this way's time over another one's in the same round."""
        return self.times_faster(than, than=way)


def take_turns(ways: Sequence[Way], rounds: int, clock: Clock = time.perf_counter) -> Turns:
    """Run all ways one after the other, round after round; a round before the first is not counted.

    Args:
        ways: each does its work once and returns when it is done.
        rounds: counted rounds.
        clock: tells seconds; `time.process_time` where other processes should not count.
    """
    times = [tuple(_seconds(way, clock) for way in ways) for _ in range(rounds + 1)]
    return Turns(tuple(times[1:]))


def _seconds(way: Way, clock: Clock) -> float:
    start = clock()
    way()
    return clock() - start
