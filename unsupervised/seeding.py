"""Where k-means begins: greedy k-means++, and rows at random.

Both draw so that neither the order of the rows nor repeated rows matter: a row of weight 3 and the same row three
times give the same centres from the same seed. Rows are drawn by inverting their cumulated weight in the order of
`row_keys`, in which equal rows are neighbours, wherever they were.

k-means++ draws a centre's candidates in proportion to their squared distance from the centres so far, and looks at
all rows for each candidate; done one centre at a time, all data are read for every centre. Here candidates for
several centres are drawn at once, from the distances as they are then, and each is accepted later with the share of its
distance that is left by then. That is the same distribution (rejection sampling: distances only fall), but one pass
over the data, as a large matrix product, serves many candidates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from unsupervised.rows import Prepare, Rows, Team, strips, tile_size, tiles
from unsupervised.shards import Shards

AHEAD = 16  # centres for which candidates are drawn at once, at most


def row_keys(X: Any, team: Team | None = None, prepare: Prepare | None = None) -> NDArray[np.uint64]:
    """A number for each row that depends on its values alone: rows that are equal as float32 have the same one.

    Parameters
    ----------
    X : array, CSR matrix or Shards [N, D]
    team : Team, optional
    prepare : function, optional
        What becomes of rows of shards as they are read.

    Returns
    -------
    uint64 [N]
        Σ_j bits(x_j) · r_j modulo 2^64, for fixed odd r. Sums of integers do not depend on how they are grouped.

    Examples
    --------
    >>> keys = row_keys(np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
    >>> bool(keys[0] == keys[2] != keys[1])
    True
    """
    n, d = X.shape
    factors = np.random.PCG64(0).random_raw(d) | np.uint64(1)
    if sp.issparse(X):
        products = _bits(X.data).view(np.int32).astype(np.int64).view(np.uint64) * factors[X.indices]
        ends = np.zeros(len(products) + 1, np.uint64)
        np.cumsum(products, out=ends[1:])
        of_rows: NDArray[np.uint64] = ends[X.indptr[1:]] - ends[X.indptr[:-1]]
        return of_rows
    keys = np.empty(n, np.uint64)
    wide = torch.from_numpy(factors.view(np.int64))

    def strip(start: int, stop: int) -> None:
        for first, last in tiles(start, stop, max(1, (1 << 16) // d)):
            block = X.rows(first, last) if isinstance(X, Shards) else X[first:last]
            block = prepare(block) if prepare and isinstance(X, Shards) else block
            words = torch.from_numpy(_bits(block).view(np.int32)).long()
            keys[first:last] = (words @ wide).numpy().view(np.uint64)

    (team or Team(None)).map(strip, strips(n, d))
    return keys


def _bits(values: NDArray[Any]) -> NDArray[np.uint32]:
    """Of the values as float32; 0 and -0 are one number and have the same."""
    return (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)


def plusplus(
    rows: Rows,
    norms: Tensor,
    weights: Tensor | None,
    n_clusters: int,
    random_state: np.random.RandomState,
    order: NDArray[np.intp],
    team: Team,
    n_local_trials: int | None = None,
) -> NDArray[np.intp]:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007): of a few candidates, the one that leaves the least.

    Parameters
    ----------
    rows : N rows
    norms : [N]
        ‖x‖².
    weights : float64 [N], optional
        None: all alike.
    n_clusters : int
        K.
    random_state : RandomState
    order : [N]
        The rows in the order in which their weight is cumulated.
    team : Team
    n_local_trials : int, optional
        Candidates for each centre; default 2 + ⌊ln K⌋.

    Returns
    -------
    [K] integers
        The rows chosen.
    """
    n, d = rows.shape
    trials = n_local_trials or 2 + int(np.log(n_clusters))
    spans = strips(n, d)
    of_all = np.ones(n) if weights is None else weights.cpu().numpy()
    # Candidates measured at once: their distances take half of what the data take, or few megabytes.
    room = max(trials, min(trials * AHEAD, max(d // 2, (1 << 20) // n)))
    distances = torch.empty(room, n, dtype=rows.dtype, device=rows.device)  # [candidates, N]
    nearest = torch.full((n,), torch.inf, dtype=rows.dtype, device=rows.device)  # of each row, squared

    def measure(ids: list[int]) -> None:
        """Squared distances of all rows from these, into `distances`."""
        centers = rows.dense(torch.as_tensor(ids, device=rows.device))
        twice, whole = 2 * centers, (centers * centers).sum(1)

        def strip(start: int, stop: int) -> None:
            for first, last in tiles(start, stop, tile_size(d + len(ids), rows.device)):
                block = distances[: len(ids), first:last]
                rows.scores(rows.tile(first, last), twice, whole, out=block.t())
                block += norms[first:last]

        team.map(strip, spans)

    def left(candidates: list[int]) -> NDArray[np.float64]:
        """The potential that each candidate (a row of `distances`) would leave."""

        def strip(start: int, stop: int) -> Tensor:
            now, sums = nearest[start:stop], []
            if weights is None and len(spans) == 1:
                return torch.minimum(distances[candidates], now).sum(1).double()
            for place in candidates:
                closer = torch.minimum(distances[place, start:stop], now)
                sums.append(closer.sum() if weights is None else closer.double() @ weights[start:stop])
            return torch.stack(sums).double()

        return torch.stack(team.map(strip, spans)).sum(0).cpu().numpy()  # type: ignore[no-any-return]

    def drawn(mass: NDArray[np.float64], size: int) -> NDArray[np.intp]:
        cumulated = np.cumsum(mass[order])
        found = np.searchsorted(cumulated, random_state.uniform(size=size) * cumulated[-1], side="right")
        return order[np.minimum(found, n - 1)]  # rounding may lead past the end

    chosen = [int(drawn(of_all, 1)[0])]
    measure(chosen)
    torch.clamp_min(distances[0], 0, out=nearest)
    nearest[chosen[0]] = 0
    at = nearest.numpy() if nearest.device.type == "cpu" else nearest  # single numbers are read faster from numpy
    ahead, ids, kept, bars = 1, np.empty(0, np.intp), np.empty(0), np.empty(0)
    position, accepted = 0, 0
    measured: dict[int, int] = {}  # row: where in `distances`
    while len(chosen) < n_clusters:
        candidates: list[int] = []
        while len(candidates) < trials:
            if position == len(ids):
                if position:  # the more of what was drawn is of use, the further ahead is drawn
                    share = accepted / position
                    ahead = min(AHEAD, 2 * ahead) if share > 0.75 else max(1, ahead // 2) if share < 0.4 else ahead
                left_now = nearest.double().cpu().numpy()
                ids = drawn(left_now * of_all, trials * ahead)
                kept, bars = left_now[ids], random_state.uniform(size=len(ids))
                position, accepted = 0, 0
            row = int(ids[position])
            if bars[position] * kept[position] <= float(at[row]):
                candidates.append(row)
                accepted += 1
            position += 1
        if any(row not in measured for row in candidates):
            now = nearest[torch.as_tensor(ids[position:], device=rows.device)].double().cpu().numpy()
            later = ids[position:][bars[position:] * kept[position:] <= now]
            most = min(room, trials * (n_clusters - len(chosen)))
            wanted = list(dict.fromkeys([*candidates, *later.tolist()]))[:most]
            measure(wanted)
            measured = {row: place for place, row in enumerate(wanted)}
        potentials = left([measured[row] for row in candidates])
        best = candidates[int(np.argmin(potentials))]
        torch.minimum(nearest, distances[measured[best]].clamp_min_(0), out=nearest)
        nearest[best] = 0
        chosen.append(best)
    return np.array(chosen, np.intp)


def at_random(
    weights: NDArray[np.float64],
    n_clusters: int,
    random_state: np.random.RandomState,
    order: NDArray[np.intp],
    keys: NDArray[np.uint64],
) -> NDArray[np.intp]:
    """K different rows, drawn in proportion to their weight without replacement.

    Each row has an exponential clock that runs at its weight; the first K to ring are drawn (Efraimidis and Spirakis,
    2006). Equal rows share a clock. Where fewer than K differ, the others are equal to some of them.

    Parameters
    ----------
    weights : [N]
    n_clusters : int
        K.
    random_state : RandomState
    order : [N]
        The rows in the order of their keys.
    keys : uint64 [N]
        See `row_keys`.

    Returns
    -------
    [K] integers
    """
    rows, mass = _distinct(keys, order, weights)
    ring = random_state.exponential(size=len(rows)) / mass
    drawn = rows[np.argsort(ring, kind="stable")[:n_clusters]]
    if len(drawn) < n_clusters:
        rest = np.setdiff1d(np.arange(len(weights)), drawn)
        drawn = np.concatenate([drawn, rest[: n_clusters - len(drawn)]])
    return drawn


def ordering(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The rows sorted by key."""
    return np.argsort(keys, kind="stable")


def _distinct(keys: NDArray[np.uint64], order: NDArray[np.intp], weights: NDArray[Any]) -> tuple[Any, Any]:
    """The first row of each key that has weight, and the weight of all rows of that key."""
    ordered = keys[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    mass = np.add.reduceat(weights[order], first)
    return order[first[mass > 0]], mass[mass > 0]


def canonical(X: Any, weights: NDArray[Any], at_least: int) -> tuple[Any, NDArray[Any]]:
    """The rows that differ, in the order of their keys, each with the weight of all that are equal to it.

    Parameters
    ----------
    X : array or CSR matrix [N, D]
    weights : [N]
        Rows of weight 0 are left out.
    at_least : int
        With fewer rows that differ than this, equal rows stay apart.

    Returns
    -------
    array or CSR matrix [n, D]
    [n]

    Examples
    --------
    >>> rows, weights = canonical(np.array([[1.0], [2.0], [1.0], [3.0]]), np.array([1.0, 1.0, 2.0, 0.0]), 1)
    >>> sorted(zip(rows[:, 0].tolist(), weights.tolist()))
    [(1.0, 3.0), (2.0, 1.0)]
    """
    keys = row_keys(X)
    order = ordering(keys)
    chosen, mass = _distinct(keys, order, weights)
    if len(chosen) < at_least:
        return X[order], weights[order]
    return X[chosen], mass


class Moments(NamedTuple):
    """What one pass over the rows tells.

    Attributes
    ----------
    norms : [N]
        ‖x‖².
    mean : float64 [D]
    variance : float
        The mean over features of their variance.
    """

    norms: Tensor
    mean: Tensor
    variance: float


def moments(rows: Rows, weights: Tensor | None, team: Team) -> Moments:
    """Norms, mean and variance of the rows, weighted."""
    n, d = rows.shape
    norms = torch.empty(n, dtype=rows.dtype, device=rows.device)

    def strip(start: int, stop: int) -> Tensor:
        total = torch.zeros(1, d, dtype=torch.float64, device=rows.device)
        for first, last in tiles(start, stop, tile_size(d, rows.device)):
            block = rows.tile(first, last)
            norms[first:last] = rows.squared_norms(block)
            mass = torch.ones(last - first, dtype=rows.dtype) if weights is None else weights[first:last].to(rows.dtype)
            total += rows.weighted_sum(block, mass.to(rows.device))
        return total

    total = torch.stack(team.map(strip, strips(n, d))).sum(0)[0]
    mass = n if weights is None else float(weights.sum())
    mean = total / mass
    wide = norms.double()
    second = float(wide.mean() if weights is None else wide @ weights / mass)
    return Moments(norms, mean, max(second - float(mean @ mean), 0.0) / d)


__all__ = ["Moments", "at_random", "canonical", "moments", "ordering", "plusplus", "row_keys"]
