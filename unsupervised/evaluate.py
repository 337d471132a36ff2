"""How good a clustering is, how many clusters there are, and how much can be read from features.

First the judges of one clustering (`silhouette`, `agreement`, `stability`), then the choice of k, which is made of
them (`inertia_curve`, `elbow`, `choose_k`). A judge of many rows looks at a sample of them and says how sure it is.
The judges of features are in `unsupervised.probes` (`LinearProbe`, `knn_accuracy`, `ram_probe`), and those that put an
encoder beside its controls in `unsupervised.judge` (`judge`, `few_labels`, `judge_ram`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from operator import index
from typing import Any, NamedTuple

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples
from sklearn.utils import check_array, check_random_state, check_X_y

from unsupervised import KMeans
from unsupervised.judge import FewLabels, Judged, Judgement, RamJudgement, few_labels, judge, judge_ram
from unsupervised.probes import RAM_LABELS, LinearProbe, RamScores, frozen_features, knn_accuracy, ram_probe

__all__ = [
    "RAM_LABELS",
    "Agreement",
    "Choice",
    "FewLabels",
    "InertiaCurve",
    "Judged",
    "Judgement",
    "LinearProbe",
    "RamJudgement",
    "RamScores",
    "Silhouette",
    "Stability",
    "Tried",
    "agreement",
    "choose_k",
    "elbow",
    "few_labels",
    "frozen_features",
    "inertia_curve",
    "judge",
    "judge_ram",
    "knn_accuracy",
    "ram_probe",
    "silhouette",
    "stability",
]

Progress = Callable[[int, int, str], None]  # how much is done, of how much, and what is being done
RandomState = int | np.random.RandomState | None

WORKING_MEMORY = 64  # MiB, for the distances of a silhouette
N_REFERENCES = 5  # of each kind
LEAST_GAIN = 0.2  # a uniform disc or triangle has no clusters either, yet lies a little above both references


# -- one clustering ----------------------------------------------------------------------------------------------------


class Silhouette(NamedTuple):
    """A mean silhouette, from -1 to 1, and its standard error."""

    mean: float
    error: float


def silhouette(X: Any, labels: Any, *, sample_size: int | None = 2000, random_state: RandomState = None) -> Silhouette:
    """How much nearer the rows are to their own cluster than to the next one (Rousseeuw, 1987).

    Of a row, with `a` the mean distance to the others of its cluster and `b` that to the nearest other cluster, it is
    ``(b - a) / max(a, b)``. All rows would take all N² distances, so a sample is drawn, cluster by cluster and in
    proportion to their sizes, and at least two rows of each, if it has them.

    Parameters
    ----------
    X : [N, D] floats, or CSR
    labels : [N]
    sample_size : int, optional
        About how many rows; None takes all, in time that grows with N². Memory stays bounded in any case.
    random_state : int, RandomState or None
        Of the sample.

    Returns
    -------
    Silhouette
        The mean over all rows, each cluster weighted with its size, and its standard error: how far the mean of other
        rows from the same source would be from it.

    Raises
    ------
    ValueError
        If `X` is empty or not finite, if `labels` are not as many, or if they name fewer than two clusters or as many
        as there are rows.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> round(silhouette(X, [0, 0, 1, 1]).mean, 3), round(silhouette(X, [0, 1, 0, 1]).mean, 3)
    (0.9, -0.45)
    """
    X, labels = check_X_y(X, labels, accept_sparse="csr")
    rng = check_random_state(random_state)
    n = len(labels)
    names, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if sample_size is not None and sample_size < n and 2 <= len(names) < n:  # else scikit-learn has the word
        quotas = np.minimum(sizes, np.maximum(2, np.rint(sample_size * sizes / n).astype(int)))
        mixed = rng.permutation(n)
        clusters = np.split(mixed[np.argsort(labels[mixed], kind="stable")], np.cumsum(sizes)[:-1])
        rows = np.concatenate([cluster[:quota] for cluster, quota in zip(clusters, quotas, strict=True)])
        X, labels = X[rows], labels[rows]
    with config_context(working_memory=WORKING_MEMORY):
        values = silhouette_samples(X, labels)
    drawn = np.bincount(labels)
    means = np.bincount(labels, values) / drawn
    variances = np.bincount(labels, (values - means[labels]) ** 2) / np.maximum(drawn - 1, 1)
    weights = sizes / n
    return Silhouette(float(weights @ means), float(np.sqrt(weights**2 @ (variances / drawn))))


class Agreement(NamedTuple):
    """How alike two labellings are: 1 if they are the same but for the names; 0, about, if one tells nothing."""

    ari: float
    nmi: float


def agreement(labels_a: Any, labels_b: Any) -> Agreement:
    """Compare two labellings of the same rows, whatever the clusters are called.

    Parameters
    ----------
    labels_a, labels_b : [N]
        Two clusterings, or a clustering and the true classes: the order does not matter.

    Returns
    -------
    Agreement
        The adjusted Rand index (Hubert and Arabie, 1985), of the pairs of rows that are together or apart in both,
        with 0 for what chance would give; and the normalised mutual information, which chance lifts above 0 where
        there are many clusters.

    Raises
    ------
    ValueError
        If they are not as many.

    Examples
    --------
    >>> agreement([0, 0, 1, 1], ["b", "b", "a", "a"])
    Agreement(ari=1.0, nmi=1.0)
    """
    return Agreement(
        float(adjusted_rand_score(labels_a, labels_b)), float(normalized_mutual_info_score(labels_a, labels_b))
    )


class Stability(NamedTuple):
    """The mean adjusted Rand index of all pairs of runs, and the standard deviation between pairs."""

    mean: float
    std: float


def stability(
    estimator: BaseEstimator,
    X: Any,
    *,
    n_seeds: int = 10,
    subsample: float = 1.0,
    random_state: RandomState = None,
    progress: Progress | None = None,
) -> Stability:
    """How alike the clusterings are that an estimator finds from different seeds (Ben-Hur, Elisseeff and Guyon, 2002).

    On all rows this tells whether the result hangs on the start. With `subsample`, each run sees other rows, too, and
    two runs are compared on those that both have seen: whether it hangs on the rows. A high value is necessary and no
    proof: a long heap cut across its middle is cut there each time.

    Parameters
    ----------
    estimator : estimator with ``fit_predict``
        Cloned for each run; whatever it calls ``random_state``, also within a pipeline, is set.
    X : [N, D] floats, or CSR
    n_seeds : int
        Runs.
    subsample : float
        The part of the rows that each run sees, drawn without replacement: above 0.5, so that any two runs share some.
    random_state : int, RandomState or None
        Of the seeds and the rows.
    progress : callable, optional
        Called with the number of runs done, that of all, and a word.

    Returns
    -------
    Stability

    Raises
    ------
    ValueError
        If `n_seeds` or `subsample` is out of range, or what `fit_predict` raises.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0], [20.0], [21.0]])
    >>> stability(KMeans(n_clusters=3, n_init=5), X, random_state=0)
    Stability(mean=1.0, std=0.0)
    """
    if n_seeds < 2:
        raise ValueError(f"n_seeds={n_seeds}, but stability compares two runs or more")
    if not 0.5 < subsample <= 1:
        raise ValueError(f"subsample={subsample}, but it is above 0.5 and at most 1: two runs must share rows")
    X = check_array(X, accept_sparse="csr")
    rng = check_random_state(random_state)
    n = X.shape[0]
    runs: list[tuple[np.ndarray, np.ndarray]] = []  # the rows seen, in order, and their labels
    for done in range(n_seeds):
        rows = np.sort(rng.permutation(n)[: int(np.ceil(subsample * n))])
        seen = X if subsample == 1 else X[rows]
        runs.append((rows, _seeded(estimator, rng).fit_predict(seen)))
        if progress is not None:
            progress(done + 1, n_seeds, "stability")
    scores = []
    for (rows_a, labels_a), (rows_b, labels_b) in combinations(runs, 2):
        _, in_a, in_b = np.intersect1d(rows_a, rows_b, assume_unique=True, return_indices=True)
        scores.append(adjusted_rand_score(labels_a[in_a], labels_b[in_b]))
    return Stability(float(np.mean(scores)), float(np.std(scores)))


# -- the number of clusters --------------------------------------------------------------------------------------------


class InertiaCurve(NamedTuple):
    """The sum of squared distances to the nearest centre that is left with each number of clusters."""

    ks: tuple[int, ...]
    inertias: tuple[float, ...]


def inertia_curve(
    X: Any,
    ks: Sequence[int],
    *,
    estimator: BaseEstimator | None = None,
    random_state: RandomState = None,
    progress: Progress | None = None,
) -> InertiaCurve:
    """Fit an estimator with each number of clusters.

    Parameters
    ----------
    X : [N, D] floats
        Or whatever else the estimator fits.
    ks : sequence of int
    estimator : estimator with `n_clusters` and `inertia_`, optional
        Cloned for each k. `KMeans` by default, the best of five starts, so that an unlucky one leaves no dent.
    random_state : int, RandomState or None
    progress : callable, optional
        Called with the number of fits done, that of all, and what k it was.

    Returns
    -------
    InertiaCurve
        ``elbow(*curve)`` reads it.

    Raises
    ------
    ValueError
        If `ks` is empty; or what the estimator raises, such as on NaN or on more clusters than rows.

    Examples
    --------
    >>> inertia_curve(np.array([[0.0], [1.0], [10.0], [11.0]]), [1, 2], random_state=0)
    InertiaCurve(ks=(1, 2), inertias=(101.0, 1.0))
    """
    ks = _checked(ks)
    rng = check_random_state(random_state)
    estimator = KMeans(n_init=5) if estimator is None else estimator
    inertias = []
    for done, k in enumerate(ks, 1):
        inertias.append(float(_seeded(estimator, rng).set_params(n_clusters=k).fit(X).inertia_))
        if progress is not None:
            progress(done, len(ks), f"k = {k}")
    return InertiaCurve(ks, tuple(inertias))


def elbow(ks: Sequence[int], inertias: Sequence[float]) -> int:
    """The k at which the curve of inertias bends most: farthest below its chord (Kneedle: Satopää et al., 2011).

    Both axes are taken as logarithms. The inertia of rows without clusters falls about as a power of k, which is then
    a straight line, so that a bend means something; on plain axes that power is itself a bend, at a small k. There is
    always a k that bends most, also where nothing bends: `choose_k` looks further.

    Parameters
    ----------
    ks : [M] int
        Ascending. The first and the last carry the chord, so the answer lies between them.
    inertias : [M] floats

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the two differ in length, have fewer than three entries, or `ks` do not ascend.

    Examples
    --------
    >>> elbow([1, 2, 3, 4, 5], [1000, 400, 20, 17, 15])
    3
    """
    if len(ks) != len(inertias) or len(ks) < 3 or any(a >= b for a, b in pairwise(ks)) or ks[0] < 1:
        raise ValueError(f"an elbow needs three or more ascending ks and an inertia for each, got {ks} and {inertias}")
    x, y = np.log(ks), np.asarray(inertias, float)
    y = np.log(np.maximum(y, np.finfo(float).eps * max(y.max(), np.finfo(float).tiny)))  # none left: almost none left
    x, y = (x - x[0]) / (x[-1] - x[0]), y - y[-1]
    chord = y[0] * (1 - x)
    return int(ks[int(np.argmax(chord - y))])


class Tried(NamedTuple):
    """What `choose_k` found with one number of clusters."""

    k: int
    inertia: float
    silhouette: float  # NaN for a single cluster, and for as many clusters as rows
    error: float  # the silhouette's standard error
    stability: float


class Choice(NamedTuple):
    """A number of clusters, why, and what else was tried. ``print`` shows it as a table."""

    k: int
    reason: str
    table: tuple[Tried, ...]
    elbow: int | None  # a second opinion, from the inertias alone; None where fewer than three ks were tried

    def __str__(self) -> str:
        lines = ["  k     inertia  silhouette     stability"]
        for k, inertia, mean, error, stable in self.table:
            judged = "      –      " if np.isnan(mean) else f"{mean:5.3f} ± {error:5.3f}"
            lines.append(f"{k:3d}  {inertia:10.4g}  {judged}  {stable:6.2f}{'  <' if k == self.k else ''}")
        return "\n".join([*lines, f"k = {self.k}: {self.reason}"])


def choose_k(
    X: Any,
    ks: Sequence[int] | None = None,
    *,
    estimator: BaseEstimator | None = None,
    n_seeds: int = 5,
    max_rows: int = 5000,
    random_state: RandomState = None,
    progress: Progress | None = None,
) -> Choice:
    """How many clusters there are, or that there are none.

    The k of the largest silhouette is taken; among those within one standard error of it, the most stable, then the
    smallest. Then comes the question that no silhouette answers by itself: would rows without any clusters look as
    good? The same k is tried on heaps of the same extent, drawn from one Gaussian with the covariance of `X` (as in
    Liu, Hayes, Nobel and Marron, 2008) and uniformly from the box along its principal axes (as in Tibshirani, Walther
    and Hastie, 2001). There is one cluster, unless the silhouette is above both: by three standard errors, and by a
    fifth of the heap's own distance from 0 or from 1, whichever is less.

    Clusters are taken to be round and of about the same width, as k-means sees them. A single heap that is very skewed
    (incomes, counts) can pass for several: take its logarithm first. A lone outlier is a cluster.

    Parameters
    ----------
    X : [N, D] floats
    ks : sequence of int, optional
        1 to 20 by default, or to fewer where fewer rows are distinct. Without 1 among them, the best of them is chosen
        even where no clusters are found; the reason says so.
    estimator : estimator with `n_clusters`, `inertia_` and `labels_`, optional
        `KMeans` by default, one start a seed. Another should be of its kind: distances are Euclidean.
    n_seeds : int
        Fits with each k: the one with the least inertia is judged, all of them make its stability.
    max_rows : int
        Of more rows, so many are drawn, once, and all is found from them, inertias included.
    random_state : int, RandomState or None
    progress : callable, optional
        Called with the number of fits done, that of all, and what is being fitted.

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        If `ks` is empty or `n_seeds` below 2; or what scikit-learn raises on an empty or not finite `X`, or on more
        clusters than rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> heaps = rng.normal(size=(300, 2)) + rng.choice([0, 10, 20], size=(300, 1))
    >>> choose_k(heaps, random_state=0).k
    3
    >>> choose_k(rng.normal(size=(300, 2)), random_state=0).k
    1
    """
    if n_seeds < 2:
        raise ValueError(f"n_seeds={n_seeds}, but stability compares two runs or more")
    X = check_array(X)
    rng = check_random_state(random_state)
    if len(X) > max_rows:
        X = X[np.sort(rng.permutation(len(X))[:max_rows])]
    if ks is None:
        ks = range(1, max(1, min(20, len(X) - 1, len(np.unique(X, axis=0)))) + 1)
    ks = _checked(ks)
    estimator = KMeans(n_init=1) if estimator is None else estimator

    total, done = len(ks) * n_seeds + 2 * N_REFERENCES, 0

    def fit(rows: np.ndarray, k: int, text: str) -> Any:
        nonlocal done
        fitted = _seeded(estimator, rng).set_params(n_clusters=k).fit(rows)
        done += 1
        if progress is not None:
            progress(done, total, text)
        return fitted

    def judge(rows: np.ndarray, labels: np.ndarray) -> Silhouette:
        if not 2 <= len(np.unique(labels)) < len(rows):
            return Silhouette(float("nan"), float("nan"))
        return silhouette(rows, labels, random_state=rng)

    table = []
    for k in ks:
        fits = [fit(X, k, f"k = {k}") for _ in range(n_seeds)]
        best = min(fits, key=lambda fitted: fitted.inertia_)
        scores = [adjusted_rand_score(a.labels_, b.labels_) for a, b in combinations(fits, 2)]
        table.append(Tried(k, float(best.inertia_), *judge(X, best.labels_), float(np.mean(scores))))
    bend = elbow(ks, [tried.inertia for tried in table]) if len(ks) > 2 else None

    judged = [tried for tried in table if not np.isnan(tried.silhouette)]
    if not judged:
        if progress is not None:
            progress(total, total, "no references needed")
        equal = len(np.unique(X, axis=0)) == 1
        reason = "all rows are equal" if equal else "no other was tried that leaves room to compare"
        return Choice(ks[0], reason, tuple(table), bend)
    top = max(judged, key=lambda tried: tried.silhouette)
    near = [tried for tried in judged if tried.silhouette >= top.silhouette - top.error]
    chosen = max(near, key=lambda tried: (round(tried.stability, 2), -tried.k))

    bar, heap = -1.0, -1.0
    for text, references in zip(("a Gaussian heap", "a uniform heap"), _heaps(X, rng), strict=True):
        means = [judge(rows, fit(rows, chosen.k, text).labels_).mean for rows in references]
        spread = np.hypot(np.std(means, ddof=1), chosen.error)
        mean = float(np.mean(means))
        bar = max(bar, mean + max(3 * spread, LEAST_GAIN * min(mean, 1 - mean)))
        heap = max(heap, mean)
    found, single = f"{chosen.silhouette:.3f} ± {chosen.error:.3f}", f"a single heap of the same extent ({heap:.3f})"
    k = chosen.k
    if chosen.silhouette > bar:
        which = "the largest" if chosen is top else "the most stable of those with about the largest"
        reason = f"{which} silhouette, {found}, against that of {single}"
    elif 1 in ks:
        k, reason = 1, f"no clusters found: with k = {k} the silhouette, {found}, is as of {single}"
    else:
        reason = f"the best of those tried, but hardly clusters: the silhouette, {found}, is as of {single}"
    return Choice(k, reason, tuple(table), bend)


def _checked(ks: Sequence[int]) -> tuple[int, ...]:
    ks = tuple(sorted({index(k) for k in ks}))
    if not ks:
        raise ValueError("ks is empty: give one number of clusters or more")
    return ks


def _seeded(estimator: BaseEstimator, rng: np.random.RandomState) -> Any:
    """A clone with a seed of its own, in each place that takes one."""
    copy = clone(estimator)
    places = [name for name in copy.get_params() if name.split("__")[-1] == "random_state"]
    return copy.set_params(**{name: rng.randint(2**31 - 1) for name in places})


def _heaps(X: np.ndarray, rng: np.random.RandomState) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray]]:
    """Rows without clusters that extend as far as `X`: Gaussian ones, and uniform ones in its box.

    They are given in principal coordinates: turning a set changes no distance. One at a time, as they may be large.
    """
    dtype = np.float32 if X.dtype == np.float32 else np.float64
    centred = np.asarray(X, float) - np.mean(X, axis=0, dtype=float)
    n, d = centred.shape
    if d <= n:
        squares, axes = np.linalg.eigh(centred.T @ centred)
        turned = centred @ axes
    else:  # the same through the smaller product
        squares, axes = np.linalg.eigh(centred @ centred.T)
        turned = axes * np.sqrt(np.maximum(squares, 0))
    widths = np.sqrt(np.maximum(squares, 0) / max(n - 1, 1))
    low, high = turned.min(axis=0), turned.max(axis=0)
    shape = turned.shape
    gaussian = ((rng.normal(size=shape) * widths).astype(dtype) for _ in range(N_REFERENCES))
    uniform = (rng.uniform(low, high, shape).astype(dtype) for _ in range(N_REFERENCES))
    return gaussian, uniform
