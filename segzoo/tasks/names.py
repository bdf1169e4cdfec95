"""The names that a configuration's open keys may take: what the registries hold now."""

from segzoo.backbones import list_backbones
from segzoo.config.load import KnownNames
from segzoo.data.classification import CLASSIFICATION_DATASETS
from segzoo.data.dataset import DATASETS
from segzoo.models.build import list_decoders
from segzoo.tasks.losses import LOSSES


def known_names() -> KnownNames:
    """Dotted key -> names, for `load_config`; a user's own registrations are among them."""
    return {
        "data.name": list(DATASETS),
        "classification:data.name": list(CLASSIFICATION_DATASETS),
        "model.backbone.name": list_backbones(),
        "model.decoder": list_decoders(),
        "loss.name": list(LOSSES),
        "loss.add": list(LOSSES),
    }
