"""Quantizers: from vectors to symbols of a finite alphabet and back, with gradients as if nothing had been rounded."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sandbox.zoo.contracts import check_sizes


class VectorQuantizer(nn.Module):
    """The nearest vector of a learned codebook: ``[..., d] -> [..., d]``, symbols ``[...]``, commitment loss.

    Backwards it is the identity (straight through). The codebook needs no gradient: in training, each call moves every
    code towards the mean of the vectors that chose it, by an exponential moving average. A code that nothing has chosen
    in `1 / (1 - decay)` calls is put on a vector of the batch, drawn from torch's generator.

    Parameters
    ----------
    n_codes : int
        `K`, the size of the alphabet.
    dim : int
        `d`, the length of a vector.
    decay : float
        Of the moving averages, in [0, 1).

    Raises
    ------
    ValueError
        If a size is not positive or `decay` is not in [0, 1); by `forward`, if vectors have another length.

    References
    ----------
    van den Oord et al., "Neural discrete representation learning", arXiv:1711.00937, appendix A.1; restarts: Dhariwal
    et al., "Jukebox", arXiv:2005.00341.

    Examples
    --------
    >>> quantizer = VectorQuantizer(n_codes=2, dim=1).eval()
    >>> quantizer.start(torch.tensor([[0.0], [1.0]]))
    >>> z_hat, symbols, loss = quantizer(torch.tensor([[0.2], [0.8], [0.9]]))
    >>> z_hat.flatten().tolist(), symbols.tolist(), round(loss.item(), 4)
    ([0.0, 1.0, 1.0], [0, 1, 1], 0.03)
    >>> quantizer.look_up(torch.tensor([1]))
    tensor([[1.]])
    """

    codes: Tensor  # [K, d]
    counts: Tensor  # [K], moving average of how many vectors choose a code
    sums: Tensor  # [K, d], and of their sum
    idle: Tensor  # [K], calls since one did

    def __init__(self, n_codes: int, dim: int, decay: float = 0.99) -> None:
        check_sizes(n_codes=n_codes, dim=dim)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay!r}")
        super().__init__()
        self.n_codes = n_codes
        self.dim = dim
        self.decay = decay
        self.register_buffer("codes", torch.randn(n_codes, dim))
        self.register_buffer("counts", torch.ones(n_codes))
        self.register_buffer("sums", self.codes.clone())
        self.register_buffer("idle", torch.zeros(n_codes, dtype=torch.int64))

    @torch.no_grad()
    def start(self, centers: Tensor) -> None:
        """Take `centers` ``[K, d]`` as the codebook, such as those of k-means++, and forget what was before."""
        if centers.shape != self.codes.shape:
            raise ValueError(f"centers must have shape {list(self.codes.shape)}, got {list(centers.shape)}")
        self.codes.copy_(centers)
        self.sums.copy_(centers)
        self.counts.fill_(1)
        self.idle.zero_()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if z.ndim == 0 or z.shape[-1] != self.dim:
            raise ValueError(f"VectorQuantizer takes z of shape [..., {self.dim}], got {list(z.shape)}")
        rows = z.detach().reshape(-1, self.dim).to(self.codes.dtype)
        symbols = self._nearest(rows).view(z.shape[:-1])
        z_hat = self.look_up(symbols)
        loss = (z - z_hat).square().mean()
        if self.training and torch.is_grad_enabled() and len(rows):
            self._move(rows, symbols.flatten())
        return _straight_through(z, z_hat), symbols, loss

    def look_up(self, symbols: Tensor) -> Tensor:
        """The codes of symbols: ``[...] -> [..., d]``."""
        return F.embedding(symbols, self.codes)

    def _nearest(self, rows: Tensor) -> Tensor:  # [N, d] -> [N]
        with torch.autocast(rows.device.type, enabled=False):  # in bf16 the nearest is often another one
            return torch.addmm(self.codes.square().sum(1), rows, self.codes.T, alpha=-2).argmin(1)

    @torch.no_grad()
    def _move(self, rows: Tensor, symbols: Tensor) -> None:  # [N, d], [N]
        counts = torch.zeros_like(self.counts).index_add_(0, symbols, rows.new_ones(len(rows)))
        sums = torch.zeros_like(self.sums).index_add_(0, symbols, rows)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.idle.add_(1).mul_(counts == 0)

        drawn = rows[torch.randint(len(rows), (self.n_codes,), device=rows.device)]
        restart = self.idle >= round(1 / (1 - self.decay))
        self.sums.copy_(torch.where(restart[:, None], drawn, self.sums))
        self.counts.masked_fill_(restart, 1)
        self.idle.masked_fill_(restart, 0)

        total = self.counts.sum()
        smoothed = (self.counts + _LAPLACE) / (total + self.n_codes * _LAPLACE) * total
        self.codes.copy_(self.sums / smoothed[:, None])


class FSQ(nn.Module):
    """Finite scalar quantisation: each number of a vector rounded to one of a few levels, with no codebook to learn.

    ``[..., d] -> [..., d]``, symbols ``[...]``. A number is bounded by tanh and rounded; its levels lie evenly between
    -1 and 1, where an even number of levels has -1 and 0 and lacks 1. Backwards the rounding is the identity. The
    symbol counts through all combinations, the first number fastest.

    Parameters
    ----------
    levels : tuple of int
        Levels of each of the `d` numbers, 2 or more. ``(8, 6, 5)`` has 240 symbols, ``(8, 5, 5, 5)`` has 1,000.

    Attributes
    ----------
    n_codes : int
        Their product.

    Raises
    ------
    ValueError
        If there are no levels, or fewer than 2; by `forward`, if vectors have another length.

    References
    ----------
    Mentzer et al., "Finite scalar quantization: VQ-VAE made simple", arXiv:2309.15505.

    Examples
    --------
    >>> fsq = FSQ(levels=(3, 4))
    >>> z_hat, symbols = fsq(torch.tensor([[0.0, 0.0], [9.0, 9.0], [-9.0, -9.0]]))
    >>> z_hat.tolist(), symbols.tolist()
    ([[0.0, 0.0], [1.0, 0.5], [-1.0, -1.0]], [7, 11, 0])
    >>> fsq.look_up(torch.tensor([7, 11]))
    tensor([[0.0000, 0.0000],
            [1.0000, 0.5000]])
    """

    _levels: Tensor
    _strides: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        check_sizes(levels=levels)
        if not levels or min(levels) < 2:
            raise ValueError(f"levels must be 2 or more for one number or more, got {tuple(levels)}")
        super().__init__()
        self.levels = tuple(map(int, levels))
        self.n_codes = math.prod(self.levels)
        strides = [math.prod(self.levels[:i]) for i in range(len(levels))]
        self.register_buffer("_levels", torch.tensor(self.levels), persistent=False)
        self.register_buffer("_strides", torch.tensor(strides), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if z.ndim == 0 or z.shape[-1] != len(self.levels):
            raise ValueError(f"FSQ takes z of shape [..., {len(self.levels)}], got {list(z.shape)}")
        bounded = self._bounded(z.float())
        digits = bounded.detach().round()
        half = self._levels // 2
        symbols = ((digits.long() + half) * self._strides).sum(-1)
        return _straight_through(bounded, digits) / half, symbols

    def look_up(self, symbols: Tensor) -> Tensor:
        """The vectors of symbols: ``[...] -> [..., d]``."""
        half = self._levels // 2
        return (symbols[..., None] // self._strides % self._levels - half) / half

    def _bounded(self, z: Tensor) -> Tensor:
        """Within the outermost levels, a little less than half a level beyond them; an even number is off centre."""
        reach = (self._levels - 1) * (1 - 1e-3) / 2
        offset = 0.5 * (self._levels % 2 == 0)
        return (z + torch.tan(offset / reach)).tanh() * reach - offset


def perplexity(symbols: Tensor) -> Tensor:
    """How many symbols are in use: the exponential of their entropy, `K` if `K` occur equally often.

    Parameters
    ----------
    symbols : Tensor [...]
        Whole numbers.

    Returns
    -------
    Tensor []

    Examples
    --------
    >>> perplexity(torch.tensor([[0, 3], [3, 0]])), perplexity(torch.tensor([7, 7]))
    (tensor(2.), tensor(1.))
    """
    p = symbols.unique(return_counts=True)[1] / symbols.numel()
    return torch.exp(-(p * p.log()).sum())


_LAPLACE = 1e-5


def _straight_through(z: Tensor, z_hat: Tensor) -> Tensor:
    # Exactly z_hat: z + (z_hat - z).detach() would be off by the rounding of large z.
    return z_hat + (z - z.detach())
