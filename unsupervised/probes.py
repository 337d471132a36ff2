"""How much of what is known about the data can be read from features that were learned without it.

A probe leaves the features as they are and asks the simplest of readers: a linear layer (`LinearProbe`), the nearest
neighbours (`knn_accuracy`), or a linear layer for each variable in the memory of an Atari game (`ram_probe`).
"""

from __future__ import annotations

import difflib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter1d
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils import ClassifierTags, RegressorTags, Tags, check_array, check_consistent_length, check_random_state
from sklearn.utils import check_X_y as check_features
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sandbox import zoo
from sandbox.training.device import pick_device
from sandbox.zoo import Encoder
from unsupervised.rows import as_tensor

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]  # the rows to learn from, and those to be asked about
RandomState = int | np.random.RandomState | None

ALPHAS = {"classification": np.logspace(-2, 4, 7), "regression": np.logspace(-3, 7, 21)}
MAX_ITER = 1000  # of the logistic regression, whose features are standardised: it rarely needs a tenth
SCORES = 1 << 22  # similarities that are in memory at once: 16 megabytes


# -- features ----------------------------------------------------------------------------------------------------------


def frozen_features(encoder: Any, X: Any, *, batch_size: int = 256) -> NDArray[Any]:
    """What an encoder makes of the data, while it stays as it is.

    Parameters
    ----------
    encoder : zoo Encoder, path of a zoo file, or fitted transformer
        A network runs in eval mode, whatever mode it is in, without gradient, and on the device that it lies on; one
        from a file runs on a GPU, if there is one. Of a transformer, scikit-learn's or ours, it is ``transform(X)``.
    X : [N, ...]
        For a network uint8 (which it divides by 255) or floats ``[N, *in_shape]``, or the same as rows ``[N, D]``, or
        grey pictures without their channel, ``[N, H, W]``.
    batch_size : int, default=256
        Inputs that a network takes at once.

    Returns
    -------
    [N, out_features] floats

    Raises
    ------
    ValueError
        If `X` has another shape or type than the encoder takes, or `encoder` is none. Of a file it is a `FileError`.

    Examples
    --------
    >>> encoder = zoo.build("mlp", in_shape=(4,), widths=(8,), out_features=3)
    >>> frozen_features(encoder, np.zeros((5, 4))).shape
    (5, 3)
    """
    encoder = _opened(encoder)
    if not isinstance(encoder, Encoder):
        return np.asarray(encoder.transform(X))
    X = np.asarray(X)
    if (X.ndim == 2 and X.shape[1] == math.prod(encoder.in_shape)) or encoder.in_shape == (1, *X.shape[1:]):
        X = X.reshape(len(X), *encoder.in_shape)
    place = next((tensor for tensor in encoder.parameters()), torch.empty(0))
    z = np.empty((len(X), encoder.out_features), np.float32)
    with _as_judged(encoder), torch.no_grad():
        for start in range(0, len(X), batch_size):
            x = as_tensor(np.ascontiguousarray(X[start : start + batch_size])).to(place.device)
            z[start : start + batch_size] = encoder(x.to(place.dtype) if x.is_floating_point() else x).cpu().float()
    return z


def _opened(encoder: Any) -> Any:
    if isinstance(encoder, (str, os.PathLike)):
        encoder = zoo.load(encoder).to(pick_device())
    if isinstance(encoder, Encoder) or (hasattr(encoder, "transform") and not isinstance(encoder, nn.Module)):
        return encoder
    raise ValueError(
        f"encoder must be an Encoder of the zoo, the path of a file with one, or a fitted transformer, got {encoder!r}"
    )


@contextmanager
def _as_judged(module: nn.Module) -> Iterator[None]:
    """In eval mode, and then each part in the mode it was in: some may have been frozen while others learn."""
    learning = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in learning:
            part.training = True


# -- a linear layer ----------------------------------------------------------------------------------------------------


def _classifies(probe: LinearProbe) -> bool:
    return probe.task == "classification"


class LinearProbe(BaseEstimator):  # type: ignore[misc]
    """How much a linear layer reads out of features that stay as they are.

    The features are standardised, then a logistic regression tells labels, or a ridge regression numbers. Whole
    numbers may be either, and are never guessed: `task` says it.

    Parameters
    ----------
    encoder : zoo Encoder, path of a zoo file, or fitted transformer, optional
        What makes features of `X`, as `frozen_features` describes it. A clone of the probe has the same encoder and not
        one that has forgotten everything, so that it can be cross-validated. None: `X` is the features.
    task : {"classification", "regression"}, default="classification"
    alphas : list of float, optional
        The strengths of the penalty α‖w‖² to choose from (½α‖w‖² of the logistic regression, whose `C` is 1/α). By
        default from 0.01 to 10⁴ in powers of ten for labels, and from 0.001 to 10⁷ in steps of √10 for numbers.
    cv : int, default=5
        Folds in which α is chosen, where it is labels or where there are groups. Without groups a ridge regression
        leaves out every row once, which costs no more than one fit.
    batch_size : int, default=256
        Inputs that a network takes at once.
    random_state : int, RandomState or None, default=None
        Of the folds of labels without groups.

    Attributes
    ----------
    alpha_ : float or [K]
        The strength that was best on what was left out, of every target its own: by accuracy, or by squared error. Of
        equal ones it is the strongest.
    coef_ : [K, D], or [D] of a single target
    intercept_ : [K], or float
        The linear layer on the features themselves: the standardisation is in it.
    classes_ : [K]
        Of labels.
    encoder_ : object
        The encoder; one from a file as it was there when the probe was fitted.
    n_features_in_ : int
        Without an encoder.
    feature_names_in_ : [D]
        Without an encoder, where X has names.

    Raises
    ------
    ValueError
        If features or targets are not finite or not as many, if there are fewer than two rows, two classes or two
        groups, or if the encoder does not take `X`.

    Notes
    -----
    Alain and Bengio (2016), "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644. The
    strength of linear evaluation is chosen on data left out, as in Kornblith, Shlens and Le (2018), arXiv:1805.08974.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> X, y = load_digits(return_X_y=True)
    >>> pca = PCA(16).fit(X[:1000])
    >>> LinearProbe(pca, random_state=0).fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.85
    True
    >>> numbers = X[:, [20, 36]]
    >>> probe = LinearProbe(pca, task="regression").fit(X[:1000], numbers[:1000])
    >>> probe.predict(X[1000:]).shape, probe.r2(X[1000:], numbers[1000:]).round(1)
    ((797, 2), array([0.9, 0.9]))
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "encoder": [HasMethods(["transform"]), Encoder, str, os.PathLike, None],
        "task": [StrOptions({"classification", "regression"})],
        "alphas": ["array-like", None],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        encoder: Any = None,
        task: str = "classification",
        *,
        alphas: ArrayLike | None = None,
        cv: int = 5,
        batch_size: int = 256,
        random_state: RandomState = None,
    ) -> None:
        self.encoder = encoder
        self.task = task
        self.alphas = alphas
        self.cv = cv
        self.batch_size = batch_size
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, groups: Any = None) -> LinearProbe:
        """Learn the linear layer.

        Parameters
        ----------
        X : [N, D] floats, or what the encoder takes
        y : [N] labels, or [N] or [N, K] numbers
        groups : [N], optional
            Rows of one group are left out together when α is chosen: frames of one scene, of which a row could be told
            by its neighbour.

        Returns
        -------
        LinearProbe
        """
        classifies = _classifies(self)
        rules = {"dtype": np.float64, "multi_output": not classifies, "y_numeric": not classifies}
        rules["ensure_min_samples"] = 2
        if self.encoder is None:
            self.encoder_ = None
            features, y = validate_data(self, X, y, **rules)
        else:
            check_consistent_length(X, y)  # before the encoder works for nothing
            self.encoder_ = _opened(self.encoder)
            features = frozen_features(self.encoder_, X, batch_size=self.batch_size)
            features, y = check_features(features, y, **rules)
        alphas = ALPHAS[self.task] if self.alphas is None else check_array(self.alphas, ensure_2d=False).ravel()
        if min(alphas) <= 0:
            raise ValueError(f"alphas must be positive, got {min(alphas)}")
        alphas = np.sort(alphas)[::-1]  # the strongest first: it is what argmin and argmax take of equal ones
        if groups is not None:
            check_consistent_length(features, groups)
            groups = np.unique(groups, return_inverse=True)[1]
            if max(groups) == 0:
                raise ValueError("groups must name at least two groups, or none could be left out")

        scaler = StandardScaler().fit(features)
        Z = scaler.transform(features)
        if classifies:
            check_classification_targets(y)
            self.classes_, y = np.unique(y, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"y names one class alone, {str(self.classes_[0])!r}: there is nothing to tell apart")
            coef, intercept, alpha = _logistic(Z, y, alphas, _folds_of_classes(y, groups, self.cv, self.random_state))
        else:
            targets = y.reshape(len(y), -1).astype(float)
            coef, intercept, alpha = _ridge(Z, targets, alphas, _folds_of_groups(groups, self.cv))
        coef = coef / scaler.scale_
        intercept = intercept - coef @ scaler.mean_
        single = not classifies and y.ndim == 1
        self.alpha_: Any = float(alpha[0]) if classifies or single else alpha
        self.coef_: NDArray[np.float64] = coef[0] if single else coef
        self.intercept_: Any = float(intercept[0]) if single else intercept
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The labels [N], or the numbers [N] or [N, K]."""
        out = self._layer(X)
        if not _classifies(self):
            return out
        chosen = (out[:, 0] > 0).astype(int) if len(self.classes_) == 2 else out.argmax(1)
        return self.classes_[chosen]  # type: ignore[no-any-return]

    @available_if(_classifies)  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[Any]:
        """The score of each class [N, K]; of two classes that of the second one, [N], positive where it is told."""
        out = self._layer(X)
        return out[:, 0] if len(self.classes_) == 2 else out

    @available_if(lambda self: not _classifies(self))  # type: ignore[untyped-decorator]
    def r2(self, X: Any, y: Any) -> NDArray[np.float64]:
        """R² of each target [K]: 1 if it is read without error, 0 if its mean would have done as well."""
        return np.atleast_1d(r2_score(y, self.predict(X), multioutput="raw_values"))

    def score(self, X: Any, y: Any) -> float:
        """The share of labels that are right, or the mean R² of the targets."""
        return float((accuracy_score if _classifies(self) else r2_score)(y, self.predict(X)))

    def _layer(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        if self.encoder_ is None:
            features = validate_data(self, X, reset=False, dtype=np.float64)
        else:
            features = check_array(frozen_features(self.encoder_, X, batch_size=self.batch_size), dtype=np.float64)
        return features @ self.coef_.T + self.intercept_  # type: ignore[no-any-return]

    def __sklearn_clone__(self) -> LinearProbe:
        params = self.get_params(deep=False)
        copied = {name: value if name == "encoder" else clone(value, safe=False) for name, value in params.items()}
        return type(self)(**copied)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if _classifies(self):
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
            tags.target_tags.multi_output = True
        return tags


def _folds_of_classes(
    y: NDArray[np.intp], groups: NDArray[np.intp] | None, cv: int, random_state: RandomState
) -> list[Fold]:
    """Folds with all classes in about their proportions; those that leave a single class to learn from are dropped."""
    n_splits = min(cv, np.bincount(y).max() if groups is None else groups.max() + 1)
    if n_splits < 2:
        return []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # where it is left out, it is missed
        if groups is None:
            folds = list(StratifiedKFold(n_splits, shuffle=True, random_state=random_state).split(y, y))
        else:
            folds = list(StratifiedGroupKFold(n_splits).split(y, y, groups))
    return [(learned, left) for learned, left in folds if len(np.unique(y[learned])) > 1]


def _folds_of_groups(groups: NDArray[np.intp] | None, cv: int) -> list[Fold] | None:
    return None if groups is None else list(GroupKFold(min(cv, groups.max() + 1)).split(groups, groups=groups))


def _logistic(
    X: NDArray[np.float64], y: NDArray[np.intp], alphas: NDArray[np.float64], folds: Sequence[Fold]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights [K, D], intercepts [K] and the α [1] of the most labels that are right in what each fold left out."""
    right = np.zeros(len(alphas))
    for learned, left in folds if len(alphas) > 1 else []:
        model = LogisticRegression(max_iter=MAX_ITER, warm_start=True)  # from one strength to the next weaker one
        for i, alpha in enumerate(alphas):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # too weak a penalty to be chosen
                model.set_params(C=1 / alpha).fit(X[learned], y[learned])
            right[i] += (model.predict(X[left]) == y[left]).sum()
    best = right.argmax() if right.any() else np.abs(np.log(alphas)).argmin()  # without a word, the one nearest to 1
    model = LogisticRegression(C=1 / alphas[best], max_iter=MAX_ITER).fit(X, y)
    return model.coef_, model.intercept_, alphas[[best]]


def _ridge(
    X: NDArray[np.float64], Y: NDArray[np.float64], alphas: NDArray[np.float64], folds: Sequence[Fold] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights [K, D], intercepts [K] and the αs [K] of least squared error in what was left out.

    All is computed in the principal coordinates of X, where the Gram matrix is diagonal: one decomposition, of the
    smaller of X'X and XX', serves all strengths and all targets. The error of row i, were it left out, is
    ``e_i / (1 - h_i)``, with `e_i` its error and `h_i` its leverage in the fit of all rows.

    Parameters
    ----------
    X : [N, D], centred
    Y : [N, K]
    alphas : [A]
    folds : list, optional
        None leaves out each row once.
    """
    n, d = X.shape
    centred = Y - Y.mean(0)
    wide = d > n
    squares, axes = np.linalg.eigh(X @ X.T if wide else X.T @ X)
    real = squares > squares[-1] * max(n, d) * np.finfo(float).eps
    squares, axes = squares[real], axes[:, real]
    Z = axes * np.sqrt(squares) if wide else X @ axes  # [N, R]
    shrunk = squares + alphas[:, None]  # [A, R]
    W = (Z.T @ centred) / shrunk[:, :, None]  # [A, R, K]

    errors = np.zeros((len(alphas), Y.shape[1]))
    if folds is None:
        leverages = 1 / n + (1 / shrunk) @ (Z * Z).T  # [A, N]
        for i, left in enumerate(np.maximum(1 - leverages, np.finfo(float).eps)):
            errors[i] = np.square((centred - Z @ W[i]) / left[:, None]).sum(0)
    else:
        for learned, left in folds:
            errors += _errors(Z[learned], centred[learned], Z[left], centred[left], alphas)
    best = errors.argmin(0)  # [K]
    w = W[best, :, np.arange(Y.shape[1])].T  # [R, K]
    coef = X.T @ (axes @ (w / np.sqrt(squares)[:, None])) if wide else axes @ w
    return coef.T, Y.mean(0), alphas[best]


def _errors(
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    X_left: NDArray[np.float64],
    Y_left: NDArray[np.float64],
    alphas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Squared errors [A, K] on the rows that were left out."""
    mean, centred = X.mean(0), X - X.mean(0)
    squares, axes = np.linalg.eigh(centred.T @ centred)
    seen = axes.T @ (centred.T @ (Y - Y.mean(0)))  # [R, K]
    asked = (X_left - mean) @ axes
    shrunk = np.maximum(squares, 0) + alphas[:, None]  # [A, R]
    told = [Y.mean(0) + asked @ (seen / row[:, None]) for row in shrunk]
    return np.stack([np.square(Y_left - one).sum(0) for one in told])


# -- the nearest neighbours --------------------------------------------------------------------------------------------


def knn_accuracy(
    features: Any,
    y: Any,
    k: int = 20,
    *,
    test_features: Any = None,
    test_y: Any = None,
    temperature: float = 0.07,
) -> float:
    """How often the nearest neighbours of a row tell its label.

    The `k` rows of greatest cosine similarity `s` vote for their labels, each with the weight ``exp(s / temperature)``.
    Nothing is learned, and nothing but the temperature could be tuned.

    Parameters
    ----------
    features : [N, D] floats
        As they are: not centred, not scaled. A row of zeros is similar to none.
    y : [N] labels
    k : int, default=20
    test_features : [M, D], optional
        The rows that are asked about. None: each of `features`, about which all others are asked.
    test_y : [M], optional
    temperature : float, default=0.07
        In units of the similarity; the smaller, the more the nearest ones count.

    Returns
    -------
    float
        The share of labels that are right, from 0 to 1. Of labels with equal votes it is the first one.

    Raises
    ------
    ValueError
        If features are not finite, labels not as many, `k` not from 1 to the number of rows that can be neighbours, the
        temperature not positive, or one of `test_features` and `test_y` is given without the other.

    Notes
    -----
    Wu, Xiong, Yu and Lin (2018), "Unsupervised feature learning via non-parametric instance discrimination",
    arXiv:1805.01978. Computed in float32, in memory that does not depend on M.

    Examples
    --------
    >>> features = np.array([[1, 0], [2, 0.1], [0, 1], [0.1, 3]])
    >>> knn_accuracy(features, ["a", "a", "b", "b"], k=1)
    1.0
    >>> knn_accuracy(features, ["a", "a", "b", "b"], k=1, test_features=[[5, 1], [5, 1]], test_y=["a", "b"])
    0.5
    """
    features, y = check_features(features, y, dtype=np.float32)
    check_classification_targets(y)
    if (test_features is None) != (test_y is None):
        raise ValueError("test_features and test_y belong together: give both, or none")
    alone = test_features is None
    asked, asked_y = (features, y) if alone else check_features(test_features, test_y, dtype=np.float32)
    if asked.shape[1] != features.shape[1]:
        raise ValueError(f"test_features must have {features.shape[1]} columns, as features, got {asked.shape[1]}")
    n = len(features)
    if not 1 <= k <= n - alone:
        raise ValueError(f"k must be from 1 to {n - alone}, the rows that can be neighbours, got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")

    classes, numbers = np.unique(y, return_inverse=True)
    labels, rows, others = torch.from_numpy(numbers), _directions(features), _directions(asked)
    size, right = max(1, SCORES // n), 0
    for start in range(0, len(asked), size):
        similar = others[start : start + size] @ rows.T  # [b, N]
        if alone:
            similar.diagonal(start).fill_(-torch.inf)  # none is its own neighbour
        s, nearest = similar.topk(k)
        votes = torch.zeros(len(s), len(classes)).scatter_add_(1, labels[nearest], ((s - 1) / temperature).exp())
        right += (classes[votes.numpy().argmax(1)] == asked_y[start : start + size]).sum()
    return float(right / len(asked))


def _directions(rows: NDArray[np.float32]) -> torch.Tensor:
    return nn.functional.normalize(as_tensor(rows), dim=1)


# -- the memory of a game ----------------------------------------------------------------------------------------------


def _bytes(**variables: int | Sequence[int]) -> dict[str, int]:
    """The byte of each variable, names with spaces; of several bytes the parts are numbered from 0."""
    each: dict[str, int] = {}
    for name, places in variables.items():
        words = name.replace("_", " ")
        each |= {words: places} if isinstance(places, int) else {f"{words} {i}": byte for i, byte in enumerate(places)}
    return each


# Where the games of the Atari 2600 keep their state, as Anand et al. (2019), arXiv:1906.08226, found and published it.
RAM_LABELS: dict[str, dict[str, int]] = {
    "Asteroids": _bytes(
        player_x=73, player_y=74, asteroid_x=(*range(21, 28), *range(30, 38)),
        asteroid_y=(*range(3, 10), *range(12, 20)), missile_1_x=83, missile_2_x=84, missile_1_y=86, missile_2_y=87,
        missile_1_direction=89, missile_2_direction=90, lives_and_direction=60, score_high=61, score_low=62,
    ),
    "BattleZone": _bytes(
        blue_tank_x=48, blue_tank_size=47, blue_tank_direction=46, blue_tank_2_x=54, blue_tank_2_size=53,
        blue_tank_2_direction=52, missile_y=105, compass_needle=84, player_angle=4, left_tread=59, right_tread=60,
        crosshairs_color=108, lives=58, score=29,
    ),
    "Berzerk": _bytes(
        player_x=19, player_y=11, player_direction=14, missile_x=22, missile_y=23, missile_direction=21,
        robot_x=range(65, 73), robot_y=range(56, 65), robot_missile_x=29, robot_missile_y=30,
        robot_missile_direction=26, otto_x=46, otto_y=89, robots_killed=91, level=92, lives=90, score=range(93, 96),
    ),
    "Bowling": _bytes(ball_x=30, ball_y=41, player_x=29, player_y=40, pin=range(57, 67), frame=36, score=33),
    "Boxing": _bytes(
        player_x=32, player_y=34, enemy_x=33, enemy_y=35, clock=17, player_score=18, enemy_score=19
    ),
    "Breakout": _bytes(ball_x=99, ball_y=101, player_x=72, blocks=range(30), blocks_hit=77, score=84),
    "DemonAttack": _bytes(
        player_x=22, enemy_1_x=17, enemy_2_x=18, enemy_3_x=19, enemy_1_y=69, enemy_2_y=70, enemy_3_y=71, missile_y=21,
        level=62, lives=114,
    ),
    "Freeway": _bytes(player_y=14, car_x=range(108, 118), score=103),
    "Frostbite": _bytes(
        player_x=102, player_y=100, player_direction=4, ice_row_1_x=34, ice_row_2_x=33, ice_row_3_x=32, ice_row_4_x=31,
        enemy_x=range(84, 88), bear_x=104, igloo_blocks=77, lives=76, score=range(72, 75),
    ),
    "Hero": _bytes(player_x=27, player_y=31, power=43, dynamite=50, room=28, level=117, score=(56, 57)),
    "MontezumaRevenge": _bytes(
        player_x=42, player_y=43, player_direction=52, skull_x=47, skull_y=46, key_or_monster_x=44, key_or_monster_y=45,
        room=3, room_state=62, level=57, items=61, lives=58, score=(19, 20, 21),
    ),
    "MsPacman": _bytes(
        player_x=10, player_y=16, player_direction=56, sue_x=6, sue_y=12, inky_x=7, inky_y=13, pinky_x=8, pinky_y=14,
        blinky_x=9, blinky_y=15, fruit_x=11, fruit_y=17, ghosts=19, dots_eaten=119, lives=123, score=120,
    ),
    "Pitfall": _bytes(
        player_x=97, player_y=105, logs_x=98, scorpion_x=99, rope_y=18, clock_minutes=88, clock_seconds=89
    ),
    "Pong": _bytes(
        player_x=46, player_y=51, enemy_x=45, enemy_y=50, ball_x=49, ball_y=54, player_score=14, enemy_score=13
    ),
    "PrivateEye": _bytes(
        player_x=63, player_y=86, player_direction=58, dove_x=48, dove_y=39, room=92, clock=(67, 69), score=(73, 74)
    ),
    "Qbert": _bytes(player_x=43, player_y=67, player_column=35, red_enemy_column=69, green_enemy_column=105),
    "Riverraid": _bytes(player_x=51, missile_x=117, missile_y=50, fuel_high=55, fuel_low=56),
    "Seaquest": _bytes(
        player_x=70, player_y=97, player_direction=86, missile_x=103, missile_direction=87, enemy_x=range(30, 34),
        diver_or_enemy_missile_x=range(71, 75), oxygen=102, divers=62, lives=59, score=(57, 58),
    ),
    "Skiing": _bytes(
        player_x=25, object_y=range(87, 94), clock_minutes=104, clock_seconds=105, clock_hundredths=106, score=107
    ),
    "SpaceInvaders": _bytes(player_x=28, enemies_x=26, enemies_y=24, missiles_y=9, invaders=17, lives=73, score=104),
    "Tennis": _bytes(
        player_x=26, player_y=24, enemy_x=27, enemy_y=25, ball_x=16, ball_y=17, player_score=69, enemy_score=70
    ),
    "Venture": _bytes(
        player_x=85, player_y=26, sprite_x=range(79, 85), sprite_y=range(20, 26), room=90, lives=70, score=(71, 72)
    ),
    "VideoPinball": _bytes(ball_x=67, ball_y=68, left_paddle_y=98, right_paddle_y=102, score=(48, 50)),
    "YarsRevenge": _bytes(
        player_x=32, player_y=31, missile_x=38, missile_y=37, qotile_x=43, qotile_y=42, qotile_missile_x=47,
        qotile_missile_y=46,
    ),
}  # fmt: skip


class RamScores(NamedTuple):
    """R² of each variable of a game on frames that were held out: 1 is read without error, 0 is as good as its mean.

    Attributes
    ----------
    game : str
    r2 : dict of str to float
    left_out : tuple of str
        Variables that keep one value in the frames that were learned from, or in those held out.
    n_train, n_test : int
        Frames.
    """

    game: str
    r2: dict[str, float]
    left_out: tuple[str, ...]
    n_train: int
    n_test: int

    @property
    def mean(self) -> float:
        """Of all variables that are not left out."""
        return float(np.mean(list(self.r2.values())))

    def __str__(self) -> str:
        lines = [f"{self.game}: R² on {self.n_test:,} frames, of a linear layer learned on {self.n_train:,}"]
        width = max(len(name) for name in (*self.r2, "mean"))
        lines += [f"  {name:<{width}}  {value:6.3f}" for name, value in (*self.r2.items(), ("mean", self.mean))]
        if self.left_out:
            parts = groupby(self.left_out, lambda name: name.rstrip(" 0123456789"))
            kinds = [(kind, list(names)) for kind, names in parts]  # thirty rows of blocks are one word
            words = [names[0] if len(names) == 1 else f"{kind} ({len(names)})" for kind, names in kinds]
            lines.append(f"left out, as they do not vary: {', '.join(words)}")
        return "\n".join(lines)


def ram_probe(
    features: Any,
    ram: Any,
    game: str = "Pong",
    *,
    starts: Any = None,
    test_fraction: float = 0.2,
    blocks: int = 10,
    gap: int = 10,
    random_state: RandomState = 0,
) -> RamScores:
    """How much of a game's state a linear layer reads from features of its frames.

    An Atari game keeps where everything is in 128 bytes of memory, some of which are known (`RAM_LABELS`). Each is read
    by a ridge regression (`LinearProbe`), learned on one part of the frames and judged on another.

    Neighbouring frames are nearly equal: were they drawn one by one, each held-out frame would have its like among
    those learned from. So the recording is cut into blocks of successive frames, some blocks are held out, and the
    frames beside them are not learned from. Where it has several games, held-out games are the harder and better
    question: give `starts`. The strength of the ridge is chosen on successive frames left out, too.

    Parameters
    ----------
    features : [N, D] floats
        Of successive frames, in their order, from one recording.
    ram : [N, 128] uint8
        The memory at each frame, as a recording has it.
    game : str, default="Pong"
        As in `RAM_LABELS`; capitals and underscores do not matter.
    starts : [N] bool, optional
        Where a game begins: whole games are held out instead of blocks, and there is no gap.
    test_fraction : float, default=0.2
        Of the blocks, or of the games; at least one of them.
    blocks : int, default=10
        As long as each other. Where none is much longer than what is seen lasts, features of one moment can tell the
        block by its neighbours.
    gap : int, default=10
        Frames on either side of a held-out block that are neither learned from nor asked about.
    random_state : int, RandomState or None, default=0
        Of which blocks or games are held out: the same for all features, so that they can be compared.

    Returns
    -------
    RamScores
        Print it for a table. A variable that keeps one value in either part is left out and named.

    Raises
    ------
    ValueError
        If the game's memory is not known (the message has the nearest games), if lengths differ, features are not
        finite or memory is not 128 bytes, if `starts` has a single game, if too few frames are left to learn from, or
        if no variable varies.

    Notes
    -----
    Anand, Racah, Ozair, Bengio, Côté and Hjelm (2019), "Unsupervised state representation learning in Atari",
    arXiv:1906.08226, who classify each value of a byte by itself and report F1. R² tells a near miss from a far one,
    and so suits positions; read with care what is no quantity, such as a direction or a room.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ram = np.zeros((500, 128), np.uint8)
    >>> ram[:, [49, 54]] = rng.integers(40, 200, (500, 2))
    >>> features = np.stack([ram[:, 49] / 255.0, rng.normal(size=500)], axis=1)  # of the ball, one coordinate
    >>> scores = ram_probe(features, ram, "Pong")
    >>> print(scores)
    Pong: R² on 100 frames, of a linear layer learned on 360
      ball x   1.000
      ball y  -0.002
      mean     0.499
    left out, as they do not vary: player x, player y, enemy x, enemy y, player score, enemy score
    """
    game, places = _labels_of(game)
    features = check_array(features, dtype=np.float64, ensure_min_samples=2)
    ram = np.asarray(ram)
    if ram.ndim != 2 or ram.shape[1] != 128 or ram.dtype.kind not in "iu":
        raise ValueError(f"ram must be bytes of shape [N, 128], got {ram.dtype} {list(ram.shape)}")
    check_consistent_length(features, ram)
    train, test = _held_out(len(ram), starts, test_fraction, blocks, gap, random_state)
    targets = ram[:, list(places.values())]
    varies = (np.ptp(targets[train], axis=0) > 0) & (np.ptp(targets[test], axis=0) > 0)
    if not varies.any():
        raise ValueError(f"nothing varies: {', '.join(places)} keep one value, in {len(train)} or {len(test)} frames")
    n, probe = len(train), LinearProbe(task="regression")
    probe.fit(features[train], targets[train][:, varies], groups=np.arange(n) * probe.cv // n)  # successive ones
    r2 = probe.r2(features[test], targets[test][:, varies])
    names = np.array(list(places))
    return RamScores(
        game=game,
        r2=dict(zip(names[varies].tolist(), r2.tolist(), strict=True)),
        left_out=tuple(names[~varies].tolist()),
        n_train=n,
        n_test=len(test),
    )


def _labels_of(game: str) -> tuple[str, dict[str, int]]:
    known = {name.lower(): name for name in RAM_LABELS}
    asked = str(game).lower().replace("_", "")
    if asked not in known:
        near = [known[name] for name in difflib.get_close_matches(asked, known, cutoff=0.4)] or list(RAM_LABELS)
        raise ValueError(f"the memory of {game!r} is not annotated; nearest: {', '.join(near)}")
    return known[asked], RAM_LABELS[known[asked]]


def _held_out(n: int, starts: Any, test_fraction: float, blocks: int, gap: int, random_state: RandomState) -> Fold:
    """The frames to learn from, and those held out: whole games, or blocks with a gap around them."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    if starts is None:
        if not 2 <= blocks <= n:
            raise ValueError(f"blocks must be from 2 to the number of frames, {n}, got {blocks}")
        if gap < 0:
            raise ValueError(f"gap must not be negative, got {gap}")
        spans = np.arange(n) * blocks // n
    else:
        spans = np.cumsum(np.asarray(starts, bool))
        if spans.shape != (n,):
            raise ValueError(f"starts must be of shape [{n}], as many as there are frames, got {list(spans.shape)}")
    each = np.unique(spans)
    if len(each) < 2:
        raise ValueError("starts has a single game, which cannot be held out and learned from: leave starts out")
    n_held = min(max(1, round(test_fraction * len(each))), len(each) - 1)
    held = np.isin(spans, check_random_state(random_state).permutation(each)[:n_held])
    near = held if starts is not None else maximum_filter1d(held, 2 * gap + 1, mode="constant")
    if (~near).sum() < 10:
        raise ValueError(f"{(~near).sum()} of {n} frames are left to learn from: record more, or with a smaller gap")
    return np.flatnonzero(~near), np.flatnonzero(held)
