"""SIGTERM, SIGINT and SIGHUP: the run stops at the next step, saved, and leaves with the shell's status."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from segzoo.errors import InterruptedTrainingError
from segzoo.tasks.processes import largest_of_processes, said_once
from segzoo.training.checkpoints import Checkpoints


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
            raise said_once(InterruptedTrainingError(signum, advice))

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
