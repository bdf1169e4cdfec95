"""Downloads from the Hugging Face hub: verified, kept in its cache, and given up after a few tries."""

import hashlib
import re
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segzoo.backbones.weights.published import KERAS_URL, WeightsEntry
from segzoo.errors import ConfigError, first_line

_TIMEOUT = 10.0  # seconds to wait for the hub's first answer
_RESTARTS = 3  # times a download may start over


def fetch(entry: WeightsEntry) -> Path:
    """The file of published weights, from the hub's cache or else downloaded into it.

    A cached file needs no network. `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to every user of
    the hub. The file's sha256 must be the one of our table, or, where that has none, the one the hub itself states.

    Raises:
        ConfigError: it cannot be had, or it is not the file that was published.
    """
    from huggingface_hub import try_to_load_from_cache  # not at import: it reads its settings then

    cached = try_to_load_from_cache(entry.repository, entry.filename, revision=entry.revision)
    file = Path(cached) if isinstance(cached, str) else _download(entry)
    _verify(file, entry)
    return file


def _download(entry: WeightsEntry) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(entry.repository, entry.filename, revision=entry.revision)
    try:
        # Asked once, without a network it fails at once; `hf_hub_download` would go on asking for up to minutes.
        get_hf_file_metadata(url, timeout=_TIMEOUT)
        path = hf_hub_download(
            entry.repository,
            entry.filename,
            revision=entry.revision,
            etag_timeout=_TIMEOUT,
            tqdm_class=_BoundedProgress,
        )
    except Exception as error:  # besides its own errors, the hub's client lets those of its HTTP library through
        raise ConfigError(_not_downloaded(entry, error)) from error
    return Path(path)


class _BoundedProgress(tqdm):
    """A progress bar that ends a download that starts over again and again.

    The hub's client goes on where a connection broke. From a server that knows no ranges it starts over instead, and
    never stops.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("name", None)  # the client's own bar takes it, tqdm does not
        super().__init__(*args, **kwargs)
        self._restarts = 0

    def update(self, n: float | None = 1) -> bool | None:
        if n is not None and n < 0:
            self._restarts += 1
            if self._restarts >= _RESTARTS:
                raise ConnectionError(f"the connection broke {_RESTARTS} times")
        return super().update(n)


def _verify(file: Path, entry: WeightsEntry) -> None:
    """Compare checksums; a wrong file leaves the cache, so that the next try starts afresh."""
    stored = file.resolve()  # the cache keeps content under the checksum that the hub states
    expected = entry.sha256 or (stored.name if re.fullmatch(r"[0-9a-f]{64}", stored.name) else None)
    if expected is None:
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != expected:
        file.unlink()
        stored.unlink(missing_ok=True)
        raise ConfigError(
            f"{entry.tag} of {entry.backbone}: the file from {entry.source} has sha256 {found}, not {expected}. "
            "It was deleted from the cache; try again."
        )


def _not_downloaded(entry: WeightsEntry, error: Exception) -> str:
    reason = first_line(error).rstrip(".")
    keras = f", Keras' file {KERAS_URL}" if entry.backbone == "xception" else ""
    return (
        f"{entry.tag} of {entry.backbone}: {entry.source} could not be downloaded ({reason}). Without a network, name "
        f"the path of a file fetched elsewhere ({entry.filename} of this repository{keras}), "
        "or write weights: null to start at random."
    )
