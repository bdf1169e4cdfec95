import pytest

from laboratory.benchmarks.rounds import take_turns


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
    assert turns.times_faster(0) == turns.times_longer(0) == 1
    assert turns.times_faster(1) == 3  # the middle one of 4, 2 and 3, not 8 / 3
    assert turns.times_longer(1) == pytest.approx(1 / 3)
    assert turns.times_longer(0, than=1) == 3
    assert turns.spread(1) == 1
