"""Pictures of few colours, pixel by pixel and without loss: games, drawings, text.

Transforms of blocks are made for photos, and waste bits on edges that are sharp. Where a picture has few colours, most
pixels have that of a neighbour, and a table tells which one it will be, given which neighbours are alike. Pixels on a
slanted line know all of these neighbours at once, and are coded together.

References
----------
What neighbours tell of a pixel by counted tables: Langdon and Rissanen, "Compression of black-white images with
arithmetic coding", IEEE Trans. Communications 29 (1981).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unsupervised.compression.container import CorruptFile
from unsupervised.compression.entropy import Coder, Tables, counts_of
from unsupervised.compression.flags import Counting, code_flags, flag_tables
from unsupervised.compression.model_file import taken_tables, told_tables
from unsupervised.compression.transform import BLOCK

COLOURS = 128  # that a picture may have
KNOWN = 1024  # colours that a model remembers
NEIGHBOURS = 6
FIRST = np.arange(NEIGHBOURS, 0, -1, dtype=np.uint8)
LABELS = np.array([0, 1, 2, 6, 24, 120])  # what a neighbour's label counts
PATTERNS = 720  # which neighbours are alike: the product of 1 to 6
STILL_PATTERNS = PATTERNS * 4  # and whether the first two have the commonest colour
MOVING_PATTERNS = PATTERNS * 64  # and which neighbours are as they were, and what the last frame goes on with
MISS = NEIGHBOURS  # the symbol of a pixel that is like none of them
ENOUGH = 500  # frames of a clip from which neighbours are learned
RARE = 16  # pixels in the same surroundings, from which on they have a table of their own


class Exact:
    """What is learned of pictures with few colours.

    Attributes
    ----------
    colours : uint8 [n, 3]
        That were seen.
    patterns : dict of int [n]
        ``"still"`` and ``"moving"``: what surroundings have a table of their own; the first table is for all others.
    tables : dict of Tables
        ``"still"`` and ``"moving"``, of which neighbour a pixel is like; ``"blocks"``, of flags.
    """

    def __init__(self) -> None:
        any_ = Tables([counts_of([8, 4, 2, 1, 1, 1, 1, 0])], [0])
        self.colours = np.zeros((0, 3), np.uint8)
        self.patterns = {"still": np.zeros(0, np.int64), "moving": np.zeros(0, np.int64)}
        self.tables = {"still": any_, "moving": any_, "blocks": flag_tables()}

    # -- what is learned -----------------------------------------------------------------------------------------------

    def learn(self, clips: Sequence[NDArray[np.uint8]]) -> None:
        """Count what is in clips ``[T, C, H, W]``; a picture is one of a single frame."""
        split = [pair for clip in clips if (pair := palette_of(clip)) is not None]
        if not split:
            return
        colours = np.concatenate([colours for colours, _ in split])
        found, often = np.unique(colours.repeat(3 // colours.shape[1], 1), axis=0, return_counts=True)
        self.colours = found[np.argsort(-often, kind="stable")[:KNOWN]]
        every = max(sum(len(frames) for _, frames in split) // ENOUGH, 1)
        for name, patterns in (("still", STILL_PATTERNS), ("moving", MOVING_PATTERNS)):
            seen = np.zeros((patterns, MISS + 1))
            for _, frames in split:
                pairs = pairwise(frames) if name == "moving" else ((None, now) for now in frames[::every])
                for last, now in pairs:
                    inside = np.arange(now.size) if last is None else _pixels(_blocks(now, last), *now.shape)
                    y, x = np.divmod(inside, now.shape[1])
                    cells, flat = (y + 2) * (now.shape[1] + 3) + x + 2, _bordered(now).ravel()
                    past = None if last is None else _bordered(last).ravel()
                    pattern, near = _surroundings(flat, past, cells, now.shape[1] + 3)
                    np.add.at(seen, (pattern, _symbols(flat[cells], near)), 1)
            self._keep(name, seen)
        notes = Counting(self.tables["blocks"], 2)
        for _, frames in split:
            flags = None
            for last, now in pairwise(frames):
                blocks = _blocks(now, last)
                flags = code_flags(notes, self.tables["blocks"], blocks, flags, *blocks.shape)
        self.tables["blocks"] = flag_tables(notes.seen)

    def _keep(self, name: str, seen: NDArray[Any]) -> None:
        """Tables of what was seen ``[patterns, 7]``: the first for all that are rare."""
        common = np.flatnonzero(seen.sum(1) >= RARE)
        rest = seen.sum(0) + 1
        rows = [rest, *(seen[i] + rest / rest.sum() for i in common)]
        self.patterns[name] = common
        self.tables[name] = Tables([counts_of([*row, 0]) for row in rows], np.zeros(len(rows), int))

    def lookup(self, name: str) -> NDArray[np.int64]:
        """The table of each pattern."""
        tables = np.zeros(STILL_PATTERNS if name == "still" else MOVING_PATTERNS, np.int64)
        tables[self.patterns[name]] = 1 + np.arange(len(self.patterns[name]))
        return tables

    # -- pictures ------------------------------------------------------------------------------------------------------

    def code_palette(self, coder: Coder, colours: NDArray[Any] | None, channels: int) -> NDArray[Any]:
        """Write or read the colours ``[K, C]`` of a picture: those remembered by their number."""
        first = np.zeros(1, np.int64)
        n = int(coder.code(None if colours is None else np.array([len(colours) - 1]), _even(COLOURS), first)[0]) + 1
        if not 1 <= n <= COLOURS:
            raise CorruptFile("its payload has more colours than an encoder writes")
        numbers = None
        if colours is not None:
            alike = (colours.repeat(3 // channels, 1)[:, None] == self.colours[None]).all(2)
            numbers = (
                np.where(alike.any(1), alike.argmax(1), len(self.colours)) if len(self.colours) else np.zeros(n, int)
            )
        numbers = coder.code(numbers, _even(len(self.colours) + 1), np.zeros(n, np.int64))
        new = numbers >= len(self.colours)
        out = np.zeros((n, channels), np.uint8)
        if len(self.colours):
            out[~new] = self.colours[numbers[~new], :channels]
        told = None if colours is None else colours[new].astype(np.int64)
        out[new] = coder.code(told, _even(256), np.zeros((int(new.sum()), channels), np.int64)).clip(0, 255)
        return out

    def code(
        self,
        coder: Coder,
        now: NDArray[Any] | None,
        last: NDArray[Any] | None,
        flags: NDArray[Any] | None,
        shape: tuple[int, int],
        n: int,
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Write or read a frame of `n` colours' numbers ``[H, W]``, given the last one if there is one.

        Returns
        -------
        now : [H, W]
        flags : bool [h, w], optional
            Blocks that changed.
        """
        H, W = shape
        name = "still" if last is None else "moving"
        tables, lookup = self.tables[name], self.lookup(name)
        out = _bordered(np.zeros(shape, np.int16) if last is None else last)
        before = None if last is None else out.copy()
        inside = None
        if last is not None:
            blocks = None if now is None else _blocks(now, last)
            flags = code_flags(coder, self.tables["blocks"], blocks, flags, -(-H // BLOCK), -(-W // BLOCK))
            inside = _pixels(flags, H, W)
        given = None if now is None else _bordered(now).ravel()
        flat, past = out.ravel(), None if before is None else before.ravel()
        for cells in _lines(H, W) if inside is None else _by_line(inside, W):
            pattern, near = _surroundings(flat, past, cells, W + 3)
            symbols = None if given is None else _symbols(given[cells], near)
            symbols = coder.code(symbols, tables, lookup[pattern])
            if symbols.min() < 0 or symbols.max() > MISS:
                raise CorruptFile("its payload has pixels that no encoder writes")
            values = np.append(near, near[:1], 0)[symbols, np.arange(len(cells))]
            missed = np.flatnonzero(symbols == MISS)
            if len(missed):
                told = None if given is None else given[cells[missed]].astype(np.int64)
                values[missed] = coder.code(told, _even(n), np.zeros(len(missed), np.int64)).clip(0, n - 1)
            flat[cells] = values
        return out[2:, 2:-1].copy(), flags

    def least_bits(self, H: int, W: int, moving: bool) -> float:
        """What a frame costs at least."""
        if moving:
            return float(-(-H // BLOCK) * -(-W // BLOCK) * self.tables["blocks"].least().min())
        return float(H * W * self.tables["still"].least().min())

    # -- as tensors ----------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        told = {f"patterns.{name}": torch.from_numpy(values.astype(np.int32)) for name, values in self.patterns.items()}
        told |= {"colours": torch.from_numpy(self.colours.copy())}
        return {name: values for name, values in told.items() if values.numel()} | told_tables(self.tables)

    def take(self, tensors: dict[str, Tensor]) -> None:
        self.colours = tensors.get("colours", torch.zeros(0, 3, dtype=torch.uint8)).numpy()
        for name in self.patterns:
            self.patterns[name] = tensors.get(f"patterns.{name}", torch.zeros(0)).numpy().astype(np.int64)
        self.tables = taken_tables(tensors)
        for name, patterns in self.patterns.items():
            if len(self.tables[name]) != len(patterns) + 1 or self.lookup(name).max(initial=0) > len(patterns):
                raise ValueError("its patterns have other tables")


def palette_of(frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int16]] | None:
    """The colours of frames ``[T, C, H, W]``, the commonest first, and their numbers ``[T, H, W]``; None if too many.

    >>> palette_of(np.array([[[[7, 9, 9]]]], np.uint8))
    (array([[9],
           [7]], dtype=uint8), array([[[1, 0, 0]]], dtype=int16))
    """
    C = frames.shape[1]
    key = frames[:, 0].astype(np.int32)
    for channel in range(1, C):
        key = key * 256 + frames[:, channel]
    found: NDArray[Any] = np.zeros(0, np.int32)
    for part in key:  # frame by frame, for most are of many colours in the first one already
        found = np.union1d(found, part)
        if len(found) > COLOURS:
            return None
    numbers = np.searchsorted(found, key)
    order = np.argsort(-np.bincount(numbers.ravel(), minlength=len(found)), kind="stable")
    rank = np.empty(len(order), np.int16)
    rank[order] = np.arange(len(order))
    colours = np.stack([found[order] >> 8 * (C - 1 - channel) & 255 for channel in range(C)], 1).astype(np.uint8)
    return colours, rank[numbers]


def _bordered(numbers: NDArray[Any]) -> NDArray[np.int16]:
    """With the commonest colour around, two pixels above and on the left and one on the right."""
    return np.pad(numbers.astype(np.int16), ((2, 0), (2, 1)))


def _surroundings(
    now: NDArray[Any], last: NDArray[Any] | None, cells: NDArray[Any], stride: int
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Of pixels at some cells of a bordered, flat frame, their patterns ``[n]`` and neighbours ``[6, n]``."""
    steps = (-1, -stride, 1 - stride, -1 - stride, -2, -2 * stride)  # W, N, NE, NW, WW, NN
    if last is None:
        near = now[np.add.outer(steps, cells)]
        extra = (near[0] == 0) + 2 * (near[1] == 0)
    else:
        causal = np.add.outer(steps[:5], cells)
        near, past = np.empty((6, len(cells)), now.dtype), last[causal[:4]]
        near[0], near[1:] = last[cells], now[causal]  # what was here comes first
        same = near[1:5] == past
        ahead = last[np.minimum(np.add.outer((1, stride), cells), len(last) - 1)] == near[0]
        extra = (np.array([1, 2, 4, 8]) @ same) + (np.array([16, 32]) @ ahead)
    alike = (near[:, None] == near[None]) * FIRST[:, None]
    labels = NEIGHBOURS - alike.max(1).astype(np.int64)  # the first neighbour that is like each
    return LABELS @ labels + PATTERNS * extra, near


def _symbols(values: NDArray[Any], near: NDArray[Any]) -> NDArray[np.int64]:
    """The first neighbour that a pixel is like, or `MISS`."""
    alike = near == values.ravel()
    return np.where(alike.any(0), alike.argmax(0), MISS)


def _blocks(now: NDArray[Any], last: NDArray[Any]) -> NDArray[Any]:
    """Blocks ``[h, w]`` in which frames ``[H, W]`` differ."""
    changed = now != last
    H, W = changed.shape
    padded = np.pad(changed, ((0, -H % BLOCK), (0, -W % BLOCK)))
    blocks: NDArray[Any] = np.any(padded.reshape(-(-H // BLOCK), BLOCK, -1, BLOCK), (1, 3))
    return blocks


def _pixels(blocks: NDArray[Any], H: int, W: int) -> NDArray[Any]:
    """Row by row, whether each pixel is in one of the blocks ``[H * W]``, as numbers of those that are."""
    return np.flatnonzero(blocks.repeat(BLOCK, 0).repeat(BLOCK, 1)[:H, :W]) if blocks.any() else np.zeros(0, int)


@lru_cache(maxsize=4)
def _lines(H: int, W: int) -> list[NDArray[Any]]:
    """All cells of a bordered, flat frame, by lines of which each knows its neighbours from the lines before."""
    return _by_line(np.arange(H * W), W)


def _by_line(pixels: NDArray[Any], W: int) -> list[NDArray[Any]]:
    y, x = np.divmod(pixels, W)
    line = x + 2 * y
    order = np.argsort(line, kind="stable")
    cells = ((y + 2) * (W + 3) + x + 2)[order]
    return np.split(cells, np.flatnonzero(np.diff(line[order])) + 1) if len(cells) else []


@lru_cache(maxsize=64)
def _even(n: int) -> Tables:
    """Any of `n` numbers, all equally likely."""
    return Tables([counts_of([1] * n + [0])], [0])
