"""A model as a folder that anyone can use, here or on the Hugging Face hub: weights, configuration and a card."""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from segzoo.backbones.weights.models import PublishedModel, cache_folder, fetch_archive, only_one_process
from segzoo.backbones.weights.own import PREFIXES, WEIGHTS
from segzoo.backbones.weights.saved import DESCRIPTION, MARK, read_saved, sha256_of
from segzoo.checkpoint.card import model_card, started_from
from segzoo.checkpoint.deeplab import Protocol
from segzoo.checkpoint.format import describe, versions
from segzoo.checkpoint.read import (
    AnyTrained,
    Trained,
    TrainedSegmenter,
    load_published,
    load_trained,
    model_name,
)
from segzoo.config.classification import AnyRunConfig
from segzoo.errors import CheckpointError, ConfigError, first_line
from segzoo.files import flush_folder

CARD = "README.md"


def save_model(checkpoint: str | Path | AnyTrained, folder: str | Path) -> Path:
    """Save a trained network as a folder that anyone can use, in place of the run it comes from.

    The folder holds `model.safetensors`, the weights that are evaluated; `config.json`, the configuration, classes,
    palette, preprocessing, metrics and versions; and `README.md`, the model card. Of paths on this machine, only the
    last part is in it. CHECKPOINT may be such a folder wherever it is asked for.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model, or what `load_segmenter` or `load_classifier` returned.
        folder: to make; nothing of this name may be there. It is returned.

    Raises:
        ConfigError: no such checkpoint, or something is at `folder` already.
        CheckpointError: the checkpoint is refused, or the folder cannot be written. It is not there then.
    """
    folder = Path(folder)
    _check_free(folder)  # before minutes of reading
    save_folder(_loaded(checkpoint), folder)
    return folder


def save_published(source: str | Path, folder: str | Path, protocol: Protocol) -> TrainedSegmenter:
    """Save a segmenter that DeepLab's authors published as a folder, as `save_model` does.

    Args:
        source: a TensorFlow checkpoint, its archive, or a frozen graph.
        folder: to make; nothing of this name may be there.
        protocol: what the source does not say.

    Raises:
        ConfigError: no such source, another file, or something is at `folder` already.
        CheckpointError: the source is refused, or the folder cannot be written.
    """
    folder = Path(folder)
    _check_free(folder)
    trained = load_published(source, protocol)
    save_folder(trained, folder)
    return trained


def fetch_saved(model: PublishedModel) -> Path:
    """The tensors' file of a published segmenter as a saved folder in the cache, which is made at the first time.

    Raises:
        ConfigError: the archive cannot be had, or it is one of a backbone.
        CheckpointError: the archive is refused, or the folder cannot be written.
    """
    if not model.is_segmenter:
        raise ConfigError(
            f"{model.name}: a backbone, which may start a segmenter: model.backbone.weights={model.name}."
        )
    folder = cache_folder() / model.file_name
    with only_one_process(model):
        if not folder.is_dir():
            save_folder(load_published(fetch_archive(model), Protocol()), folder, name=model.name)
    return folder / WEIGHTS


def save_folder(source: AnyTrained, folder: Path, *, name: str | None = None) -> None:
    """Write `save_model`'s folder: all of it, or nothing.

    Args:
        name: what the card says to load it by; None is the folder's name.

    Raises:
        ConfigError: something is there already.
        CheckpointError: it cannot be written, or did not read back.
    """
    _check_free(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.part-{secrets.token_hex(4)}")
        part.mkdir()
        try:
            _write(source, part, name or folder.name)
            _read_back(source, part)
            part.rename(folder)
            flush_folder(folder.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not saved ({first_line(error)}).") from error


def push_to_hub(
    source: str | Path | AnyTrained, repository: str, *, private: bool = True, token: str | None = None
) -> str:
    """Share a model on the Hugging Face hub as a saved folder, which "owner/name" then names as a checkpoint.

    The three files of `save_model` make one commit. Other files in the repository stay; a card of the same name, once
    edited there, is in the history.

    Args:
        source: a `.ckpt`, a run directory, a saved model, or what `load_segmenter` or `load_classifier` returned.
        repository: `owner/name`; made where there is none.
        private: whether one that is made is for its owner only. One that exists stays as it is.
        token: of the hub; None takes that of `hf auth login`, or HF_TOKEN.

    Returns:
        The commit's address.

    Raises:
        ConfigError: no such checkpoint, or the hub does not take it.
        CheckpointError: the checkpoint is refused.
    """
    from huggingface_hub import HfApi  # not at import: it reads its settings then

    owner, slash, name = repository.partition("/")
    if not owner or not slash or not name or "/" in name:
        raise ConfigError(f"{repository}: no name of a repository on the hub. Write owner/name.")
    loaded = _loaded(source)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        save_folder(loaded, folder, name=repository)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                allow_patterns=[WEIGHTS, DESCRIPTION, CARD],
                commit_message="Save a model of segzoo",
            )
        except Exception as error:  # besides its own errors, the hub's client lets those of its HTTP library through
            reason = first_line(error).rstrip(".")
            raise ConfigError(
                f"{repository}: the hub does not take it ({reason}). Log in with `hf auth login`, or set HF_TOKEN."
            ) from error
    return str(commit.commit_url)


def _loaded(source: str | Path | AnyTrained) -> AnyTrained:
    return source if isinstance(source, Trained) else load_trained(source)


def _check_free(folder: Path) -> None:
    if os.path.lexists(folder):
        raise ConfigError(f"{folder}: exists already. Name another folder, or delete it.")


def _write(source: AnyTrained, folder: Path, name: str) -> None:
    weights = folder / WEIGHTS
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in source.network.state_dict().items()}
    save_file(tensors, weights, metadata={MARK: DESCRIPTION})  # one key: several come in any order
    config = shareable(source.config)
    description = _description(source, config) | {"weights_sha256": sha256_of(weights)}
    (folder / DESCRIPTION).write_text(
        json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
    )
    (folder / CARD).write_text(model_card(source, config, name), encoding="utf-8", errors="backslashreplace")
    weights.chmod((folder / CARD).stat().st_mode)  # safetensors makes files that only their owner reads
    for file in (weights, folder / DESCRIPTION, folder / CARD):
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
    flush_folder(folder)


def _description(source: AnyTrained, config: AnyRunConfig) -> dict[str, Any]:
    """What a training checkpoint says of itself, and where this one comes from."""
    known = source.description
    described = describe(config, source.labels, known.metrics, known.step)
    origin, licence = started_from(config.model)
    provenance = {"run": model_name(source.path), "started_from": origin, "licence_of_that": licence}
    return described | {"versions": known.versions, "saved_with": versions(), "provenance": provenance}


def _read_back(source: AnyTrained, folder: Path) -> None:
    """See that every tensor arrived, bit for bit."""
    try:
        written = read_saved(folder / WEIGHTS)["state_dict"]
    except CheckpointError as error:
        raise OSError(f"it did not read back: {first_line(error)}") from error
    own, prefix = source.network.state_dict(), PREFIXES[source.config.task]
    if written.keys() != {prefix + key for key in own} or not all(
        torch.equal(written[prefix + key], tensor.detach().cpu()) for key, tensor in own.items()
    ):
        raise OSError("it did not read back as it was written")


def shareable(config: AnyRunConfig) -> AnyRunConfig:
    """A run's configuration without paths of this machine: of an absolute one, its last part stays.

    `run_dir` is left out: who trains by this configuration has another.
    """
    plain: dict[str, Any] = _shareable(config.model_dump(mode="json"))
    return type(config).model_validate(plain | {"run_dir": None})


def _shareable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shareable(inner) for key, inner in value.items()}
    if isinstance(value, str) and (value.startswith(("/", "~")) or PureWindowsPath(value).is_absolute()):
        return PureWindowsPath(value).name  # it knows both kinds of slash
    return value
