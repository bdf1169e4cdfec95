"""When a run saves, and that it saves before a signal ends it, so that a killed one loses little."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from segzoo.errors import InterruptedTrainingError, TrainingError
from segzoo.tasks.processes import largest_of_processes, log_once
from segzoo.training.callbacks import TrainingClock, as_task
from segzoo.training.run_dir import RunDir


class Checkpoints(Callback):
    """Writes last.ckpt, best.ckpt when the main metric is the highest so far, and those that stay.

    Args:
        run_dir: where to.
        clock: stands still meanwhile.
        save_every_steps: steps between writings of last.ckpt; None for validations only.
        keep_every_steps: steps between checkpoints that stay; None for none.
    """

    def __init__(
        self,
        run_dir: RunDir,
        clock: TrainingClock,
        *,
        save_every_steps: int | None = None,
        keep_every_steps: int | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.clock = clock
        self.save_every_steps = save_every_steps
        self.keep_every_steps = keep_every_steps
        self.best_score: float | None = None
        self.best_step: int | None = None
        self.validated_step: int | None = None
        self._saved_step: int | None = None
        self._ids: Sequence[str] = ()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Save where it is time; before the validation, which can take long."""
        self._ids = batch["id"]
        if self.keep_every_steps and trainer.global_step % self.keep_every_steps == 0:
            self._save(trainer, self.run_dir.kept(trainer.global_step))
        if self.save_every_steps and trainer.global_step % self.save_every_steps == 0:
            self.save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; every process takes part, the first one writes."""
        score = as_task(pl_module).main_score
        self.validated_step = trainer.global_step
        # Without a score, as of masks with nothing but ignored pixels, the newest network is as good a guess as any.
        better = self.best_score is None or (score is not None and score > self.best_score)
        if better:
            self.best_score, self.best_step = score, trainer.global_step
            # First: a run that is killed between the two goes on from the older last.ckpt and comes by here again.
            self._save(trainer, self.run_dir.best)
        self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> None:
        """Write last.ckpt."""
        self._save(trainer, self.run_dir.last)
        self._saved_step = trainer.global_step

    def save_step(self, trainer: Trainer) -> None:
        """Write last.ckpt where it is of an earlier step: a validation can take long, and more memory than there is."""
        if self._saved_step != trainer.global_step:
            self.save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best_score": self.best_score, "best_step": self.best_step, "validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        # Those of segmenters alone had another name for it.
        self.best_score = state_dict["best_score"] if "best_score" in state_dict else state_dict["best_miou"]
        self.best_step = state_dict["best_step"]
        self.validated_step = state_dict.get("validated_step")  # the first checkpoints did not say

    def _save(self, trainer: Trainer, path: Path) -> None:
        task = as_task(trainer.lightning_module)
        task.check_losses()  # which knows the images that the weights went wrong on
        tensors = (*task.network.parameters(), *task.network.buffers())
        wrong = not all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())
        if largest_of_processes(int(wrong), task.device):
            raise log_once(
                TrainingError(
                    f"step {trainer.global_step}: weights are no longer finite, so none were saved. The last images "
                    f"were {', '.join(self._ids)}. Try a smaller optimizer.learning_rate, or trainer.clip_norm=1."
                )
            )
        trainer.save_checkpoint(path)
        self.clock.restart()


def _signals() -> list[signal.Signals]:
    """What ends a run: SIGHUP comes from a terminal that is closed, unless `nohup` has made the process deaf to it."""
    signals = [signal.SIGTERM, signal.SIGINT]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


class StopOnSignal(Callback):
    """On SIGTERM, SIGINT or SIGHUP: finish the step, save last.ckpt, stop. A second SIGINT leaves at once.

    In a validation the process stops at its next batch, and the resumed run validates anew. Where several processes
    train, one that got the signal stops all. Lightning's own handling of SIGTERM ends with status 0 or 1, saves
    nothing, and talks to the other processes amid whatever they do; this one takes its place before the first step.

    Args:
        checkpoints: saves.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.received = 0
        self._running = False
        self._process = os.getpid()
        self._handled: dict[signal.Signals, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals while inside; before the first step they end the run by an error."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._handled = {signum: signal.signal(signum, self._note) for signum in _signals()}
        try:
            yield
        finally:
            while self._handled:
                signal.signal(*self._handled.popitem())
        if self.received:  # it came after the last validation
            raise InterruptedTrainingError(self.received, f"stopped; all steps are saved. {self._how_to_go_on()}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to save. Lightning has set its own handlers meanwhile."""
        self._running = True
        for signum in self._handled:
            signal.signal(signum, self._note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save and stop, if a signal came to any process."""
        self._stop_if_any(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop at once, if a signal came to this process; the others ask at the end of their share."""
        if self.received:
            self._stop_if_any(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before anything is made of a validation that another process left."""
        self._stop_if_any(trainer)

    def _stop_if_any(self, trainer: Trainer) -> None:
        signum = largest_of_processes(self.received, trainer.strategy.root_device)
        if signum:
            self.received = signum
            self.checkpoints.save_last(trainer)
            advice = f"stopped at step {trainer.global_step}, which is saved. {self._how_to_go_on()}"
            raise log_once(InterruptedTrainingError(signum, advice))

    def _how_to_go_on(self) -> str:
        return f"Go on with: {self.checkpoints.run_dir.resume_command}"

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data worker, which the run itself ends
            return
        if not self._running:
            raise InterruptedTrainingError(signum, "stopped before the first step; nothing was trained")
        if self.received == signal.SIGINT and signum == signal.SIGINT:
            os._exit(128 + signum)  # files are replaced whole, so none is left corrupt
        self.received = signum
