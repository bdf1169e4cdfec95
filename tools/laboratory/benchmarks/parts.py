"""The parts of `segzoo benchmark`: each measures one thing and reports it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from laboratory.benchmarks.cases import Case, case_table, measure_cases
from laboratory.benchmarks.engines import engine_table, images_of, measure_engines
from laboratory.benchmarks.evaluate import evaluation_table, measure_evaluation
from laboratory.benchmarks.inference import WithEngine, inference_cases
from laboratory.benchmarks.loader import loader_table, measure_loader
from laboratory.benchmarks.machine import TakenTime, machine_line
from laboratory.benchmarks.predict import measure_predict, predict_table
from laboratory.benchmarks.report import Report
from laboratory.benchmarks.scaling import Measured, draw_scaling, measure_scaling, scaling_rows, scaling_table
from laboratory.benchmarks.settings import PARTS, Settings
from laboratory.benchmarks.subjects import Subjects, classification_subjects, segmentation_subjects, untrained
from laboratory.benchmarks.training import Training, our_switches, training_cases
from segzoo.config.schema import ModelConfig, RunConfig
from segzoo.data.cores import available_cores
from segzoo.data.dataset import build_dataset
from segzoo.errors import ConfigError, did_you_mean
from segzoo.inference.engines.choose import ENGINES
from segzoo.inference.engines.pytorch import usable_device
from segzoo.inference.predictor import Predictor
from segzoo.models.evaluation import evaluation_config

_IMAGENET_SIZE = 299
_INFERENCE_SIZE, _INFERENCE_BATCH = 512, 1
_TRAINING_SIZE, _TRAINING_BATCH = 256, 4
_SIZES = {"inference": (256, 384, 512, 768, 1024), "training": (128, 192, 256, 384, 512)}
_BATCHES = {"inference": (1, 2, 4, 8), "training": (2, 4, 8, 16)}
_FIXED = {"inference": (256, 1), "training": (128, 2)}  # size and batch of the curves that vary the other
_QUICK_SIZES, _QUICK_BATCHES, _QUICK_FIXED = (32, 64), (2, 4), (32, 2)
_NOTE = "ratio: over the first row, medians of rounds in which all rows took turns; logits and weights are random"


def measure_part(part: str, config: RunConfig, settings: Settings) -> Report:
    """Measure one of `PARTS`.

    Args:
        part: which.
        config: the network and the data.
        settings: how much.

    Raises:
        ConfigError: an unknown part or engine, or what cannot be measured here.
    """
    if part not in PARTS:
        raise ConfigError(f"--part: unknown part {part!r}. {did_you_mean(part, PARTS)}")
    unknown = [name for name in settings.engines if name not in ENGINES]
    if unknown:
        raise ConfigError([f"--engines: unknown engine {name!r}. {did_you_mean(name, ENGINES)}" for name in unknown])
    counts = {name: getattr(settings, name) for name in ("rounds", "images", "size", "batch")}
    small = [name for name, count in counts.items() if count is not None and count < 1]
    if small:
        raise ConfigError([f"--{name}: {counts[name]}; it must be at least 1." for name in small])
    usable_device(settings.device)
    taken = TakenTime()
    report = _MEASURES[part](config, settings)
    note = taken.note()
    return report if note is None else replace(report, notes=(*report.notes, note))


def _loader(config: RunConfig, settings: Settings) -> Report:
    speeds = measure_loader(config.data, images=settings.images, rounds=settings.rounds)
    return _report("loader", loader_table(speeds), speeds)


def _engines(config: RunConfig, settings: Settings) -> Report:
    subjects = segmentation_subjects(config, settings, evaluation_config(config.model))
    speeds = measure_engines(
        images_of(config, settings.images),
        config,
        subjects.baselines[0],
        subjects.ours[-1],
        rounds=settings.rounds,
        engines=settings.engines or ENGINES,
    )
    return _report("engines", engine_table(speeds), speeds)


def _predict(config: RunConfig, settings: Settings) -> Report:
    folder = images_of(config, 1)[0].parent
    predictor = Predictor(untrained(config, build_dataset(config.data, config.data.val_split).labels))
    speeds = measure_predict(predictor, folder, images=settings.images, rounds=settings.rounds)
    return _report("predict", predict_table(speeds), speeds)


def _evaluate(config: RunConfig, settings: Settings) -> Report:
    speeds = measure_evaluation(config, images=settings.images, rounds=settings.rounds)
    return _report("evaluate", evaluation_table(speeds), speeds)


def _inference(config: RunConfig, settings: Settings) -> Report:
    batch, size = settings.batch or _INFERENCE_BATCH, settings.size or _usual_size(settings, _INFERENCE_SIZE)
    cases = inference_cases(
        _subjects(config, settings, evaluation_config(config.model)),
        config,
        batch=batch,
        size=size,
        device=settings.device,
        engines=settings.engines or ENGINES,
        compiled=settings.compiled is not False,
    )
    return _of_cases("inference", cases, settings, f"batches of {batch}, {size}×{size} pixels", "batch")


def _training(config: RunConfig, settings: Settings) -> Report:
    batch, size = settings.batch or _TRAINING_BATCH, settings.size or _usual_size(settings, _TRAINING_SIZE)
    cases = training_cases(
        _subjects(config, settings, config.model),
        config,
        batch=batch,
        size=size,
        device=settings.device,
        compiled=settings.compiled is True,
    )
    return _of_cases("training", cases, settings, f"steps of {batch} images of {size}×{size} pixels", "step")


def _scaling(config: RunConfig, settings: Settings) -> Report:
    subject = segmentation_subjects(config, settings, config.model).ours[0]
    size, batch = _QUICK_FIXED if settings.quick else _FIXED["inference"]
    inference = WithEngine(subject, config, batch, size, settings.device, "torch", "fp32")
    size, batch = _QUICK_FIXED if settings.quick else _FIXED["training"]
    switches = our_switches(config, settings.device)
    training = Training(subject, config, batch, size, settings.device, switches)
    curves = []
    cases: tuple[tuple[str, Measured], ...] = (("inference", inference), ("training", training))
    for work, case in cases:
        curves += measure_scaling(
            work,
            case,
            sizes=_QUICK_SIZES if settings.quick else _SIZES[work],
            batches=_QUICK_BATCHES if settings.quick else _BATCHES[work],
            processes=_processes(settings) if work == "inference" else (),
            rounds=settings.rounds,
            memory=settings.memory,
        )
    if settings.plot is not None:
        draw_scaling(curves, settings.plot)
    notes = (
        f"{subject.title}, fp32; engine torch at {inference.size}×{inference.size} and training steps at "
        f"{training.size}×{training.size} where the size is fixed; x^1 is linear",
        "processes: each computes a batch of its own with one thread; time of the slowest, memory of all together",
    )
    return _report("scaling", scaling_table(curves), scaling_rows(curves), notes, device=settings.device)


def _of_cases(part: str, cases: Sequence[Case], settings: Settings, what: str, unit: str) -> Report:
    speeds, limits = measure_cases(cases, rounds=settings.rounds, memory=settings.memory, quick=settings.quick)
    notes = (f"{what}; counted rounds: {settings.rounds}", _NOTE, f"limits: {limits}")
    table = case_table(speeds, unit=unit)
    return _report(part, table, speeds, notes, {"limits": asdict(limits)}, device=settings.device)


def _report(
    part: str,
    table: str,
    rows: Sequence[Any],
    notes: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
) -> Report:
    machine = machine_line(torch.device(device))
    return Report(part, table, rows, (*notes, machine), {"machine": machine, **(facts or {})})


def _subjects(config: RunConfig, settings: Settings, model: ModelConfig) -> Subjects:
    if settings.task == "classification":
        return classification_subjects()
    return segmentation_subjects(config, settings, model)


def _usual_size(settings: Settings, segmentation: int) -> int:
    return _IMAGENET_SIZE if settings.task == "classification" else segmentation


def _processes(settings: Settings) -> tuple[int, ...]:
    """One, as many as there are cores, and twice as many, by doubling."""
    if settings.quick:
        return (1, 2)
    return tuple(2**power for power in range((2 * available_cores()).bit_length()))


_MEASURES: dict[str, Callable[[RunConfig, Settings], Report]] = {
    "loader": _loader,
    "inference": _inference,
    "training": _training,
    "engines": _engines,
    "predict": _predict,
    "evaluate": _evaluate,
    "scaling": _scaling,
}
