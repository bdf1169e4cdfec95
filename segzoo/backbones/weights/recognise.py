"""Which kind of weights file a path is: told from its content, whatever its name ends in.

Nothing in a file is executed: pickles are read with torch's restricted reader, of Keras' and TensorFlow's files only
the arrays.
"""

import io
import logging
import lzma
import re
import zipfile
import zlib
from dataclasses import replace
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeGuard

import torch
from torch import Tensor

from segzoo.backbones.weights import own, timm
from segzoo.backbones.weights.deeplab import read_deeplab
from segzoo.backbones.weights.hdf5 import MOST_TIMES
from segzoo.backbones.weights.keras import read_keras
from segzoo.backbones.weights.saved import MARK, is_safetensors, read_saved, read_tensors
from segzoo.backbones.weights.source import TIMM_RECIPES, SourceWeights
from segzoo.backbones.weights.tensorflow import find_tensorflow, is_tensorflow, read_tensorflow
from segzoo.errors import CheckpointError, ConfigError, first_line

_logger = logging.getLogger(__name__)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_KERAS_WEIGHTS = "model.weights.h5"
_PART = re.compile(r"(?P<prefix>(.+\.)?)(block12\.rep\.|blocks[._]\d+\.stack\.|entry_flow\.\d+\.layers\.)")
_WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which training scripts keep the state dict


def read_weights(path: str | PathLike[str]) -> SourceWeights:
    """Read weights of Keras, timm, Cadene, DeepLab or segzoo: a file, a run directory, or a folder of one model.

    DeepLab's are a checkpoint of TensorFlow's, by its prefix, its index, its folder or the published archive, or a
    frozen graph.

    Raises:
        ConfigError: no such file.
        CheckpointError: the file is damaged, of another kind, or of another network.
    """
    file = find_weights_file(path)
    source = str(file)
    if file.exists() and not file.is_file():
        raise ConfigError(f"{file}: not a plain file")  # a pipe would be waited for
    try:
        with file.open("rb") as opened:
            start = opened.read(512)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such weights file") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    if start.startswith(_HDF5):
        return read_keras(file, file.stat().st_size, source)
    if start.startswith(_ZIP):
        return _read_zip(file, source)
    if is_safetensors(start):  # before pickle: its first byte, of a length, may be any
        return _read_safetensors(file, source)
    if start.startswith(_PICKLE):
        return _recognise(read_pickle(file), source)
    if is_tensorflow(file):
        return read_deeplab(read_tensorflow(file, source), source)
    raise CheckpointError(f"{source}: {_what_else(start)}")


def find_weights_file(path: str | PathLike[str]) -> Path:
    """The file that a path means: a folder's, a TensorFlow checkpoint's index, else itself, whether it is there or not.

    Raises:
        ConfigError: a folder without weights, or with several.
    """
    file = Path(path)
    if file.is_dir():
        return own.find_in_folder(file)
    return find_tensorflow(file) or file


def recognise_state(state: dict[str, Tensor], source: str) -> SourceWeights:
    """Recognise a state dict by its names: timm's or Cadene's, also as a part of a network of SMP's, or segzoo's own.

    Raises:
        CheckpointError: it belongs to no network of the family.
    """
    prefix = next((found["prefix"] for found in map(_PART.match, state) if found), "")
    part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if len(part) < len(state):
        _logger.info("%s: %d tensors beside %s* are left aside", source, len(state) - len(part), prefix)
    if any(name.startswith("entry_flow.") for name in part):
        return _own_state(part, source)
    weights = timm.read_state(part, source)
    if prefix.endswith("encoder."):  # SMP pads Chollet's stem
        return replace(weights, recipe=replace(weights.recipe, stem_padding="padded"))
    return weights


def _own_state(state: dict[str, Tensor], source: str) -> SourceWeights:
    """The state dict of one of our backbones, as SMP's users save it with an encoder of ours.

    Raises:
        CheckpointError: no variant has so many modules.
    """
    modules = {name.rsplit(".layers.", 1)[0] for name in state if ".layers." in name}
    norms_between = "entry_flow.0.layers.0.separable.norm.weight" in state
    variant: str | None = "xception"
    if norms_between or "entry_flow.0.norm.weight" in state:
        variant = timm.aligned_variant(len(modules), preactivation=not norms_between)
    if variant is None:
        raise CheckpointError(f"{source}: no variant has {len(modules)} modules")
    recipe = replace(TIMM_RECIPES[variant], norm_eps=None, stem_padding="padded")
    return SourceWeights(source, "segzoo", variant, state, (), recipe)


def _recognise(content: object, source: str) -> SourceWeights:
    if isinstance(content, dict) and "segzoo" in content and "state_dict" in content:
        return own.read_checkpoint(content, source)
    if isinstance(content, dict):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if not _is_state(content):
        raise CheckpointError(f"{source}: holds something else than a state dict of tensors")
    return recognise_state(content, source)


def _is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _read_zip(file: Path, source: str) -> SourceWeights:
    """A `.keras` archive, or what `torch.save` writes."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if _KERAS_WEIGHTS in names:
                return _read_keras_archive(archive, file, source)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{source}: a damaged archive ({first_line(error)}); is it cut off?") from None
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"{source}: an archive, but neither Keras' ({_KERAS_WEIGHTS}) nor torch's (data.pkl)")
    return _recognise(read_pickle(file), source)


def _read_keras_archive(archive: zipfile.ZipFile, file: Path, source: str) -> SourceWeights:
    size = archive.getinfo(_KERAS_WEIGHTS).file_size  # no more than that is unpacked, whatever is there
    if size > MOST_TIMES * file.stat().st_size:
        raise CheckpointError(f"{source}: refused, because it would unpack to {size:,} bytes, which no weights do.")
    return read_keras(io.BytesIO(archive.read(_KERAS_WEIGHTS)), size, source)


def read_pickle(file: Path) -> Any:
    """What `torch.save` wrote, read without executing anything from it.

    Raises:
        CheckpointError: damaged, or with pickled objects in it, or with more in it than its size.
    """
    _check_sizes(file)
    try:
        # weights_only is said although it is the default: an environment variable can turn the default off.
        with file.open("rb") as opened:  # given a path, torch looks at the suffix
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise CheckpointError(
            f"{file}: refused, because it is no file of tensors and plain values only: "
            "it is damaged or holds pickled objects that could run code. Nothing was executed."
        ) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({first_line(error)}); is it cut off?") from None
    settings = content.get("hyper_parameters") if isinstance(content, dict) else None
    if isinstance(settings, dict) and "_instantiator" in settings:
        raise CheckpointError(
            f"{file}: refused, because its hyper_parameters name a function for Lightning to call "
            f"({settings['_instantiator']!r}). Nothing was executed."
        )
    return content


def _check_sizes(file: Path) -> None:
    """Refuse an archive that would unpack to more than it is: torch stores its records as they are, side by side.

    Raises:
        CheckpointError: it is compressed, or its records lie over one another.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):
        return  # what torch says of it is as good
    if sum(record.file_size for record in records) > file.stat().st_size:
        raise CheckpointError(
            f"{file}: refused, because it would unpack to more than its own size, which nothing that torch wrote does."
        )


def _read_safetensors(file: Path, source: str) -> SourceWeights:
    metadata, tensors = read_tensors(file)
    if MARK in metadata:
        return own.read_checkpoint(read_saved(file), source)
    if own.METADATA_KEY in metadata:
        return own.read_safetensors(tensors, metadata[own.METADATA_KEY], source)
    return _recognise(tensors, source)


def _what_else(start: bytes) -> str:
    if not start:
        return "an empty file"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights: the download went wrong"
    return (
        f"not recognised as weights (it begins with {start[:12]!r}): neither HDF5 (Keras), a .keras archive, "
        "a PyTorch state dict, safetensors, nor a checkpoint or frozen graph of TensorFlow's"
    )
