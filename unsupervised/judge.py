"""What features learned without labels are worth: beside controls that come with every judgement.

A number by itself says little: pixels tell a digit too, and so does a network that never learned. So each judge
compares on the same held-out samples: the encoder; `pixels`, the samples as they are; `PCA` of as many features; the
same network left at `random`; and the same network `supervised`, trained from the labels. `judge` asks the probes of
`unsupervised.probes` and k-means, `few_labels` how many labels the features save, `judge_ram` what they know of a game.
"""

from __future__ import annotations

import difflib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.utils import check_random_state, column_or_1d

from sandbox import zoo
from sandbox.training.device import pick_device, private_seed
from sandbox.zoo import Encoder
from sandbox.zoo.latent import LatentEncoder
from unsupervised import losses
from unsupervised.kmeans import KMeans
from unsupervised.probes import (
    LinearProbe,
    RamScores,
    RandomState,
    _labels_of,
    frozen_features,
    knn_accuracy,
    ram_probe,
)
from unsupervised.supervised import Classifier

Split = tuple[ArrayLike, ArrayLike]  # the rows to learn from, and those held out
Progress = Callable[[int, int, str], None]  # how much is done, of how much, and what is being done
Floats = NDArray[np.float32]

STEPS = 300  # of a network that learns labels, at least: an epoch of few labels is a single one
RANKED = 2048  # rows whose effective rank is taken: its time grows with their cube
PCA_ROWS, PCA_EXACT = 5000, 1024  # rows that PCA is fitted on, and values of a sample up to which it is exact
TILE = 4096  # samples that are turned to floats at once
STARTS = 5  # of k-means, of which the best is kept
FOLDS = 5  # in which the penalty of a linear layer is chosen; with fewer labels of a class there is nothing to go by


# -- features with all controls ----------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """What was found of one kind of features.

    Attributes
    ----------
    n_features : int
    linear, knn : float
        Accuracy on the held-out samples, of `LinearProbe` and of `knn_accuracy`.
    nmi, ari : float
        Normalised mutual information, and adjusted Rand index, of their labels and the clusters of k-means, of which
        there are as many as classes.
    effective_rank, spread : float
        How many dimensions the features use, and whether they are all the same (see `unsupervised.losses`): 1 and 0
        are collapse.
    """

    n_features: int
    linear: float
    knn: float
    nmi: float
    ari: float
    effective_rank: float
    spread: float


class Judgement(NamedTuple):
    """An encoder beside its controls; print it for a table.

    Attributes
    ----------
    rows : dict of str to Judged
        ``"encoder"``, then ``"supervised"``, ``"random"``, ``"PCA"``, ``"pixels"``.
    n_train, n_test, n_classes : int
        Samples learned from, those held out, and classes.
    k : int
        Neighbours.
    chance : float
        Accuracy on the held-out samples of always saying the class that is most frequent among those learned from.
    """

    rows: dict[str, Judged]
    n_train: int
    n_test: int
    n_classes: int
    k: int
    chance: float

    def __str__(self) -> str:
        lines = [
            f"{self.n_test:,} samples of {self.n_classes} classes held out, {self.n_train:,} learned from; accuracy of "
            f"a linear layer and of {self.k} neighbours (chance {self.chance:.3f})",
            f"{'':12}{'features':>8}{'linear':>8}{'kNN':>8}{'NMI':>8}{'ARI':>8}{'rank':>8}{'spread':>8}",
        ]
        for name, (n, *scores, rank, spread) in self.rows.items():
            lines.append(f"{name:12}{n:8,}{''.join(f'{x:8.3f}' for x in scores)}{rank:8.1f}{spread:8.3f}")
        if "supervised" not in self.rows:
            lines.append("without the supervised control, which was not asked for")
        return "\n".join(lines)


def judge(
    encoder: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    test_size: float = 0.2,
    split: Split | None = None,
    supervised: bool = True,
    k: int = 20,
    max_iter: int = 50,
    random_state: RandomState = 0,
    progress: Progress | None = None,
) -> Judgement:
    """How good features are for telling labels, in five ways, beside those of all controls.

    Parameters
    ----------
    encoder : zoo Encoder, path of a zoo file or of a run's folder, or fitted estimator
        Made by `zoo.build`, so that the same network can be left at random, and trained from labels. Of an estimator it
        is its `encoder_`. It stays as it is.
    X : [N, *in_shape], or rows [N, D]
        Bytes, which count from 0 to 1, or floats.
    y : [N] labels
    test_size : float, default=0.2
        Share of the samples that is held out, each class in its proportion.
    split : (rows to learn from, rows held out), optional
        Instead of a drawn one: whole numbers, or `bool` of length N.
    supervised : bool, default=True
        False leaves out the one control that has to be trained; the table then says so.
    k : int, default=20
        Neighbours; or all samples that are learned from, where they are fewer.
    max_iter : int, default=50
        Epochs of the supervised network; more where they are fewer than 300 steps.
    random_state : int, RandomState or None, default=0
        Of everything that is drawn.
    progress : callable, optional
        Called with the number of rows done, that of all, and what comes next.

    Returns
    -------
    Judgement

    Raises
    ------
    ValueError
        If `X` is of another shape or type than the encoder takes, or not finite, `y` is not as many or names a single
        class, there are fewer samples to learn from than classes, a part is empty or both share a row, or the encoder
        is none of the zoo. Of a file it is a `FileError`.

    Notes
    -----
    The random network has fresh weights, and of a `latent_encoder` the mean and scale that it took from data; its
    linear path, if it has one, is at random, and what is beside it silent, as before the first step. PCA is fitted on
    up to 5,000 of the samples learned from, by a randomised solver (arXiv:0909.4061) for samples of more than 1,024
    values; it has fewer features than the encoder where there are fewer to be had. k-means, too, is fitted on what is
    learned from, and gives clusters to what is held out. Rank and spread are of up to 2,048 samples.

    Linear evaluation: Kornblith, Shlens and Le (2018), arXiv:1805.08974; random networks as a control: Saxe et al.,
    "On random weights and unsupervised feature learning" (2011); effective rank: arXiv:2210.02885.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> encoder = zoo.build("mlp", in_shape=(64,), out_features=16)
    >>> judged = judge(encoder, X / 16, y, max_iter=1)
    >>> list(judged.rows), judged.rows["PCA"].n_features, judged.rows["pixels"].n_features
    (['encoder', 'supervised', 'random', 'PCA', 'pixels'], 16, 64)
    >>> judged.rows["supervised"].linear > 0.9
    True
    """
    network = _network(encoder)
    X = _samples(network, X)
    rng = check_random_state(random_state)
    labels, train, test = _labelled(y, len(X), test_size, split, rng)
    seed, names, chance = int(rng.randint(2**31 - 1)), np.unique(labels), _chance(labels[train], labels[test])
    k = min(k, len(train))
    kinds: dict[str, Callable[[], Floats]] = {"encoder": lambda: frozen_features(network, X)}
    if supervised:
        kinds["supervised"] = lambda: frozen_features(
            _taught(left_at_random(network, seed), X[train], labels[train], max_iter, seed).encoder_, X
        )
    kinds |= _controls(network, X, train, seed)
    rows = {}
    for done, (name, features) in enumerate(kinds.items()):
        _tell(progress, done, len(kinds), name)
        Z = features()
        near = knn_accuracy(Z[train], labels[train], k, test_features=Z[test], test_y=labels[test])
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # of features that are all the same: rank and spread tell
            clusters = KMeans(len(names), n_init=STARTS, random_state=seed).fit(Z[train]).predict(Z[test])
        some = torch.from_numpy(Z[train[:: -(-len(train) // RANKED)]])
        rows[name] = Judged(
            n_features=Z.shape[1],
            linear=LinearProbe(random_state=seed).fit(Z[train], labels[train]).score(Z[test], labels[test]),
            knn=near,
            nmi=float(normalized_mutual_info_score(labels[test], clusters)),
            ari=float(adjusted_rand_score(labels[test], clusters)),
            effective_rank=float(losses.effective_rank(some)),
            spread=float(losses.spread(some)),
        )
    _tell(progress, len(kinds), len(kinds), "done")
    return Judgement(rows, len(train), len(test), len(names), k, chance)


# -- how many labels they save -----------------------------------------------------------------------------------------


class FewLabels(NamedTuple):
    """Accuracy on the same held-out samples after learning from more and more labels; print it for a table.

    Attributes
    ----------
    shares : tuple of float
        Of the labels that could be learned from.
    n_labels : tuple of int
        How many these are.
    accuracy : dict of str to tuple of float
        For each share, of ``"fine-tuned"``, ``"frozen"``, ``"from scratch"``, ``"random"``, ``"PCA"``, ``"pixels"``.
    n_test : int
        Samples held out.
    """

    shares: tuple[float, ...]
    n_labels: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]
    n_test: int

    def __str__(self) -> str:
        lines = [f"accuracy on {self.n_test:,} samples held out, after so many labels"]
        lines.append(f"{'':30}" + "".join(f"{f'{n:,} ({100 * share:.3g} %)':>16}" for share, n in self._columns()))
        for name, values in self.accuracy.items():
            lines.append(f"{WAYS[name]:30}" + "".join(f"{value:16.3f}" for value in values))
        return "\n".join(lines)

    def _columns(self) -> Iterator[tuple[float, int]]:
        return zip(self.shares, self.n_labels, strict=True)


WAYS = {
    "fine-tuned": "encoder, fine-tuned",
    "frozen": "encoder, a linear layer",
    "from scratch": "from scratch (supervised)",
    "random": "left at random, a linear layer",
    "PCA": "PCA, a linear layer",
    "pixels": "pixels, a linear layer",
}


def few_labels(
    encoder: Any,
    X: ArrayLike,
    y: ArrayLike,
    shares: Sequence[float] = (0.01, 0.1, 1.0),
    *,
    test_size: float = 0.2,
    split: Split | None = None,
    max_iter: int = 50,
    random_state: RandomState = 0,
    progress: Progress | None = None,
) -> FewLabels:
    """How far few labels go with an encoder that learned without: fine-tuned or frozen, beside the controls.

    Of the samples that may be learned from, a share has labels: each class in its proportion and at least one of each,
    and what is in a smaller share is in a larger one. `Classifier` fine-tunes the encoder, and trains the same network
    from fresh weights, with the same settings; `LinearProbe` reads what stays as it is. The strength of its penalty is
    chosen from the labels that there are, and 1 where a class has fewer than five.

    Parameters
    ----------
    encoder, X, y, test_size, split, random_state
        As for `judge`.
    shares : sequence of float, default=(0.01, 0.1, 1.0)
        Above 0, up to 1.
    max_iter : int, default=50
        Epochs of the two networks; more where they are fewer than 300 steps.
    progress : callable, optional
        Called with the number of accuracies done, that of all, and what comes next.

    Returns
    -------
    FewLabels

    Raises
    ------
    ValueError
        If a share is not above 0 and at most 1, or there is none; else as for `judge`.

    Notes
    -----
    Chen et al. (2020), "Big self-supervised models are strong semi-supervised learners", arXiv:2006.10029. PCA is
    fitted without labels, on samples of all that are learned from.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> encoder = zoo.build("mlp", in_shape=(64,), out_features=16)
    >>> found = few_labels(encoder, X / 16, y, shares=(0.02, 1.0), max_iter=1)
    >>> found.n_labels, found.n_test, list(found.accuracy)
    ((9, 430), 107, ['fine-tuned', 'frozen', 'from scratch', 'random', 'PCA', 'pixels'])
    """
    shares = tuple(map(float, shares))
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"shares must be one or more numbers above 0 and at most 1, got {list(shares)}")
    network = _network(encoder)
    X = _samples(network, X)
    rng = check_random_state(random_state)
    labels, train, test = _labelled(y, len(X), test_size, split, rng)
    seed, n_classes = int(rng.randint(2**31 - 1)), len(np.unique(labels[train]))
    order = train[_in_proportion(labels[train], rng)]
    told = [order[: max(n_classes, round(share * len(train)))] for share in shares]  # the rows whose label is known

    def network_learns(given: Encoder) -> Iterator[float]:
        for rows in told:
            yield _taught(given, X[rows], labels[rows], max_iter, seed).score(X[test], labels[test])

    def layer_learns(features: Callable[[], Floats]) -> Iterator[float]:
        Z = features()
        for rows in told:
            chosen = np.bincount(labels[rows])[np.unique(labels[rows])].min() >= FOLDS
            probe = LinearProbe(alphas=None if chosen else [1.0], cv=FOLDS, random_state=seed)
            yield probe.fit(Z[rows], labels[rows]).score(Z[test], labels[test])

    ways: dict[str, Iterator[float]] = {
        "fine-tuned": network_learns(network),
        "frozen": layer_learns(lambda: frozen_features(network, X)),
        "from scratch": network_learns(left_at_random(network, seed)),
        **{name: layer_learns(features) for name, features in _controls(network, X, train, seed).items()},
    }
    accuracy: dict[str, tuple[float, ...]] = {}
    total = len(ways) * len(shares)
    for name, scores in ways.items():
        values: list[float] = []
        for i in range(len(shares)):
            _tell(progress, len(accuracy) * len(shares) + i, total, f"{name}, {len(told[i]):,} labels")
            values.append(next(scores))
        accuracy[name] = tuple(values)
    _tell(progress, total, total, "done")
    return FewLabels(shares, tuple(map(len, told)), accuracy, len(test))


# -- the memory of a game ----------------------------------------------------------------------------------------------


class RamJudgement(NamedTuple):
    """What features know of a game's memory, beside the controls; print it for a table.

    Attributes
    ----------
    scores : dict of str to RamScores
        ``"encoder"``, ``"random"``, ``"PCA"``, and ``"pixels"`` if they were asked for.
    """

    scores: dict[str, RamScores]

    @property
    def minus_random(self) -> dict[str, float]:
        """R² of the encoder less that of the random network, of each variable and of their ``"mean"``."""
        return self._minus("random")

    @property
    def minus_pca(self) -> dict[str, float]:
        """R² of the encoder less that of PCA, likewise."""
        return self._minus("PCA")

    def _minus(self, control: str) -> dict[str, float]:
        ours, theirs = _with_mean(self.scores["encoder"]), _with_mean(self.scores[control])
        return {name: value - theirs[name] for name, value in ours.items()}

    def __str__(self) -> str:
        first = self.scores["encoder"]
        columns = {name: _with_mean(scores) for name, scores in self.scores.items()}
        columns |= {"minus random": self.minus_random, "minus PCA": self.minus_pca}
        width = max(map(len, columns["encoder"]))
        lines = [f"{first.game}: R² on {first.n_test:,} frames, of a linear layer learned on {first.n_train:,}"]
        lines.append(f"  {'':{width}}" + "".join(f"{name:>{max(len(name), 7) + 2}}" for name in columns))
        for variable in columns["encoder"]:
            cells = [
                f"{values[variable]:{'+' * name.startswith('minus')}{max(len(name), 7) + 2}.3f}"
                for name, values in columns.items()
            ]
            lines.append(f"  {variable:{width}}" + "".join(cells))
        return "\n".join(lines + str(first).splitlines()[len(first.r2) + 2 :])  # what was left out


def judge_ram(
    encoder: Any,
    frames: ArrayLike,
    ram: ArrayLike,
    game: str,
    *,
    starts: ArrayLike | None = None,
    variables: Sequence[str] | None = None,
    pixels: bool = False,
    random_state: RandomState = 0,
    progress: Progress | None = None,
) -> RamJudgement:
    """How much of a game's state a linear layer reads from features, and how much of that learning has brought.

    Parameters
    ----------
    encoder : zoo Encoder, path of a zoo file or of a run's folder, or fitted estimator
        As for `judge`.
    frames : [N, *in_shape], or rows [N, D]
        Of one recording, in their order.
    ram : [N, 128] uint8
        The memory at each frame; of a stack of frames that of the newest.
    game : str
        As in `RAM_LABELS`.
    starts : [N] bool, optional
        Where a game begins: whole games are then held out (see `ram_probe`).
    variables : sequence of str, optional
        As in ``RAM_LABELS[game]``; all of them by default.
    pixels : bool, default=False
        Whether to read from pixels, too. A ridge regression from 7,056 pixels takes six decompositions of a matrix of
        that size, minutes and gigabytes; from PCA of as many features as the encoder's, a second.
    random_state : int, RandomState or None, default=0
        Of what is held out, which is the same for all, and of the random network.
    progress : callable, optional
        Called with the number of columns done, that of all, and what comes next.

    Returns
    -------
    RamJudgement

    Raises
    ------
    ValueError
        If the game or a variable is not known (the message has the nearest ones), frames are of another shape than the
        encoder takes, or whatever `ram_probe` says.

    Notes
    -----
    Anand et al. (2019), "Unsupervised state representation learning in Atari", arXiv:1906.08226. The controls are those
    of `judge`; PCA is fitted on 5,000 of all frames, evenly spaced, by a randomised solver.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ram = np.zeros((500, 128), np.uint8)
    >>> ram[:, 49] = rng.integers(40, 200, 500)
    >>> frames = np.column_stack([ram[:, 49] / 255, rng.normal(size=(500, 7)).cumsum(0)])
    >>> judged = judge_ram(zoo.build("mlp", in_shape=(8,), out_features=4), frames, ram, "Pong")
    >>> list(judged.scores), list(judged.minus_random), judged.scores["random"].r2 == judged.scores["encoder"].r2
    (['encoder', 'random', 'PCA'], ['ball x', 'mean'], False)
    """
    name, places = _labels_of(game)
    for variable in () if variables is None else variables:
        if variable not in places:
            near = difflib.get_close_matches(variable, places, cutoff=0.4) or list(places)
            raise ValueError(f"{name} has no variable {variable!r}; nearest: {', '.join(near)}")
    network = _network(encoder)
    X = _samples(network, frames, "frames")
    if len(ram_ := np.asarray(ram)) != len(X):
        raise ValueError(f"ram must be that of each of the {len(X)} frames, got {len(ram_)}")
    rng = check_random_state(random_state)
    seed = int(rng.randint(2**31 - 1))
    kinds = {"encoder": lambda: frozen_features(network, X), **_controls(network, X, np.arange(len(X)), seed)}
    if not pixels:
        del kinds["pixels"]
    scores = {}
    for done, (kind, features) in enumerate(kinds.items()):
        _tell(progress, done, len(kinds), kind)
        found = ram_probe(features(), ram_, game, starts=starts, random_state=seed)
        if variables is not None:
            r2 = {name: value for name, value in found.r2.items() if name in variables}
            if not r2:
                raise ValueError(f"nothing varies: {', '.join(variables)} keep one value")
            found = found._replace(r2=r2, left_out=tuple(one for one in found.left_out if one in variables))
        scores[kind] = found
    _tell(progress, len(kinds), len(kinds), "done")
    return RamJudgement(scores)


def _with_mean(scores: RamScores) -> dict[str, float]:
    return {**scores.r2, "mean": scores.mean}


# -- the controls ------------------------------------------------------------------------------------------------------


def left_at_random(encoder: Encoder, seed: int) -> Encoder:
    """The same network as the zoo makes it, with fresh weights; and with the mean and scale that it took from data.

    Examples
    --------
    >>> encoder = zoo.build("latent_encoder", in_shape=(3,), out_features=2, body="mlp")
    >>> encoder.start(mean=[1, 2, 3], scale=4.0)
    >>> fresh = left_at_random(encoder, seed=0)
    >>> fresh.mean.tolist(), fresh.scale.item(), torch.equal(fresh.linear.weight, encoder.linear.weight)
    ([1.0, 2.0, 3.0], 4.0, False)
    """
    spec: Any = encoder.spec
    with private_seed(seed):
        fresh = zoo.build(spec["name"], **spec["kwargs"])
    if isinstance(encoder, LatentEncoder):
        fresh.start(encoder.mean, float(encoder.scale))
    first = next(iter(encoder.parameters()), torch.empty(0))
    return fresh.to(first.device)  # type: ignore[no-any-return]


def _controls(encoder: Encoder, X: NDArray[Any], train: NDArray[np.intp], seed: int) -> dict[str, Callable[[], Floats]]:
    """The features of those that learn nothing from labels, made when they are asked for."""
    return {
        "random": lambda: frozen_features(left_at_random(encoder, seed), X),
        "PCA": lambda: _principal(X, train, encoder.out_features, seed),
        "pixels": lambda: _pixels(X),
    }


def _principal(X: NDArray[Any], train: NDArray[np.intp], n: int, seed: int) -> Floats:
    """As many principal components, or as many as there are, fitted on some of the samples that are learned from."""
    rows = _pixels(X[train[:: -(-len(train) // PCA_ROWS)]])
    solver = "covariance_eigh" if rows.shape[1] <= PCA_EXACT else "randomized"
    pca = PCA(min(n, *rows.shape), svd_solver=solver, random_state=seed).fit(rows)
    tiles = [pca.transform(_pixels(X[start : start + TILE])) for start in range(0, len(X), TILE)]
    return np.concatenate(tiles).astype(np.float32)


def _pixels(X: NDArray[Any]) -> Floats:
    """Samples as rows of floats, bytes from 0 to 1."""
    rows: Any = X.reshape(len(X), -1)
    return rows / np.float32(255) if rows.dtype == np.uint8 else rows


def _taught(encoder: Encoder, X: NDArray[Any], y: NDArray[np.intp], max_iter: int, seed: int) -> Classifier:
    """A copy of the network, trained from labels on from the weights that it has."""
    classifier = Classifier(encoder=encoder, learning_rate="cos_1e-3", random_state=seed)
    steps = -(-len(X) // classifier.batch_size)  # of an epoch
    return classifier.set_params(max_iter=max(max_iter, -(-STEPS // steps))).fit(X, y)  # type: ignore[no-any-return]


# -- what is given -----------------------------------------------------------------------------------------------------


def _network(encoder: Any) -> Any:
    """The encoder of the zoo that is meant: without its specification it has no controls."""
    if isinstance(encoder, (str, os.PathLike)):
        encoder = zoo.load(encoder).to(pick_device())
    network = getattr(encoder, "encoder_", encoder)
    if not isinstance(network, Encoder) or getattr(network, "spec", None) is None:
        raise ValueError(
            "encoder must be an Encoder made by zoo.build, the path of one, or a fitted estimator with one, so that "
            f"the same network can be left at random; got {encoder!r}"
        )
    return network


def _samples(encoder: Any, X: ArrayLike, name: str = "X") -> NDArray[Any]:
    """Samples as the encoder takes them, [N, *in_shape] of bytes or float32."""
    X = np.asarray(X)
    shape = tuple(encoder.in_shape)
    rows = X.ndim == 2 and X.shape[1] == math.prod(shape)
    if not len(X.shape) or not len(X) or not (rows or X.shape[1:] == shape or shape == (1, *X.shape[1:])):
        raise ValueError(f"the encoder takes samples of shape {shape}, but {name} has shape {X.shape}")
    if X.dtype != np.uint8:
        if X.dtype.kind != "f":
            raise ValueError(f"{name} must be bytes (uint8) or floats, got {X.dtype}")
        X = X.astype(np.float32, copy=False)
        if not np.isfinite(X).all():
            raise ValueError(f"{name} has numbers that are not finite")
    return X.reshape(len(X), *shape)


def _labelled(
    y: ArrayLike, N: int, test_size: float, split: Split | None, rng: np.random.RandomState
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Labels as whole numbers from 0, the rows to learn from, and those held out."""
    given: NDArray[Any] = column_or_1d(y)
    if len(given) != N:
        raise ValueError(f"y must be a label for each of the {N} samples, got {len(given)}")
    if given.dtype.kind == "f" and not np.array_equal(given, np.round(given)):
        raise ValueError("y must be labels, not numbers that are not whole")
    names, labels = np.unique(given, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"y names one class alone, {str(names[0])!r}: there is nothing to tell apart")
    if split is None:
        if not 0 < test_size < 1:
            raise ValueError(f"test_size must be between 0 and 1, got {test_size}")
        order = _in_proportion(labels, rng)
        n = min(max(1, round(test_size * N)), N - 1)
        train, test = np.sort(order[: N - n]), np.sort(order[N - n :])
    else:
        train, test = (np.arange(N)[np.asarray(part)] for part in split)
        if not len(train) or not len(test) or np.intersect1d(train, test).size:
            raise ValueError("split must be rows to learn from and others held out: neither empty, none in both")
    if len(train) < len(names):
        raise ValueError(f"{len(names)} classes, but {len(train)} samples to learn from: it takes one of each or more")
    if len(np.unique(labels[train])) < 2:
        raise ValueError("split leaves one class alone to learn from: there is nothing to tell apart")
    return labels, train, test


def _in_proportion(labels: NDArray[np.intp], rng: np.random.RandomState) -> NDArray[np.intp]:
    """An order of rows of which each beginning has all classes in about their proportions, and first one of each.

    Row number `i` of the `n` of its class has its place at the share ``(i + ½) / n`` of them all.
    """
    mixed = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for name in np.unique(labels):
        rows = mixed[labels[mixed] == name]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        place[rows[0]] = -1
    return mixed[np.argsort(place[mixed], kind="stable")]


def _chance(train: NDArray[np.intp], test: NDArray[np.intp]) -> float:
    return float((test == np.bincount(train).argmax()).mean())


def _tell(progress: Progress | None, done: int, total: int, text: str) -> None:
    if progress is not None:
        progress(done, total, text)
