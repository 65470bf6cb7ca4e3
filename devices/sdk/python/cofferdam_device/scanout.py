"""Where a display draws what it shows. Layout: ``schema/display.capnp``."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from .lane import fence

WIDTH_MAX, HEIGHT_MAX = 2560, 1600
_PIXELS_AT, _PIXEL_BYTES = 4096, 4
SCANOUT_BYTES = _PIXELS_AT + WIDTH_MAX * HEIGHT_MAX * _PIXEL_BYTES
# Words of 32 bits: the generation has two.
_WIDTH, _HEIGHT, _STRIDE, _FORMAT = 2, 3, 4, 5
_XRGB8888 = 1


class Scanout:
    """A region that pictures are drawn into, for who may only read it.

    Its generation is no state: it goes on with each picture, also with one that is drawn again because the process died while it
    was drawn.
    """

    def __init__(self, region: memoryview) -> None:
        if len(region) < SCANOUT_BYTES:
            raise ValueError("the region of a scanout is too small")
        self._words = region[:_PIXELS_AT].cast("B").cast("I")
        self._generation = region[:8].cast("B").cast("Q")
        self._pixels = region[_PIXELS_AT:SCANOUT_BYTES].cast("B").cast("I")

    def begin(self, width: int, height: int) -> Drawing:
        """Begins a picture of this size, cut to what there is room for. What was there means nothing from now on."""
        self._generation[0] |= 1
        # Who sees a pixel of the new picture sees that it is drawn.
        fence()
        return Drawing(self, min(width, WIDTH_MAX), min(height, HEIGHT_MAX))

    def picture(self) -> tuple[int, int, list[int]] | None:
        """The size of the picture that was drawn last, and its pixels: for tests. ``None`` while one is drawn."""
        if self._generation[0] % 2 != 0:
            return None
        width, height = self._words[_WIDTH], self._words[_HEIGHT]
        return width, height, list(self._pixels[: width * height])

    def _row(self, at: int, pixels: Sequence[int]) -> None:
        self._pixels[at : at + len(pixels)] = memoryview(array("I", pixels))

    def _finish(self, width: int, height: int) -> None:
        self._words[_WIDTH], self._words[_HEIGHT] = width, height
        self._words[_STRIDE], self._words[_FORMAT] = width * _PIXEL_BYTES, _XRGB8888
        # Who sees that it is whole sees all of it.
        fence()
        self._generation[0] = self._generation[0] + 1 & (1 << 64) - 1


class Drawing:
    """A picture while it is drawn."""

    def __init__(self, scanout: Scanout, width: int, height: int) -> None:
        self._scanout = scanout
        self.width = width
        """Pixels of a row."""
        self.height = height
        """Rows."""

    def row(self, row: int, pixels: Sequence[int]) -> None:
        """Draws row ``row``, of these pixels from the left: ``0x00RRGGBB``. What lies beyond the picture is left out."""
        if 0 <= row < self.height:
            self._scanout._row(row * self.width, pixels[: self.width])

    def finish(self) -> None:
        """The picture is whole."""
        self._scanout._finish(self.width, self.height)
