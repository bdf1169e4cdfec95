"""A trained classifier that takes images of every size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from segzoo.calls import checked_call
from segzoo.checkpoint.read import TrainedClassifier, load_classifier
from segzoo.data.classification.views import CenterView, Window
from segzoo.data.images import Array8
from segzoo.data.labels import LabelSpace
from segzoo.data.pixels import PixelFormat, Pixels, as_picture
from segzoo.data.preprocessing import normalize
from segzoo.errors import ConfigError, data_errors_about
from segzoo.inference.classify.heat import heat_overlay
from segzoo.inference.engines.pytorch import usable_device
from segzoo.tasks.decide import check_scores

Map = npt.NDArray[np.float32]


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


class ClassPredictor:
    """A trained classifier that takes images of every size and looks at their centre, as evaluation does.

    Args:
        checkpoint: a `.ckpt`, a run directory, or what `load_classifier` returned.
        device: where to compute; None takes a GPU where there is one.

    Raises:
        ConfigError: no such checkpoint.
        CheckpointError: refused, with the reason.
    """

    @checked_call
    def __init__(self, checkpoint: str | Path | TrainedClassifier, device: str | torch.device | None = None) -> None:
        loaded = checkpoint if isinstance(checkpoint, TrainedClassifier) else load_classifier(checkpoint)
        self.source = loaded
        self.labels = loaded.labels
        self.pixels = PixelFormat.of(loaded.config.data)
        self.view = CenterView(loaded.config.data)
        self.device = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._network = loaded.classifier.to(self.device).to(memory_format=torch.channels_last)

    @checked_call
    def __call__(self, image: Pixels | str | Path, *, cam: bool = False) -> ClassPrediction:
        """Classify one image: a file, or an array (H, W, C) with values as files hold them.

        Raises:
            DataError: a file that is no image, or not of the kind that the network was trained on; scores that are no
                numbers.
            ConfigError: activation maps of a network that has none.
        """
        pixels = self.pixels.read(Path(image)) if isinstance(image, str | Path) else self.pixels.from_array(image)
        with data_errors_about([image] if isinstance(image, str | Path) else []):
            return self.classify([self.seen(pixels)], cam=cam)[0]

    def seen(self, pixels: Pixels) -> Pixels:
        """The part of an image that the network sees, at its size. Shape: (H, W, C) to (*image_size, C)."""
        view: Pixels = self.view(pixels).permute(1, 2, 0).numpy()
        return view

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Scores float32 (N, K) of what `seen` gives as (N, C, *image_size), on the network's device.

        Raises:
            DataError: they are no numbers.
        """
        logits: Tensor = self._network(self._input(images))
        return check_scores(logits.float())

    @torch.inference_mode()
    def classify(self, seen: Sequence[Pixels], *, cam: bool = False) -> list[ClassPrediction]:
        """Classify images together.

        Args:
            seen: what `seen` gives.
            cam: compute activation maps, too.

        Raises:
            ConfigError: activation maps of a network that has none.
            DataError: scores that are no numbers.
        """
        if cam:
            check_cam(self.source)
        features = self._network.backbone(self._input(torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)))[-1]
        logits = check_scores(self._network.scores(features).float())
        scores = logits.cpu().double()  # in float32 a sigmoid is 1 from 17 on, and ranks would be lost
        chances = self.labels.coding.probabilities(scores)
        maps = activation_maps(features, self._network.logits.weight, chances.argmax(1)) if cam else None
        return [
            ClassPrediction(row.numpy(), self.labels, None if maps is None else maps[index].numpy())
            for index, row in enumerate(chances)
        ]

    def cam_overlay(self, pixels: Pixels, prediction: ClassPrediction) -> Array8:
        """The activation map of a prediction over its image; what the network did not see is darker.

        Shape: pixels (H, W, C) to (H, W, 3).
        """
        if prediction.cam is None:
            raise ValueError("the prediction has no activation map; classify(..., cam=True) makes it")
        height, width = pixels.shape[:2]
        window: Window = self.view.window(height, width)
        return heat_overlay(as_picture(pixels), prediction.cam, window)

    def _input(self, images: Tensor) -> Tensor:
        pixels = normalize(images.to(self.device), self.source.preprocessing)
        return pixels.contiguous(memory_format=torch.channels_last)


def check_cam(source: TrainedClassifier) -> None:
    """Refuse activation maps where they are not defined.

    Raises:
        ConfigError: fully connected layers stand between the pooled features and the class scores.
    """
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
