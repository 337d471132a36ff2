"""What `sandbox fit` says of models of text: bits per byte beside what costs nothing, and something that they wrote."""

from __future__ import annotations

import bz2
import math
from typing import Any

import numpy as np

from unsupervised.tokens import BYTES, MaskedToken, TokenModel

TEMPERATURES = (0.5, 0.8, 1.0)
PROMPT, LENGTH = 32, 400  # bytes to begin with, and to add
WINDOWS = 5  # that are filled in


def judged(estimator: TokenModel, learned: np.ndarray, unseen: np.ndarray) -> dict[str, float]:
    """Bits per token of rows ``[N, T]`` that were not learned from, of the estimator and of its controls.

    The controls know the same rows: how often each token is there, by itself; and, where tokens are bytes and all come
    one after the other, bz2, by how much its file grows.
    """
    per = "bits_per_byte" if estimator.vocabulary == BYTES else "bits_per_token"
    found = {f"held_out_{per}": -estimator.score(unseen) / math.log(2)}
    found[f"single_{per}"] = single_bits(learned, unseen, estimator.vocabulary)
    if estimator.vocabulary == BYTES and not isinstance(estimator, MaskedToken):
        found[f"bz2_{per}"] = bz2_bits(learned, unseen)
    return found


def single_bits(learned: np.ndarray, unseen: np.ndarray, vocabulary: int) -> float:
    """Bits per token by how often each token is among those learned, with one more of each.

    Examples
    --------
    >>> single_bits(np.array([0, 0, 1, 1]), np.array([0, 1, 1]), vocabulary=2)
    1.0
    """
    counts = np.bincount(np.ravel(learned).astype(int), minlength=vocabulary) + 1
    return float(-np.log2(counts / counts.sum())[np.ravel(unseen).astype(int)].mean())


def bz2_bits(learned: np.ndarray, unseen: np.ndarray) -> float:
    """Bits per byte by which a bz2 file of bytes grows when others are put behind them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.integers(0, 256, (2, 10_000))
    >>> round(bz2_bits(noise[0], noise[1])), round(bz2_bits(noise[0], 0 * noise[1]))
    (8, 0)
    """
    before, after = (np.ravel(part).astype(np.uint8).tobytes() for part in (learned, unseen))
    return 8 * (len(bz2.compress(before + after)) - len(bz2.compress(before))) / len(after)


def said(summary: dict[str, Any]) -> list[str]:
    """Those bits in words."""
    lines = []
    for per in ("bits_per_byte", "bits_per_token"):
        if f"held_out_{per}" in summary:
            single, zipped = summary[f"single_{per}"], summary.get(f"bz2_{per}")
            one = per.removeprefix("bits_per_")
            beside = f"; by how often each {one} is there {single:.3f}" + (f", of bz2 {zipped:.3f}" if zipped else "")
            lines.append(f"{per.replace('_', ' ')} on held-out windows {summary[f'held_out_{per}']:.3f}{beside}")
    return lines


def written(estimator: Any, unseen: np.ndarray, seed: int) -> str:
    """What an estimator of bytes writes after the beginning of an unseen row, or fills into some of them."""
    rows = np.asarray(unseen).astype(np.uint8)
    if isinstance(estimator, MaskedToken):
        rows = rows[:WINDOWS]
        mask = np.random.default_rng(seed).random(rows.shape) < estimator.masked
        filled = estimator.fill(rows, mask, passes=rows.shape[1])
        right = (filled == rows)[mask].mean() if mask.any() else 1.0
        pairs = zip(np.where(mask, ord("_"), rows), filled, strict=True)
        shown = [f"  {_one_line(hidden)}\n  {_one_line(whole)}" for hidden, whole in pairs]
        return "\n\n".join([f"unseen text with bytes hidden (_), and filled in ({right:.0%} right)", *shown])
    prompt = rows[0, : min(PROMPT, rows.shape[1] - 1)]
    parts = []
    for temperature in TEMPERATURES:
        made = estimator.sample(1, prompt=prompt, length=LENGTH, temperature=temperature, random_state=seed)[0]
        text = "\n".join(f"  {line}" for line in _readable(made).split("\n"))
        parts.append(f"after the first {len(prompt)} bytes of unseen text, at temperature {temperature}\n{text}")
    return "\n\n".join(parts)


def _readable(bytes_: np.ndarray) -> str:
    """Bytes as text that does nothing to a terminal."""
    text = bytes_.tobytes().decode(errors="replace").replace("\r\n", "\n").expandtabs()
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)


def _one_line(row: np.ndarray) -> str:
    return _readable(row).replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")
