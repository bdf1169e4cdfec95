"""Writing checkpoints so that a good one is never lost."""

import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from segzoo.checkpoint.read import damaged_part, read_checkpoint
from segzoo.errors import CheckpointError, first_line
from segzoo.files import flush_folder


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, flushes to the disk, reads it back, then renames.

    Lightning's own goes through the temporary directory and then moves: on a full disk that destroys the good
    file and leaves a truncated one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`; on any failure the old file stays as it was.

        Raises:
            CheckpointError: the disk is full, the folder is not writable, or the file did not read back.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            target.parent.mkdir(exist_ok=True)  # a run's is there; of Lightning's own callbacks, it may not be
            part.unlink(missing_ok=True)  # what a killed process left; or a link, which is not written through
            with part.open("xb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _read_back(part)
            part.replace(target)
            flush_folder(target.parent)
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{target}: not saved ({_reason(error)}); the file before it is untouched."
            ) from error
        finally:
            with suppress(OSError):  # as where the folder went away, which was said
                part.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read without executing anything, whatever the caller asks for."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Why nothing was saved: torch raises an error of its own over the system's, such as that the disk is full."""
    before = error.__cause__ or error.__context__
    return first_line(before if isinstance(before, OSError) else error)


def _read_back(path: Path) -> None:
    """See that every byte arrived: torch checks the structure, the archive its sums."""
    torch.load(path, map_location="meta", weights_only=True)
    if damaged := damaged_part(path):
        raise OSError(f"{damaged} did not read back as it was written")
