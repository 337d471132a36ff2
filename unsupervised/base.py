"""The contract of scikit-learn around the one training loop: what every estimator with a network shares.

A subclass writes `_build`, its networks; `_loss`, its paper; and, where it needs them, `_start`, what it takes from the
data before the first step, and `_after_step`.
"""

import copy
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sandbox.training.checkpoint import FileError, load_tensors, opening, save_tensors
from sandbox.training.device import PRECISIONS, pick_device, private_seed, rounded, threads
from sandbox.training.device import precision as in_precision
from sandbox.training.fit import OPTIMIZERS, Fitting, Loss, Schedule, evaluate, fit
from sandbox.training.log import MetricsCSV, TensorBoard
from sandbox.training.schedules import Constant, Warmup, as_schedule
from sandbox.zoo.names import plain

KIND = "sandbox.estimator"
STARTERS = 4096  # samples that a start is taken from
PICTURE = 100  # multiplications for each value of a picture, about, where convolutions go over it
SMALL = 1 << 22  # multiplications of a step's forward pass, below which one thread is faster than two
LARGE = 1 << 25  # and from which on bf16 is faster than fp32, where the processor has it


@dataclass(kw_only=True, eq=False, repr=False)
class TorchEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What all estimators with a network take, and do.

    Rows ``[N, D]`` are what they take; pictures ``[N, C, H, W]`` or ``[N, H, W]``, too, or rows with `image_shape`.
    Bytes count as pixels, from 0 to 1; floats are taken as they are. Training is in float32 (or bf16), what comes out
    of a fitted estimator in the type of `X`, float32 for bytes.

    Parameters
    ----------
    image_shape : tuple of int, optional
        ``(C, H, W)`` or ``(H, W)``: what each row is a picture of.
    max_iter : int
        Epochs.
    batch_size : int
    optimizer : {"sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"}
    learning_rate : float, str or callable
        A number, ``"cos_1e-3"``, ``"lin_1e-3"``, ``"exp_1e-3"``, ``"step_1e-3"``, or a schedule of `sandbox.training`.
    warmup : float
        Share of the training in which the learning rate rises from 0.
    l1, l2 : float
        Decay of the weights.
    clip_norm : float, optional
        Largest norm of the gradient.
    early_stopping : bool
        Hold out `validation_fraction` of the samples, stop when the loss on them has not fallen by `tol` (relative) for
        `n_iter_no_change` epochs, and keep the weights that did best on them.
    validation_fraction : float
    n_iter_no_change : int
    tol : float
    ema : float, optional
        Step of an average of the weights, which is then what is kept.
    precision : {"auto", "fp32", "bf16"}
        Of matrix products and convolutions in training; "auto" is bf16 where the processor has it and the networks are
        large enough to gain by it.
    device : {"auto", "cpu", "cuda"}
    random_state : int, RandomState or None
    verbose : int
        A bar with loss and time left, from the third second on.
    tensorboard : path, optional
        Where to write TensorBoard's events; a path that ends in ``.csv`` gets a table instead.
    checkpoint : path, optional
        A file that an interrupted training goes on from, exactly; written each minute, gone when training has ended.

    Attributes
    ----------
    encoder_ : sandbox.zoo.Encoder
        The features: ``agents.PPO(..., encoder=estimator.encoder_)``.
    model_ : nn.Module
        All networks.
    in_shape_ : tuple of int
        Of one sample.
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        The mean loss of each epoch, errors in units of the data's standard deviation.
    history_ : list of dict
        Of each epoch all metrics: the loss, what else the estimator tells of itself, the same on samples held out.
    validation_curve_ : list of float
        With `early_stopping`, the loss on the samples held out.
    stopped_ : str
        Why training ended before `max_iter`; else empty.
    """

    image_shape: tuple[int, ...] | None = None
    max_iter: int = 100
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float | str | Schedule = 1e-3
    warmup: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    ema: float | None = None
    precision: str = "auto"
    device: str = "auto"
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0
    tensorboard: str | os.PathLike[str] | None = None
    checkpoint: str | os.PathLike[str] | None = None

    _starters: ClassVar[int] = STARTERS
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "image_shape": ["array-like", None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS))],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), str, callable],
        "warmup": [Interval(Real, 0, 1, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "l2": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "ema": [Interval(Real, 0, 1, closed="right"), None],
        "precision": [StrOptions(set(PRECISIONS))],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "tensorboard": [str, os.PathLike, None],
        "checkpoint": [str, os.PathLike, None],
    }

    # -- what a subclass writes ----------------------------------------------------------------------------------------

    def _build(self) -> nn.Module:
        """The networks, with an attribute ``encoder``, for samples of ``in_shape_``."""
        raise NotImplementedError

    def _start(self, x: Tensor) -> None:
        """Take from some samples ``[n, *in_shape_]`` what the networks start with."""

    def _loss(self, x: Tensor, *args: Any, **kwargs: Any) -> Loss:
        """The loss of a batch ``[B, *in_shape_]`` of floats, and of its targets where there are any; and metrics."""
        raise NotImplementedError

    def _after_step(self) -> None:
        """What is done to the networks after each step."""

    # -- scikit-learn's verbs ------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train from the start.

        Parameters
        ----------
        X : [N, D] rows, or [N, *in_shape] pictures
        y : [N], optional
            Only for what learns from labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            In scikit-learn's words, if `X` is not what it should be or a parameter can't be.
        FloatingPointError
            If the loss is no number from the start.
        """
        arrays = self._checked(X, y, reset=True)
        self._begin(arrays)
        return self._train(arrays, self.max_iter)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train one more epoch, on these samples and at the schedule's first learning rate; the first call begins."""
        first = not hasattr(self, "model_")
        arrays = self._checked(X, y, reset=first)
        if first:
            self._begin(arrays)
        elif not hasattr(self, "_fitting"):  # opened from a file: it has the weights, and not the optimiser's averages
            self._fitting = self._new_fitting()
        return self._train(arrays)

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """The features of samples: ``[N, D] -> [N, n_features_out]``, what `encoder_` gives."""
        check_is_fitted(self)
        return self._in_batches(self.model_.encoder, self._checked(X)[0])

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Minus the mean loss: the larger the better."""
        check_is_fitted(self)
        arrays = self._checked(X, y)
        self.model_.to(pick_device(self.device))
        return -evaluate(self.model_, self._batch_loss, arrays, self.batch_size)["loss"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file: opening it runs no code.

        A parameter that JSON can't hold (a schedule of your own, say) is left out, with a warning, and is the default
        when the file is opened.
        """
        check_is_fitted(self)
        params = {}
        for name, value in self.get_params(deep=False).items():
            try:
                params[name] = plain(self._writable(name, value))
            except (TypeError, ValueError):
                warnings.warn(f"{name}={value!r} can't be written; opened, it will be the default", stacklevel=2)
        fitted = {name: plain(value) for name, value in vars(self).items() if name[-1] == "_" and name != "model_"}
        record = {"class": type(self).__name__, "params": params, "fitted": fitted}
        save_tensors(path, KIND, record, self.model_.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Open what `save` wrote.

        Raises
        ------
        FileError
            If there is no such file, it is damaged, or of another estimator. One line.
        """
        record, tensors = load_tensors(path, KIND)
        with opening(path, KIND):
            if record["class"] != cls.__name__:
                raise ValueError(f"it holds a {record['class']}, not a {cls.__name__}")
            self = cls(**{key: _untold(value) for key, value in record["params"].items()})
            for name, value in record["fitted"].items():
                kept = np.array(value) if name in ("feature_names_in_", "classes_") else _untold(value)
                setattr(self, name, kept)
            with private_seed():
                self.model_ = self._networks()
            self.model_.load_state_dict(tensors)
            self.model_.eval()
        return self

    @property
    def encoder_(self) -> Any:
        """The encoder of the zoo that gives the features."""
        check_is_fitted(self, "model_")
        self.model_.encoder.preprocessing = self.preprocessing_  # for whoever saves it, or sees by it
        return self.model_.encoder

    @property
    def _n_features_out(self) -> int:
        return int(self.model_.encoder.out_features)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # -- inside --------------------------------------------------------------------------------------------------------

    def _checked(self, X: ArrayLike, y: ArrayLike | None = None, *, reset: bool = False) -> list[NDArray[Any]]:
        """Samples as rows [N, D] of floats or bytes (and targets), as scikit-learn checks them."""
        shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
        if len(shape) > 2:
            if reset and self.image_shape is not None and tuple(self.image_shape) != tuple(shape[1:]):
                raise ValueError(f"image_shape={tuple(self.image_shape)}, but X holds samples of shape {shape[1:]}")
            if not reset and shape[1:] != self.in_shape_[-len(shape[1:]) :]:
                kind, known = type(self).__name__, self.in_shape_
                raise ValueError(f"X holds samples of shape {shape[1:]}, but {kind} is expecting {known} as input")
            X = np.asarray(X).reshape(shape[0], -1)
        rows = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32, np.uint8], order="C")
        if reset:
            self.preprocessing_ = {"dtype": "uint8" if rows.dtype == np.uint8 else "float32"}
            given = tuple(map(int, shape[1:])) if len(shape) > 2 else None
            self.in_shape_: tuple[int, ...] = self._sample_shape(given, rows.shape[1])
        return [rows]

    def _sample_shape(self, given: tuple[int, ...] | None, D: int) -> tuple[int, ...]:
        """The shape of one sample: a picture's ``(C, H, W)``, or ``(D,)``."""
        shape = given if given is not None else self.image_shape
        if shape is None:
            return (D,)
        shape = tuple(map(int, shape))
        if len(shape) not in (2, 3) or np.prod(shape) != D:
            raise ValueError(f"image_shape must be (H, W) or (C, H, W) with {D} values in all, got {shape}")
        if len(shape) == 3 and shape[2] in (3, 4) and shape[0] > 4:
            raise ValueError(f"pictures are [N, C, H, W], got {['N', *shape]}: use np.moveaxis(X, -1, 1)")
        return shape if len(shape) == 3 else (1, *shape)

    def _picture_shape(self) -> tuple[int, ...]:
        """The shape of the samples, if they are pictures."""
        if len(self.in_shape_) != 3:
            rows = f"image_shape with rows of {self.in_shape_[0]}"
            raise ValueError(f"{type(self).__name__} takes pictures: give X as [N, C, H, W], or {rows}")
        return self.in_shape_

    def _begin(self, arrays: list[NDArray[Any]]) -> None:
        """Make the networks, and whatever they take from the data."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        device = pick_device(self.device)
        with private_seed(self._seed):
            self.model_: Any = self._networks().to(device)
            some = np.sort(torch.randperm(len(arrays[0]))[: self._starters].numpy())
            with torch.no_grad(), threads(self._threads()):
                self._start(self._floats(torch.from_numpy(arrays[0][some]).to(device)))
        self._fitting = self._new_fitting()

    def _networks(self) -> nn.Module:
        """What `_build` gives, in the order of memory that suits the samples."""
        model = self._build()
        if len(self.in_shape_) == 3:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def _new_fitting(self) -> Fitting:
        return Fitting(self.model_, self.optimizer, self.l2, self.ema)

    def _train(self, arrays: list[NDArray[Any]], epochs: int | None = None) -> Self:
        """Up to so many epochs, or one more."""
        fitting, schedule, held = self._fitting, self._schedule(), None
        if epochs is None:
            epochs, schedule = fitting.epoch + 1, Constant(schedule(1.0))
        elif self.early_stopping:
            held = self._held_out(arrays)
        self.model_.to(pick_device(self.device))
        with self._writer() as log:
            fit(
                fitting,
                self._batch_loss,
                arrays,
                epochs=epochs,
                batch_size=self.batch_size,
                learning_rate=schedule,
                l1=self.l1,
                clip_norm=self.clip_norm,
                held_out=held,
                patience=None if held is None else self.n_iter_no_change,
                tol=self.tol,
                seed=getattr(self, "_seed", 0),
                precision=self._precision(),
                n_threads=self._threads(),
                after_step=self._after_step,
                log=log,
                checkpoint=self.checkpoint,
                label=f"fitting {type(self).__name__}" if self.verbose else "",
            )
        if self.checkpoint is not None and not fitting.stopped.startswith("interrupted"):
            Path(self.checkpoint).unlink(
                missing_ok=True
            )  # or the next fit, of other samples perhaps, would go on from it
        self.n_iter_, self.stopped_ = fitting.epoch, fitting.stopped
        self.history_ = [dict(row) for row in fitting.history]
        self.loss_curve_ = [row["loss"] for row in fitting.history]
        self.validation_curve_ = [row["held_out_loss"] for row in fitting.history if "held_out_loss" in row]
        return self

    def _batch_loss(self, rows: Tensor, *targets: Tensor) -> Loss:
        return self._loss(self._floats(rows), *targets)

    def _floats(self, rows: Tensor) -> Tensor:
        """Rows [B, D] as samples [B, *in_shape_] of float32, bytes from 0 to 1."""
        x = rows.view(len(rows), *self.in_shape_)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x.float().div_(255) if x.dtype == torch.uint8 else x.float()

    @torch.no_grad()
    def _in_batches(self, module: Any, rows: NDArray[Any], shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """A part of the model over rows, some at a time, in their own precision: ``[N, ...] -> [N, ...]`` of floats."""
        device, double = pick_device(self.device), rows.dtype == np.float64
        module = (copy.deepcopy(module).double() if double else module).to(device).eval()
        out = []
        size = max(self.batch_size, 1) * 4
        with threads(self._threads()):
            for start in range(0, len(rows), size):
                x = torch.tensor(rows[start : start + size], device=device)  # a copy: rows may be read-only
                out.append(module(x.view(len(x), *(shape or self.in_shape_))).cpu().numpy())
        return np.concatenate(out)

    def _held_out(self, arrays: list[NDArray[Any]]) -> Tensor:
        """The samples that are judged by and not learned from."""
        N = len(arrays[0])
        n = math.ceil(self.validation_fraction * N)
        if not 1 <= n < N:
            raise ValueError(f"early_stopping holds out {n} of n_samples={N}: none would be left to learn from")
        return torch.randperm(N, generator=torch.Generator().manual_seed(self._seed))[:n]

    def _schedule(self) -> Schedule:
        schedule = as_schedule(self.learning_rate)
        return Warmup(schedule, self.warmup) if self.warmup else schedule

    @contextmanager
    def _writer(self) -> Iterator[Callable[[Mapping[str, float], int], None] | None]:
        if self.tensorboard is None:
            yield None
            return
        table = MetricsCSV if str(self.tensorboard).endswith(".csv") else TensorBoard
        writer = table(Path(self.tensorboard))
        try:
            yield lambda row, step: writer.write(row, step=step)
        finally:
            writer.close()

    def _work(self) -> int:
        """About how many multiplications a step's forward pass takes."""
        each = sum(p.numel() for p in self.model_.parameters())
        return self.batch_size * max(each, PICTURE * math.prod(self.in_shape_) * (len(self.in_shape_) == 3))

    def _threads(self) -> int | None:
        return 1 if self._work() < SMALL else None

    def _precision(self) -> str:
        """What `fit` is told: for rows, whose layers are wide products alone, the kind of bf16 that casts nothing."""
        if self.precision == "auto" and self._work() < LARGE:
            return "fp32"
        in_precision(self.precision, device := pick_device(self.device))  # refuses what the processor does not have
        return "medium" if len(self.in_shape_) == 1 and rounded(self.precision, device) else self.precision

    def _on(self) -> torch.device:
        """Where the networks are."""
        return next(self.model_.parameters()).device

    def _writable(self, name: str, value: Any) -> Any:
        """A parameter as JSON can hold it."""
        return os.fspath(value) if isinstance(value, os.PathLike) else getattr(value, "spec", value)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_fitting"}  # five times the size of the model


def mean_and_scale(x: Tensor) -> tuple[Tensor, float]:
    """The mean of each value of samples ``[n, *in_shape]``, as ``[D]``, and the deviation of them all from it.

    Examples
    --------
    >>> mean_and_scale(torch.tensor([[0.0, 4.0], [2.0, 4.0]]))[0]
    tensor([1., 4.])
    """
    variance, mean = torch.var_mean(x, 0, correction=0)  # in one pass, without a copy of all samples less their mean
    return mean.flatten(), float(variance.mean().sqrt()) or 1.0


def _untold(value: Any) -> Any:
    """What JSON made of a tuple, as a tuple."""
    return tuple(value) if isinstance(value, list) and all(isinstance(one, int) for one in value) else value


def load(path: str | os.PathLike[str]) -> Any:
    """Open a fitted estimator that its `save` wrote, whichever it is. Nothing in the file is run.

    Raises
    ------
    FileError
        If there is no such file, it is damaged, or of an estimator that this version does not know. One line.
    """
    import unsupervised

    name = load_tensors(path, KIND)[0].get("class")
    kind = getattr(unsupervised, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, TorchEstimator)):
        raise FileError(f"{os.fspath(path)}: it holds a {name!r}, which this version does not know")
    return kind.load(path)
