"""segzoo: semantic segmentation with Xception encoders.

The names below load on first use, so that `import segzoo` costs nothing and downloads nothing.
"""

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING

from segzoo.calls import checked_call

if TYPE_CHECKING:
    from segzoo.backbones import build_backbone as build_backbone
    from segzoo.backbones import build_classifier as build_classifier
    from segzoo.backbones import list_backbones as list_backbones
    from segzoo.backbones import register_backbone as register_backbone
    from segzoo.checkpoint.read import load_classifier as load_classifier
    from segzoo.checkpoint.read import load_segmenter as load_segmenter
    from segzoo.checkpoint.saved import push_to_hub as push_to_hub
    from segzoo.checkpoint.saved import save_model as save_model
    from segzoo.config.load import load_config as load_config
    from segzoo.config.sections import Section as Section
    from segzoo.data.datasets.spec import register_classification_dataset as register_classification_dataset
    from segzoo.data.datasets.spec import register_dataset as register_dataset
    from segzoo.data.loading.datamodule import SegmentationDataModule as SegmentationDataModule
    from segzoo.evaluation.evaluate import evaluate as evaluate
    from segzoo.evaluation.evaluate import evaluate_classifier as evaluate_classifier
    from segzoo.inference.class_predictor import ClassPredictor as ClassPredictor
    from segzoo.inference.export import export as export
    from segzoo.inference.predict import classify as classify
    from segzoo.inference.predict import predict as predict
    from segzoo.inference.predictor import Predictor as Predictor
    from segzoo.models.build import register_decoder as register_decoder
    from segzoo.models.smp.encoders import register_smp_encoders as register_smp_encoders
    from segzoo.plugins import load_plugins as load_plugins
    from segzoo.tasks.confusion import ConfusionMatrix as ConfusionMatrix
    from segzoo.tasks.confusion import MeanIoU as MeanIoU
    from segzoo.tasks.losses import register_loss as register_loss
    from segzoo.tasks.metrics import register_metric as register_metric
    from segzoo.tasks.processes import is_first_process as is_first_process
    from segzoo.tasks.segmentation import SegmentationTask as SegmentationTask
    from segzoo.training.train import train as train

__version__ = "0.1.0"

_HOMES = {
    "ClassPredictor": "segzoo.inference.class_predictor",
    "ConfusionMatrix": "segzoo.tasks.confusion",
    "MeanIoU": "segzoo.tasks.confusion",
    "Predictor": "segzoo.inference.predictor",
    "SegmentationDataModule": "segzoo.data.loading.datamodule",
    "SegmentationTask": "segzoo.tasks.segmentation",
    "Section": "segzoo.config.sections",
    "build_backbone": "segzoo.backbones",
    "build_classifier": "segzoo.backbones",
    "classify": "segzoo.inference.predict",
    "evaluate": "segzoo.evaluation.evaluate",
    "evaluate_classifier": "segzoo.evaluation.evaluate",
    "export": "segzoo.inference.export",
    "is_first_process": "segzoo.tasks.processes",
    "list_backbones": "segzoo.backbones",
    "load_classifier": "segzoo.checkpoint.read",
    "load_config": "segzoo.config.load",
    "load_segmenter": "segzoo.checkpoint.read",
    "load_plugins": "segzoo.plugins",
    "predict": "segzoo.inference.predict",
    "push_to_hub": "segzoo.checkpoint.saved",
    "register_backbone": "segzoo.backbones",
    "register_classification_dataset": "segzoo.data.datasets.spec",
    "register_dataset": "segzoo.data.datasets.spec",
    "register_decoder": "segzoo.models.build",
    "register_loss": "segzoo.tasks.losses",
    "register_metric": "segzoo.tasks.metrics",
    "register_smp_encoders": "segzoo.models.smp.encoders",
    "save_model": "segzoo.checkpoint.saved",
    "train": "segzoo.training.train",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'segzoo' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    if isinstance(found, FunctionType):
        found = checked_call(found)
    globals()[name] = found  # the next use finds it without asking here
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
