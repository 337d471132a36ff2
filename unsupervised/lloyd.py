"""Lloyd's loop: assign each row to its nearest centre, move each centre to the mean of its rows, repeat.

`Partition` holds what the loop needs and keeps it up to date rather than making it anew: of the sums of rows by
cluster only what rows that moved bring and take, and, once few rows move, bounds that tell which rows cannot have
moved (Hamerly, 2010): a row's distance from its own centre has grown by no more than that centre went, and its
distance from all others has shrunk by no more than the furthest that one of them went. The rows that may have moved
are gathered into whole tiles, so that their distances stay matrix products. The bounds are widened by what rounding
can do, so nothing changes but the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unsupervised.rows import Rows, Sharded, Span, Team, strips, tile_size, tiles

Move = Callable[[Tensor, Tensor], Tensor]  # float64 sums [K, D] and mass [K] of clusters -> centres [K, D]
Pruned = Literal["never", "always", "auto"]


class Result(NamedTuple):
    """Where Lloyd's loop ended."""

    labels: NDArray[np.int32]
    centers: Tensor
    inertia: float
    n_iter: int


def means(sums: Tensor, mass: Tensor) -> Tensor:
    """The mean of each cluster's rows.

    Examples
    --------
    >>> means(torch.tensor([[2.0, 4.0]]), torch.tensor([2.0]))
    tensor([[1., 2.]])
    """
    return sums / mass[:, None]


def lloyd(
    rows: Rows,
    norms: Tensor,
    weights: Tensor | None,
    centers: Tensor,
    *,
    max_iter: int,
    tol: float,
    team: Team,
    pruned: Pruned = "auto",
    move: Move = means,
    progress: Callable[[int, float], None] | None = None,
    told: Callable[[str], None] | None = None,
) -> Result:
    """Lloyd's algorithm (1957) from the given centres.

    Parameters
    ----------
    rows : N rows of D features
    norms : [N]
        ‖x‖².
    weights : float64 [N], optional
        None: all 1.
    centers : [K, D]
        To start with.
    max_iter : int
    tol : float
        The loop also ends when the squared distance that the centres went is at most this.
    team : Team
    pruned : "never", "always" or "auto"
        Whether bounds are kept; "auto" begins with them when few rows move, and drops them where
        they spare little.
    move : function
        Of sums and masses; `means` by default.
    progress : function, optional
        Called with the iteration, from 0, and the inertia before the centres move.
    told : function, optional
        Called with a line that says why the loop ended.

    Returns
    -------
    Result
        With labels that are each row's nearest of the centres returned.
    """
    partition = Partition(rows, norms, weights, len(centers), team, pruned)
    settled = False
    iteration = 0
    for iteration in range(max_iter):
        moved = partition.assign(centers)
        if progress:
            progress(iteration, partition.inertia_by_sums(centers))
        before, centers = centers, partition.centers(centers, move)
        if moved == 0:
            settled = True
            if told:
                told(f"Converged at iteration {iteration}: strict convergence.")
            break
        went = float(((centers - before) ** 2).sum())
        if went <= tol:
            if told:
                told(f"Converged at iteration {iteration}: center shift {went} within tolerance {tol}.")
            break
    if not settled:
        partition.assign(centers)
    return Result(partition.labels.cpu().numpy(), centers, partition.inertia(centers), iteration + 1)


class Partition:
    """Rows and the centres they are nearest to, kept up to date as the centres move.

    Parameters
    ----------
    rows, norms, weights, team, pruned
        See `lloyd`.
    n_clusters : int
        K.

    Attributes
    ----------
    labels : int32 [N]
        Each row's nearest centre, of those last assigned to; the first of several equally near.
    """

    def __init__(
        self, rows: Rows, norms: Tensor, weights: Tensor | None, n_clusters: int, team: Team, pruned: Pruned
    ) -> None:
        (n, d), device = rows.shape, rows.device
        self.rows, self.norms, self.weights, self.team, self.pruned = rows, norms, weights, team, pruned
        self.labels = torch.full((n,), -1, dtype=torch.int32, device=device)
        self.sums = torch.zeros(n_clusters, d, dtype=torch.float64, device=device)
        self.mass = torch.zeros(n_clusters, dtype=torch.float64, device=device)
        self.counts = torch.zeros(n_clusters, dtype=torch.int64, device=device)
        # A strip has sums of its own, which must not outgrow the data.
        self.spans = strips(n, d + n_clusters, min(16, n // (4 * n_clusters)))
        self.size = tile_size(d + n_clusters, device)
        self.assigned: Tensor | None = None  # the centres that the labels are of
        self.upper: Tensor | None = None  # [N] no row is further from its centre than this
        self.lower: Tensor | None = None  # [N] no row is nearer to any other centre than this
        self.eps = float(torch.finfo(rows.dtype).eps)
        self.bounded = False  # the bounds are of these labels
        self.few = n / 20  # rows, fewer than which must move for bounds to be begun with
        # Else all distances take less time than keeping bounds.
        self.worth_bounds = d * n_clusters >= 2048 and n * d * n_clusters > 1 << 23
        self.largest = float(norms.max())
        self.spread: float | None = None
        self.tighten = n_clusters >= 16  # else all distances are hardly dearer than one

    def assign(self, centers: Tensor) -> int:
        """Give each row to its nearest centre.

        Parameters
        ----------
        centers : [K, D]

        Returns
        -------
        int
            Rows that moved.
        """
        half = (centers * centers).sum(1) / 2
        if self.upper is None and self.pruned == "always":
            self._keep_bounds()
        slack, reach = 0.0, None
        if self.upper is not None:
            # What rounding can do to a squared distance that is put together from norms and a product of D terms.
            slack = self.eps * (4 + self.rows.shape[1] ** 0.5) * (self.largest + 2 * float(half.max()))
            if self.bounded:
                reach = self._reach(centers)
        moved = 0
        tallies = self.team.map(lambda *span: self._strip(span, centers, half, slack, reach), self.spans)
        for tally in tallies:
            if tally.moved:
                moved += tally.moved
                self.sums += tally.sums
                self.counts += tally.counts
                self.mass = self.counts.double() if self.weights is None else self.mass + tally.mass
        self.assigned, self.bounded = centers, self.upper is not None
        if self.pruned == "auto" and self.worth_bounds:
            if self.upper is None and moved < self.few:
                self._keep_bounds()
            elif reach is not None and sum(tally.seen for tally in tallies) > 0.25 * len(self.labels):
                self.upper = self.lower = None  # they spare too little: again when half as many rows move
                self.few = moved / 2
        return moved

    def _keep_bounds(self) -> None:
        self.bounded = False
        self.upper = torch.empty_like(self.norms)
        self.lower = torch.empty_like(self.norms)

    def _reach(self, centers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How far each centre went, how far the furthest other one, and half of the way to the nearest other [K]."""
        assert self.assigned is not None
        went = torch.linalg.vector_norm(centers - self.assigned, dim=1) * (1 + 8 * self.eps)
        went += 8 * self.eps * self.largest**0.5  # what adding it to a bound can round away
        others = went.max().expand_as(went).clone()
        if len(went) > 1:
            first, second = went.topk(2).values
            others[went == first] = second if int((went == first).sum()) == 1 else first
        wide, exact = centers.double(), "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(wide, wide, compute_mode=exact).fill_diagonal_(torch.inf).amin(1).to(went.dtype)
        return went, others, (apart / 2) * (1 - 8 * self.eps)

    def _strip(
        self, span: Span, centers: Tensor, half: Tensor, slack: float, reach: tuple[Tensor, ...] | None
    ) -> Tally:
        """Assign the rows of a span, and say what that changes in the sums."""
        start, stop = span
        labels = self.labels[start:stop]
        found = None if reach is None else self._movable(start, stop, *reach)
        scores = torch.empty(min(self.size, stop - start), len(centers), dtype=self.rows.dtype, device=centers.device)
        parts: list[tuple[Tensor, ...]] = []  # of each block: its nearest centres and, with bounds, two distances
        if self.upper is None:
            large = self.size if isinstance(self.rows, Sharded) else stop - start
            parts = [(self.rows.nearest(self.rows.tile(*tile), centers),) for tile in tiles(start, stop, large)]
        elif found is None or len(found) > 0.5 * len(labels):
            found = None
            for a, b in tiles(start, stop, self.size):
                parts += [self._nearest(self.rows.tile(a, b), self.norms[a:b], centers, half, scores)]
        else:
            open_ids = []
            for ids in found.split(self.size):
                block = self.rows.take(ids + start)
                if self.tighten and reach is not None:
                    ids, block = self._tightened(ids, start, block, centers, slack, reach[2])
                open_ids.append(ids)
                parts.append(self._nearest(block, _of(self.norms, ids + start), centers, half, scores))
            found = torch.cat(open_ids)
        new, *extremes = (part[0] if len(part) == 1 else torch.cat(part) for part in zip(*parts, strict=True))
        if extremes:
            self._bound(start, stop, found, extremes[0], extremes[1], slack)
        old = labels if found is None else _of(labels, found)
        changed = _where(new != old)
        tally = Tally(centers.shape[0], centers.shape[1], centers.device)
        tally.moved, tally.seen = len(changed), len(new)
        if len(changed):
            new, old = _of(new, changed).long(), _of(old, changed).long()
            where = changed if found is None else _of(found, changed)
            labels.index_copy_(0, where, new.int())
            for first, last in tiles(0, len(changed), self.size):
                ids = where[first:last] + start
                block = self.rows.take(ids)
                weights = None if self.weights is None else _of(self.weights, ids)
                tally.add(self.rows, block, new[first:last], weights, 1)
                if int(old[first]) >= 0:  # else nobody belonged anywhere yet
                    tally.add(self.rows, block, old[first:last], weights, -1)
        return tally

    def _movable(self, start: int, stop: int, went: Tensor, others: Tensor, apart: Tensor) -> Tensor:
        """The rows of a span that may have another nearest centre now; all bounds follow the centres."""
        assert self.upper is not None
        assert self.lower is not None
        upper, lower = self.upper[start:stop], self.lower[start:stop]
        labels = self.labels[start:stop].long()
        upper += _of(went, labels)
        lower -= _of(others, labels)
        return _where(upper >= torch.maximum(lower, _of(apart, labels)))

    def _tightened(
        self, ids: Tensor, start: int, block: Any, centers: Tensor, slack: float, apart: Tensor
    ) -> tuple[Tensor, Any]:
        """Of rows that may have moved, those that still may once the distance from their own centre is measured."""
        assert self.upper is not None
        assert self.lower is not None
        ids = ids + start
        labels = _of(self.labels, ids).long()
        upper = self.rows.squared_errors(block, centers, labels).add_(slack).sqrt_()
        self.upper.index_copy_(0, ids, upper)
        still = _where(upper >= torch.maximum(_of(self.lower, ids), _of(apart, labels)))
        return _of(ids, still) - start, self.rows.pick(block, still)

    def _nearest(self, block: Any, norms: Tensor, centers: Tensor, half: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        """The nearest centre of each row of a block, its squared distance, and that of the next one."""
        scores = self.rows.scores(block, centers, half, out=scores[: block.shape[0]])
        if 16 <= len(centers) <= 128 and scores.device.type == "cpu":
            return self._packed(block, norms, centers, half, scores)
        # On a CPU numpy's argmin is several times faster than torch's.
        on_cpu = scores.device.type == "cpu"
        labels = torch.from_numpy(scores.numpy().argmin(1)) if on_cpu else scores.argmin(1)
        column = labels[:, None]
        best = scores.gather(1, column).squeeze(1)
        return labels, best.mul_(2).add_(norms), scores.scatter_(1, column, torch.inf).amin(1).mul_(2).add_(norms)

    def _packed(self, block: Any, norms: Tensor, centers: Tensor, half: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        """The same for no more than 128 centres, in half of the time.

        Positive floating-point numbers sort as their bits do. The last bits of each distance give way to the number
        of its centre, so that the least of a row, which vector units find fast, brings its place along; rows whose
        two least differ by no more than those bits are decided again in full.
        """
        kind, top = (torch.int32, 2**31 - 1) if scores.dtype == torch.float32 else (torch.int64, 2**63 - 1)
        low = (1 << (len(centers) - 1).bit_length()) - 1
        bits = scores.add_(norms[:, None] / 2).view(kind)
        bits.bitwise_and_(~low).bitwise_or_(torch.arange(len(centers), dtype=kind))
        least = bits.amin(1)
        labels = least.bitwise_and(low).long()
        next_least = bits.scatter_(1, labels[:, None], top).amin(1)
        close = _where((next_least - least <= 2 * low) | (least < 0))
        if len(close):
            again = torch.empty(len(close), len(centers), dtype=scores.dtype)
            again = self.rows.scores(self.rows.pick(block, close), centers, half, out=again)
            labels.index_copy_(0, close, torch.from_numpy(again.numpy().argmin(1)))
            next_least.index_copy_(0, close, _of(least, close))  # which of the two is the next one is open
        best = least.bitwise_or_(low).view(scores.dtype).mul_(2)  # no less than it was
        return labels, best, next_least.bitwise_and_(~low).view(scores.dtype).mul_(2)  # no more

    def _bound(self, start: int, stop: int, found: Tensor | None, best: Tensor, second: Tensor, slack: float) -> None:
        """Exact bounds for the rows of a span, or those found among them."""
        assert self.upper is not None
        assert self.lower is not None
        upper, lower = best.clamp_min_(0).add_(slack).sqrt_(), second.sub_(slack).clamp_min_(0).sqrt_()
        for bound, exact in ((self.upper[start:stop], upper), (self.lower[start:stop], lower)):
            if found is None:
                bound.copy_(exact)
            else:
                bound.index_copy_(0, found, exact)

    def centers(self, before: Tensor, move: Move) -> Tensor:
        """Where the centres move to.

        A cluster without rows gets the row that is furthest from its own centre, the second such cluster the second
        furthest, and so on; where all rows lie on their centres, the place of the heaviest cluster.

        Parameters
        ----------
        before : [K, D]
            The centres that the labels are of.
        move : function
            See `lloyd`.

        Returns
        -------
        [K, D]
        """
        empty = _where(self.counts == 0)
        sums, mass = self.sums, self.mass
        if len(empty):
            sums, mass = sums.clone(), mass.clone()
            sums[empty], mass[empty] = 0, 0  # what rounding left
            self._reseat(empty, before, sums, mass)
            still = mass <= 0
            heaviest = int(mass.argmax())
            sums[still], mass[still] = sums[heaviest].clone(), mass[heaviest].clone()
        return move(sums, mass).to(before.dtype)

    def _reseat(self, empty: Tensor, centers: Tensor, sums: Tensor, mass: Tensor) -> None:
        errors = self.errors(centers)
        if self.weights is not None:
            errors = errors * (self.weights > 0)
        distances = errors.cpu().numpy()
        if distances.max() == 0:
            return  # more centres than rows that differ
        furthest = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1].copy()
        for cluster, row in zip(empty.tolist(), furthest.tolist(), strict=True):
            weight = 1.0 if self.weights is None else float(self.weights[row])
            heavy = self.rows.dense(torch.tensor([row], device=centers.device))[0].double() * weight
            home = int(self.labels[row])
            sums[home] -= heavy
            mass[home] -= weight
            sums[cluster], mass[cluster] = heavy, weight

    def errors(self, centers: Tensor) -> Tensor:
        """‖x - c‖² [N] of each row and its own centre."""
        errors = torch.empty_like(self.norms)

        def strip(start: int, stop: int) -> None:
            for first, last in tiles(start, stop, self.size):
                block = self.rows.tile(first, last)
                errors[first:last] = self.rows.squared_errors(block, centers, self.labels[first:last])

        self.team.map(strip, self.spans)
        return errors

    def inertia(self, centers: Tensor) -> float:
        """Σ w ‖x - c‖² of each row and its own centre."""
        errors = self.errors(centers).double()
        return float(errors.sum() if self.weights is None else errors @ self.weights)

    def inertia_by_sums(self, centers: Tensor) -> float:
        """The same without a look at the rows: Σ w ‖x‖² - 2 Σ_k c_k · s_k + Σ_k m_k ‖c_k‖²."""
        if self.spread is None:
            norms = self.norms.double()
            self.spread = float(norms.sum() if self.weights is None else norms @ self.weights)
        wide = centers.double()
        return self.spread + float((wide * (self.mass[:, None] * wide - 2 * self.sums)).sum())


def _of(values: Tensor, ids: Tensor) -> Tensor:
    """Values by number, in a third of the time that an index in brackets takes."""
    return values.index_select(0, ids)


def _where(condition: Tensor) -> Tensor:
    """The places [n] where it holds; numpy finds them in half of torch's time."""
    if condition.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(condition.numpy()))
    return condition.nonzero().squeeze(1)


class Tally:
    """What a strip brings to the clusters: sums of rows [K, D], their mass [K] and how many there are [K].

    Parameters
    ----------
    n_clusters, n_features : int
    device : torch.device

    Attributes
    ----------
    moved, seen : int
        Rows that changed their cluster, and rows that were compared with all centres.
    """

    def __init__(self, n_clusters: int, n_features: int, device: torch.device) -> None:
        self.moved = self.seen = 0
        self.sums = torch.zeros(n_clusters, n_features, dtype=torch.float64, device=device)
        self.counts = torch.zeros(n_clusters, dtype=torch.int64, device=device)
        self.mass = torch.zeros(n_clusters, dtype=torch.float64, device=device)

    def add(self, rows: Rows, block: Any, labels: Tensor, weights: Tensor | None, sign: int) -> None:
        """Rows join their clusters (sign 1), or leave them (-1)."""
        rows.add(block, self.sums, labels, weights, sign)
        if weights is None:
            self.counts.add_(torch.bincount(labels, minlength=len(self.counts)), alpha=sign)
        else:
            self.mass.index_add_(0, labels, weights, alpha=sign)
            self.counts.index_add_(0, labels, (weights > 0).long(), alpha=sign)
