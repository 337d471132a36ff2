"""The one supervised loop: any network, any loss, mini-batches of arrays that stay where they are.

A `Fitting` is a network in training: its optimiser, its average, what it has come to. `fit` runs the loop over it, and
can go on with it later, in this process or, through `Fitting.save`, in another one, as if it had never stopped.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sandbox.training.checkpoint import FileError, load_tensors, save_tensors
from sandbox.training.device import light_optimizers, medium_products, no_denormals, private_seed, threads
from sandbox.training.device import precision as in_precision
from sandbox.training.log import ProgressLine
from sandbox.training.schedules import as_schedule
from sandbox.zoo.ema import EMA

Loss = tuple[Tensor, dict[str, Tensor]]  # a scalar with graph, and detached metrics
Schedule = Callable[[float], float]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9, fused=True),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
    "adagrad": partial(torch.optim.Adagrad, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, foreach=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}
KIND = "sandbox.fitting"
MEDIUM = "medium"
TOLD = ("loss", "effective_rank", "spread")  # beside the bar: the last two tell a collapse
LOOK = 50  # steps between two looks at whether the loss is still a number: a look waits for a GPU


class Fitting:
    """A network in training, and all that is needed to go on with it.

    Parameters
    ----------
    model : nn.Module
        On its device.
    optimizer : {"sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"}
        Momentum is 0.9 for both of its kinds.
    l2 : float
        Weight decay of all weights but vectors (biases, norms); that of ``"adamw"`` is apart from the gradient
        (arXiv:1711.05101).
    ema : float, optional
        Step of an average of the weights, such as 0.001: the average is then what the fit leaves in the model.

    Attributes
    ----------
    epoch, step : int
        Epochs and steps done.
    history : list of dict
        Of each epoch, its mean loss and other metrics.
    best_loss, best_epoch : float, int
        The least loss of an epoch, on held-out samples where there are any.
    stopped : str
        Why the last `fit` ended before its time; empty if it did not.

    Raises
    ------
    ValueError
        If there is no such optimiser.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0]], np.float32)
    >>> line = nn.Linear(1, 1)
    >>> fitting = Fitting(line, optimizer="sgd")
    >>> def loss(x, y):
    ...     return (line(x) - y).square().mean(), {}
    >>> _ = fit(fitting, loss, (X, 3 * X + 1), epochs=300, batch_size=3, learning_rate=0.1)
    >>> round(line.weight.item(), 3), round(line.bias.item(), 3)
    (3.0, 1.0)
    """

    def __init__(self, model: nn.Module, optimizer: str = "adam", l2: float = 0.0, ema: float | None = None):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
        self.model = model
        learned = [p for p in model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": learned, "weight_decay": 0.0}]
        if l2:  # one group else: an optimiser takes its time over each
            decayed, other = [p for p in learned if p.ndim > 1], [p for p in learned if p.ndim <= 1]
            groups = [{"params": decayed, "weight_decay": l2}, {"params": other, "weight_decay": 0.0}]
        with light_optimizers():
            self.optimizer = OPTIMIZERS[optimizer]([group for group in groups if group["params"]], lr=1.0)
        self.ema = None if ema is None else EMA(model, tau=ema)
        self.epoch = self.step = 0
        self.history: list[dict[str, float]] = []
        self.best_loss, self.best_epoch = math.inf, 0
        self.best: dict[str, Tensor] | None = None  # the weights of the best epoch
        self.current: dict[str, Tensor] | None = None  # what to go on from, where the model has other weights
        self.random: dict[str, Tensor] | None = None  # the states of the private random generators
        self.stopped = ""

    @property
    def weights(self) -> list[Tensor]:
        """The parameters that are learned."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def save(self, path: Any) -> None:
        """Write everything to one safetensors file, whole or not at all."""
        tensors = {f"model.{key}": value for key, value in (self.current or self.model.state_dict()).items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{i}.{key}": torch.as_tensor(value) for key, value in values.items() if value is not None
            }
        parts = {"best": self.best, "random": self.random, "ema": self.ema and self.ema.module.state_dict()}
        for part, values in parts.items():
            tensors |= {f"{part}.{key}": value for key, value in (values or {}).items()}
        record = {
            **{key: getattr(self, key) for key in ("epoch", "step", "history", "best_epoch")},
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
        }
        save_tensors(path, KIND, record, tensors)

    def restore(self, path: Any) -> None:
        """Take up what `save` wrote of a fitting of the same network and settings.

        Raises
        ------
        FileError
            If there is no such file, it is damaged, or of another network. One line.
        """
        record, tensors = load_tensors(path, KIND)
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = tensor
        try:
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in parts.get("optimizer", {}).items():
                i, _, key = name.partition(".")
                state.setdefault(int(i), {})[key] = tensor
            if (self.ema is None) != ("ema" not in parts):
                raise ValueError("it was made with another ema")
            shapes = [p.shape for p in self.weights]
            for place, values in state.items():
                if any(v.ndim and v.shape != shapes[place] for v in values.values()):
                    raise ValueError("its optimiser's state is that of another network")
            self.model.load_state_dict(parts.get("model", {}))
            if self.ema is not None:
                self.ema.module.load_state_dict(parts["ema"])
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
            self.best, self.random = parts.get("best"), parts.get("random")
            self.epoch, self.step, self.history = record["epoch"], record["step"], record["history"]
            self.best_epoch = record["best_epoch"]
            self.best_loss = math.inf if record["best_loss"] is None else record["best_loss"]
        except Exception as error:  # of another network in one of many ways
            raise FileError(
                f"{path}: not of this network and these settings ({' '.join(str(error).split())})"
            ) from error
        self.current, self.stopped = None, ""


def fit(
    fitting: Fitting,
    loss: Callable[..., Loss],
    arrays: Sequence[np.ndarray | Tensor],
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float | str | Schedule = 1e-3,
    l1: float = 0.0,
    clip_norm: float | None = None,
    held_out: Tensor | None = None,
    patience: int | None = None,
    tol: float = 1e-4,
    seed: int = 0,
    precision: str = "fp32",
    n_threads: int | None = None,
    after_step: Callable[[], None] | None = None,
    log: Callable[[Mapping[str, float], int], None] | None = None,
    checkpoint: Any = None,
    every: float = 60.0,
    label: str = "",
) -> Fitting:
    """Minimise a loss over mini-batches, until `epochs` are done.

    Everything random, the order of samples, dropout, and whatever the loss draws from torch's global generator, comes
    from a private stream. Nothing global is left changed.

    Parameters
    ----------
    fitting : Fitting
        Begun, or to go on with.
    loss : callable
        From a batch of each array to a scalar with graph, and detached metrics; it is given tensors on the model's
        device, in the arrays' own type.
    arrays : sequence of [N, ...]
        Numpy arrays (memory maps, too) or tensors, of which each step reads its batch: they are not copied.
    epochs : int
        In all, those already done included.
    batch_size : int
        Of an epoch's batches none is larger, and none smaller by more than one sample.
    learning_rate : float, str or schedule
        See `sandbox.training.schedules`.
    l1 : float
        Times the sign of each weight (vectors excepted), added to its gradient.
    clip_norm : float, optional
        Largest norm of the whole gradient (arXiv:1211.5063).
    held_out : int [M], optional
        Samples that are not learned from: the weights of the epoch with the least loss on them are what remains.
    patience : int, optional
        Epochs without an improvement by `tol`, relative to the best loss, after which it stops.
    tol : float
    seed : int
        Of the private stream, where it begins.
    precision : {"fp32", "bf16", "auto", "medium"}
        See `sandbox.training.device.precision`, and, for the last one, `medium_products`.
    n_threads : int, optional
    after_step : callable, optional
        Called after each step.
    log : callable, optional
        Given each epoch's metrics and the number of steps.
    checkpoint : path, optional
        Where to save the fitting, at most each `every` seconds, at the end of an epoch and when it stops. What is
        there of the same network is gone on with.
    label : str
        Of a progress bar, after two seconds; none if empty.

    Returns
    -------
    Fitting
        With the model in evaluation mode. ``fitting.stopped`` says why, if it ended early: by `patience`, by Ctrl-C
        (then the weights are those of the last step), or for a loss that was no number (then those of the best epoch).

    Raises
    ------
    FloatingPointError
        If the loss is no number in the first epoch already.
    ValueError
        If the arrays differ in length or hold nothing.
    FileError
        If `checkpoint` is damaged, or of another network.
    """
    if not len(arrays[0]) or any(len(array) != len(arrays[0]) for array in arrays):
        raise ValueError(f"arrays must be of one length, 1 or more, got {[len(array) for array in arrays]}")
    if checkpoint is not None and not fitting.step and Path(checkpoint).exists():
        fitting.restore(checkpoint)
    model, device = fitting.model, next(fitting.model.parameters()).device
    ids = torch.arange(len(arrays[0]))
    if held_out is not None:
        ids = ids[torch.isin(ids, held_out, invert=True)]
    N = len(ids)
    schedule = as_schedule(learning_rate)
    autocast = _autocast(precision, device)
    sizes = _sizes(N, batch_size)
    if fitting.current is not None:
        model.load_state_dict(fitting.current)
        fitting.current = None
    fitting.stopped, saved = "", time.monotonic()
    shown = ProgressLine(label, epochs * N, "samples", fitting.epoch * N, patience=2.0) if label else None
    try:
        with (
            private_seed(seed),
            threads(n_threads),
            no_denormals(),
            medium_products() if precision == MEDIUM else nullcontext(),
            shown if shown is not None else nullcontext(),
        ):
            _recall(fitting.random)
            while fitting.epoch < epochs and not fitting.stopped:
                model.train()
                order, began = ids[torch.randperm(N)], time.monotonic()
                first = None if held_out is not None else _copy(model)
                sums: dict[str, Tensor] = {}
                for i, some in enumerate(order.split(sizes)):
                    n, progress = sizes[i], 1.0 - (fitting.epoch + i / len(sizes)) / epochs
                    for group in fitting.optimizer.param_groups:
                        group["lr"] = schedule(progress)
                    batch = [_take(array, some, device) for array in arrays]
                    with autocast:
                        value, metrics = loss(*batch)
                    _step(fitting, value, l1, clip_norm)
                    if after_step is not None:
                        after_step()
                    if fitting.ema is not None:
                        fitting.ema.update(model)
                    for name, metric in ({"loss": value.detach()} | metrics).items():
                        sums[name] = sums[name] + n * metric if name in sums else n * metric
                    fitting.step += 1
                    if fitting.step % LOOK == 0:
                        _check(sums["loss"])
                        if shown is not None:
                            done = sum(sizes[: i + 1])
                            shown.update(fitting.epoch * N + done, _told(sums, done))
                _check(sums["loss"])
                row = {name: float(value) / N for name, value in sums.items()}
                _judge(fitting, row, first, loss, arrays, held_out, batch_size, precision)
                fitting.epoch += 1
                fitting.history.append(row)
                fitting.random = _states()
                if log is not None:
                    rate = N / (time.monotonic() - began)
                    log({**row, "learning_rate": schedule(progress), "samples_per_second": rate}, fitting.step)
                if shown is not None:
                    shown.update(fitting.epoch * N, _told(row))
                if patience is not None and _stale(fitting, patience, tol):
                    fitting.stopped = f"no better for {patience} epochs"
                if checkpoint is not None and time.monotonic() - saved > every:
                    fitting.save(checkpoint)
                    saved = time.monotonic()
    except KeyboardInterrupt:
        fitting.stopped = f"interrupted in epoch {fitting.epoch + 1}"
        warnings.warn(f"training was {fitting.stopped}; what it has come to is kept", stacklevel=2)
        fitting.random = None
    except FloatingPointError as error:
        _diverged(fitting, error)
    finally:
        model.eval()
    _leave(fitting, best=held_out is not None and not fitting.stopped.startswith("interrupted"))
    if checkpoint is not None:
        fitting.save(checkpoint)
    return fitting


def _sizes(N: int, batch_size: int) -> list[int]:
    """The sizes of an epoch's batches: as few as can be, and alike, so that none is left with one sample.

    >>> _sizes(9, 4)
    [3, 3, 3]
    """
    n = -(-N // batch_size)
    return [N // n + (i < N % n) for i in range(n)]


def _told(sums: Mapping[str, float | Tensor], n: int = 1) -> str:
    """The means of what is worth a look, where there is such a metric.

    >>> _told({"loss": 8.0, "accuracy": 4.0, "effective_rank": 20.0}, 4)
    'loss 2, effective rank 5'
    """
    return ", ".join(f"{name.replace('_', ' ')} {float(sums[name]) / n:.4g}" for name in TOLD if name in sums)


def _take(array: np.ndarray | Tensor, ids: Tensor, device: torch.device) -> Tensor:
    if isinstance(array, Tensor):
        return array[ids.to(array.device)].to(device, non_blocking=True)
    return torch.from_numpy(np.take(array, ids.numpy(), axis=0)).to(device)


def _step(fitting: Fitting, value: Tensor, l1: float, clip_norm: float | None) -> None:
    fitting.optimizer.zero_grad(set_to_none=True)
    value.backward()
    weights = [p for p in fitting.weights if p.grad is not None]
    if l1:
        matrices = [p for p in weights if p.ndim > 1]
        grads = [p.grad for p in matrices if p.grad is not None]
        torch._foreach_add_(grads, torch._foreach_sign([p.detach() for p in matrices]), alpha=l1)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(weights, clip_norm)
    fitting.optimizer.step()


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of a loss: under `medium_products`, which is around the gradient, too, it casts nothing."""
    return in_precision("fp32" if precision == MEDIUM else precision, device)


def _check(total: Tensor) -> None:
    if not math.isfinite(float(total)):
        raise FloatingPointError(f"the loss was {float(total)}")


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Callable[..., Loss],
    arrays: Sequence[np.ndarray | Tensor],
    batch_size: int = 128,
    precision: str = "fp32",
    ids: Tensor | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """The mean loss and metrics over arrays, or some of their samples, in evaluation mode.

    What the loss draws is the same each time.

    Examples
    --------
    >>> model = nn.Identity()
    >>> evaluate(model, lambda x: (model(x).mean(), {}), (torch.tensor([1.0, 2.0, 6.0]),))
    {'loss': 3.0}
    """
    was_training, device = model.training, next(model.parameters(), torch.empty(0)).device
    model.eval()
    sums: dict[str, float] = {}
    ids = torch.arange(len(arrays[0])) if ids is None else ids
    try:
        with private_seed(seed), _autocast(precision, device):
            for some in ids.split(_sizes(len(ids), batch_size)):
                value, metrics = loss(*(_take(array, some, device) for array in arrays))
                for name, metric in ({"loss": value} | metrics).items():
                    sums[name] = sums.get(name, 0.0) + len(some) * float(metric)
    finally:
        model.train(was_training)
    return {name: value / len(ids) for name, value in sums.items()}


def _judge(
    fitting: Fitting,
    row: dict[str, float],
    first: dict[str, Tensor] | None,
    loss: Callable[..., Loss],
    arrays: Sequence[np.ndarray | Tensor],
    held_out: Tensor | None,
    batch_size: int,
    precision: str,
) -> None:
    """Add the loss on held-out samples to an epoch's row, and keep the weights if they are the best so far.

    Without held-out samples the weights are kept that the epoch began with: of those it ended with nothing is known.
    """
    with _averaged(fitting):
        if held_out is not None:
            found = evaluate(fitting.model, loss, arrays, batch_size, precision, held_out)
            row |= {f"held_out_{name}": value for name, value in found.items()}
        judged = row.get("held_out_loss", row["loss"])
        if not math.isfinite(judged):
            raise FloatingPointError(f"the loss on held-out samples was {judged}")
        if judged < fitting.best_loss:
            fitting.best_loss, fitting.best_epoch = judged, fitting.epoch
            fitting.best = _copy(fitting.model) if first is None else first


@contextmanager
def _averaged(fitting: Fitting) -> Iterator[None]:
    """The average in place of the weights, where there is one."""
    if fitting.ema is None:
        yield
        return
    own = _copy(fitting.model)
    fitting.model.load_state_dict(fitting.ema.module.state_dict())
    try:
        yield
    finally:
        fitting.model.load_state_dict(own)


def _stale(fitting: Fitting, patience: int, tol: float) -> bool:
    """Whether the last `patience` epochs are no better than what was there before, by more than `tol`."""
    losses = [row.get("held_out_loss", row["loss"]) for row in fitting.history]
    if len(losses) <= patience:
        return False
    before = min(losses[:-patience])
    return min(losses[-patience:]) > before - tol * abs(before)


def _diverged(fitting: Fitting, error: FloatingPointError) -> None:
    what = f"{error} in epoch {fitting.epoch + 1}"
    if fitting.best is None:
        raise FloatingPointError(
            f"{what}: take a smaller learning_rate, or clip_norm, and see that the data are of ordinary size"
        ) from None
    fitting.model.load_state_dict(fitting.best)
    fitting.stopped, fitting.ema = what, None
    advice = f"the weights of epoch {fitting.best_epoch + 1}, the best, are kept; a smaller learning_rate may help"
    warnings.warn(f"training stopped: {what}; {advice}", RuntimeWarning, stacklevel=3)


def _leave(fitting: Fitting, best: bool) -> None:
    """Put into the model what the fit is for: the best weights, or their average, else the last."""
    average = None if fitting.ema is None else fitting.ema.module.state_dict()
    chosen = fitting.best if best else average
    if chosen is not None:
        fitting.current = _copy(fitting.model)
        fitting.model.load_state_dict(chosen)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _recall(states: dict[str, Tensor] | None) -> None:
    if states is not None:
        torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])
