"""`stages`: runs in a row, each in a folder of its own, which begin with the network of the one before."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from segzoo.checkpoint.read import read_checkpoint, read_description
from segzoo.checkpoint.transfer import AUXILIARY, with_starting_settings
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import config_from_tree
from segzoo.config.schema import SharedRunConfig
from segzoo.config.trees import stage_tree
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, DataError
from segzoo.tasks.metrics import main_metric, no_scores
from segzoo.tasks.names import known_names
from segzoo.tasks.processes import is_first_process
from segzoo.training.build import build_data, check_files, check_request, sketch_network
from segzoo.training.faults import faults_explained
from segzoo.training.launch import other_processes
from segzoo.training.resume import keep_config, saved_tree, with_free_keys
from segzoo.training.run import Guests, TrainResult, train_run
from segzoo.training.run_dir import RunDir, already_finished, finished_summary, new_run_dir, resumed_run_dir, write_json

logger = logging.getLogger(__name__)


def train_stages(config: AnyRunConfig, *, name: str, resume: Path | None = None, guests: Guests) -> TrainResult:
    """Train the stages of a configuration, or those that are left; arguments and errors as `train`.

    The run directory has a folder for each stage, stage1, stage2, ..., which is a run directory itself, and the
    checkpoints of the last one that is finished.
    """
    with ExitStack() as stack:
        if resume is None:
            config = checked_stages(config)
            whole = stack.enter_context(new_run_dir(config, name))
        else:
            whole = stack.enter_context(resumed_run_dir(resume))
            if finished_summary(whole):
                raise already_finished(whole)
            keep_config(whole, config)
        # Once for all stages: under torchrun the processes cannot be started again.
        stack.enter_context(other_processes(config))
        return _train_each(stage_configs(config), whole, name, guests)


def stage_configs(config: AnyRunConfig) -> list[AnyRunConfig]:
    """The configuration of each stage; `model.weights` of the later ones is not known yet."""
    tree = config.model_dump(mode="json")
    return [config_from_tree(stage_tree(tree, stage)) for stage in config.stages]


def checked_stages(config: AnyRunConfig) -> AnyRunConfig:
    """See that every stage can be trained and takes the network of the one before; nothing has started yet.

    Returns:
        The configuration, completed by what the first stage's weights expect. All stages share that, because the later
        ones go on with its network.

    Raises:
        ConfigError: every problem of every stage, one line each.
        DataError: the data sets' content is wrong, and nothing else.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    config_from_tree(tree, known_names=known_names())
    found = _Problems(len(config.stages))
    with found.of(0):
        config = _with_settings_of(with_starting_settings(config_from_tree(stage_tree(tree, config.stages[0]))), config)
    before: _Plan | None = None
    seen = []
    for number, stage in enumerate(stage_configs(config)):
        with found.of(number):
            check_request(stage)
        with found.of(number):
            if stage.data not in seen and is_first_process():
                check_files(stage)
        with found.of(number):
            plan = _plan(stage)
            plan.check_follows(before)
            before = plan
        seen.append(stage.data)
    found.raise_all()
    return config


def _with_settings_of(first: AnyRunConfig, config: AnyRunConfig) -> AnyRunConfig:
    backbone = first.model.backbone
    settings = {key: getattr(backbone, key) for key in ("norm_eps", "padding", "stem_padding")}
    own = config.model.backbone.model_copy(update=settings)
    data = config.data.model_copy(update={"preprocessing": first.data.preprocessing})
    return config.model_copy(update={"data": data, "model": config.model.model_copy(update={"backbone": own})})


@dataclass
class _Problems:
    """What is wrong with which of `count` stages."""

    count: int
    lines: dict[str, set[int]] = field(default_factory=dict)
    of_content: bool = True

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """Note the problems of a stage that come up inside."""
        try:
            yield
        except (ConfigError, DataError) as error:
            self.of_content &= isinstance(error, DataError)
            for line in error.problems:
                self.lines.setdefault(line, set()).add(number)

    def raise_all(self) -> None:
        """Raise them all: with the stage's place in front, unless every stage has it from the top level."""
        lines = []
        for line, which in self.lines.items():
            everywhere = len(which) == self.count > 1
            lines += [line] if everywhere else [_placed(line, number) for number in sorted(which)]
        if lines:
            raise (DataError if self.of_content else ConfigError)(lines)


def _placed(line: str, number: int) -> str:
    a_key = line.split(".")[0].split(":")[0] in SharedRunConfig.model_fields
    return f"stages[{number}]{'.' if a_key else ': '}{line}"


@dataclass(frozen=True)
class _Plan:
    """What a stage's network is to the next one."""

    labels: LabelSpace
    shapes: dict[str, torch.Size]

    def check_follows(self, before: "_Plan | None") -> None:
        """See that this stage can go on with the network of the one before.

        Raises:
            ConfigError: other classes, or tensors of other names or shapes.
        """
        if before is None:
            return
        if before.labels != self.labels:
            names = [", ".join(labels.names) for labels in (self.labels, before.labels)]
            raise ConfigError(f"data: other classes ({names[0]}) than the stage before ({names[1]}). Keep them.")
        others = sorted(name for name, _ in before.shapes.items() ^ self.shapes.items())
        if others:
            raise ConfigError(
                f"model: the network of the stage before does not fit: {len({*others})} tensors differ, such as "
                f"{others[0]}. A stage may change strides, norm=frozen and dropout, not the weights' shapes."
            )


def _plan(config: AnyRunConfig) -> _Plan:
    labels = build_data(config).labels
    state = sketch_network(config, labels).state_dict()
    return _Plan(labels, {name: tensor.shape for name, tensor in state.items() if not name.startswith(AUXILIARY)})


def _train_each(configs: Sequence[AnyRunConfig], whole: RunDir, name: str, guests: Guests) -> TrainResult:
    begun = [number for number in range(len(configs)) if whole.stage(number).config.is_file()]
    newest = begun[-1] if begun else 0
    result: TrainResult | None = None
    for number, config in enumerate(configs):
        if number >= newest and not finished_summary(whole.stage(number)):
            logger.info("stage %d of %d", number + 1, len(configs))
            result = _train_stage(config, whole, number, name, guests)
            whole.path = result.run_dir.parent  # where other processes than the first one learn it
        if is_first_process():
            with faults_explained():
                _publish(whole.stage(number), whole)
    return _result(whole, result, len(configs))


def _train_stage(config: AnyRunConfig, whole: RunDir, number: int, name: str, guests: Guests) -> TrainResult:
    stage = whole.stage(number)
    if stage.config.is_file():
        own = config_from_tree(saved_tree(stage), known_names=known_names())
        return train_run(with_free_keys(own, config), name=name, resume=stage.path, whole=whole, guests=guests)
    update: dict[str, Any] = {"run_dir": str(stage.path)}
    if number:
        before = str(whole.stage(number - 1).path)
        update["model"] = config.model.model_copy(update={"weights": before})
    return train_run(config.model_copy(update=update), name=name, whole=whole, guests=guests)


def _publish(stage: RunDir, whole: RunDir) -> None:
    """Make a finished stage's checkpoints those of the whole run."""
    for source, target in ((stage.best, whole.best), (stage.last, whole.last)):
        if source.is_file():
            _link(source, target)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links; the old one there goes at once."""
    part = target.with_name(f"{target.name}.part")
    try:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)  # renaming one name of a file to another of the same file leaves both


def _result(whole: RunDir, result: TrainResult | None, count: int) -> TrainResult:
    """What the whole run comes to: the last stage's numbers, and every stage's beside them."""
    stages = [summary for number in range(count) if (summary := finished_summary(whole.stage(number)))]
    summary = {**(result.summary if result else stages[-1]), "stages": stages}
    if is_first_process():
        with faults_explained():
            write_json(whole.summary, summary)
    if result is None:  # the run was stopped between the last stage's end and here
        known = read_description(read_checkpoint(whole.last), whole.last)
        scores, main = no_scores(known.config, known.labels), main_metric(known.config, known.labels)
        return TrainResult(whole.path, known.labels, scores, summary, main)
    return replace(result, run_dir=whole.path, summary=summary)
