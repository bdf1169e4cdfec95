"""The names that a configuration's open keys may take: what the registries hold now."""

from segzoo.backbones.registry import BACKBONES
from segzoo.config.load import KnownNames
from segzoo.data.names import data_set_names
from segzoo.models.build import list_decoders
from segzoo.tasks.losses import LOSSES


def known_names() -> KnownNames:
    """Dotted key -> names, for `load_config`; a user's own registrations are among them."""
    return {
        **data_set_names(),
        "model.backbone.name": BACKBONES,
        "model.decoder": list_decoders(),
        "loss.name": list(LOSSES),
        "loss.add": list(LOSSES),
    }
