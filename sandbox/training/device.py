"""Where and how the arithmetic runs: device, threads, precision and seeds.

Threads and precision are process-wide settings in torch and BLAS. Here they are contexts that restore what they found,
so that neither an import nor a ``fit`` or ``learn`` leaves a trace in the caller's program.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

PRECISIONS = ("fp32", "bf16", "auto")


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device that a name stands for.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes the GPU if there is one; any other name is taken at its word.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        For an unknown name, or a GPU where there is none: never a silent run on the CPU.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"unknown device {str(device)!r}: use 'cpu', 'cuda' or 'auto'") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device {str(device)!r} was asked for, but torch sees no GPU here: use device='cpu' or 'auto'"
        )
    return chosen


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looks through the loaded libraries: a few milliseconds, once


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Run torch and numpy's BLAS on `n` threads, then restore what was set before.

    A network of a few thousand weights is fastest on one thread: the work of an operation is shorter than waking a
    second thread for it.

    Parameters
    ----------
    n : int or None
        Number of threads; None leaves everything as it is.

    Examples
    --------
    >>> before = torch.get_num_threads()
    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    if n is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with _blas().limit(limits=n, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_denormals() -> Iterator[None]:
    """Let this thread take numbers below the smallest normal one, 1e-38, for zero.

    An optimiser's averages of a unit that is never active shrink to such numbers, and a processor computes with them
    ten times slower than with others.

    Examples
    --------
    >>> with no_denormals():
    ...     float(np.float32(1e-39) * np.float32(1))
    0.0
    >>> float(np.float32(1e-39) * np.float32(1)) > 0
    True
    """
    before = bool((np.full(1, 1e-39, np.float32) * np.ones(1, np.float32))[0] == 0)  # torch sets it, and can't tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def precision(name: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products and convolutions run in the named precision.

    Parameters
    ----------
    name : {"fp32", "bf16", "auto"}
        ``"bf16"`` computes products in bfloat16 (8 bits of mantissa) and keeps weights, sums and losses in float32;
        ``"auto"`` does so where the processor or GPU is made for it.
    device : torch.device

    Returns
    -------
    torch.autocast

    Raises
    ------
    ValueError
        For an unknown name, or for bf16 on a processor that has no such instructions.

    Examples
    --------
    >>> with precision("fp32", torch.device("cpu")):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    if name == "bf16" and device.type == "cpu" and not has_bf16(device):
        raise ValueError("precision='bf16' needs a processor with AVX-512; use precision='fp32' here, or 'auto'")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=rounded(name, device))


@contextmanager
def medium_products() -> Iterator[None]:
    """Let products of float32 matrices be computed in bfloat16, where the processor has it; nothing else is rounded.

    Without the casts of `precision` around each layer, and so faster where layers are few and wide. It holds for the
    gradient only if that is computed inside, too.

    Examples
    --------
    >>> before = torch.get_float32_matmul_precision()
    >>> with medium_products():
    ...     torch.get_float32_matmul_precision()
    'medium'
    >>> torch.get_float32_matmul_precision() == before
    True
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def has_bf16(device: torch.device) -> bool:
    """Whether the processor (AVX-512 and later) or the GPU (Ampere and later) has instructions for bfloat16."""
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def rounded(name: str, device: torch.device) -> bool:
    """Whether a precision by its name means bf16 on this device.

    Examples
    --------
    >>> rounded("fp32", torch.device("cpu"))
    False
    """
    return name == "bf16" or (name == "auto" and has_bf16(device))


@contextmanager
def private_seed(seed: int | None = None) -> Iterator[None]:
    """Let a block draw from the global generators of torch, numpy and Python without a trace.

    Initial weights, dropout and much else come from global generators. After this context they are where they were
    before, so that making a network does not change what the caller draws next.

    Parameters
    ----------
    seed : int, optional
        The block draws from this seed; without one, from where the generators are.

    Examples
    --------
    >>> with private_seed(0):
    ...     first = torch.rand(1)
    >>> with private_seed(0):
    ...     first == torch.rand(1)
    tensor([True])
    """
    before_numpy, before_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            if seed is not None:
                torch.manual_seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
                random.seed(seed)
            yield
        finally:
            np.random.set_state(before_numpy)  # noqa: NPY002
            random.setstate(before_python)


def free_memory() -> int | None:
    """Bytes that can be taken without swapping; None where that can't be told."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


@contextmanager
def light_optimizers() -> Iterator[None]:
    """Let optimisers be made without importing torch's compiler, which takes two seconds.

    torch guards the method that takes in the parameters against being compiled, and imports the compiler to do so. In
    this context the method is called unguarded.

    Examples
    --------
    >>> with light_optimizers():
    ...     optimizer = torch.optim.Adam([torch.zeros(2, requires_grad=True)])
    """
    guarded = torch.optim.Optimizer.add_param_group
    torch.optim.Optimizer.add_param_group = getattr(guarded, "__wrapped__", guarded)  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.optim.Optimizer.add_param_group = guarded  # type: ignore[method-assign]
