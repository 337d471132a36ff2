"""k-means as scikit-learn has it, with the same results sooner, and on data larger than memory.

`KMeans` *is a* ``sklearn.cluster.KMeans``: its parameters, attributes, errors and warnings are that one's. What is new
is how it draws its first centres (`unsupervised.seeding`), how it moves them (`unsupervised.lloyd`), and where rows
may lie (`unsupervised.rows`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import cluster
from sklearn.base import _fit_context
from sklearn.cluster._k_means_common import _is_same_clustering
from sklearn.cluster._kmeans import _kmeans_single_lloyd
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import normalize
from sklearn.utils import check_array, check_random_state
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    _is_arraylike_not_scalar,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from sandbox.training.device import pick_device
from unsupervised.lloyd import Partition, Result, lloyd, means
from unsupervised.rows import Rows, Team, rows_of, team, tiles
from unsupervised.seeding import Moments, at_random, canonical, moments, ordering, plusplus, row_keys
from unsupervised.shards import Shards

SMALL = 1 << 23  # multiplications of one iteration, below which scikit-learn's compiled loop is the faster one
FAR = 4  # the mean's squared norm over the variance, beyond which rows are centred before distances are taken


class Seeded:
    """First centres that depend neither on the order of the rows nor on how often one is repeated."""

    def _init_centroids(
        self,
        X: Any,
        x_squared_norms: NDArray[Any],
        init: Any,
        random_state: np.random.RandomState,
        sample_weight: NDArray[Any],
        init_size: int | None = None,
        n_centroids: int | None = None,
    ) -> NDArray[Any]:
        """The first centres [K, D]; scikit-learn's own classes ask for them here."""
        if init_size is not None and init_size < X.shape[0]:
            ids = random_state.randint(0, X.shape[0], init_size)
            X, x_squared_norms, sample_weight = X[ids], x_squared_norms[ids], sample_weight[ids]
        if not isinstance(init, str):
            centers: NDArray[Any] = super()._init_centroids(  # type: ignore[misc]
                X, x_squared_norms, init, random_state, sample_weight, n_centroids=n_centroids
            )
            return centers
        n_clusters = self.n_clusters if n_centroids is None else n_centroids  # type: ignore[attr-defined]
        norms = torch.from_numpy(np.ascontiguousarray(x_squared_norms))
        weights = torch.from_numpy(np.asarray(sample_weight, np.float64))
        rows = rows_of(X, torch.device("cpu"))
        with team(_openmp_effective_n_threads(), X.shape[0] * X.shape[1] * n_clusters) as threads:
            keys = self._keys(X, threads)
            ids = drawn(rows, norms, weights, n_clusters, init, random_state, threads, keys, ordering(keys))
        return rows.dense(torch.from_numpy(ids)).numpy()  # type: ignore[no-any-return]

    def _fit_distinct(self, X: Any, sample_weight: ArrayLike | None) -> Any:
        """Fit as scikit-learn does, the rows that differ, each with the weight of all equal to it; X, checked."""
        checked = self._validated(X, reset=True)
        n_clusters = self._enough(checked)
        weights = _check_sample_weight(sample_weight, checked, dtype=checked.dtype, ensure_non_negative=True)
        rows, mass = canonical(checked, weights, n_clusters)
        super().fit(rows, sample_weight=mass)  # type: ignore[misc]
        validate_data(self, X, skip_check_array=True)  # the names of the features, which `rows` has not
        return checked

    def _enough(self, X: Any) -> int:
        """How many clusters there are to be, which must not be more than there are rows."""
        n_clusters: int = self.n_clusters  # type: ignore[attr-defined]
        if X.shape[0] < n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={n_clusters}.")
        return n_clusters

    def _validated(self, X: Any, *, reset: bool) -> Any:
        return validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            accept_large_sparse=False,
        )

    def _keys(self, X: Any, threads: Team) -> NDArray[np.uint64]:
        """A number for each row, the same for equal rows, in whose order they are drawn."""
        return row_keys(X, threads)


def drawn(
    rows: Rows,
    norms: Tensor,
    weights: Tensor | None,
    n_clusters: int,
    init: str,
    random_state: np.random.RandomState,
    threads: Team,
    keys: NDArray[np.uint64],
    order: NDArray[np.intp],
) -> NDArray[np.intp]:
    """The rows that are the first centres [K], by ``"k-means++"`` or ``"random"``."""
    if init == "k-means++":
        return plusplus(rows, norms, weights, n_clusters, random_state, order, threads)
    each = np.ones(len(keys)) if weights is None else weights.cpu().numpy()
    return at_random(each, n_clusters, random_state, order, keys)


class KMeans(Seeded, cluster.KMeans):  # type: ignore[misc]
    """k-means clustering, as ``sklearn.cluster.KMeans`` and in a fraction of its time.

    Greedy k-means++ draws candidates for many centres in one pass over the data (see `unsupervised.seeding`); Lloyd's
    loop keeps bounds that spare it most distances once few rows move (see `unsupervised.lloyd`). The result is that of
    scikit-learn's Lloyd from the same first centres, up to rounding, and it does not depend on the number of threads;
    few rows are handed to scikit-learn's compiled loop. A row of weight 3 counts as the row three times, in the draws,
    too.

    Parameters
    ----------
    n_clusters : int, default=8
        K.
    init : {"k-means++", "random"}, callable or array [K, D], default="k-means++"
        The first centres; a callable is given ``X, n_clusters, random_state``.
    n_init : "auto" or int, default="auto"
        Runs, of which the one of least inertia is kept. "auto": 1 for "k-means++" and arrays, else 10.
    max_iter : int, default=300
        Iterations of one run.
    tol : float, default=1e-4
        A run ends when the squared distance that the centres went is at most this share of the mean variance of the
        features; with 0, when no row moves.
    verbose : int, default=0
        Print each iteration's inertia.
    random_state : int, RandomState or None, default=None
    copy_x : bool, default=True
        For compatibility: X is never changed.
    algorithm : {"auto", "lloyd", "elkan"}, default="auto"
        "lloyd" takes all distances in each iteration; "elkan" keeps bounds from the start (of two numbers a row, where
        scikit-learn's has K); "auto" once few rows move. The results are the same.
    device : {"auto", "cpu", "cuda"}, default="auto"
        "auto" takes a GPU where there is one and X is a dense array in memory.

    Attributes
    ----------
    cluster_centers_ : [K, D]
    labels_ : int32 [N]
    inertia_ : float
        Σ w ‖x - c‖² of each row and its nearest centre.
    n_iter_ : int
        Iterations of the run that was kept.
    n_features_in_ : int
    feature_names_in_ : [D]
        Where X has names.

    Raises
    ------
    ValueError
        As scikit-learn's; if a GPU is asked for where there is none, or for sparse data or `Shards`.

    Notes
    -----
    Lloyd (1957), "Least squares quantization in PCM"; Arthur and Vassilvitskii (2007), "k-means++"; Hamerly (2010),
    "Making k-means even faster".

    Examples
    --------
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> kmeans = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> bool(kmeans.labels_[0] == kmeans.labels_[1] != kmeans.labels_[3])
    True
    >>> sorted(kmeans.cluster_centers_.tolist())
    [[1.0, 2.0], [10.0, 2.0]]
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **cluster.KMeans._parameter_constraints,
        "algorithm": [StrOptions({"auto", "lloyd", "elkan"})],
        "device": [StrOptions({"auto", "cpu", "cuda"})],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | ArrayLike | Callable[..., Any] = "k-means++",
        n_init: str | int = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
        copy_x: bool = True,
        algorithm: str = "auto",
        device: str = "auto",
    ) -> None:
        super().__init__(
            n_clusters=n_clusters,
            init=init,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            verbose=verbose,
            random_state=random_state,
            copy_x=copy_x,
            algorithm=algorithm,
        )
        self.device = device

    _centred = True  # the rows, where that makes distances more accurate

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> KMeans:
        """Find the clusters.

        Parameters
        ----------
        X : array, CSR matrix or Shards [N, D]
            float32 stays float32, with sums in float64; all other numbers become float64.
        y : ignored
        sample_weight : [N], optional
            None: all 1.

        Returns
        -------
        self
        """
        X = self._prepared(self._rows_in(X, reset=True))
        init = self._check_init(X)
        algorithm = self._check_algorithm()
        random_state = check_random_state(self.random_state)
        weights = self._weights_in(sample_weight, X)
        self._n_threads = _openmp_effective_n_threads()
        device = self._device_for(X)
        work = X.shape[0] * X.shape[1] * self.n_clusters
        watched = bool(self.verbose) or getattr(self._progress, "__func__", None) is not KMeans._progress
        small = (
            work < SMALL
            and algorithm != "always"
            and device.type == "cpu"
            and not isinstance(X, Shards)
            and not (watched and not self.verbose)
            and type(self)._move is KMeans._move
        )
        with team(self._n_threads, work) as threads:
            rows, about, offset = self._measured(X, weights, device, threads)
            self._tol = self.tol * about.variance
            keys = row_keys(X, threads, self._prepared) if isinstance(init, str) else np.empty(0, np.uint64)
            order = ordering(keys)
            weights = None if weights is None else weights.to(device)

            best: Result | None = None
            for _ in range(self._n_init):
                if isinstance(init, str):
                    ids = drawn(rows, about.norms, weights, self.n_clusters, init, random_state, threads, keys, order)
                    centers = rows.dense(torch.from_numpy(ids).to(device))
                else:
                    first = super()._init_centroids(X, np.empty(0), init, random_state, np.empty(0))
                    centers = torch.from_numpy(self._placed(np.array(first, X.dtype)) - offset).to(device)
                if self.verbose:
                    print("Initialization complete")
                if small:
                    run = self._run_small(rows, weights, centers)
                else:
                    run = lloyd(
                        rows,
                        about.norms,
                        weights,
                        centers,
                        max_iter=self.max_iter,
                        tol=self._tol,
                        team=threads,
                        pruned=algorithm,
                        move=self._move,
                        progress=self._progress if watched else None,
                        told=print if self.verbose else None,
                    )
                if best is None or (
                    run.inertia < best.inertia and not _is_same_clustering(run.labels, best.labels, self.n_clusters)
                ):
                    best = run
        assert best is not None
        self.cluster_centers_ = best.centers.cpu().numpy() + offset
        self._n_features_out = self.n_clusters
        self.labels_, self.inertia_, self.n_iter_ = best.labels, best.inertia, best.n_iter
        found = len(np.unique(best.labels))
        if found < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({found}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _run_small(self, rows: Rows, weights: Tensor | None, centers: Tensor) -> Result:
        """scikit-learn's own loop: with few rows, a compiled one is done before ours has begun."""
        X = rows.X.numpy() if torch.is_tensor(rows.X) else rows.X  # type: ignore[attr-defined]
        mass = np.ones(X.shape[0], X.dtype) if weights is None else weights.numpy().astype(X.dtype)
        labels, inertia, found, n_iter = _kmeans_single_lloyd(
            X, mass, centers.numpy(), max_iter=self.max_iter, verbose=self.verbose, tol=self._tol, n_threads=1
        )
        return Result(labels, torch.from_numpy(found), float(inertia), n_iter)

    def predict(self, X: Any) -> NDArray[np.int32]:
        """The nearest centre of each row [N].

        Parameters
        ----------
        X : array, CSR matrix or Shards [N, D]

        Returns
        -------
        int32 [N]
        """
        return self._assigned(X, None)[0]

    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Minus the inertia of these rows.

        Parameters
        ----------
        X : array, CSR matrix or Shards [N, D]
        y : ignored
        sample_weight : [N], optional

        Returns
        -------
        float
        """
        return -self._assigned(X, sample_weight)[1]

    def _assigned(self, X: Any, sample_weight: ArrayLike | None) -> tuple[NDArray[np.int32], float]:
        """Each row's nearest centre, and the inertia."""
        check_is_fitted(self)
        X = self._prepared(self._rows_in(X, reset=False))
        weights = self._weights_in(sample_weight, X)
        device = self._device_for(X)
        with team(self._n_threads, X.shape[0] * X.shape[1] * self.n_clusters) as threads:
            rows, about, offset = self._measured(X, weights, device, threads)
            centers = torch.from_numpy(self.cluster_centers_.astype(X.dtype) - offset).to(device)
            weights = None if weights is None else weights.to(device)
            partition = Partition(rows, about.norms, weights, self.n_clusters, threads, "never")
            partition.assign(centers)
            return partition.labels.cpu().numpy(), partition.inertia(centers)

    def _transform(self, X: Any) -> NDArray[Any]:
        if isinstance(X, Shards):
            return np.concatenate([self._transform(X.rows(*tile)) for tile in tiles(0, len(X), 4096)])
        return euclidean_distances(self._prepared(X), self.cluster_centers_)  # type: ignore[no-any-return]

    def _check_test_data(self, X: Any) -> Any:
        return self._rows_in(X, reset=False)

    def _rows_in(self, X: Any, *, reset: bool) -> Any:
        """X, checked."""
        if isinstance(X, Shards):
            if reset:
                self.n_features_in_ = X.shape[1]
                if hasattr(self, "feature_names_in_"):
                    del self.feature_names_in_
            elif X.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                    "features as input."
                )
            return X
        return self._validated(X, reset=reset)

    def _weights_in(self, sample_weight: ArrayLike | None, X: Any) -> Tensor | None:
        """Weights float64 [N], or None for all 1."""
        if sample_weight is None:
            return None
        checked = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return None if (checked == 1).all() else torch.from_numpy(np.ascontiguousarray(checked))

    def _device_for(self, X: Any) -> torch.device:
        anywhere = not (isinstance(X, Shards) or sp.issparse(X))
        return torch.device("cpu") if self.device == "auto" and not anywhere else pick_device(self.device)

    def _check_init(self, X: Any) -> Any:
        """The first centres as asked for, checked; how many runs there are to be."""
        self._enough(X)
        given = _is_arraylike_not_scalar(self.init)
        automatic = 1 if given or (isinstance(self.init, str) and self.init == "k-means++") else 10
        self._n_init = automatic if self.n_init == "auto" else self.n_init
        if not given:
            if callable(self.init) and isinstance(X, Shards):
                raise ValueError(
                    "init is a function, which needs all rows at once: use 'k-means++', 'random' or an array"
                )
            return str(self.init) if isinstance(self.init, str) else self.init
        if self._n_init != 1:
            warnings.warn(
                "Explicit initial center position passed: performing only one init in "
                f"{type(self).__name__} instead of n_init={self._n_init}.",
                RuntimeWarning,
                stacklevel=3,
            )
            self._n_init = 1
        init = check_array(self.init, dtype=X.dtype, copy=True, order="C")
        self._validate_center_shape(X, init)
        return init

    def _check_algorithm(self) -> Any:
        if self.algorithm == "elkan" and self.n_clusters == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
                stacklevel=3,
            )
            return "never"
        return {"auto": "auto", "lloyd": "never", "elkan": "always"}[self.algorithm]

    def _measured(
        self, X: Any, weights: Tensor | None, device: torch.device, threads: Team
    ) -> tuple[Rows, Moments, NDArray[Any]]:
        """The rows, what is known of them, and what was subtracted from them [D]."""
        rows = rows_of(X, device, self._prepared if isinstance(X, Shards) else None)
        about = moments(rows, weights, threads)
        if isinstance(X, Shards) and not bool(torch.isfinite(about.norms).all()):
            check_array(X.rows(*_first_bad(about.norms)), input_name="X")  # raises, if it is no overflow
        offset = np.zeros(X.shape[1], X.dtype)
        far = float(about.mean @ about.mean) > FAR * about.variance * X.shape[1]
        if far and self._centred and not sp.issparse(X):
            # Far from the origin, the norms would swallow the distances.
            offset = about.mean.cpu().numpy().astype(X.dtype)
            rows = rows_of(X, device, lambda block: block - offset)
            about = moments(rows, weights, threads)
        return rows, about, offset

    def _prepared(self, X: Any) -> Any:
        """What becomes of rows, of all at once or of shards as they are read, before distances are taken."""
        return X

    def _placed(self, centers: NDArray[Any]) -> NDArray[Any]:
        """What becomes of centres that the user gives."""
        return centers

    def _move(self, sums: Tensor, mass: Tensor) -> Tensor:
        """Where the centres [K, D] belong, given the sums and the mass of their rows."""
        return means(sums, mass)

    def _progress(self, iteration: int, inertia: float) -> None:
        """Told of each iteration."""
        if self.verbose:
            print(f"Iteration {iteration}, inertia {inertia}.")


def _first_bad(norms: Tensor) -> tuple[int, int]:
    row = int((~torch.isfinite(norms)).nonzero()[0])
    return row, row + 1


class SphericalKMeans(KMeans):
    """k-means by direction: rows and centres have unit length, and a row belongs to the centre of largest cosine.

    Parameters
    ----------
    n_clusters, init, n_init, max_iter, tol, verbose, random_state, copy_x, algorithm, device
        As `KMeans`.

    Attributes
    ----------
    cluster_centers_ : [K, D]
        Of unit length.
    labels_ : int32 [N]
    inertia_ : float
        Σ w ‖x/‖x‖ - c‖² = Σ w (2 - 2 cos(x, c)); a row of zeros has no direction and counts 1.
    n_iter_ : int

    Notes
    -----
    Dhillon and Modha (2001), "Concept decompositions for large sparse text data using clustering".

    Examples
    --------
    >>> X = np.array([[1.0, 0.1], [9.0, 0.0], [0.1, 1.0], [0.0, 5.0]])
    >>> labels = SphericalKMeans(2, random_state=0).fit_predict(X)
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """

    _centred = False  # directions are seen from the origin

    def _prepared(self, X: Any) -> Any:
        return X if isinstance(X, Shards) else normalize(X)

    def _placed(self, centers: NDArray[Any]) -> NDArray[Any]:
        return normalize(centers)  # type: ignore[no-any-return]

    def _move(self, sums: Tensor, mass: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
        return sums / length.masked_fill(length == 0, 1)


def k_means(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: ArrayLike | None = None,
    init: str | ArrayLike | Callable[..., Any] = "k-means++",
    n_init: str | int = "auto",
    max_iter: int = 300,
    verbose: bool = False,
    tol: float = 1e-4,
    random_state: int | np.random.RandomState | None = None,
    copy_x: bool = True,
    algorithm: str = "auto",
    return_n_iter: bool = False,
    device: str = "auto",
) -> tuple[Any, ...]:
    """k-means as a function; see `KMeans` for the parameters.

    Returns
    -------
    centers : [K, D]
    labels : int32 [N]
    inertia : float
    n_iter : int
        With ``return_n_iter=True``.

    Examples
    --------
    >>> centers, labels, inertia = k_means(np.array([[0.0], [1.0], [9.0], [10.0]]), 2, random_state=0)
    >>> sorted(centers[:, 0].tolist()), inertia
    ([0.5, 9.5], 1.0)
    """
    fitted = KMeans(
        n_clusters=n_clusters,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        verbose=verbose,
        tol=tol,
        random_state=random_state,
        copy_x=copy_x,
        algorithm=algorithm,
        device=device,
    ).fit(X, sample_weight=sample_weight)
    result = (fitted.cluster_centers_, fitted.labels_, fitted.inertia_)
    return (*result, fitted.n_iter_) if return_n_iter else result


def kmeans_plusplus(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: ArrayLike | None = None,
    x_squared_norms: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
    n_local_trials: int | None = None,
    device: str = "auto",
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """First centres by greedy k-means++.

    Parameters
    ----------
    X : array, CSR matrix or Shards [N, D]
    n_clusters : int
        K.
    sample_weight : [N], optional
    x_squared_norms : [N], optional
        For compatibility; they are measured anyway.
    random_state : int, RandomState or None
    n_local_trials : int, optional
        Candidates for each centre; default 2 + ⌊ln K⌋.
    device : {"auto", "cpu", "cuda"}

    Returns
    -------
    centers : [K, D]
    indices : [K]
        Their rows.

    Examples
    --------
    >>> X = np.array([[1.0, 2.0], [1.0, 2.1], [10.0, 2.0]])
    >>> centers, indices = kmeans_plusplus(X, 2, random_state=0)
    >>> bool((centers == X[indices]).all()), int(2 in indices)
    (True, 1)
    """
    estimator = KMeans(n_clusters, device=device)
    estimator._validate_params()
    X = estimator._rows_in(X, reset=True)
    estimator._check_init(X)
    if n_local_trials is not None and n_local_trials < 1:
        raise ValueError(f"n_local_trials must be at least 1, got {n_local_trials}")
    if x_squared_norms is not None:
        length = len(check_array(x_squared_norms, ensure_2d=False))
        if length != X.shape[0]:
            raise ValueError(
                f"The length of x_squared_norms {length} should be equal to the length of n_samples {X.shape[0]}."
            )
    weights = estimator._weights_in(sample_weight, X)
    where = estimator._device_for(X)
    generator = check_random_state(random_state)
    with team(_openmp_effective_n_threads(), X.shape[0] * X.shape[1] * n_clusters) as threads:
        order = ordering(row_keys(X, threads))
        rows, about, _ = estimator._measured(X, weights, where, threads)
        weights = None if weights is None else weights.to(where)
        ids = plusplus(rows, about.norms, weights, n_clusters, generator, order, threads, n_local_trials)
    if isinstance(X, Shards):
        return X.take(ids), ids
    chosen = X[ids]
    return (chosen.toarray() if sp.issparse(chosen) else chosen), ids
