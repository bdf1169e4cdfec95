"""Pages of pictures and masks."""

import numpy as np

from segzoo.data.pictures import GridImage, image_grid
from segzoo.data.reading.labels import LabelSpace

LABELS = LabelSpace(("sky", "car"), ((10, 200, 30), (250, 0, 60)))
LEFT, TOP, CELL = 8, 26, 256


def cell_pixels(cell: GridImage) -> np.ndarray:
    return image_grid([[cell]], LABELS, "title")[TOP : TOP + CELL, LEFT : LEFT + CELL].astype(int)


def test_a_picture_is_shown_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (CELL, CELL, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cell_pixels(GridImage("", image)), image)


def test_a_mask_is_shown_in_its_colours_and_ignored_pixels_are_hatched() -> None:
    mask = np.zeros((CELL, CELL), np.uint8)
    mask[:, 100:] = 1
    mask[200:] = 255
    shown = cell_pixels(GridImage("", mask=mask))
    assert (shown[:200, :100] == (10, 200, 30)).all()
    assert (shown[:200, 100:] == (250, 0, 60)).all()
    stripes = np.unique(shown[200:].reshape(-1, 3), axis=0)
    assert len(stripes) == 2
    assert not {(10, 200, 30), (250, 0, 60)} & {tuple(color) for color in stripes.tolist()}


def test_the_legend_has_ignored_pixels_where_there_are_any() -> None:
    """The hatched swatch stands behind the classes' own."""
    one_class = LabelSpace(("sky",), ((10, 200, 30),))
    mask = np.zeros((CELL, CELL), np.uint8)
    ends = []
    for cell in (GridImage("", mask=mask), GridImage("", mask=mask | 255)):
        legend = image_grid([[cell]], one_class, "title")[TOP + CELL + 20 :]
        ends.append(np.flatnonzero((legend != 250).any(axis=(0, 2))).max())
    assert ends[1] > ends[0] + 40


def test_an_overlay_is_half_image_half_mask_and_shows_the_image_between_stripes() -> None:
    image = np.full((CELL, CELL, 3), 100, np.uint8)
    mask = np.zeros((CELL, CELL), np.uint8)
    mask[:, 128:] = 255
    shown = cell_pixels(GridImage("", image, mask))
    assert (shown[:, :128] == (55, 150, 65)).all()
    kept = (shown[:, 128:] == 100).all(axis=2)
    assert 0.3 < kept.mean() < 0.7


def test_small_masks_grow_without_new_values() -> None:
    shown = cell_pixels(GridImage("", mask=np.array([[0, 1], [1, 0]], np.uint8)))
    assert {tuple(color) for color in np.unique(shown.reshape(-1, 3), axis=0).tolist()} == {
        (10, 200, 30),
        (250, 0, 60),
    }


def test_rows_of_any_length_and_shape_fit_the_page() -> None:
    wide, high = np.zeros((10, 400, 3), np.uint8), np.zeros((1000, 3, 3), np.uint8)
    rows = [
        [GridImage("a very long caption " * 10, wide)],
        [GridImage("", high), GridImage("", high), GridImage("", wide)],
    ]
    many = LabelSpace.from_names([f"a class with number {index}" for index in range(60)])
    page = image_grid(rows, many, "title " * 100)
    assert page.shape[1] == 8 + 3 * 264
    assert page.shape[0] > 256 + 60 // 6 * 18
