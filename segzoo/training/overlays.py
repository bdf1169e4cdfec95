"""The same validation images at every validation, drawn: how a run learns, to look at."""

import numpy as np
import numpy.typing as npt
import torch
from lightning import Callback, LightningModule, Trainer
from PIL import Image

from segzoo.data.reading.images import write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import Sample, SegmentationDataset, named_in_errors
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.callbacks import as_task
from segzoo.training.run_dir import RunDir

WIDTH = 320  # of each picture, in pixels
GAP = 4
_GRAY = (128, 128, 128)  # of ignored pixels; no palette of ours has it for a class


class Overlays(Callback):
    """Writes overlays/step_000500.png: image, truth and prediction of some validation images, one row each.

    It has to stand behind `StopOnSignal`. Only the first process draws.

    Args:
        run_dir: where to.
        dataset: the validation split; images are taken from all over it.
        count: how many.
    """

    def __init__(self, run_dir: RunDir, dataset: SegmentationDataset, count: int) -> None:
        self.run_dir = run_dir
        self.dataset = dataset
        chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
        self.indices = [int(index) for index in chosen.round()]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, while the network is as it was measured."""
        if not trainer.is_global_zero or not self.indices:
            return
        task = as_task(pl_module)
        if not isinstance(task, SegmentationTask):
            return
        rows = []
        for index in self.indices:
            with named_in_errors(self.dataset.ids[index]):
                sample = self.dataset[index]
            pixels = torch.from_numpy(np.array(sample.image)).movedim(-1, 0).unsqueeze(0)
            with trainer.precision_plugin.forward_context():
                prediction = task.predicted(pixels.to(task.device), [sample.id])[0]
            rows.append(_row(sample, prediction.cpu().numpy(), task.labels))
        if task.without_scores:  # there is nothing to show, and the task ends the run
            return
        self.run_dir.overlays.mkdir(exist_ok=True)
        write_image(self.run_dir.overlays / f"step_{trainer.global_step:06d}.png", _sheet(rows))


def _row(sample: Sample, prediction: npt.NDArray[np.integer], labels: LabelSpace) -> npt.NDArray[np.uint8]:
    image = np.asarray(sample.image)
    shown = image[..., :3] if image.dtype == np.uint8 and image.shape[-1] >= 3 else _as_gray(image)
    pictures = (shown, *(labels.coding.paint(mask, _GRAY) for mask in (sample.mask, prediction)))
    size = (WIDTH, max(1, round(WIDTH * image.shape[0] / image.shape[1])))
    kinds = (Image.Resampling.BOX, Image.Resampling.NEAREST, Image.Resampling.NEAREST)
    small = [np.asarray(Image.fromarray(one).resize(size, kind)) for one, kind in zip(pictures, kinds, strict=True)]
    gap = np.full((size[1], GAP, 3), 255, np.uint8)
    return np.concatenate([small[0], gap, small[1], gap, small[2]], axis=1)


def _sheet(rows: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def _as_gray(image: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """The first channel, stretched over its range, of an image that is not 8-bit RGB."""
    channel = image[..., 0].astype(np.float32)
    low, high = float(channel.min()), float(channel.max())
    scaled = (255 * (channel - low) / max(high - low, 1e-12)).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2)
