"""How results are measured."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from segzoo.config.sections import BatchSize, FilePath, ListOf, Section

SMALLEST_TILE = 32
"""Pixels: one cell of the coarsest map."""

LARGEST_TILE = 2**16
"""Pixels."""

LARGEST_OVERLAP = 0.5
"""Share of a tile: three tiles then lie over each other."""
TILE_OVERLAP = 0.125
"""Share of a tile: the default, also of functions in Python."""

Scale = Annotated[float, Field(ge=0.1, le=8)]
Scales = Annotated[ListOf[Scale], Field(min_length=1)]
MetricNames = ListOf[str]
TileSize = Annotated[int, Field(ge=SMALLEST_TILE, le=LARGEST_TILE)]
TileOverlap = Annotated[float, Field(ge=0, le=LARGEST_OVERLAP)]


class EvaluationConfig(Section):
    """How validation and `segzoo evaluate` measure: whole images, original resolution, one confusion matrix."""

    metrics: MetricNames = ()
    """Metrics that a validation measures too, into metrics.csv and logs, such as [mean_dice]; those of your own,
    `segzoo.register_metric`, among them. `segzoo evaluate` has all."""
    batch_size: BatchSize = 1
    """Images read at a time; those of equal size run together. Does not change any number."""
    split: FilePath | None = None
    """Split that `segzoo evaluate` measures; null takes data.val_split."""
    tta: bool = False
    """Test-time augmentation: mean of what the network says of the image at several scales, and mirrored."""
    tta_scales: Scales | None = None
    """tta only: the image's sizes over its own; null is the papers': 0.5 to 1.75 in steps of 0.25, for cityscapes 0.75
    to 1.25."""
    tta_flip: bool | None = None
    """tta only: mirror left and right, too; null is the papers', which do."""
    tile: TileSize | Literal["auto"] | None = None
    """Cut images into squares of this many pixels a side, for images too large for the memory; auto measures what
    fits; null takes whole images, as training's validation does."""
    tile_overlap: TileOverlap = TILE_OVERLAP
    """tile only: context that neighbours share, over the tile's side. A network that looks no further gives the whole
    image's result; 0 leaves seams, more takes more time."""

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> Self:
        idle = [key for key in ("tta_scales", "tta_flip") if getattr(self, key) is not None and not self.tta]
        if idle:
            raise ValueError(f"{' and '.join(idle)} need tta; write evaluation.tta=true, too")
        if self.tile is None and self.tile_overlap != TILE_OVERLAP:
            raise ValueError("tile_overlap needs tile, such as evaluation.tile=auto")
        if self.tta_scales is not None and len(set(self.tta_scales)) < len(self.tta_scales):
            raise ValueError(f"tta_scales: {list(self.tta_scales)} names a scale twice")
        return self

    def with_less_memory(self) -> str:
        """The key of this section, with a value, that makes an evaluation take less memory."""
        if isinstance(self.tile, int):
            return f"tile={512 if self.tile > 512 else max(SMALLEST_TILE, self.tile // 2)}"
        return f"tile={1024 if self.tile is None else 512}"
