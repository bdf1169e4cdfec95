"""Images read, classified and drawn at the same time, and no image's fault another's."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch

from segzoo.data.cores import available_cores
from segzoo.data.images import write_image
from segzoo.data.pixels import Pixels
from segzoo.errors import DataError, SegzooError, first_line
from segzoo.inference.classify.predictor import ClassPrediction, ClassPredictor
from segzoo.inference.jobs import Job
from segzoo.inference.pipeline import Loaded, Room, batches, read_ahead, threads
from segzoo.inference.work import unwritten

logger = logging.getLogger(__name__)

CAM = "cam"
"""The kind of output that activation maps are."""

_ROOM = 512 * 2**20  # bytes of images between reading and the network
_LEAST = 64 * 2**10  # bytes that even the smallest image is counted with
_DECODED = 16  # bytes a pixel while a picture is decoded and scaled
_DRAWN = 16  # and while a map is drawn over it


@dataclass(frozen=True)
class ClassOutcome:
    """What became of a job.

    Args:
        job: which.
        prediction: unless there was a fault.
        fault: why there is none.
    """

    job: Job
    prediction: ClassPrediction | None = None
    fault: str | None = None


class ClassWorker:
    """Classifies files with one predictor.

    Args:
        predictor: the network.
        batch_size: images that go through it together; None takes 8 on a GPU and 1 elsewhere.
        max_pixels: refuse larger images.
    """

    def __init__(self, predictor: ClassPredictor, *, batch_size: int | None, max_pixels: int) -> None:
        self._predictor = predictor
        self._batch_size = batch_size or (1 if predictor.device.type == "cpu" else 8)
        self._max_pixels = max_pixels
        self._room = Room(_ROOM)

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[ClassOutcome]:
        """Do jobs, about in their order, and tell of each once its files are written.

        Raises:
            DataError: the disk is full or gone, so that no further file could be written.
        """
        ahead = 2 * self._batch_size + available_cores()
        with threads() as readers, threads() as writers:
            loaded = read_ahead(jobs, self._read, self._cost, room=self._room, pool=readers, depth=ahead)
            writing: deque[Future[ClassOutcome]] = deque()
            for batch in batches(loaded, lambda _: None, self._batch_size, look_ahead=self._batch_size):
                for entry in batch:  # only the part that the network sees is left of it; a map reads it again
                    if not entry.item.targets:
                        self._room.give_back(entry.cost)
                for entry, result in zip(batch, self._classified(batch), strict=True):
                    writing.append(writers.submit(self._finish, entry, result))
                while writing and (writing[0].done() or len(writing) > 4 * ahead):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()

    def _read(self, job: Job) -> Pixels:
        return self._predictor.seen(self._whole(job.file))

    def _whole(self, file: Path) -> Pixels:
        try:
            return self._predictor.pixels.read(file, self._max_pixels)
        except DataError as error:
            height, width = self._predictor.pixels.size(file)  # raises where that is the fault
            if height * width <= self._max_pixels:
                raise
            raise DataError(f"{'; '.join(error.problems)}; --max-pixels raises the limit") from None

    def _cost(self, job: Job) -> int:
        """Bytes, from the header; what cannot be read costs nothing."""
        try:
            height, width = self._predictor.pixels.size(job.file)
        except SegzooError:
            return _LEAST
        per_pixel = _DECODED + (_DRAWN if job.targets else 0)
        return _LEAST + (height * width * per_pixel if height * width <= self._max_pixels else 0)

    def _classified(self, batch: Sequence[Loaded[Job]]) -> list[ClassPrediction | SegzooError]:
        """Predictions, or why there is none; where a batch fails, its images are tried alone."""
        seen = [entry.pixels for entry in batch if entry.pixels is not None]
        if not seen:
            return [entry.fault or DataError("not read") for entry in batch]
        try:
            return list(self._predictor.classify(seen, cam=any(CAM in entry.item.targets for entry in batch)))
        except DataError as error:
            failure = error
        except (RuntimeError, MemoryError) as error:  # torch's words for too little memory
            logger.debug("classifying failed", exc_info=error)
            failure = DataError(_reason(error, batch[0].item.file))
        if len(batch) == 1:
            return [failure]
        return [result for entry in batch for result in self._classified([entry])]

    def _finish(self, entry: Loaded[Job], result: ClassPrediction | SegzooError) -> ClassOutcome:
        """Draw an image's activation map, if it is asked for; runs in the pool."""
        job = entry.item
        try:
            if isinstance(result, SegzooError):
                return ClassOutcome(job, fault="; ".join(result.problems))
            for target in job.targets.get(CAM, ()):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_image(target, self._predictor.cam_overlay(self._whole(job.file), result))
        except SegzooError as error:
            return ClassOutcome(job, fault="; ".join(error.problems))
        except OSError as error:
            return ClassOutcome(job, fault=unwritten(job, error))
        finally:
            if job.targets:
                self._room.give_back(entry.cost)
        return ClassOutcome(job, result)


def _reason(error: RuntimeError | MemoryError, file: Path) -> str:
    text = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in text or "alloc" in text:
        return f"{file}: out of memory; --batch-size 1 computes one image at a time"
    return f"{file}: the network failed on it ({first_line(error)})"
