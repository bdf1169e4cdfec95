"""What a person says of the data, in place of what make-config would find out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segzoo.config.data import DataConfig
from segzoo.config.load import apply_overrides, config_from_tree, for_segmentation
from segzoo.errors import ConfigError, did_you_mean

_FOUND = frozenset({"data.name", "data.root"})
_CLASSES = ("data.classes", "data.folder.mask_values", "data.folder.colors")
_NUMBERS = ("data.folder.mask_offset", "data.folder.ignore_value")


@dataclass(frozen=True)
class Stated:
    """Keys of the `data` section with the values that somebody gave them.

    Args:
        overrides: as on the command line, `data.key=value` each.

    Raises:
        ConfigError: a key of another section, or one that the folder itself decides.
    """

    overrides: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        apply_overrides({}, self.overrides)  # each is understood
        keys = [override.partition("=")[0] for override in self.overrides]
        problems = [_refusal(key) for key in keys if not key.startswith("data.") or key in _FOUND]
        if problems:
            raise ConfigError(problems)
        values = {key: _value(apply_overrides({}, self.overrides), key) for key in keys}
        object.__setattr__(self, "values", values)

    @property
    def classes(self) -> bool:
        """Whether they say what the values in the masks mean."""
        return any(key in self.values for key in (*_CLASSES, *_NUMBERS))

    def config(self, tree: Mapping[str, Any]) -> DataConfig:
        """A `data` section with these values in place of its own.

        Raises:
            ConfigError: the schema refuses it.
        """
        whole = apply_overrides({"data": tree, "trainer": {"max_steps": 1}}, self.overrides)
        return for_segmentation(config_from_tree(whole)).data


def _value(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def _refusal(key: str) -> str:
    if key in _FOUND:
        return f"{key}: the folder decides; name another folder"
    advice = did_you_mean(f"data.{key}", [f"data.{name}" for name in DataConfig.model_fields])
    return f"{key}: only what says how the data are read, data.key=value, counts here; the rest is written. {advice}"
