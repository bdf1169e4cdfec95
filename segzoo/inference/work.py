"""Jobs done: reading, network and writing at the same time, and no image's fault another's."""

import errno
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segzoo.data.cores import available_cores
from segzoo.data.reading.pixels import Pixels, dark_range
from segzoo.errors import DataError, SegzooError, first_line
from segzoo.inference.heads import Head
from segzoo.inference.jobs import Job
from segzoo.inference.pipeline import Loaded, Room, batches, read_ahead, threads
from segzoo.inference.record import Content

logger = logging.getLogger(__name__)

_ROOM = 512 * 2**20  # bytes of images and results between reading and writing
_LEAST = 64 * 2**10  # bytes that even the smallest image is counted with
_DECODED = 8  # bytes a pixel while a picture is decoded: alpha, 16 bits, the copy in RGB
_RESULTS = 8  # bytes a pixel of the mask, of colours, and of what encodes them
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)  # faults that the next file meets too


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        job: which.
        content: what was found in the image, whose files are written.
        fault: why there are none.
    """

    job: Job
    content: Content | None = None
    fault: str | None = None


class Worker:
    """Does the jobs of one call of `predict`.

    Args:
        head: what is made of each image.
        batch_size: images that may run together; None takes 8 on a GPU and 1 elsewhere, where more make nothing faster.
    """

    def __init__(self, head: Head[Any], *, batch_size: int | None) -> None:
        self._head = head
        self._predictor = head.predictor
        self._batch_size = batch_size or (1 if head.predictor.device.type == "cpu" else 8)
        self._room = Room(_ROOM)
        self.dark: list[str] = []
        """Images of 16 bits that use so few of them that the network saw them all but black."""

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Do jobs, about in their order, and tell of each once its files are written.

        Args:
            jobs: as many as there are; they are taken as far as memory goes.

        Raises:
            DataError: the disk is full or gone, so that no further file could be written.
        """
        ahead = 2 * self._batch_size + available_cores()
        with threads() as readers, threads() as writers:
            loaded = read_ahead(jobs, self._read, self._cost, room=self._room, pool=readers, depth=ahead)
            groups = batches(loaded, self._predictor.batch_key, self._batch_size, look_ahead=4 * self._batch_size)
            writing: deque[Future[Outcome]] = deque()
            for batch in groups:
                for entry, prediction in zip(batch, self._predictions(batch), strict=True):
                    writing.append(writers.submit(self._finish, entry, prediction))
                while writing and (writing[0].done() or len(writing) > 4 * ahead):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()

    def by_windows(self, job: Job) -> Outcome:
        """Do a job whose image is never whole in memory."""
        return self._written(job, lambda: self._head.write_by_windows(job))

    def _read(self, job: Job) -> Pixels:
        reader, most = self._predictor.pixels, self._head.max_pixels
        try:
            pixels = reader.read(job.file, most)
        except DataError as error:
            height, width = reader.size(job.file)  # raises where that is the fault
            if height * width <= most:
                raise
            raise DataError(f"{'; '.join(error.problems)}; {self._head.if_large}") from None
        highest = reader.highest_of_16_bits(pixels, reader.kind(job.file))
        if highest and dark_range(highest):
            self.dark.append(job.name)
        return self._predictor.seen(pixels)

    def _cost(self, job: Job) -> int:
        """Bytes, from the header; what cannot be read costs nothing."""
        try:
            height, width = self._predictor.pixels.size(job.file)
        except SegzooError:
            return _LEAST
        if height * width > self._head.max_pixels:
            return _LEAST
        values = 0 if self._predictor.pixels.is_rgb8 else 8 * self._predictor.pixels.channels
        return _LEAST + height * width * (_DECODED + values + _RESULTS + self._head.bytes_per_pixel(job))

    def _predictions(self, batch: Sequence[Loaded[Job]]) -> list[Any]:
        """Predictions, or why there is none; where a batch fails, its images are tried alone."""
        images = [entry.pixels for entry in batch if entry.pixels is not None]
        if not images:
            return [entry.fault or DataError("not read") for entry in batch]
        jobs = [entry.item for entry in batch]
        failure: SegzooError | None = self._head.too_large(jobs[0].file, images)
        if failure is None:
            try:
                return self._head.predict(jobs, images)
            except SegzooError as error:
                failure = error
            except (
                RuntimeError,
                MemoryError,
            ) as error:  # torch's words for too little memory
                logger.debug("predicting failed", exc_info=error)
                failure = DataError(self._not_computed(error, jobs[0].file))
        if len(batch) == 1:
            return [failure]
        return [result for entry in batch for result in self._predictions([entry])]

    def _finish(self, entry: Loaded[Job], prediction: Any) -> Outcome:
        """Write an image's files; runs in the pool."""
        job = entry.item
        try:
            if isinstance(prediction, SegzooError):
                return Outcome(job, fault="; ".join(prediction.problems))
            return self._written(job, lambda: self._head.write(job, prediction))
        finally:
            self._room.give_back(entry.cost)

    def _written(self, job: Job, write: Callable[[], Content]) -> Outcome:
        try:
            return Outcome(job, write())
        except SegzooError as error:
            return Outcome(job, fault="; ".join(error.problems))
        except OSError as error:
            return Outcome(job, fault=unwritten(job, error))
        except (RuntimeError, MemoryError) as error:
            return Outcome(job, fault=self._not_computed(error, job.file))

    def _not_computed(self, error: RuntimeError | MemoryError, file: Path) -> str:
        """Why the network could not do an image."""
        text = str(error).lower()
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in text or "alloc" in text:
            return f"{file}: out of memory; {self._head.if_memory_ends}"
        return f"{file}: the network failed on it ({first_line(error)})"


def unwritten(job: Job, error: OSError) -> str:
    """Why a job's files cannot be written.

    Raises:
        DataError: neither could those of others.
    """
    reason = f"{error.filename or job.files[0]}: cannot be written ({error.strerror or first_line(error)})"
    if error.errno in _DISK:
        raise DataError(f"{reason}. Mend that, and go on with --skip-existing.") from error
    return reason
