"""Images in, masks out."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.calls import checked_call
from segzoo.checkpoint.read import TrainedSegmenter, load_segmenter
from segzoo.config.evaluation import TILE_OVERLAP
from segzoo.data.reading.arrays import Stored
from segzoo.data.reading.pixels import Pixels, as_picture
from segzoo.errors import data_errors_about
from segzoo.inference.augment import TestTimeAugmentation, augmented_scores, published_augmentation
from segzoo.inference.base_predictor import BasePredictor, Picture
from segzoo.inference.engines.base import Precision
from segzoo.inference.prediction import Prediction, Probabilities
from segzoo.inference.tile_plan import GRID
from segzoo.inference.tile_size import choose_batch, choose_tile
from segzoo.inference.tiles import Tiling, tiled
from segzoo.models.segmenter import pad_to_multiple

T = TypeVar("T", bound=np.generic)


class Predictor(BasePredictor[Prediction]):
    """A trained network that takes images of every size.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model's folder, `owner/name` on the Hugging Face hub, or what
            `load_segmenter` returned.
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
        super().__init__(loaded, device, engine=engine, precision=precision)
        self.tta = published_augmentation(loaded.config.data.name) if tta is True else tta or None
        self.overlap = overlap
        self._tiling = None if tile is None else self.tiling(None if tile == "auto" else tile, overlap)
        self.tile = None if self._tiling is None else self._tiling.tile

    def tiling(self, tile: int | None, overlap: float) -> Tiling:
        """How images are cut into tiles of so many pixels for this network; None takes what fits into memory.

        Raises:
            ConfigError: a tile or an overlap that makes no plan.
        """
        tile = tile or choose_tile(self.source, self.device, self.tta)
        grid = GRID if self.tta is None else self.tta.grid
        return Tiling(tile, overlap, grid, choose_batch(self.source, self.device, tile, self.tta))

    @torch.inference_mode()
    def whole_scores(self, images: Tensor) -> Tensor:
        """As `logits`, made of augmented images where these were asked for, but never of tiles."""
        if self.tta is None:
            return self.logits(images)
        return augmented_scores(self.logits, images, self.tta, self.labels.coding)

    @torch.inference_mode()
    def scores(self, images: Tensor) -> Tensor:
        """As `logits`, made of tiles and of augmented images where these were asked for."""
        return self._computed(images)

    @torch.inference_mode()
    def classes(self, images: Tensor) -> Tensor:
        """Class indices uint8 (N, H, W) of images (N, C, H, W); multi-label: 0 and 1 of each class, uint8 (N, K, H, W).

        With tiles, the scores of a whole image are never in memory.
        """
        return self._computed(images, self.labels.coding.predict_mask)

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Of every class, float32 (N, K, H, W), of images (N, C, H, W)."""
        return self.labels.coding.probabilities(self.scores(images).float())

    @checked_call
    def __call__(self, image: Picture) -> Prediction:
        """Segment one image.

        Raises:
            DataError: a file that is no image, or not of the kind that the network was trained on; scores that are no
                numbers.
        """
        return self.predict_one(image, self.read(image))

    def segment(self, images: Sequence[Pixels], *, keep_probabilities: bool = False) -> list[Prediction]:
        """Segment images of one `batch_key` together.

        Args:
            images: as `read` gives them, (H, W, C) each.
            keep_probabilities: keep what the masks were made of; else it is computed again when asked for.

        Raises:
            DataError: an image's scores are no numbers.
        """
        if len(images) > 1 and self.is_tiled(images[0].shape[:2]):  # tiles are chosen for the memory of one image's
            return [found for image in images for found in self.segment([image], keep_probabilities=keep_probabilities)]
        batch = self._stack(images)
        if not keep_probabilities:
            masks = self.classes(batch).cpu().numpy()
            computes = [partial(self._probabilities, pixels) for pixels in images]
        else:
            scores = self.scores(batch)
            masks = self.labels.coding.predict_mask(scores).cpu().numpy()
            chances = self.labels.coding.probabilities(scores.float()).cpu().numpy()
            computes = [partial(_cut, kept, pixels) for kept, pixels in zip(chances, images, strict=True)]
        return [
            Prediction(as_picture(pixels), _cut(mask, pixels), self.labels, compute)
            for pixels, mask, compute in zip(images, masks, computes, strict=True)
        ]

    def batch_key(self, pixels: Pixels) -> tuple[int, ...]:
        """What images that may run together have in common: the size that the network pads them to.

        Scaled and tiled images must be equally large themselves.
        """
        height, width = pixels.shape[:2]
        if self.tta is not None or self.is_tiled((height, width)):
            return (height, width)
        return self._padded((height, width))

    def lost(self, image: Picture) -> NDArray[np.bool_] | None:
        """Where an image has nothing to see, (H, W), so that its mask is ignored there; None for nowhere.

        Raises:
            DataError: as `read`.
        """
        if isinstance(image, str | Path):
            return self.pixels.lost(Path(image))
        values = np.asarray(image)
        return Stored(values[..., None] if values.ndim == 2 else values).lost

    def is_tiled(self, size: Sequence[int]) -> bool:
        """Whether an image of this height and width is computed by parts."""
        return self.tile is not None and max(size) > self.tile

    def predict_one(self, image: Picture, pixels: Pixels) -> Prediction:
        """Segment an image that was read; arguments and errors as `BasePredictor`."""
        with data_errors_about([image] if isinstance(image, str | Path) else []):
            return self.segment([pixels])[0].without(self.lost(image))

    def _computed(self, images: Tensor, predict_mask: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Scores, or the masks that `predict_mask` makes of them."""
        if self._tiling is not None and self.is_tiled(images.shape[-2:]):
            return tiled(self.whole_scores, images, self._tiling, predict_mask)
        scores = self.whole_scores(images)
        return scores if predict_mask is None else predict_mask(scores)

    def _padded(self, size: tuple[int, int]) -> tuple[int, int]:
        decoder = self.source.segmenter.decoder
        shape = torch.empty(1, 1, *size, device="meta")
        padded = pad_to_multiple(shape, decoder.size_multiple, decoder.size_remainder, decoder.minimum_size).shape
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
        for place, image in zip(batch, images, strict=True):
            full_range = np.float32(255 if image.dtype == np.uint8 else 1)
            place[: image.shape[0], : image.shape[1]] = image / full_range
        return torch.from_numpy(batch).permute(0, 3, 1, 2)

    def _probabilities(self, pixels: Pixels) -> Probabilities:
        chances: Probabilities = self.probabilities(self._stack([pixels]))[0].cpu().numpy()
        return chances


def _cut(values: NDArray[T], pixels: Pixels) -> NDArray[T]:
    """(..., H, W) of an image without what it was padded with in its batch."""
    height, width = pixels.shape[:2]
    return values[..., :height, :width].copy()
