"""A function over many items in several processes."""

import os
import signal

import pytest

from segzoo.data import cores
from segzoo.data.cores import map_on_all_cores
from segzoo.errors import DataError


def square(number: int) -> int:
    return number * number


def process_of(_: int) -> int:
    return os.getpid()


def die(number: int) -> int:
    if number == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("count", [0, 1, 5, 64, 1000])
def test_results_come_in_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 3)
    assert map_on_all_cores(square, range(count), "squaring", progress=False) == [n * n for n in range(count)]


def test_many_items_are_shared_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    assert os.getpid() not in map_on_all_cores(process_of, range(300), "asking", progress=False)
    assert set(map_on_all_cores(process_of, range(10), "asking", progress=False)) == {os.getpid()}


def test_a_killed_process_is_one_line_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    with pytest.raises(DataError, match="counting: a process was killed"):
        map_on_all_cores(die, range(100), "counting", progress=False)


def test_progress_leaves_nothing_behind_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    assert map_on_all_cores(square, range(5), "squaring", progress=True) == [0, 1, 4, 9, 16]
    assert capfd.readouterr() == ("", "")


class Unsendable:
    def __call__(self, number: int) -> int:
        return number

    def __reduce__(self) -> str:
        raise AssertionError("pickled")


@pytest.mark.skipif(cores.START_METHOD != "fork", reason="processes that start afresh get it once")
def test_the_function_is_not_sent_with_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    assert map_on_all_cores(Unsendable(), range(300), "reading", progress=False) == list(range(300))
