"""Reading ahead and batches: order, bounds, faults."""

import threading
import time

import numpy as np
import pytest

from segzoo.errors import DataError
from segzoo.inference.runner import Loaded, Semaphore, batches, read_ahead, threads


def image(height: int) -> np.ndarray:
    return np.zeros((height, 1, 3), np.uint8)


def run(items, read, *, cost=lambda item: 1, memory=None, depth=4):
    with threads(3) as pool:
        yield from read_ahead(items, read, cost, memory=memory or Semaphore(1000), pool=pool, depth=depth)


def test_items_come_in_their_order_whatever_takes_long() -> None:
    def read(item: int) -> np.ndarray:
        time.sleep(0.002 * (item % 5))
        return image(item + 1)

    loaded = list(run(range(40), read))
    assert [entry.item for entry in loaded] == list(range(40))
    assert [entry.pixels.shape[0] for entry in loaded] == list(range(1, 41))


def test_a_fault_stays_with_its_item() -> None:
    def read(item: int) -> np.ndarray:
        if item == 3:
            raise DataError("3: damaged")
        return image(1)

    faults = [entry.fault and entry.fault.problems for entry in run(range(6), read)]
    assert faults == [None, None, None, ["3: damaged"], None, None]


def test_reading_is_no_further_ahead_than_depth() -> None:
    read = []
    for done, _ in enumerate(run(range(50), lambda item: read.append(item) or image(1), depth=4), start=1):
        assert len(read) <= done + 4


def test_memory_stays_below_its_bound_and_a_huge_item_goes_alone() -> None:
    memory, used, most = Semaphore(100), 0, 0
    lock = threading.Lock()
    costs = [30, 30, 30, 30, 500, 30, 30]
    alone = []

    def read(item: int) -> np.ndarray:
        nonlocal used, most
        with lock:
            used += costs[item]
            most = max(most, used if item != 4 else 0)
            alone.append(used) if item == 4 else None
        return image(1)

    held = []

    def release() -> None:
        nonlocal used
        for entry in held:
            with lock:
                used -= entry.cost
            memory.release(entry.cost)
        held.clear()

    items = []
    for entry in run(range(7), read, cost=costs.__getitem__, memory=memory):
        if entry is None:  # no memory: whoever holds something has to let go
            assert held
            release()
        else:
            items.append(entry.item)
            held.append(entry)
    assert items == list(range(7))
    assert most <= 100
    assert alone == [500]


def test_batches_hold_equal_sizes_and_nobody_waits_for_ever() -> None:
    heights = [1, 2, 1, 3, 1, 2, 1]
    loaded = [Loaded(number, 1, image(height)) for number, height in enumerate(heights)]
    found = [[entry.item for entry in batch] for batch in batches(loaded, lambda p: p.shape, size=2, look_ahead=3)]
    assert found == [[0, 2], [4, 6], [1, 5], [3]] or found == [[0, 2], [1, 5], [4, 6], [3]]
    found = [[entry.item for entry in batch] for batch in batches(loaded, lambda p: p.shape, size=9, look_ahead=2)]
    assert sorted(sum(found, [])) == list(range(7))  # noqa: RUF017
    assert found[0] == [0, 2]  # the oldest group left when a third kind came


def test_no_memory_empties_the_batches() -> None:
    loaded = [Loaded(0, 1, image(1)), None, Loaded(1, 1, image(1))]
    assert [len(batch) for batch in batches(loaded, lambda p: p.shape, size=2, look_ahead=9)] == [1, 1]


def test_what_is_read_elsewhere_comes_alone_after_all_before_it() -> None:
    loaded = [Loaded(0, 1, image(1)), Loaded(1, 1, image(2)), Loaded(2, 1), Loaded(3, 1, image(1))]
    found = [[entry.item for entry in batch] for batch in batches(loaded, lambda p: p.shape, size=2, look_ahead=9)]
    assert found == [[0], [1], [2], [3]]


def test_an_error_drops_what_is_not_begun() -> None:
    begun = []

    def slow(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt), threads(1) as pool:
        for number in range(50):
            pool.submit(slow, number)
        raise KeyboardInterrupt
    assert len(begun) < 5
