"""Jobs done: reading, network and writing at the same time, and no image's fault another's."""

import errno
import logging
import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch

from segzoo.data.cores import available_cores
from segzoo.data.pixels import Pixels, dark_range
from segzoo.data.sheet import Cell
from segzoo.errors import DataError, SegzooError, first_line
from segzoo.inference.contact_sheet import thumbnail
from segzoo.inference.jobs import Job
from segzoo.inference.outputs import KINDS, write_outputs
from segzoo.inference.pipeline import Loaded, Room, batches, read_ahead, threads
from segzoo.inference.prediction import Prediction
from segzoo.inference.predictor import Predictor
from segzoo.inference.tile_size import free_memory, memory_per_pixel

logger = logging.getLogger(__name__)

_ROOM = 512 * 2**20  # bytes of images and results between reading and writing
_LEAST = 64 * 2**10  # bytes that even the smallest image is counted with
_DECODED = 8  # bytes a pixel while a picture is decoded: alpha, 16 bits, the copy in RGB
_RESULTS = 8  # bytes a pixel of the mask, of colours, and of what encodes them
_SURELY_FITS = 4 * 10**6  # pixels for which nobody measures what the network takes
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)  # faults that the next file meets too


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        job: which.
        fault: why there are no outputs.
        pixels: of each class.
        size: pixels of the image.
        cell: for the contact sheet, where it was asked for.
    """

    job: Job
    fault: str | None = None
    pixels: tuple[int, ...] = ()
    size: int = 0
    cell: Cell | None = None


class Worker:
    """Segments files with one predictor.

    Args:
        predictor: the network.
        batch_size: images of equal padded size that go through it together; None takes 8 on a GPU and 1 elsewhere,
            where more make nothing faster.
        max_pixels: refuse larger images.
    """

    def __init__(self, predictor: Predictor, *, batch_size: int | None, max_pixels: int) -> None:
        self._predictor = predictor
        self._batch_size = batch_size or (1 if predictor.device.type == "cpu" else 8)
        self._max_pixels = max_pixels
        self._room = Room(_ROOM)
        self.dark: list[str] = []
        """Images of 16 bits that use so few of them that the network saw them all but black."""

    def outcomes(self, jobs: Iterable[Job], on_sheet: Collection[Path] = ()) -> Iterator[Outcome]:
        """Do jobs, about in their order, and tell of each once its files are written.

        Args:
            jobs: as many as there are; they are taken as far as memory goes.
            on_sheet: images that get a cell on the contact sheet.

        Raises:
            DataError: the disk is full or gone, so that no further file could be written.
        """
        ahead = 2 * self._batch_size + available_cores()
        with threads() as readers, threads() as writers:
            loaded = read_ahead(jobs, self._read, self._cost, room=self._room, pool=readers, depth=ahead)
            groups = batches(loaded, self._predictor.batch_key, self._batch_size, look_ahead=4 * self._batch_size)
            writing: deque[Future[Outcome]] = deque()
            for batch in groups:
                for entry, prediction in zip(batch, self._segment(batch), strict=True):
                    writing.append(writers.submit(self._finish, entry, prediction, entry.item.image in on_sheet))
                while writing and (writing[0].done() or len(writing) > 4 * ahead):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()

    def _read(self, job: Job) -> Pixels:
        reader = self._predictor.pixels
        try:
            pixels = reader.read(job.file, self._max_pixels)
            highest = reader.highest_of_16_bits(pixels, reader.kind(job.file))
            if highest and dark_range(highest):
                self.dark.append(job.name)
            return pixels
        except DataError as error:
            height, width = self._predictor.pixels.size(job.file)  # raises where that is the fault
            if height * width <= self._max_pixels:
                raise
            advice = "--max-pixels raises the limit, and --tile auto keeps the network's memory small"
            raise DataError(f"{'; '.join(error.problems)}; {advice}") from None

    def _cost(self, job: Job) -> int:
        """Bytes, from the header; what cannot be read costs nothing."""
        try:
            height, width = self._predictor.pixels.size(job.file)
        except SegzooError:
            return _LEAST
        if height * width > self._max_pixels:
            return _LEAST
        values = 0 if self._predictor.pixels.is_rgb8 else 8 * self._predictor.pixels.channels
        chances = 6 * self._predictor.labels.num_classes if _needs_probabilities(job) else 0
        return _LEAST + height * width * (_DECODED + values + _RESULTS + chances)

    def _segment(self, batch: Sequence[Loaded[Job]]) -> list[Prediction | SegzooError]:
        """Predictions, or why there is none; where a batch fails, its images are tried alone."""
        images = [entry.pixels for entry in batch if entry.pixels is not None]
        if not images:
            return [entry.fault or DataError("not read") for entry in batch]
        fault = self._too_large(batch[0].item.file, images)
        if fault is not None:
            return [fault] if len(batch) == 1 else self._one_by_one(batch)
        keep = any(_needs_probabilities(entry.item) for entry in batch)
        try:
            return list(self._predictor.segment(images, keep_probabilities=keep))
        except SegzooError as error:
            failure: SegzooError = error
        except (RuntimeError, MemoryError) as error:  # torch's words for too little memory, and for sizes it cannot do
            logger.debug("segmenting failed", exc_info=error)
            failure = DataError(not_computed(error, batch[0].item.file))
        return [failure] if len(batch) == 1 else self._one_by_one(batch)

    def _one_by_one(self, batch: Sequence[Loaded[Job]]) -> list[Prediction | SegzooError]:
        return [result for entry in batch for result in self._segment([entry])]

    def _too_large(self, file: Path, images: Sequence[Pixels]) -> DataError | None:
        """A fault where the network would take more memory than there is: the system may end the process for that."""
        predictor = self._predictor
        height, width = images[0].shape[:2]
        if len(images) * height * width <= _SURELY_FITS or predictor.is_tiled((height, width)):
            return None
        largest = 1.0 if predictor.tta is None else max(1.0, *predictor.tta.scales)
        needed = len(images) * height * width * largest**2 * memory_per_pixel(predictor.source)
        free = free_memory(predictor.device)
        if needed < free:
            return None
        return DataError(
            f"{file}: {width}x{height} pixels take about {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free; --tile auto computes large images by parts"
        )

    def _finish(self, entry: Loaded[Job], prediction: Prediction | SegzooError, on_sheet: bool) -> Outcome:
        """Write an image's files; runs in the pool."""
        job = entry.item
        try:
            if isinstance(prediction, SegzooError):
                return Outcome(job, "; ".join(prediction.problems))
            prediction = prediction.without(self._predictor.pixels.lost(job.file, self._max_pixels))
            write_outputs(prediction, job.targets)
            cell = thumbnail(job.name, prediction.image, prediction.mask) if on_sheet else None
            size = math.prod(prediction.image.shape[:2])
            return Outcome(job, pixels=tuple(prediction.pixels), size=size, cell=cell)
        except SegzooError as error:
            return Outcome(job, "; ".join(error.problems))
        except OSError as error:
            return Outcome(job, unwritten(job, error))
        finally:
            self._room.give_back(entry.cost)


def _needs_probabilities(job: Job) -> bool:
    return any(KINDS[kind].of_probabilities for kind in job.targets)


def unwritten(job: Job, error: OSError) -> str:
    """Why a job's files cannot be written.

    Raises:
        DataError: neither could those of others.
    """
    reason = f"{error.filename or job.files[0]}: cannot be written ({error.strerror or first_line(error)})"
    if error.errno in _DISK:
        raise DataError(f"{reason}. Mend that, and go on with --skip-existing.") from error
    return reason


def not_computed(error: RuntimeError | MemoryError, file: Path) -> str:
    """Why the network could not do an image."""
    text = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in text or "alloc" in text:
        return f"{file}: out of memory; --tile auto computes large images by parts, --batch-size 1 one at a time"
    return f"{file}: the network failed on it ({first_line(error)})"
