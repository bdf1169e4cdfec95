"""Jobs done: reading, network and writing at the same time, in bounded memory, and no image's fault another's."""

import errno
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from segzoo.data.cores import available_cores
from segzoo.data.reading.pixels import Pixels
from segzoo.errors import DataError, SegzooError, first_line
from segzoo.inference.jobs import Job, Result

if TYPE_CHECKING:
    from segzoo.inference.heads import Head

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_MEMORY = 512 * 2**20  # bytes of images and results between reading and writing
_MOST_THREADS = 8
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)  # faults that the next file meets too


def run_jobs(jobs: Iterable[Job], head: "Head[Any]", batch_size: int) -> Iterator[Result]:
    """Do jobs, about in their order and as far ahead as memory goes, and tell of each once its files are written.

    Raises:
        DataError: the disk is full or gone, so that no further file could be written.
    """
    memory, ahead = Semaphore(_MEMORY), 2 * batch_size + available_cores()

    def finish(job: Job, cost: int, prediction: Any) -> Result:
        try:
            return _finished(job, prediction, head)
        finally:
            memory.release(cost)

    with threads() as readers, threads() as writers:
        loaded = read_ahead(jobs, head.read, head.cost, memory=memory, pool=readers, depth=ahead)
        writing: deque[Future[Result]] = deque()
        for batch in batches(loaded, head.batch_key, batch_size, look_ahead=4 * batch_size):
            if batch[0].item.is_raster:  # takes minutes, in which whatever is done should be known
                while writing:
                    yield writing.popleft().result()
                yield finish(batch[0].item, batch[0].cost, batch[0].fault)  # in this thread, which signals reach
                continue
            for entry, prediction in zip(batch, _predictions(batch, head), strict=True):
                writing.append(writers.submit(finish, entry.item, entry.cost, prediction))
            while writing and (writing[0].done() or len(writing) > 4 * ahead):
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()


def one_by_one(compute: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | SegzooError]:
    """What `compute` gives for a batch; where it fails, its items are tried alone, and a fault stays with its item.

    >>> def half(numbers):
    ...     if any(number % 2 for number in numbers):
    ...         raise DataError("odd")
    ...     return [number // 2 for number in numbers]
    >>> one_by_one(half, [2, 3, 4])
    [1, DataError('odd'), 2]
    """
    try:
        return list(compute(items))
    except SegzooError as error:
        if len(items) == 1:
            return [error]
    return [result for item in items for result in one_by_one(compute, [item])]


def _predictions(batch: Sequence["Loaded[Job]"], head: "Head[Any]") -> list[Any]:
    """Predictions, or why there is none."""
    if batch[0].fault is not None:
        return [batch[0].fault]

    def predict(entries: Sequence[Loaded[Job]]) -> Sequence[Any]:
        jobs = [entry.item for entry in entries]
        try:
            return head.predict(jobs, [entry.pixels for entry in entries if entry.pixels is not None])
        except (RuntimeError, MemoryError) as error:  # torch's words for too little memory
            logger.debug("predicting failed", exc_info=error)
            raise _not_computed(jobs[0], error, head) from error

    return one_by_one(predict, batch)


def _finished(job: Job, prediction: Any, head: "Head[Any]") -> Result:
    try:
        if isinstance(prediction, SegzooError):
            raise prediction
        return head.write(job, prediction)
    except SegzooError as error:
        return Result(job, fault="; ".join(error.problems))
    except OSError as error:
        return Result(job, fault=_write_error(job, error))
    except (RuntimeError, MemoryError) as error:
        return Result(job, fault=str(_not_computed(job, error, head)))


def _not_computed(job: Job, error: RuntimeError | MemoryError, head: "Head[Any]") -> DataError:
    """Why the network could not do an image."""
    text = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in text or "alloc" in text:
        return DataError(f"{job.file}: out of memory; {head.if_memory_ends}")
    return DataError(f"{job.file}: the network failed on it ({first_line(error)})")


def _write_error(job: Job, error: OSError) -> str:
    """Why a job's files cannot be written.

    Raises:
        DataError: neither could those of others.
    """
    reason = f"{error.filename or job.files[0]}: cannot be written ({error.strerror or first_line(error)})"
    if error.errno in _DISK:
        raise DataError(f"{reason}. Mend that, and go on with --skip-existing.") from error
    return reason


# --- reading ahead


class Semaphore:
    """Bytes of memory that images may take between reading and writing; one image alone may be larger than all."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._changed = Condition()

    def acquire(self, count: int, *, wait: bool = False) -> bool:
        """Take bytes if they are free, or once they are; whatever an image needs is free where there is no other."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._fits(count))
            fits = self._fits(count)
            self._used += count if fits else 0
            return fits

    def release(self, count: int) -> None:
        """Free what `acquire` took."""
        with self._changed:
            self._used -= count
            self._changed.notify_all()

    def _fits(self, count: int) -> bool:
        return self._used == 0 or self._used + count <= self._size


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """An item and what was read for it: an image, a fault, or nothing where it is read elsewhere.

    Its cost are bytes of the semaphore, to be released when all that came of it is gone.
    """

    item: T
    cost: int
    pixels: Pixels | None = None
    fault: SegzooError | None = None


@contextmanager
def threads(count: int | None = None) -> Iterator[Executor]:
    """A pool of so many threads, or one for each core; an error or a signal in the block drops what is not begun."""
    pool = ThreadPoolExecutor(count or min(available_cores(), _MOST_THREADS))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def read_ahead(
    items: Iterable[T],
    read: Callable[[T], Pixels | None],
    cost: Callable[[T], int],
    *,
    memory: Semaphore,
    pool: Executor,
    depth: int,
) -> Iterator[Loaded[T] | None]:
    """Items in their order, read by the pool before they are asked for; what cannot be read comes with its fault.

    Args:
        items: as many as there are; they are taken only as far as `depth` goes.
        read: gives an item's pixels, None where they are read elsewhere, or raises a `SegzooError`; runs in the pool.
        cost: the bytes it will take, before it is read; runs in the pool, and must not raise.
        memory: gives the bytes.
        pool: reads.
        depth: items on their way at most.

    Yields:
        None where there is no memory for the next item before those handed out are done: whoever collects batches must
        not wait for more.
    """
    waiting: deque[tuple[T, int, Future[Pixels | None]]] = deque()
    for item, size in ahead_of(items, cost, pool, depth):
        if len(waiting) == depth:
            yield _loaded(*waiting.popleft())
        while not memory.acquire(size):
            if not waiting:
                yield None
                memory.acquire(size, wait=True)
                break
            yield _loaded(*waiting.popleft())
        waiting.append((item, size, pool.submit(read, item)))
    while waiting:
        yield _loaded(*waiting.popleft())


def batches(
    loaded: Iterable[Loaded[T] | None], key: Callable[[Pixels], object], size: int, look_ahead: int
) -> Iterator[list[Loaded[T]]]:
    """Groups of at most `size` images with equal keys; a fault comes alone and at once, what has no pixels in its turn.

    Of images that wait for others there are at most `look_ahead`; beyond, the oldest group goes as it is.
    """
    groups: dict[object, list[Loaded[T]]] = {}
    for entry in loaded:
        if entry is None or (entry.pixels is None and entry.fault is None):
            yield from groups.values()
            groups.clear()
        if entry is None:
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


def ahead_of(items: Iterable[T], function: Callable[[T], R], pool: Executor, depth: int) -> Iterator[tuple[T, R]]:
    """Items in their order with what a function gives for each, which the pool computes for so many more ahead."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > depth:
            first, result = waiting.popleft()
            yield first, result.result()
    for item, result in waiting:
        yield item, result.result()


def _loaded(item: T, cost: int, future: Future[Pixels | None]) -> Loaded[T]:
    try:
        return Loaded(item, cost, future.result())
    except SegzooError as error:
        return Loaded(item, cost, fault=error)
