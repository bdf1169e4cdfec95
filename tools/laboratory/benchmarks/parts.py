"""The parts of tools/benchmark.py: each measures one thing and reports it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from laboratory.benchmarks.engines import images_of, measure_engines
from laboratory.benchmarks.harness import Case, Report, measure_cases, row_table
from laboratory.benchmarks.inference import WithEngine, inference_cases
from laboratory.benchmarks.loader import measure_loader
from laboratory.benchmarks.machine import TakenTime
from laboratory.benchmarks.scaling import Measured, draw_scaling, measure_scaling, scaling_table
from laboratory.benchmarks.settings import PARTS, Settings
from laboratory.benchmarks.subjects import segmentation_subjects
from laboratory.benchmarks.training import Training, our_switches, training_cases
from segzoo.config.schema import RunConfig
from segzoo.data.cores import available_cores
from segzoo.errors import ConfigError, did_you_mean
from segzoo.inference.engines import ENGINES, usable_device
from segzoo.models.build import evaluation_config

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
    if settings.quick:  # as little work as shows that everything runs
        size, batch = settings.size or 64, settings.batch or 2
        settings = replace(settings, rounds=1, images=2, size=size, batch=batch, compiled=bool(settings.compiled))
    return _MEASURES[part](config, settings).with_machine(taken.note())


def _loader(config: RunConfig, settings: Settings) -> Report:
    rows = measure_loader(config.data, images=settings.images, rounds=settings.rounds)
    return Report("loader", row_table(rows), rows, ("samples read and augmented by one core",))


def _engines(config: RunConfig, settings: Settings) -> Report:
    subjects = segmentation_subjects(config, settings, evaluation_config(config.model))
    files, engines = images_of(config, settings.images), settings.engines or ENGINES
    ours = subjects.ours[-1]
    rows = measure_engines(files, config, subjects.baseline, ours, rounds=settings.rounds, engines=engines)
    return Report("engines", row_table(rows), rows, (f"from files to masks; a run is {len(files)} images",))


def _inference(config: RunConfig, settings: Settings) -> Report:
    batch, size = settings.batch or 1, settings.size or 512
    subjects = segmentation_subjects(config, settings, evaluation_config(config.model))
    cases = inference_cases(
        subjects,
        config,
        batch=batch,
        size=size,
        device=settings.device,
        engines=settings.engines or ENGINES,
        compiled=settings.compiled is not False,
    )
    return _of_cases("inference", cases, settings, f"a run is a batch of {batch}, {size}×{size} pixels")


def _training(config: RunConfig, settings: Settings) -> Report:
    batch, size = settings.batch or 4, settings.size or 256
    subjects = segmentation_subjects(config, settings, config.model)
    compiled = settings.compiled is True
    cases = training_cases(subjects, config, batch=batch, size=size, device=settings.device, compiled=compiled)
    return _of_cases("training", cases, settings, f"a run is a step of {batch} images of {size}×{size} pixels")


def _of_cases(part: str, cases: Sequence[Case], settings: Settings, what: str) -> Report:
    rows, limits = measure_cases(cases, rounds=settings.rounds, memory=settings.memory, quick=settings.quick)
    notes = (f"{what}; counted rounds: {settings.rounds}", _NOTE, f"limits: {limits}")
    return Report(part, row_table(rows), rows, notes, {"limits": asdict(limits)}, settings.device)


def _scaling(config: RunConfig, settings: Settings) -> Report:
    subject, quick = segmentation_subjects(config, settings, config.model).ours[0], settings.quick
    size, batch = _QUICK_FIXED if quick else _FIXED["inference"]
    inference = WithEngine(subject, config, batch, size, settings.device, "torch", "fp32")
    size, batch = _QUICK_FIXED if quick else _FIXED["training"]
    training = Training(subject, config, batch, size, settings.device, our_switches(config, settings.device))
    curves = []
    cases: tuple[tuple[str, Measured], ...] = (("inference", inference), ("training", training))
    for work, case in cases:
        curves += measure_scaling(
            work,
            case,
            sizes=_QUICK_SIZES if quick else _SIZES[work],
            batches=_QUICK_BATCHES if quick else _BATCHES[work],
            processes=_processes(quick) if work == "inference" else (),
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
    return Report("scaling", scaling_table(curves), curves, notes, device=settings.device)


def _processes(quick: bool) -> tuple[int, ...]:
    """One, as many as there are cores, and twice as many, by doubling."""
    return (1, 2) if quick else tuple(2**power for power in range((2 * available_cores()).bit_length()))


_MEASURES: dict[str, Callable[[RunConfig, Settings], Report]] = {
    "loader": _loader,
    "inference": _inference,
    "training": _training,
    "engines": _engines,
    "scaling": _scaling,
}
