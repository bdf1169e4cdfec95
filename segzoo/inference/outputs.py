"""The kinds of files that a prediction becomes."""

import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from segzoo.data.reading.images import write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, did_you_mean
from segzoo.files import write_atomically

if TYPE_CHECKING:
    from segzoo.inference.predictor import Prediction

Targets = Mapping[str, Sequence[Path]]
"""Kind -> files of one image."""


@dataclass(frozen=True)
class Kind:
    """One kind of output.

    Args:
        meaning: for `--help`.
        write: writes the files of one prediction; their folder exists.
        suffix: of the file.
        for_each_class: one file a class, in a folder named after the image.
        of_probabilities: needs the probabilities, K times the size of all the rest.
    """

    meaning: str
    write: Callable[["Prediction", Sequence[Path]], None]
    suffix: str = ".png"
    for_each_class: bool = False
    of_probabilities: bool = False


def _write_probabilities(prediction: "Prediction", files: Sequence[Path]) -> None:
    encoded = io.BytesIO()
    names = np.array(prediction.labels.names)
    np.savez(encoded, probabilities=prediction.probabilities.astype(np.float16), classes=names)
    write_atomically(files[0], encoded.getvalue())


def _write_probabilities_png(prediction: "Prediction", files: Sequence[Path]) -> None:
    for file, chances in zip(files, prediction.probabilities, strict=True):
        _write_gray(file, chances)


def _write_polygons(prediction: "Prediction", files: Sequence[Path]) -> None:
    write_atomically(files[0], json.dumps(prediction.polygons(), separators=(",", ":")).encode())


def _write_gray(file: Path, shares: npt.NDArray[np.float32]) -> None:
    """0 to 1 as 0 to 255; encoded fast, for noise in the last bits hardly gets smaller by trying harder."""
    encoded = io.BytesIO()
    Image.fromarray(np.rint(shares * 255).astype(np.uint8)).save(encoded, format="PNG", compress_level=1)
    write_atomically(file, encoded.getvalue())


KINDS: Mapping[str, Kind] = {
    "mask": Kind(
        "class indices as an indexed PNG; multi-label: 0 and 255, a PNG for each class below <class>",
        lambda prediction, files: prediction.labels.coding.write(prediction.mask, files),
    ),
    "color": Kind("the classes' colours", lambda prediction, files: write_image(files[0], prediction.colors())),
    "overlay": Kind("the colours over the image", lambda prediction, files: prediction.save_overlay(files[0])),
    "probabilities": Kind(
        "float16 (K, H, W) as `probabilities` of an .npz", _write_probabilities, ".npz", of_probabilities=True
    ),
    "probabilities_png": Kind(
        "a gray PNG for each class; 255 is certain",
        _write_probabilities_png,
        for_each_class=True,
        of_probabilities=True,
    ),
    "entropy": Kind(
        "how undecided the network is: 0 certain, 255 all classes alike",
        lambda prediction, files: _write_gray(files[0], prediction.entropy),
        of_probabilities=True,
    ),
    "polygons": Kind("outlines of the classes' regions in pixels, GeoJSON", _write_polygons, ".geojson"),
}
"""What `--save` takes besides `areas`, which is one table for all images."""

_NAMED = 3  # rasters in a refusal
AREAS = "areas"
RASTER_SUFFIX = ".tif"


def kinds_text() -> str:
    """A line for each kind, for `--help`."""
    meanings = {kind: entry.meaning for kind, entry in KINDS.items()}
    meanings[AREAS] = "areas.csv: pixels and share of every class in every image"
    return "\n".join(f"  {kind:<18} {meaning}" for kind, meaning in meanings.items())


def check_kinds(save: Collection[str]) -> None:
    """Refuse unknown kinds, and none at all."""
    known = [*KINDS, AREAS]
    unknown = [kind for kind in save if kind not in known]
    if unknown or not save:
        kind = unknown[0] if unknown else ""
        raise ConfigError(f"--save: unknown kind {kind!r}. {did_you_mean(kind, known)}")


def check_raster_kinds(save: Collection[str], rasters: Sequence[str]) -> None:
    """Refuse kinds that rasters do not become, before anything is computed, given those among the images by name."""
    others = [kind for kind in save if kind != "mask"]
    if not rasters or not others:
        return
    named = ", ".join(rasters[:_NAMED]) + (f" and {len(rasters) - _NAMED} more" if len(rasters) > _NAMED else "")
    raise ConfigError(
        f"--save: {', '.join(others)}: rasters that are read by windows become masks only, and {len(rasters)} of the "
        f"images are such ({named}). Take --save mask, or predict the others on their own."
    )


def output_paths(output: Path, name: Path, save: Collection[str], labels: LabelSpace) -> Targets:
    """The files of one image: masks mirror the input's tree, other kinds do so below `_<kind>`.

    Args:
        output: the folder of all.
        name: the mask's, relative; one that ends in .tif is a raster's.
        save: kinds; those with one file a class take its names from the labels.
        labels: the classes.
    """
    if name.suffix == RASTER_SUFFIX:
        return {"mask": [output / name]}
    return {kind: _files(output, name, kind, labels) for kind in KINDS if kind in save}


def _files(output: Path, name: Path, kind: str, labels: LabelSpace) -> list[Path]:
    if kind == "mask":
        return [output / part / name for part in labels.coding.parts] or [output / name]
    base = output / f"_{kind}" / name
    if KINDS[kind].for_each_class:
        return [base.with_suffix("") / f"{class_name}.png" for class_name in labels.coding.file_names]
    return [base.with_suffix(KINDS[kind].suffix)]


def write_outputs(prediction: "Prediction", targets: Targets) -> None:
    """Write all files of one prediction, each whole or not at all."""
    for kind, files in targets.items():
        files[0].parent.mkdir(parents=True, exist_ok=True)
        KINDS[kind].write(prediction, files)
