"""A saved model's folder: `model.safetensors`, the tensors, and `config.json`, what they are.

The two belong together: `config.json` has the sha256 of the tensors' file. No name in either of them is ever opened as
a path, and both are bounded in size before anything of them is parsed.
"""

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from segzoo.backbones.weights.own import PREFIXES, WEIGHTS, check_format
from segzoo.errors import CheckpointError, first_line, printable

DESCRIPTION = "config.json"
MARK = "segzoo_model"
"""Key in the metadata of the tensors' file that tells it from a backbone's."""

_LONGEST = 16 * 2**20  # bytes of JSON, in config.json or in the header of the tensors: ours have some 100,000


def read_saved(weights: Path) -> dict[str, Any]:
    """A saved model, as a training checkpoint holds it: its description, and its tensors.

    Args:
        weights: the tensors' file; its description lies beside it.

    Raises:
        CheckpointError: a newer format; one of the two is missing, damaged, or not the other's.
    """
    description = read_saved_description(weights.with_name(DESCRIPTION))
    metadata, tensors = read_tensors(weights)
    if MARK not in metadata:
        raise CheckpointError(f"{weights}: not a model that segzoo saved; a backbone goes to model.backbone.weights.")
    _check_sum(weights, description)
    prefix = _prefix(description, weights)
    return {"segzoo": description, "state_dict": {prefix + name: value for name, value in tensors.items()}}


def _prefix(description: dict[str, Any], weights: Path) -> str:
    """Where the network's tensors stand in a training checkpoint of its task."""
    try:
        return PREFIXES[description["config"].get("task", "segmentation")]  # the first ones did not say
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{weights.with_name(DESCRIPTION)}: does not say which task the model is for") from None


def read_saved_description(file: Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        CheckpointError: missing, damaged, of a newer format or something else.
    """
    if file.exists() and not file.is_file():
        raise CheckpointError(f"{file}: not a plain file")  # a pipe would be waited for
    try:
        with file.open("rb") as opened:
            text = opened.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ValueError(f"longer than {_LONGEST} bytes")
        content = json.loads(text)
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: missing. A saved model is a folder of {DESCRIPTION} and {WEIGHTS}, which `segzoo export "
            "--format safetensors` writes."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable as a model's description ({first_line(error)})") from None
    if not isinstance(content, dict) or "format_version" not in content:
        raise CheckpointError(f"{file}: not the description of a model that segzoo saved")
    check_format(content["format_version"], str(file))
    return content


def read_tensors(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file.

    Raises:
        CheckpointError: damaged, or another kind of file.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
        if not is_safetensors(start):
            raise CheckpointError(
                f"{file}: no safetensors, whatever its name says, or damaged at its start. Nothing was executed."
            )
        with _in_unicode(file) as path, safe_open(path, framework="pt") as opened:
            return opened.metadata() or {}, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: damaged safetensors ({first_line(error)}); is it cut off?") from None


@contextmanager
def _in_unicode(file: Path) -> Iterator[Path]:
    """The file by a name that safetensors can open, which takes UTF-8 alone."""
    if printable(file) == str(file):
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / WEIGHTS
        link.symlink_to(os.path.realpath(file))
        yield link


def is_safetensors(start: bytes) -> bool:
    """A file's first bytes: a length of eight bytes, then JSON of that length."""
    return start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= _LONGEST


def sha256_of(file: Path) -> str:
    """The checksum of a file, as 64 hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check_sum(weights: Path, description: dict[str, Any]) -> None:
    """Safetensors carry no sums of their own: a damaged byte would be read without a word."""
    expected = description.get("weights_sha256")
    if expected != sha256_of(weights):
        raise CheckpointError(
            f"{weights}: damaged, or not the weights that {DESCRIPTION} beside it describes: its sha256 is another. "
            "Copy or fetch both anew."
        )
