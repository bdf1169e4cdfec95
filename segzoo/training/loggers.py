"""`trainer.loggers`: the numbers of metrics.csv, live, in Lightning's loggers."""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CometLogger, CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from segzoo.config.classification import AnyRunConfig
from segzoo.errors import ConfigError, SegzooError, TrainingError, first_line
from segzoo.training.run_dir import RunDir


@dataclass(frozen=True)
class _Kind:
    """A logger of Lightning's.

    Args:
        logger: its class.
        needs: the package that it writes with; None for none.
    """

    logger: type[Logger]
    needs: str | None


KINDS: Mapping[str, _Kind] = {
    "tensorboard": _Kind(TensorBoardLogger, "tensorboard"),
    "csv": _Kind(CSVLogger, None),
    "wandb": _Kind(WandbLogger, "wandb"),
    "mlflow": _Kind(MLFlowLogger, "mlflow"),
    "comet": _Kind(CometLogger, "comet_ml"),
}
"""Name in `trainer.loggers` -> the logger."""


def build_loggers(config: AnyRunConfig, run_dir: RunDir) -> list[Logger]:
    """The loggers of a run, which write into its folder unless their options say otherwise.

    Raises:
        ConfigError: options that it does not take as they are.
    """
    loggers = []
    for name, options in _asked(config):
        if name == "mlflow" and str(options.get("tracking_uri", "file:")).startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer MLflows want folders allowed
        try:
            loggers.append(KINDS[name].logger(**{**_defaults(name, run_dir.path), **options}))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"trainer.loggers: {name}: {error}") from None
    return loggers


def start_loggers(loggers: Sequence[Logger], config: AnyRunConfig) -> None:
    """Have each logger begin, with the run's configuration.

    Raises:
        TrainingError: one cannot, such as one whose server does not answer.
    """
    for each in loggers:
        try:
            each.log_hyperparams(config.model_dump(mode="json"))
        except SegzooError:  # a signal came meanwhile
            raise
        except Exception as error:  # whatever the client of a service raises
            kind = type(each).__name__
            raise TrainingError(f"trainer.loggers: {kind} does not start ({first_line(error)}).") from error


def _defaults(name: str, path: Path) -> dict[str, Any]:
    """Where a run's numbers go, and what the run is called there."""
    run = "-".join(path.resolve().parts[-2:])
    defaults: dict[str, dict[str, Any]] = {
        "tensorboard": {"save_dir": path, "name": "tensorboard", "version": "", "default_hp_metric": False},
        "csv": {"save_dir": path, "name": "csv"},
        "wandb": {"save_dir": path, "id": run, "name": run, "resume": "allow"},  # resumed, it goes on as the same run
        "mlflow": {"save_dir": str(path / "mlruns"), "experiment_name": "segzoo", "run_name": run},
    }
    return defaults.get(name, {})


def check_loggers(config: AnyRunConfig) -> None:
    """Refuse loggers that are not installed, and options that they do not have.

    Raises:
        ConfigError: what to install, or which option.
    """
    problems = []
    for name, options in _asked(config):
        kind = KINDS[name]
        if kind.needs is not None and not _is_installed(kind.needs):
            package = kind.needs.replace("_", "-")
            problems.append(f"trainer.loggers: {name}: not installed. `pip install {package}`, or leave it out.")
        parameters = inspect.signature(kind.logger).parameters
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            unknown = sorted(options.keys() - parameters.keys())
            known = ", ".join(parameters)
            problems += [f"trainer.loggers: {name}: no option {option!r}; it has {known}." for option in unknown]
    if problems:
        raise ConfigError(problems)


def _asked(config: AnyRunConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each logger's name and options."""
    for item in config.trainer.loggers:
        yield from [(item, {})] if isinstance(item, str) else item.items()


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it was taken out of this process
        return False
