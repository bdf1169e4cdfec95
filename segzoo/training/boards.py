"""TensorBoard and Weights & Biases, for those who have them: the numbers of metrics.csv, live."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from lightning import Callback, LightningModule, Trainer

from segzoo.config.classification import AnyRunConfig
from segzoo.errors import ConfigError
from segzoo.training.callbacks import as_task
from segzoo.training.run_dir import RunDir


class Board(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the values of a step."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoard:
    """Event files in the run directory's tensorboard/."""

    def __init__(self, run_dir: RunDir) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run_dir.path / "tensorboard"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the values of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A run of its own in a project; resumed runs go on in it."""

    def __init__(self, run_dir: RunDir, config: AnyRunConfig) -> None:
        import wandb

        name = "-".join(run_dir.path.resolve().parts[-2:])
        settings = config.model_dump(mode="json")
        self._run: Any = wandb.init(
            project=config.trainer.wandb, id=name, name=name, dir=str(run_dir.path), config=settings, resume="allow"
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the values of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


class Boards(Callback):
    """Sends loss and learning rate, and the scores of each validation; only the first process does.

    Args:
        run_dir: the run directory.
        config: which boards, and how often.
    """

    def __init__(self, run_dir: RunDir, config: AnyRunConfig) -> None:
        self.run_dir = run_dir
        self.config = config
        self.boards: list[Board] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open them."""
        if not trainer.is_global_zero:
            return
        if self.config.trainer.tensorboard:
            self.boards.append(TensorBoard(self.run_dir))
        if self.config.trainer.wandb is not None:
            self.boards.append(WeightsAndBiases(self.run_dir, self.config))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Send the loss every `log_every_steps` steps."""
        if self.boards and trainer.global_step % self.config.trainer.log_every_steps == 0:
            rate = float(trainer.optimizers[0].param_groups[0]["lr"])
            self._log({"train/loss": float(as_task(pl_module).step_loss), "learning_rate": rate}, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the scores."""
        scores = as_task(pl_module).all_scores()
        if self.boards and scores:
            self._log({name: value for name, value in scores.items() if value is not None}, trainer.global_step)

    def close(self) -> None:
        """Close them; a second time does nothing."""
        while self.boards:
            self.boards.pop().close()

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for board in self.boards:
            board.log(values, step)


def check_boards(config: AnyRunConfig) -> None:
    """Refuse boards that are not installed.

    Raises:
        ConfigError: what to install.
    """
    wanted = {"tensorboard": config.trainer.tensorboard, "wandb": config.trainer.wandb is not None}
    missing = [name for name, asked in wanted.items() if asked and find_spec(name) is None]
    if missing:
        raise ConfigError(
            [f"trainer.{name}: not installed. `pip install {name}`, or leave it out." for name in missing]
        )
