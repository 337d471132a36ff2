"""Mini-batch k-means: scikit-learn's, with draws that depend on neither order nor multiplicity of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import cluster
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions

from sandbox.training.device import pick_device
from unsupervised.kmeans import Seeded
from unsupervised.shards import Shards


class MiniBatchKMeans(Seeded, cluster.MiniBatchKMeans):  # type: ignore[misc]
    """k-means by mini-batches, as ``sklearn.cluster.MiniBatchKMeans``.

    A row of weight 3 counts as the row three times: batches are drawn from the rows that differ, each with the weight
    of all that are equal to it.

    Parameters
    ----------
    n_clusters, init, max_iter, batch_size, verbose, compute_labels, random_state, tol, max_no_improvement, init_size, \
n_init, reassignment_ratio
        As scikit-learn's.
    device : {"auto", "cpu", "cuda"}, default="auto"
        A step is too short for a GPU: "cuda" is refused.

    Attributes
    ----------
    cluster_centers_ : [K, D]
    labels_ : int32 [N]
    inertia_ : float
    n_iter_, n_steps_ : int

    Notes
    -----
    Sculley (2010), "Web-scale k-means clustering".

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(300, 2)) + np.repeat([[0, 0], [20, 0], [0, 20]], 100, axis=0)
    >>> model = MiniBatchKMeans(3, random_state=0).fit(X)
    >>> np.bincount(model.labels_).tolist()
    [100, 100, 100]
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **cluster.MiniBatchKMeans._parameter_constraints,
        "device": [StrOptions({"auto", "cpu", "cuda"})],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | ArrayLike | Callable[..., Any] = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: str | int = "auto",
        reassignment_ratio: float = 0.01,
        device: str = "auto",
    ) -> None:
        super().__init__(
            n_clusters=n_clusters,
            init=init,
            max_iter=max_iter,
            batch_size=batch_size,
            verbose=verbose,
            compute_labels=compute_labels,
            random_state=random_state,
            tol=tol,
            max_no_improvement=max_no_improvement,
            init_size=init_size,
            n_init=n_init,
            reassignment_ratio=reassignment_ratio,
        )
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> MiniBatchKMeans:
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
            raise TypeError("fit draws batches from all rows: call partial_fit(shards), or use KMeans")
        X = self._fit_distinct(X, sample_weight)
        if self.compute_labels:
            self.labels_ = self.predict(X)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> MiniBatchKMeans:
        """Learn from one batch more.

        Parameters
        ----------
        X : array, CSR matrix or Shards [n, D]
            Of shards, each ``batch_size`` rows are a batch; ``labels_`` are of the last.
        y : ignored
        sample_weight : [n], optional

        Returns
        -------
        self
        """
        on_the_cpu(self)
        if not isinstance(X, Shards):
            super().partial_fit(X, sample_weight=sample_weight)
            return self
        size = max(self.batch_size, self.n_clusters)
        for start in range(0, max(len(X) - size, 0) + 1, size):
            stop = len(X) if start + 2 * size > len(X) else start + size  # the last batch takes what is left
            weights = None if sample_weight is None else np.asarray(sample_weight)[start:stop]
            super().partial_fit(X.rows(start, stop), sample_weight=weights)
        return self


def on_the_cpu(estimator: Any) -> None:
    """Refuse a GPU, for what knows the CPU alone.

    Raises
    ------
    ValueError
        If the estimator's device is another one.
    """
    if estimator.device != "auto" and pick_device(estimator.device).type != "cpu":
        raise ValueError(
            f"{type(estimator).__name__} runs on the CPU alone, and device is {str(estimator.device)!r}: "
            "use 'cpu' or 'auto', or KMeans"
        )
