"""The same validation images at every validation, drawn: how a run learns, to look at."""

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from segzoo.data.pictures import compared_masks
from segzoo.data.reading.images import write_image
from segzoo.data.sample import SegmentationDataset, named_in_errors
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.callbacks import as_task
from segzoo.training.run_dir import RunDir


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
            rows.append((np.asarray(sample.image), sample.mask, prediction.cpu().numpy()))
        if task.without_scores:  # there is nothing to show, and the task ends the run
            return
        self.run_dir.overlays.mkdir(exist_ok=True)
        picture = compared_masks(rows, task.labels)
        write_image(self.run_dir.overlays / f"step_{trainer.global_step:06d}.png", picture)
