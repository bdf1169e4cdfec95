"""The complete runs that come with segzoo, by name."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from segzoo.errors import ConfigError

PACKAGE = Path(__file__).parent.parent
"""The folder of the package."""


def packaged_configs() -> Mapping[str, Path]:
    """Their names and files: an installed package has them inside, a copy of the repository beside the package."""
    inside = PACKAGE / "configs"
    folder = inside if inside.is_dir() else PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(path: Path) -> Path:
    """The file that a user means: the one of this path, else the packaged one of this name.

    Args:
        path: a file, or `quickstart` or `configs/quickstart.yaml`, which mean the same where no such file is.

    Raises:
        ConfigError: there is neither; the line names the packaged ones.
    """
    ready = packaged_configs()
    try:
        if path.exists() and not path.is_dir():
            return path
    except OSError as error:  # a name too long, a folder that may not be searched
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    if path.stem in ready and path in (Path(path.stem), Path("configs", f"{path.stem}.yaml")):
        return ready[path.stem]
    if path.is_dir():
        raise ConfigError(f"{path}: a folder. Name a YAML file, or a ready one, such as quickstart.")
    near = "".join(f"Did you mean {name}? " for name in get_close_matches(path.stem, ready, n=1))
    raise ConfigError(f"{path}: no such file. {near}Ready ones, by name: {', '.join(ready)}.")
