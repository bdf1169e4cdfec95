"""What a person sees while files come in, are unpacked or are converted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
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

T = TypeVar("T")

MoveTo = Callable[[int], None]
"""Called with how far it is: bytes or items done."""


@contextmanager
def byte_bar(what: str, total: int | None) -> Iterator[MoveTo]:
    """A bar in bytes with speed and time left, on standard error; nothing where that is no terminal.

    Args:
        what: one word or two in front of the bar.
        total: bytes in all; None while nobody knows.
    """
    with _bar(what, total, DownloadColumn(), TransferSpeedColumn()) as move_to:
        yield move_to


@contextmanager
def item_bar(what: str, total: int) -> Iterator[MoveTo]:
    """As `byte_bar`, counting items."""
    with _bar(what, total, MofNCompleteColumn()) as move_to:
        yield move_to


@contextmanager
def speed_bar(what: str, total: int, unit: str) -> Iterator[MoveTo]:
    """As `item_bar`, with items a second.

    Args:
        what: one word or two in front of the bar.
        total: items in all.
        unit: what they are, such as "images".
    """
    with _bar(what, total, MofNCompleteColumn(), _SpeedColumn(unit)) as move_to:
        yield move_to


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with an `item_bar` that counts them."""
    with item_bar(what, total) as move_to:
        for number, item in enumerate(items, start=1):
            yield item
            move_to(number)


class _SpeedColumn(ProgressColumn):
    """Items a second, of late.

    Args:
        unit: what the items are.
    """

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """What stands in the column."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._unit}/s", style="progress.data.speed")


@contextmanager
def _bar(what: str, total: int | None, *columns: ProgressColumn) -> Iterator[MoveTo]:
    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda completed: progress.update(task, completed=completed)
