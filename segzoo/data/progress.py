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
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

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


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with an `item_bar` that counts them."""
    with item_bar(what, total) as move_to:
        for number, item in enumerate(items, start=1):
            yield item
            move_to(number)


@contextmanager
def _bar(what: str, total: int | None, *columns: ProgressColumn) -> Iterator[MoveTo]:
    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda completed: progress.update(task, completed=completed)
