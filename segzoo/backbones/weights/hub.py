"""Downloads from the Hugging Face hub: verified, kept in its cache, and given up after a few tries."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segzoo.backbones.weights.own import WEIGHTS
from segzoo.backbones.weights.published import KERAS_URL, WeightsEntry
from segzoo.backbones.weights.saved import DESCRIPTION, read_saved_description, sha256_of
from segzoo.errors import CheckpointError, ConfigError, first_line

_logger = logging.getLogger(__name__)
_TIMEOUT = 10.0  # seconds to wait for the hub's first answer
WINDOW = 60.0
"""Seconds over which the speed of a download is taken."""
LEAST_BYTES = 60_000
"""A hub that sends less in a window is as good as silent."""
_HUB_NAME = re.compile(r"(?P<owner>[A-Za-z0-9][\w.-]*)/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)
_OF_FILES = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".h5", ".keras", ".tar")


def fetch(entry: WeightsEntry) -> Path:
    """The file of published weights, from the hub's cache or else downloaded into it.

    A cached file needs no network. `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to every user of
    the hub. The file's sha256 must be the one of our table, or, where that has none, the one the hub itself states.

    Raises:
        ConfigError: it cannot be had, or it is not the file that was published.
    """
    file = _cached(entry.repository, entry.filename, entry.revision)
    if file is None:
        try:
            file = _download(entry.repository, entry.filename, entry.revision)
        except Exception as error:  # besides its own errors, the hub's client lets those of its HTTP library through
            raise ConfigError(_not_downloaded(entry, error)) from error
    _verify(file, f"{entry.tag} of {entry.backbone}: the file from {entry.source}", entry.sha256)
    return file


def is_hub_name(text: str) -> bool:
    """Whether a model's name means one on the hub: `owner/name` or `owner/name@revision`, and nothing here.

    Where a folder of the owner's name is here, the rest is taken for a slip of the pen.

    >>> is_hub_name("owner/name@v1.0"), is_hub_name("runs/a/b"), is_hub_name("weights/xception.h5")
    (True, False, False)
    """
    found = _HUB_NAME.fullmatch(text)
    if found is None or Path(text).suffix.lower() in _OF_FILES:
        return False
    return not Path(text).exists() and not Path(found["owner"]).exists()


def fetch_model(name: str) -> Path:
    """The tensors' file of a saved model on the hub, with its description beside it, from the hub's cache.

    The hub is asked for the newest commit of the revision, unless it is out of reach. Two files are fetched and no
    others, both of one commit, the small one first.

    Args:
        name: `owner/name` or `owner/name@revision`.

    Raises:
        ConfigError: it cannot be had.
        CheckpointError: what is there is no saved model.
    """
    repository, _, revision = name.partition("@")
    revision = revision or "main"
    _logger.info("%s: nothing of this name is here, so it is looked for on the Hugging Face hub", name)
    description = _newest(name, repository, revision)
    read_saved_description(description)  # before the download of another program's gigabytes
    commit = description.parent.name  # the cache keeps each commit's files together
    weights = _cached(repository, WEIGHTS, commit)
    if weights is None:
        try:
            weights = _download(repository, WEIGHTS, commit)
        except Exception as error:
            raise _not_fetched(name, WEIGHTS, error) from error
    for file in (description, weights):
        _verify(file, f"{name}: its {file.name}", None)
    _logger.info("%s: commit %s", name, commit)
    return weights


def hub_name_of(file: Path) -> str | None:
    """The name, without its owner, of the model on the hub that a file in the hub's cache belongs to."""
    parts = file.absolute().parts
    if len(parts) < 4 or parts[-3] != "snapshots" or not parts[-4].startswith("models--"):
        return None
    return parts[-4].split("--")[-1]


def _newest(name: str, repository: str, revision: str) -> Path:
    """The description at the revision's newest commit, or, where the hub is out of reach, at that of the cache."""
    try:
        return _download(repository, DESCRIPTION, revision)
    except Exception as error:
        cached = None if _is_not_there(error) else _cached(repository, DESCRIPTION, revision)
        if cached is None:
            raise _not_fetched(name, DESCRIPTION, error) from error
        _logger.warning("%s: the hub gives nothing (%s), so the cached files are taken", name, first_line(error))
        return cached


def _cached(repository: str, filename: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # not at import: it reads its settings then

    found = try_to_load_from_cache(repository, filename, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _download(repository: str, filename: str, revision: str) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # Asked once, without a network it fails at once; `hf_hub_download` would go on asking for up to minutes.
    get_hf_file_metadata(hf_hub_url(repository, filename, revision=revision), timeout=_TIMEOUT)
    with _no_slower_than_least():
        return Path(hf_hub_download(repository, filename, revision=revision, etag_timeout=_TIMEOUT))


@contextmanager
def _no_slower_than_least() -> Iterator[None]:
    """Give a hub up that sends next to nothing: its client waits for ever, as long as a byte comes now and then."""
    from huggingface_hub import get_session

    client = get_session()
    before = client.event_hooks
    client.event_hooks = {**before, "response": [*before["response"], _watch]}
    try:
        yield
    finally:
        client.event_hooks = before


def _watch(response: Any) -> None:
    """Have an answer of the hub's measured while it comes in.

    The hub's client is built on httpx, or from its own version 2 on on httpx2; what streams must be of their class.
    """
    stream = response.stream
    base: Any = next(kind for kind in type(stream).__mro__ if kind.__name__ == "SyncByteStream")

    class Measured(base):
        def __iter__(self) -> Iterator[bytes]:
            end, received = time.monotonic() + WINDOW, 0
            for block in stream:
                received += len(block)
                if time.monotonic() > end:
                    if received < LEAST_BYTES:
                        raise TimeoutError(f"only {received} bytes in {WINDOW:g} s")
                    end, received = time.monotonic() + WINDOW, 0
                yield block

        def close(self) -> None:
            stream.close()

    response.stream = Measured()


def _verify(file: Path, what: str, expected: str | None) -> None:
    """Compare checksums; a wrong file leaves the cache, so that the next try starts afresh."""
    stored = file.resolve()  # the cache keeps content under the checksum that the hub states
    expected = expected or (stored.name if re.fullmatch(r"[0-9a-f]{64}", stored.name) else None)
    found = None if expected is None else sha256_of(file)
    if found != expected:
        file.unlink()
        stored.unlink(missing_ok=True)
        raise ConfigError(f"{what} has sha256 {found}, not {expected}. It was deleted from the cache; try again.")


def _is_not_there(error: Exception) -> bool:
    """Whether the hub itself said that there is no such file, revision or model."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    return _is_no_model(error) or (
        isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
    )


def _is_no_model(error: Exception) -> bool:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    return isinstance(error, RepositoryNotFoundError | RevisionNotFoundError)


def _not_fetched(name: str, filename: str, error: Exception) -> ConfigError | CheckpointError:
    reason = first_line(error).rstrip(".")
    if _is_no_model(error):
        return ConfigError(
            f"{name}: no such path here, and no such model or revision on the Hugging Face hub that you may read "
            f"({reason}). For a private one, log in with `hf auth login`."
        )
    if _is_not_there(error):
        return CheckpointError(
            f"{name}: on the Hugging Face hub, but without {filename}: no model that segzoo saved. Pickled weights are "
            "not read from there."
        )
    return ConfigError(
        f"{name}: no such path here, and the Hugging Face hub could not be asked for it ({reason}). Without a network, "
        "fetch the folder elsewhere and name its path."
    )


def _not_downloaded(entry: WeightsEntry, error: Exception) -> str:
    reason = first_line(error).rstrip(".")
    keras = f", Keras' file {KERAS_URL}" if entry.backbone == "xception" else ""
    return (
        f"{entry.tag} of {entry.backbone}: {entry.source} could not be downloaded ({reason}). Without a network, name "
        f"the path of a file fetched elsewhere ({entry.filename} of this repository{keras}), "
        "or write weights: null to start at random."
    )
