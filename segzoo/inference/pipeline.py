"""Reading ahead of the network, in batches, with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Generic, TypeVar

from segzoo.data.cores import available_cores
from segzoo.data.reading.pixels import Pixels
from segzoo.errors import SegzooError

T = TypeVar("T")
R = TypeVar("R")

_MOST_THREADS = 8


class Room:
    """Bytes of memory that images may take between reading and writing.

    Args:
        size: of all; one image alone may be larger.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._changed = Condition()

    def take(self, count: int) -> bool:
        """Take bytes if they are free; whatever an image needs is free where there is no other."""
        with self._changed:
            fits = self._used == 0 or self._used + count <= self._size
            self._used += count if fits else 0
            return fits

    def wait(self, count: int) -> None:
        """Return once `take` would succeed."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + count <= self._size)

    def give_back(self, count: int) -> None:
        """Free what `take` took."""
        with self._changed:
            self._used -= count
            self._changed.notify_all()


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """An item and what was read for it.

    Args:
        item: what was asked for.
        cost: bytes taken from the room, to be given back when all that came of the item is gone.
        pixels: the image, unless there was a fault.
        fault: why there is no image.
    """

    item: T
    cost: int
    pixels: Pixels | None = None
    fault: SegzooError | None = None


@contextmanager
def threads(count: int | None = None) -> Iterator[Executor]:
    """A pool whose unfinished work is dropped when an error or a signal ends the block.

    Args:
        count: of threads; None takes one for each core.
    """
    pool = ThreadPoolExecutor(count or min(available_cores(), _MOST_THREADS))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def read_ahead(
    items: Iterable[T],
    read: Callable[[T], Pixels],
    cost: Callable[[T], int],
    *,
    room: Room,
    pool: Executor,
    depth: int,
) -> Iterator[Loaded[T] | None]:
    """Items in their order, read by the pool before they are asked for; what cannot be read comes with its fault.

    Args:
        items: as many as there are; they are taken only as far as `depth` goes.
        read: gives an item's pixels, or raises a `SegzooError`; runs in the pool.
        cost: the bytes it will take, before it is read; runs in the pool, and must not raise.
        room: where the bytes come from.
        pool: what reads.
        depth: items on their way at most.

    Yields:
        None where there is no room for the next item before those handed out are done: whoever collects batches must
        not wait for more.
    """
    waiting: deque[tuple[T, int, Future[Pixels]]] = deque()
    for item, size in _ahead(items, cost, pool, depth):
        if len(waiting) == depth:
            yield _loaded(*waiting.popleft())
        while not room.take(size):
            if waiting:
                yield _loaded(*waiting.popleft())
            else:
                yield None
                room.wait(size)
        waiting.append((item, size, pool.submit(read, item)))
    while waiting:
        yield _loaded(*waiting.popleft())


def batches(
    loaded: Iterable[Loaded[T] | None], key: Callable[[Pixels], object], size: int, look_ahead: int
) -> Iterator[list[Loaded[T]]]:
    """Groups of images with equal keys; faults come alone and at once.

    Args:
        loaded: from `read_ahead`.
        key: what images of a batch have in common.
        size: of a batch, at most.
        look_ahead: images that may wait for others; beyond, the oldest group goes as it is.
    """
    groups: dict[object, list[Loaded[T]]] = {}
    for entry in loaded:
        if entry is None:
            yield from groups.values()
            groups.clear()
            continue
        if entry.pixels is None:
            yield [entry]
            continue
        kind = key(entry.pixels)
        groups.setdefault(kind, []).append(entry)
        if len(groups[kind]) == size:
            yield groups.pop(kind)
        elif sum(map(len, groups.values())) > look_ahead:
            yield groups.pop(next(iter(groups)))
    yield from groups.values()


def _ahead(items: Iterable[T], function: Callable[[T], R], pool: Executor, depth: int) -> Iterator[tuple[T, R]]:
    waiting: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > depth:
            first, result = waiting.popleft()
            yield first, result.result()
    for item, result in waiting:
        yield item, result.result()


def _loaded(item: T, cost: int, future: Future[Pixels]) -> Loaded[T]:
    try:
        return Loaded(item, cost, future.result())
    except SegzooError as error:
        return Loaded(item, cost, fault=error)
