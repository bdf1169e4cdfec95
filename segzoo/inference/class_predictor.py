"""Images in, probabilities of classes out; and where the network looked."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from segzoo.backbones.classifier import Classifier
from segzoo.calls import checked_call
from segzoo.checkpoint.read import TrainedClassifier, load_classifier
from segzoo.data.reading.arrays import Array8
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import Pixels, as_picture
from segzoo.data.transforms.classification import CenterView, Window
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError, data_errors_about
from segzoo.inference.predictor import BasePredictor, Picture
from segzoo.models.agreement import Precision

Map = npt.NDArray[np.float32]

_STRENGTH = 0.5  # of the colours of an activation map over the picture
_UNSEEN = 0.4  # brightness of what the network did not see


@dataclass(frozen=True)
class ClassPrediction:
    """What the network says of one image.

    Args:
        probabilities: of each class, float64 (K,).
        labels: the classes.
        cam: activation map (h, w) of the most probable class, in the network's coarse grid; None where it was not
            asked for.
    """

    probabilities: npt.NDArray[np.float64]
    labels: LabelSpace
    cam: Map | None = None

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities; of equal ones the class that comes first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels.names[index], float(self.probabilities[index])) for index in order]


class ClassPredictor(BasePredictor[ClassPrediction]):
    """A trained classifier that takes images of every size and looks at their centre, as evaluation does.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model's folder, `owner/name` on the Hugging Face hub, or what
            `load_classifier` returned.
        device: where to compute; None takes a GPU where there is one.
        engine: what computes: torch, onnxruntime, openvino, or auto for the fastest.
        precision: fp32 or bf16.

    Raises:
        ConfigError: no such checkpoint or engine.
        CheckpointError: refused, with the reason.
    """

    source: TrainedClassifier

    @checked_call
    def __init__(
        self,
        checkpoint: str | Path | TrainedClassifier,
        device: str | torch.device | None = None,
        *,
        engine: str = "torch",
        precision: Precision = "fp32",
    ) -> None:
        loaded = checkpoint if isinstance(checkpoint, TrainedClassifier) else load_classifier(checkpoint)
        super().__init__(loaded, device, engine=engine, precision=precision)
        self.view = CenterView(loaded.config.data)

    @checked_call
    def __call__(self, image: Picture, *, cam: bool = False) -> ClassPrediction:
        """Classify one image.

        Args:
            image: a file, an array or a PIL image.
            cam: compute its activation map, too.

        Raises:
            DataError: a file that is no image, or not of the kind that the network was trained on; scores that are no
                numbers.
            ConfigError: activation maps of a network that has none.
        """
        pixels = self.read(image)
        with data_errors_about([image] if isinstance(image, str | Path) else []):
            return self.predict([self.seen(pixels)], cam=cam)[0]

    def seen(self, pixels: Pixels) -> Pixels:
        """The part of an image that the network sees, at its size. Shape: (H, W, C) to (*image_size, C)."""
        view: Pixels = self.view(pixels).permute(1, 2, 0).numpy()
        return view

    def batch_key(self, seen: Pixels) -> object:
        """Everything seen has one size."""
        return None

    @torch.inference_mode()
    def predict(self, seen: Sequence[Pixels], *, cam: bool = False) -> list[ClassPrediction]:
        """Classify images together, and compute their activation maps where these are asked for."""
        if cam:
            check_cam(self.source)
        images = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)
        scores = self.scores(images).cpu().double()  # in float32 a sigmoid is 1 from 17 on, and ranks would be lost
        chances = self.labels.coding.probabilities(scores)
        maps = self._activation_maps(images, chances.argmax(1)) if cam else None
        return [
            ClassPrediction(row.numpy(), self.labels, None if maps is None else maps[index].numpy())
            for index, row in enumerate(chances)
        ]

    def cam_overlay(self, pixels: Pixels, prediction: ClassPrediction) -> Array8:
        """The activation map of a prediction over its image; what the network did not see is darker.

        Shape: pixels (H, W, C) to (H, W, 3).
        """
        if prediction.cam is None:
            raise ValueError("the prediction has no activation map; predict(..., cam=True) makes it")
        return heat_overlay(as_picture(pixels), prediction.cam, self.view.window(*pixels.shape[:2]))

    def _activation_maps(self, images: Tensor, classes: Tensor) -> Tensor:
        """By the network itself: an engine gives class scores alone."""
        pixels = normalize(images.to(self.device), self.source.preprocessing)
        return activation_maps(self._network.backbone(pixels)[-1], self._network.logits.weight, classes)

    @cached_property
    def _network(self) -> Classifier:
        return copy.deepcopy(self.source.classifier).to(self.device)


def check_cam(source: TrainedClassifier) -> None:
    """Refuse activation maps where fully connected layers stand between the pooled features and the class scores."""
    if source.config.model.fc_width:
        raise ConfigError(
            "--save: cam needs class scores right behind the pooling, and this network has fully connected layers "
            "between (model.fc_width)."
        )


def activation_maps(features: Tensor, weights: Tensor, classes: Tensor) -> Tensor:
    """Class activation maps: how much each place adds to the score of a class.

    The mean of a map is the class's score without its bias.

    Args:
        features: what global average pooling sees.
        weights: of the layer that gives class scores.
        classes: one for each image.

    Shape: features (N, C, h, w), weights (K, C), classes int64 (N,), to float32 (N, h, w) on the CPU.

    Source: Zhou et al., arXiv:1512.04150, equation 2: M_c(x, y) = Σ_k w_k^c f_k(x, y).

    >>> activation_maps(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([[0.5, -1.0]]), torch.tensor([0]))
    tensor([[[-2.5000, -3.0000]]])
    """
    chosen = weights[classes.to(weights.device)]
    return functional.conv2d(
        features.reshape(1, -1, *features.shape[2:]).float(), chosen[:, :, None, None].float(), groups=len(features)
    )[0].cpu()


def heat_overlay(picture: Array8, activation: npt.NDArray[np.float32], window: Window) -> Array8:
    """Colours from dark (nothing) to bright (most) over the window that the network saw, the rest darkened.

    Only places that speak for the class are coloured: negative values count as nothing.

    Shape: picture (H, W, 3), activation (h, w) to (H, W, 3).
    """
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    positive = np.maximum(activation, 0)
    largest = positive.max(initial=0)
    shares = positive / largest if largest > 0 else positive
    heat = cv2.resize(shares, (window.width, window.height), interpolation=cv2.INTER_LINEAR)
    # OpenCV rounds to bytes as it goes; NumPy's arithmetic would take 50 bytes a pixel.
    colors = cv2.applyColorMap(cv2.convertScaleAbs(heat, alpha=255), cv2.COLORMAP_INFERNO)
    colors = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)
    shown = cv2.convertScaleAbs(picture, alpha=_UNSEEN)
    shown[rows, columns] = cv2.addWeighted(picture[rows, columns], 1 - _STRENGTH, colors, _STRENGTH, 0)
    return shown
