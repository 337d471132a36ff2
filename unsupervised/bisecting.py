"""Bisecting k-means: scikit-learn's tree of splits, each split by our own k-means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import cluster
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions

from unsupervised.kmeans import Seeded
from unsupervised.lloyd import Partition, lloyd
from unsupervised.minibatch import on_the_cpu
from unsupervised.rows import Team, rows_of, team
from unsupervised.seeding import row_keys
from unsupervised.shards import Shards


class BisectingKMeans(Seeded, cluster.BisectingKMeans):  # type: ignore[misc]
    """k-means from the top: split the worst cluster in two until there are enough, as scikit-learn's.

    Parameters
    ----------
    n_clusters, init, n_init, random_state, max_iter, verbose, tol, copy_x, bisecting_strategy
        As scikit-learn's; ``"largest_cluster"`` goes by weight.
    algorithm : {"auto", "lloyd", "elkan"}, default="auto"
        As `KMeans`.
    device : {"auto", "cpu", "cuda"}, default="auto"
        A split of few rows is too short for a GPU: "cuda" is refused.

    Attributes
    ----------
    cluster_centers_ : [K, D]
    labels_ : int32 [N]
    inertia_ : float

    Notes
    -----
    Steinbach, Karypis and Kumar (2000), "A comparison of document clustering techniques".

    Examples
    --------
    >>> X = np.array([[1.0, 1], [10, 1], [3, 1], [10, 0], [2, 1], [10, 2], [10, 8], [10, 9], [10, 10]])
    >>> labels = BisectingKMeans(3, random_state=0).fit_predict(X)
    >>> np.unique(np.bincount(labels)).tolist()
    [3]
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **cluster.BisectingKMeans._parameter_constraints,
        "algorithm": [StrOptions({"auto", "lloyd", "elkan"})],
        "device": [StrOptions({"auto", "cpu", "cuda"})],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | Callable[..., Any] = "random",
        n_init: int = 1,
        random_state: int | np.random.RandomState | None = None,
        max_iter: int = 300,
        verbose: int = 0,
        tol: float = 1e-4,
        copy_x: bool = True,
        algorithm: str = "auto",
        bisecting_strategy: str = "biggest_inertia",
        device: str = "auto",
    ) -> None:
        super().__init__(
            n_clusters=n_clusters,
            init=init,
            n_init=n_init,
            random_state=random_state,
            max_iter=max_iter,
            verbose=verbose,
            tol=tol,
            copy_x=copy_x,
            algorithm=algorithm,
            bisecting_strategy=bisecting_strategy,
        )
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> BisectingKMeans:
        """Find the clusters.

        Parameters
        ----------
        X : array or CSR matrix [N, D]
        y : ignored
        sample_weight : [N], optional

        Returns
        -------
        self
        """
        on_the_cpu(self)
        if isinstance(X, Shards):
            raise TypeError("BisectingKMeans needs all rows in memory: use KMeans for shards")
        self.labels_ = self.predict(self._fit_distinct(X, sample_weight))
        return self

    def _keys(self, X: Any, threads: Team) -> NDArray[np.uint64]:
        if sp.issparse(X):
            return row_keys(X, threads)
        # Equal rows are neighbours; their values have moved since they were sorted, for the mean was taken from them.
        return np.cumsum(np.concatenate([[False], (X[1:] != X[:-1]).any(1)])).astype(np.uint64)

    def _bisect(
        self, X: Any, x_squared_norms: NDArray[Any], sample_weight: NDArray[Any], cluster_to_bisect: Any
    ) -> None:
        """Split a cluster of the tree in two."""
        ids = cluster_to_bisect.indices
        X, x_squared_norms, sample_weight = X[ids], x_squared_norms[ids], sample_weight[ids]
        rows, norms = rows_of(X, torch.device("cpu")), torch.from_numpy(x_squared_norms)
        weights = torch.from_numpy(sample_weight.astype(np.float64))
        best = None
        for _ in range(self.n_init):
            first = self._init_centroids(
                X, x_squared_norms, self.init, self._random_state, sample_weight, n_centroids=2
            )
            with team(self._n_threads, 2 * X.shape[0] * X.shape[1]) as threads:
                run = lloyd(
                    rows,
                    norms,
                    weights,
                    torch.from_numpy(np.array(first, X.dtype)),
                    max_iter=self.max_iter,
                    tol=self.tol,
                    team=threads,
                    pruned="never",  # two distances are cheaper than bounds
                    progress=getattr(self, "_progress", None),
                )
            if best is None or run.inertia < best.inertia * (1 - 1e-6):
                best = run
        assert best is not None
        scores = weights
        if self.bisecting_strategy == "biggest_inertia":
            with team(self._n_threads, 2 * X.shape[0] * X.shape[1]) as threads:
                partition = Partition(rows, norms, weights, 2, threads, "never")
                partition.assign(best.centers)
                scores = partition.errors(best.centers).double() * weights
        per_cluster = np.bincount(best.labels, weights=scores.numpy(), minlength=2)
        if self.verbose:
            print(f"New centroids from bisection: {best.centers.numpy()}")
        cluster_to_bisect.split(best.labels, best.centers.numpy(), per_cluster)
