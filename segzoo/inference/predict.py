"""A folder of images in, a folder of masks out."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segzoo.checkpoint.read import find_checkpoint, run_dir_of
from segzoo.data.images import write_image
from segzoo.data.progress import counted
from segzoo.errors import ConfigError, DataError, did_you_mean
from segzoo.inference.listing import list_images, mask_names
from segzoo.inference.predictor import Prediction, Predictor

KINDS = ("mask", "color", "overlay")


@dataclass
class PredictReport:
    """What became of each image.

    Args:
        output: folder of the masks.
        written: images that were segmented.
        skipped: images whose outputs were there already.
        failed: image -> reason; also in failed.json.
    """

    output: Path
    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def predict(
    checkpoint: str | Path,
    source: str | Path,
    *,
    output: str | Path | None = None,
    save: Sequence[str] = ("mask",),
    skip_existing: bool = False,
    overwrite: bool = False,
) -> PredictReport:
    """Segment a file or every image below a folder.

    Args:
        checkpoint: a `.ckpt` or a run directory.
        source: image file or folder.
        output: folder for the results; None takes predictions/<run>.
        save: kinds of output: mask (index PNG with palette), color (RGB), overlay (colours over the image).
            Masks mirror the input's tree; other kinds do so below `_<kind>`.
        skip_existing: leave out images whose outputs are all there.
        overwrite: replace outputs that are there.

    Raises:
        ConfigError: nothing to do, or outputs that would be overwritten.
        CheckpointError: refused, with the reason.
    """
    _check_kinds(save)
    path = find_checkpoint(checkpoint)
    source = Path(source)
    output = Path("predictions", run_name(path)) if output is None else Path(output)
    folder = source if source.is_dir() else source.parent
    if output.resolve() == folder.resolve():
        raise ConfigError(f"--output: {output} is the input folder; masks would stand among the images. Name another.")
    predictor = Predictor(path)
    names = mask_names(list_images(source, without=output, suffixes=predictor.pixels.suffixes))
    targets = {image: output_paths(output, name, save) for image, name in names.items()}
    report = PredictReport(output)
    todo = _select(targets, report, skip_existing=skip_existing, overwrite=overwrite)
    for image in counted(todo, len(todo), "predicting"):
        _predict_one(predictor, folder / image, targets[image], report, image)
    _write_failures(report)
    return report


def output_paths(output: Path, name: Path, save: Sequence[str]) -> dict[str, Path]:
    """Kind -> file for one image."""
    return {kind: output / name if kind == "mask" else output / f"_{kind}" / name for kind in save}


def run_name(checkpoint: Path) -> str:
    """What a checkpoint's outputs are filed under: its run directory's name, else its own."""
    run_dir = run_dir_of(checkpoint)
    return run_dir.name if run_dir else checkpoint.stem


def _check_kinds(save: Sequence[str]) -> None:
    unknown = [kind for kind in save if kind not in KINDS]
    if unknown or not save:
        kind = unknown[0] if unknown else ""
        raise ConfigError(f"--save: unknown kind {kind!r}. {did_you_mean(kind, KINDS)}")


def _select(
    targets: dict[Path, dict[str, Path]], report: PredictReport, *, skip_existing: bool, overwrite: bool
) -> list[Path]:
    """Images to segment: all, or those whose outputs are not complete."""
    if skip_existing:
        report.skipped = [image for image, paths in targets.items() if all(p.exists() for p in paths.values())]
    elif not overwrite:
        there = [path for paths in targets.values() for path in paths.values() if path.exists()]
        if there:
            raise ConfigError(
                f"{len(there)} outputs are there already, such as {there[0]}. "
                "Give --skip-existing, --overwrite or another --output."
            )
    done = set(report.skipped)
    return [image for image in targets if image not in done]


def _predict_one(
    predictor: Predictor, file: Path, targets: dict[str, Path], report: PredictReport, image: Path
) -> None:
    try:
        _write(predictor(file), targets)
    except DataError as error:
        shown = os.fsencode(image).decode("utf-8", "backslashreplace")
        report.failed[shown] = " ".join(error.problems)
    else:
        report.written.append(image)


def _write(prediction: Prediction, targets: dict[str, Path]) -> None:
    for kind, path in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "mask":
            prediction.save(path)
        elif kind == "color":
            write_image(path, prediction.overlay(alpha=1.0))
        else:
            prediction.save_overlay(path)


def _write_failures(report: PredictReport) -> None:
    path = report.output / "failed.json"
    if report.failed:
        report.output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report.failed, indent=2) + "\n", encoding="utf-8")
    else:
        path.unlink(missing_ok=True)
