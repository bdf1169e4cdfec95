"""The names that a configuration's open keys may take: what the registries hold now.

A module of its own because commands that train nothing read it, and it imports no Lightning.
"""

from segzoo.backbones.registry import BACKBONES
from segzoo.config.load import KnownNames
from segzoo.data.datasets.spec import data_set_names
from segzoo.models import build as _build  # noqa: F401  (registers the decoders)
from segzoo.models.decoder import DECODERS
from segzoo.tasks.losses import LOSSES
from segzoo.tasks.metrics import METRICS


def known_names() -> KnownNames:
    """Dotted key -> names, for `load_config`; a user's own registrations are among them."""
    return {
        **data_set_names(),
        "model.backbone.name": BACKBONES,
        "model.decoder": DECODERS,
        "loss.name": LOSSES,
        "loss.add": LOSSES,
        **{f"{task}:evaluation.metrics": metrics for task, metrics in METRICS.items()},
    }
