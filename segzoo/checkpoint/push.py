"""Sharing a model on the Hugging Face hub."""

import tempfile
from pathlib import Path

from segzoo.backbones.weights.own import WEIGHTS
from segzoo.backbones.weights.saved import DESCRIPTION
from segzoo.checkpoint.read import AnyTrained, Trained, load_trained
from segzoo.checkpoint.saved import CARD, save_folder
from segzoo.errors import ConfigError, first_line


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
    loaded = source if isinstance(source, Trained) else load_trained(source)
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
