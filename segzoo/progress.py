"""What a person sees while files come in, are unpacked or are converted."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import TypeVar

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from segzoo.escapes import terminal

logger = logging.getLogger(__name__)

LINE_EVERY = 60.0
"""Seconds between lines where nobody sees a bar."""

T = TypeVar("T")

MoveTo = Callable[[int], None]
"""Called with how far it is: bytes or items done."""


def byte_bar(what: str, total: int | None) -> AbstractContextManager[MoveTo]:
    """A bar in bytes with speed and time left, on standard error; a line of the log each minute without a terminal.

    Args:
        what: one word or two in front of the bar.
        total: bytes in all; None while nobody knows.
    """
    return _bar(what, total, _in_bytes, DownloadColumn(), TransferSpeedColumn())


def item_bar(what: str, total: int) -> AbstractContextManager[MoveTo]:
    """As `byte_bar`, counting items."""
    return _bar(what, total, _plain, MofNCompleteColumn())


def speed_bar(what: str, total: int, unit: str) -> AbstractContextManager[MoveTo]:
    """As `item_bar`, with items a second; `unit` is what they are, such as "images"."""
    return _bar(what, total, _plain, MofNCompleteColumn(), _SpeedColumn(unit))


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with an `item_bar` that counts them."""
    with item_bar(what, total) as move_to:
        for number, item in enumerate(items, start=1):
            yield item
            move_to(number)


class _SpeedColumn(ProgressColumn):
    """Items a second, of late."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """What stands in the column."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._unit}/s", style="progress.data.speed")


@contextmanager
def _bar(what: str, total: int | None, shown: Callable[[float], str], *columns: ProgressColumn) -> Iterator[MoveTo]:
    """A bar in a terminal; elsewhere, such as in a log, a line each minute, in which counts are as `shown` has them."""
    console = terminal(stderr=True)
    if not console.is_terminal:
        with _lines(what, total, shown) as move_to:
            yield move_to
        return
    everything = (TextColumn("{task.description}", markup=False), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*everything, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda completed: progress.update(task, completed=completed)


@contextmanager
def _lines(what: str, total: int | None, shown: Callable[[float], str]) -> Iterator[MoveTo]:
    done, start, ended = 0, time.monotonic(), Event()

    def move_to(completed: int) -> None:
        nonlocal done
        done = completed

    def say() -> None:  # in a thread, for a single image may take minutes
        while not ended.wait(LINE_EVERY):
            speed = done / (time.monotonic() - start)
            of_all = f" of {shown(total)}" if total is not None else ""
            left = f", {timedelta(seconds=round((total - done) / speed))} left" if total is not None and speed else ""
            logger.info("%s: %s%s, %s a second%s", what, shown(done), of_all, shown(speed), left)

    thread = Thread(target=say, daemon=True)
    thread.start()
    try:
        yield move_to
    finally:
        ended.set()
        thread.join()


def _plain(count: float) -> str:
    return f"{count:,}" if isinstance(count, int) else f"{count:.1f}"


def _in_bytes(count: float) -> str:
    return decimal(int(count))
