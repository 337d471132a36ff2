"""A small anti-aliased rasteriser in numpy: no display, no pygame.

Every shape is a signed distance in pixels, negative inside; a pixel's coverage is ``0.5 - distance`` clipped to
[0, 1]. The distances broadcast, so that one call draws a shape in ``B`` pictures (``pixel.py``); :class:`Canvas` paints
one picture in colour (``render``).
"""

from collections.abc import Sequence

import numpy as np

Point = Sequence[float] | np.ndarray
Colour = tuple[int, int, int]

# One palette for all pictures.
PAPER, INK, SLATE, STEEL = (250, 248, 243), (44, 52, 64), (62, 78, 99), (143, 156, 173)
CORAL, AMBER, TEAL, SAND = (226, 109, 92), (233, 166, 72), (66, 146, 151), (226, 218, 203)


def coverage(distance: np.ndarray) -> np.ndarray:
    """Share of a pixel that lies inside: 1 half a pixel inside the edge, 0 half a pixel outside.

    Examples
    --------
    >>> coverage(np.array([-2.0, -0.25, 0.0, 2.0]))
    array([1.  , 0.75, 0.5 , 0.  ])
    """
    return np.clip(0.5 - distance, 0.0, 1.0)


def disc(x: np.ndarray, y: np.ndarray, centre: Point, radius: float) -> np.ndarray:
    """Signed distance of the pixels ``(x, y)`` to a disc."""
    return np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2) - radius


def capsule(x: np.ndarray, y: np.ndarray, start: Point, end: Point, radius: float) -> np.ndarray:
    """Signed distance to a thick line with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-12)
    along = np.clip(along, 0.0, 1.0)
    return np.sqrt((x - start[0] - along * dx) ** 2 + (y - start[1] - along * dy) ** 2) - radius


def polygon(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance to a convex polygon with ``corners`` ``[P, 2]``: the farthest of its edges' half-planes."""
    edges = np.roll(corners, -1, axis=0) - corners
    turn = np.sign(np.cross(np.append(edges[0], 0), np.append(edges[1], 0))[2])
    distance = np.full(np.broadcast_shapes(x.shape, y.shape), -np.inf)
    for (px, py), (ex, ey) in zip(corners, edges, strict=True):
        outside = turn * (ey * (x - px) - ex * (y - py)) / np.hypot(ex, ey)
        np.maximum(distance, outside, out=distance)
    return distance


class Canvas:
    """One picture, painted in world coordinates with ``y`` upwards.

    Parameters
    ----------
    height, width : int
        Of the picture, in pixels.
    scale : float
        Pixels per world unit.
    centre : (float, float)
        World point in the middle of the picture.

    Examples
    --------
    >>> canvas = Canvas(height=8, width=8, scale=1.0, centre=(0.0, 0.0), paper=(255, 255, 255))
    >>> canvas.disc((0.0, 0.0), 2.0, (0, 0, 0))
    >>> canvas.picture().shape, int(canvas.picture()[4, 4, 0]), int(canvas.picture()[0, 0, 0])
    ((8, 8, 3), 0, 255)
    """

    def __init__(self, height: int, width: int, scale: float, centre: Point, paper: Colour = PAPER) -> None:
        self.scale, self.centre = scale, centre
        self.colours = np.empty((height, width, 3), np.float32)
        self.colours[:] = paper

    def to_pixels(self, points: np.ndarray | Sequence[Point]) -> np.ndarray:
        """World points ``[..., 2]`` as pixel coordinates (column, row)."""
        height, width, _ = self.colours.shape
        points = np.asarray(points, np.float64) - self.centre
        return points * (self.scale, -self.scale) + (width / 2, height / 2)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Paint a disc."""
        (middle,) = pixels = self.to_pixels([centre])
        radius *= self.scale
        x, y, box = self._box(pixels, radius)
        self._paint(box, coverage(disc(x, y, middle, radius)), colour)

    def capsule(self, start: Point, end: Point, radius: float, colour: Colour) -> None:
        """Paint a thick line with round ends."""
        first, last = pixels = self.to_pixels([start, end])
        radius *= self.scale
        x, y, box = self._box(pixels, radius)
        self._paint(box, coverage(capsule(x, y, first, last, radius)), colour)

    def polygon(self, corners: np.ndarray | Sequence[Point], colour: Colour) -> None:
        """Paint a convex polygon."""
        pixels = self.to_pixels(corners)
        x, y, box = self._box(pixels, 0.0)
        self._paint(box, coverage(polygon(x, y, pixels)), colour)

    def box(self, middle: Point, width: float, height: float, colour: Colour, angle: float = 0.0) -> None:
        """Paint a rectangle, turned counter-clockwise by ``angle`` radians about its middle."""
        across = np.array([np.cos(angle), np.sin(angle)]) * width / 2
        up = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
        corners = np.stack([-across - up, across - up, across + up, up - across])
        self.polygon(middle + corners, colour)

    def below(self, heights: np.ndarray, slopes: np.ndarray, colour: Colour) -> None:
        """Paint all that lies under a curve given by its height and slope in each column, ``[W]``."""
        x, y, box = self._box(np.array([[0, 0], self.colours.shape[1::-1]]), 0.0)
        row = self.to_pixels(np.stack([np.zeros_like(heights), heights], axis=-1))[:, 1]
        self._paint(box, coverage((row - y) / np.sqrt(1 + slopes**2) + 0 * x), colour)

    def columns(self) -> np.ndarray:
        """World ``x`` of the columns' middles, ``[W]``."""
        width = self.colours.shape[1]
        return (np.arange(width) + 0.5 - width / 2) / self.scale + self.centre[0]

    def picture(self) -> np.ndarray:
        """Return what has been painted, ``[H, W, 3]`` uint8."""
        return (self.colours + 0.5).astype(np.uint8)

    def _box(self, pixels: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
        """Pixel middles and slices of the part of the picture that a shape can touch (none if it is not finite)."""
        height, width, _ = self.colours.shape
        if not np.isfinite(pixels).all():
            return np.empty((1, 0)), np.empty((0, 1)), (slice(0), slice(0))
        left, top = np.floor(pixels.min(axis=0) - margin - 1).clip(0, (width, height)).astype(int)
        right, bottom = np.ceil(pixels.max(axis=0) + margin + 1).clip(0, (width, height)).astype(int)
        x, y = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
        return x[None, :], y[:, None], (slice(top, bottom), slice(left, right))

    def _paint(self, box: tuple[slice, slice], cover: np.ndarray, colour: Colour) -> None:
        patch = self.colours[box]
        patch += cover[..., None].astype(np.float32) * (np.array(colour, np.float32) - patch)
