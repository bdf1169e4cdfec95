"""Images in, predictions out: a trained network that takes images of every size."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from segzoo.backbones.spec import check_scores
from segzoo.calls import checked_call
from segzoo.checkpoint.read import AnyTrained, TrainedSegmenter, load_segmenter
from segzoo.config.evaluation import TILE_OVERLAP
from segzoo.data.reading.arrays import Array8, Stored
from segzoo.data.reading.images import picture_to_rgb, write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, Pixels, as_picture
from segzoo.errors import data_errors_about
from segzoo.inference.augment import (
    AlignedCorners,
    TestTimeAugmentation,
    augmented_scores,
    published_augmentation,
)
from segzoo.inference.engines import Engine, build_engine
from segzoo.inference.polygons import feature_collection
from segzoo.inference.runner import ahead_of, threads
from segzoo.inference.tile_size import choose_batch, choose_tile
from segzoo.inference.tiles import GRID, Tiling, tiled
from segzoo.models.agreement import Precision

T = TypeVar("T", bound=np.generic)
Predicted = TypeVar("Predicted")
Probabilities = npt.NDArray[np.float32]

Picture = npt.NDArray[Any] | Image.Image | str | Path
"""A file; an array (H, W, C) with values as files hold them, for most networks uint8 RGB; or a PIL image."""

_STREAM_DEPTH = 2  # images read ahead of the one that is computed


class BasePredictor(ABC, Generic[Predicted]):
    """A trained network that takes images; `Predictor` and `ClassPredictor` say what comes out.

    Raises:
        ConfigError: no such engine, or one that cannot compute this network here.
    """

    def __init__(
        self, source: AnyTrained, device: str | torch.device | None, *, engine: str, precision: Precision
    ) -> None:
        self.source: AnyTrained = source
        self.labels = source.labels
        self.pixels = PixelFormat.of(source.config.data)
        self.engine: Engine = build_engine(source, engine, precision=precision, device=device)

    @property
    def device(self) -> torch.device:
        """Where the engine computes."""
        return torch.device(getattr(self.engine, "device", "cpu"))

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it computes, for records and reports."""
        return {"engine": self.engine.name, "precision": self.engine.precision}

    @torch.inference_mode()
    def scores(self, images: Tensor) -> Tensor:
        """Logits in float32 of images (N, C, H, W), uint8 or float32 from 0 to 1; on the engine's device.

        Raises:
            DataError: they are no numbers.
        """
        return check_scores(self.engine(images))

    @checked_call
    def __call__(self, image: Picture) -> Predicted:
        """Predict one image.

        Raises:
            DataError: a file that is no image, or not of the kind that the network was trained on; scores that are no
                numbers.
        """
        return self._predict_read(image, self.read(image))

    def stream(self, images: Iterable[Picture]) -> Iterator[Predicted]:
        """Predict images one after the other, reading the next ones meanwhile; as many as there are.

        Raises:
            DataError: as for one image, where its turn comes.
        """
        with threads() as pool:
            for image, pixels in ahead_of(images, self.read, pool, depth=_STREAM_DEPTH):
                yield self._predict_read(image, pixels)

    def read(self, image: Picture) -> Pixels:
        """Pixels (H, W, C) of an image, as the network takes them.

        Raises:
            DataError: a file that is no image, or not of the kind that the network was trained on.
        """
        if isinstance(image, str | Path):
            return self.pixels.read(Path(image))
        if isinstance(image, Image.Image):
            image = picture_to_rgb(image) if self.pixels.is_rgb8 else np.asarray(image)
        return self.pixels.from_array(image)

    def seen(self, pixels: Pixels) -> Pixels:
        """What the network sees of an image (H, W, C)."""
        return pixels

    @abstractmethod
    def batch_key(self, seen: Pixels) -> object:
        """What images that may run together have in common."""

    @abstractmethod
    def predict(self, seen: Sequence[Pixels]) -> list[Predicted]:
        """Predict images of one `batch_key` together, given what is seen of them."""

    def _predict_read(self, image: Picture, pixels: Pixels) -> Predicted:
        with data_errors_about([image] if isinstance(image, str | Path) else []):
            return self.predict([self.seen(pixels)])[0]


@dataclass(frozen=True)
class Prediction:
    """What a segmenter says of one image.

    Args:
        image: as people look at it: upright 8-bit RGB, (H, W, 3).
        mask: class indices, (H, W); multi-label: 0 and 1 of each class, (K, H, W). `labels.ignore_index`
            where the image has nothing to see.
        labels: their names and colours.
        compute: gives the probabilities, which are far larger than all the rest and so not kept until asked for.
    """

    image: Array8
    mask: Array8
    labels: LabelSpace
    compute: Callable[[], Probabilities] = field(repr=False, compare=False)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Of every class, float32 (K, H, W); computed when first asked for."""
        return self.compute()

    @property
    def entropy(self) -> npt.NDArray[np.float32]:
        """How undecided the network is: 0, certain, to 1, all classes alike; float32 (H, W).

        The entropy of the probabilities as a share of the largest possible one, the logarithm of the number of classes.
        Multi-label: the mean over classes of the entropy between yes and no, in bits.
        """
        return self.labels.coding.entropy(self.probabilities)

    @property
    def pixels(self) -> list[int]:
        """How many pixels each class has."""
        return self.labels.coding.pixels(self.mask).tolist()

    def polygons(self) -> dict[str, Any]:
        """The outlines of the classes' regions as GeoJSON (`feature_collection`), in pixels."""
        return feature_collection(self.mask, self.labels)

    def colors(self) -> Array8:
        """The mask in its classes' colours, uint8 (H, W, 3)."""
        return self.labels.coding.paint(self.mask)

    def overlay(self, alpha: float = 0.5) -> Array8:
        """The mask's colours over the image, uint8 (H, W, 3); `alpha` is the colours' share, 0 to 1."""
        return self.labels.coding.overlay(self.image, self.mask, alpha)

    def save(self, path: str | Path) -> None:
        """Write the mask as an 8-bit PNG with the data set's palette.

        Multi-label: `path` is a folder, which gets a PNG of 0 and 255 for each class.
        """
        coding = self.labels.coding
        coding.write(self.mask, [Path(path, f"{name}.png") for name in coding.parts] or [Path(path)])

    def save_overlay(self, path: str | Path) -> None:
        """Write the overlay as an RGB image."""
        write_image(Path(path), self.overlay())

    def without(self, lost: npt.NDArray[np.bool_] | None) -> "Prediction":
        """The same, ignored where there is nothing to see, (H, W); None for nowhere."""
        if lost is None:
            return self
        return replace(self, mask=np.where(lost, np.uint8(self.labels.ignore_index), self.mask))


class Predictor(BasePredictor[Prediction]):
    """A trained segmenter that takes images of every size.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model's folder, `owner/name` on the Hugging Face hub, a
            published model's name (`segzoo models` lists them), or what `load_segmenter` returned.
        device: where to compute; None takes a GPU where there is one.
        engine: what computes: torch, onnxruntime, openvino, or auto for the fastest.
        precision: fp32 or bf16.
        tile: compute images by squares of this many pixels; "auto" takes what fits into memory, None whole images.
        overlap: of neighbouring tiles, as a share of the tile.
        tta: average over scales and mirrored images; True takes those that the DeepLab papers use.

    Raises:
        ConfigError: no such checkpoint or engine, or a tile too small.
        CheckpointError: refused, with the reason.
    """

    source: TrainedSegmenter

    @checked_call
    def __init__(
        self,
        checkpoint: str | Path | TrainedSegmenter,
        device: str | torch.device | None = None,
        *,
        engine: str = "torch",
        precision: Precision = "fp32",
        tile: int | Literal["auto"] | None = None,
        overlap: float = TILE_OVERLAP,
        tta: TestTimeAugmentation | bool | None = None,
    ) -> None:
        loaded = checkpoint if isinstance(checkpoint, TrainedSegmenter) else load_segmenter(checkpoint)
        self.tta = published_augmentation(loaded.config.data.name) if tta is True else tta or None
        self._aligned = None if self.tta is None else _aligned_corners(loaded)
        super().__init__(
            loaded if self._aligned is None else _unpadded(loaded), device, engine=engine, precision=precision
        )
        self.overlap = overlap
        self._tiling = None if tile is None else self.tiling(None if tile == "auto" else tile, overlap)
        self.tile = None if self._tiling is None else self._tiling.tile

    @property
    def settings(self) -> Mapping[str, Any]:
        """Engine, tiles and augmentation."""
        return {
            **super().settings,
            "tile": self.tile,
            "tile_overlap": self.overlap if self.tile else None,
            "tta": None if self.tta is None else {"scales": [*self.tta.scales], "flip": self.tta.flip},
        }

    def tiling(self, tile: int | None, overlap: float) -> Tiling:
        """How images are cut into tiles of so many pixels for this network; None takes what fits into memory."""
        tile = tile or choose_tile(self.source, self.device, self.tta)
        grid = GRID if self.tta is None else self.tta.grid
        return Tiling(tile, overlap, grid, choose_batch(self.source, self.device, tile, self.tta))

    def is_tiled(self, size: Sequence[int]) -> bool:
        """Whether an image of this height and width is computed by parts."""
        return self.tile is not None and max(size) > self.tile

    @torch.inference_mode()
    def scores(self, images: Tensor, then: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Scores float32 (N, K, H, W), made of tiles and of augmented images where these were asked for.

        Args:
            images: (N, C, H, W), uint8 or float32 from 0 to 1.
            then: what is made of them in place of the scores, such as `labels.coding.predict_mask`. With tiles it gets
                a part at a time, so that the scores of a whole image are never in memory.

        Raises:
            DataError: they are no numbers.
        """
        if self._tiling is not None and self.is_tiled(images.shape[-2:]):
            return tiled(self.whole_scores, images, self._tiling, then)
        scores = self.whole_scores(images)
        return scores if then is None else then(scores)

    @torch.inference_mode()
    def whole_scores(self, images: Tensor) -> Tensor:
        """Scores that are never made of tiles."""
        if self.tta is None:
            return super().scores(images)
        return augmented_scores(super().scores, images, self.tta, self.labels.coding, self._aligned)

    def batch_key(self, seen: Pixels) -> tuple[int, ...]:
        """The size that the network pads images to; scaled and tiled ones must be equally large themselves."""
        height, width = seen.shape[:2]
        if self.tta is not None or self.is_tiled((height, width)):
            return (height, width)
        return self._padded((height, width))

    def predict(self, seen: Sequence[Pixels], *, keep_probabilities: bool = False) -> list[Prediction]:
        """Segment images together; the probabilities are kept, or else computed again when asked for."""
        if len(seen) > 1 and self.is_tiled(seen[0].shape[:2]):  # tiles are chosen for the memory of one image's
            return [found for image in seen for found in self.predict([image], keep_probabilities=keep_probabilities)]
        batch, coding = self._stack(seen), self.labels.coding
        if not keep_probabilities:
            masks = self.scores(batch, coding.predict_mask).cpu().numpy()
            computes = [partial(self._probabilities, pixels) for pixels in seen]
        else:
            scores = self.scores(batch)
            masks = coding.predict_mask(scores).cpu().numpy()
            chances = coding.probabilities(scores.float()).cpu().numpy()
            computes = [partial(_cut, kept, pixels) for kept, pixels in zip(chances, seen, strict=True)]
        return [
            Prediction(as_picture(pixels), _cut(mask, pixels), self.labels, compute)
            for pixels, mask, compute in zip(seen, masks, computes, strict=True)
        ]

    def _predict_read(self, image: Picture, pixels: Pixels) -> Prediction:
        return super()._predict_read(image, pixels).without(self._lost(image))

    def _lost(self, image: Picture) -> npt.NDArray[np.bool_] | None:
        """Where an image has nothing to see, (H, W), so that its mask is ignored there; None for nowhere."""
        if isinstance(image, str | Path):
            return self.pixels.lost(Path(image))
        values = np.asarray(image)
        return Stored(values[..., None] if values.ndim == 2 else values).lost

    def _padded(self, size: tuple[int, int]) -> tuple[int, int]:
        padded = self.source.segmenter.padded(torch.empty(1, 1, *size, device="meta")).shape
        return padded[-2], padded[-1]

    def _stack(self, images: Sequence[Pixels]) -> Tensor:
        """A batch (N, C, H, W).

        Smaller images are padded as the network itself does it: below and to the right, with what normalises to zero.
        """
        if len({image.shape for image in images}) == 1:
            return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        size = self._padded((images[0].shape[0], images[0].shape[1]))
        mean = np.array(self.source.preprocessing.mean, np.float32)
        batch = np.broadcast_to(mean, (len(images), *size, len(mean))).copy()
        for slot, image in zip(batch, images, strict=True):
            full_range = np.float32(255 if image.dtype == np.uint8 else 1)
            slot[: image.shape[0], : image.shape[1]] = image / full_range
        return torch.from_numpy(batch).permute(0, 3, 1, 2)

    def _probabilities(self, pixels: Pixels) -> Probabilities:
        scores = self.scores(self._stack([pixels])).float()
        chances: Probabilities = self.labels.coding.probabilities(scores)[0].cpu().numpy()
        return chances


def _aligned_corners(source: TrainedSegmenter) -> AlignedCorners | None:
    """How a network that aligns corners sees augmented images; None for others."""
    segmenter = source.segmenter
    stride = segmenter.decoder.aligned_stride
    if stride is None:
        return None

    def padded(size: tuple[int, int]) -> tuple[int, int]:
        shape = segmenter.padded(torch.empty(1, 1, *size, device="meta")).shape
        return shape[-2], shape[-1]

    return AlignedCorners(stride, padded, source.preprocessing.mean)


def _unpadded(source: TrainedSegmenter) -> TrainedSegmenter:
    """The same network without its canvas, for images that are padded already, and then scaled."""
    network = copy.copy(source.segmenter)
    network.canvas = (1, 1)
    return TrainedSegmenter(network, source.description, source.path)


def _cut(values: npt.NDArray[T], pixels: Pixels) -> npt.NDArray[T]:
    """(..., H, W) of an image without what it was padded with in its batch."""
    height, width = pixels.shape[:2]
    return values[..., :height, :width].copy()
