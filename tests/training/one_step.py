"""One step of training under a plain Trainer."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Gradients(Callback):
    """Those that the optimiser is about to use."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.found = [parameter.grad.clone() for group in optimizer.param_groups for parameter in group["params"]]


def one_step(task: Any, batch: dict[str, Any], **settings: Any) -> tuple[Tensor, list[Tensor]]:
    """The loss of a step on a batch, and the gradients before they are clipped."""
    seen = Gradients()
    trainer = Trainer(accelerator="cpu", max_steps=1, limit_val_batches=0, callbacks=[seen], **QUIET, **settings)
    trainer.fit(task, DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
    assert trainer.global_step == 1
    return task.step_loss, seen.found
