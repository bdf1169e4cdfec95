"""A checkpoint as a file for other programs, checked before it is there."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from segzoo.checkpoint.read import AnyTrained, Trained, load_trained
from segzoo.checkpoint.saved import save_folder
from segzoo.errors import CheckpointError, ConfigError, did_you_mean, first_line
from segzoo.inference.engines import missing, plain_logits
from segzoo.inference.export_formats import FORMATS, ExportFormat, ExportOptions, Runner, input_for
from segzoo.models.agreement import Agreement, compare, probe_image

FOLDER = "safetensors"
NAMES = (*FORMATS, FOLDER)

SIZES = ((97, 129), (360, 480), (513, 513))
BATCHES = (1, 3)


@dataclass(frozen=True)
class CheckedSize:
    """One comparison with the network as it was trained, of so many images of a height and width."""

    batch: int
    size: tuple[int, int]
    agreement: Agreement

    def __str__(self) -> str:
        return f"{self.batch} × {self.size[0]}×{self.size[1]}: {self.agreement}"


@dataclass(frozen=True)
class Export:
    """The file or folder that was written, what kind it is, and how it agrees with torch."""

    path: Path
    note: str
    checks: tuple[CheckedSize, ...]


def export(
    checkpoint: str | Path | AnyTrained,
    format_name: str,
    output: str | Path,
    *,
    with_preprocessing: bool = False,
    with_argmax: bool = False,
) -> Export:
    """Write a network for other programs, of free batch, height and width.

    What was written is run and compared with torch at several sizes. What does not agree is not kept.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model, or what `load_segmenter` or `load_classifier` returned.
        format_name: onnx, openvino, torch (TorchScript) or safetensors (a folder, as `save_model` makes it).
        output: the file or folder; nothing may be there yet.
        with_preprocessing: take images as they are, uint8 (N, H, W, C), instead of normalised float32 (N, C, H, W).
        with_argmax: give class indices, uint8 (N, H, W), instead of logits, float32 (N, K, H, W); of a classifier int64
            (N,) instead of (N, K).

    Raises:
        ConfigError: an unknown format, a package that is missing, a wrong path, or a network that the format cannot
            hold.
        CheckpointError: the checkpoint is refused, the file cannot be written, or does not agree.
    """
    if format_name not in NAMES:
        raise ConfigError(f"--format: unknown format {format_name!r}. {did_you_mean(format_name, NAMES)}")
    output, options = Path(output), ExportOptions(with_preprocessing, with_argmax)
    _check_request(format_name, output, options)
    source = checkpoint if isinstance(checkpoint, Trained) else load_trained(checkpoint)
    if format_name == FOLDER:
        return _export_folder(source, output)
    if with_argmax and not source.labels.coding.exclusive:
        raise ConfigError("--with-argmax: the classes of this network overlap: there is no single one. Leave it out.")
    kind = FORMATS[format_name]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            part = Path(folder, output.name)
            kind.write(source, options, part)
            checks = _check_agreement(output, source, options, kind.load(part))
            _move(part, output, kind)
    except (OSError, RuntimeError) as error:  # the second from torch and OpenVINO
        raise CheckpointError(f"{output}: not written ({first_line(error)}).") from error
    return Export(output, kind.note, checks)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What an exported file says about itself: classes, palette, preprocessing, input, output and versions.

    Args:
        path: a `.onnx`, `.xml` or `.pt` file that `export` wrote.

    Raises:
        ConfigError: no such file, or of another kind; a package that reads it is missing.
        CheckpointError: it holds none of this.
    """
    path = Path(path)
    kind = next((kind for kind in FORMATS.values() if kind.suffix == path.suffix), None)
    if kind is None or not path.is_file():
        raise ConfigError(f"{path}: no exported file. They end in {', '.join(k.suffix for k in FORMATS.values())}.")
    _check_packages(kind)
    try:
        found: dict[str, Any] = json.loads(kind.read(path))
    except Exception as error:  # each library has its own for a file that is not of its kind
        raise CheckpointError(f"{path}: holds no description; `segzoo export` writes one.") from error
    return found


def _check_request(name: str, output: Path, options: ExportOptions) -> None:
    beside = FORMATS[name].beside if name in FORMATS and output.name else ()
    there = filter(os.path.lexists, (output, *(output.with_suffix(suffix) for suffix in beside)))
    problems = [f"--output: {path} is there already. Name another, or delete it." for path in there]
    if name == FOLDER and (options.preprocessing or options.argmax):
        problems.append("--with-preprocessing, --with-argmax: safetensors holds weights and no graph. Leave them out.")
    if name in FORMATS and output.suffix != FORMATS[name].suffix:
        problems.append(f"--output: {output.name} should end in {FORMATS[name].suffix}.")
    if problems:
        raise ConfigError(problems)
    if name in FORMATS:
        _check_packages(FORMATS[name])


def _check_packages(kind: ExportFormat) -> None:
    packages = missing(kind.packages)
    if packages:
        raise ConfigError(f"--format: {' and '.join(packages)} not installed: pip install {' '.join(packages)}")


def _export_folder(source: AnyTrained, output: Path) -> Export:
    save_folder(source, output)
    try:
        again = load_trained(output).network
        with torch.inference_mode():
            checks = _check_agreement(output, source, ExportOptions(), again)
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        raise
    return Export(output, "safetensors, configuration and card", checks)


def _check_agreement(output: Path, source: AnyTrained, options: ExportOptions, run: Runner) -> tuple[CheckedSize, ...]:
    checks = []
    for size, batch in product(SIZES, BATCHES):
        images = probe_image(batch, len(source.preprocessing.mean), *size)
        found = run(input_for(source, options, images))
        checks.append(CheckedSize(batch, size, compare(plain_logits(source, images), found)))
    wrong = [check for check in checks if not check.agreement.is_close]
    if wrong:
        raise CheckpointError(f"{output}: not written: it does not agree with torch: {wrong[0]}.")
    return tuple(checks)


def _move(part: Path, output: Path, kind: ExportFormat) -> None:
    """Put the checked files in place, the one that names the others last."""
    for suffix in (*kind.beside, kind.suffix):
        source = part.with_suffix(suffix)
        with source.open("rb") as file:
            os.fsync(file.fileno())
        shutil.move(source, output.with_suffix(suffix))
