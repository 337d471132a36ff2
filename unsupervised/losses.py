"""The losses of unsupervised learning, each a pure function of batches.

Legend: `B` batch, `D` values of a sample, `L` latent dimensions, `K` classes; ``x_hat`` reconstructions, ``z`` codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error over all values: ``mean (x_hat - x)²``.

    Examples
    --------
    >>> mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
    tensor(2.)
    """
    return F.mse_loss(x_hat, x)


def mae(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean absolute error over all values: ``mean |x_hat - x|``.

    Examples
    --------
    >>> mae(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
    tensor(1.)
    """
    return F.l1_loss(x_hat, x)


def huber(x_hat: Tensor, x: Tensor, delta: float = 1.0) -> Tensor:
    """Half the squared error up to `delta`, beyond it a line of the same slope (Huber, 1964), averaged over all values.

    Examples
    --------
    >>> huber(torch.tensor([0.5, 3.0]), torch.zeros(2))  # 0.5 · 0.5², 1 · (3 - 0.5)
    tensor(1.3125)
    """
    return F.huber_loss(x_hat, x, delta=delta)


def bce(logits: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy of values from 0 to 1, given logits: ``-mean x log s + (1 - x) log(1 - s)``.

    Examples
    --------
    >>> bce(torch.zeros(2), torch.tensor([0.0, 1.0]))  # log 2
    tensor(0.6931)
    """
    return F.binary_cross_entropy_with_logits(logits, x)


RECONSTRUCTION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "mae": mae, "huber": huber, "bce": bce}


# -- what a code is held to --------------------------------------------------------------------------------------------


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_var)) from N(0, 1), for each latent dimension: ``[B, L] -> [B, L]``, in nats.

    ``(mean² + exp(log_var) - 1 - log_var) / 2`` (Kingma and Welling, arXiv:1312.6114, appendix B).

    Examples
    --------
    >>> gaussian_kl(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    tensor([[0., 2.]])
    """
    return 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var)


def free_bits(kl: Tensor, least: float) -> Tensor:
    """The sum over latent dimensions of their mean divergence, each counted as `least` nats at least: ``[B, L] -> []``.

    A dimension that costs less than that has nothing to gain from being given up (Kingma et al., arXiv:1606.04934).

    Examples
    --------
    >>> free_bits(torch.tensor([[0.0, 2.0], [0.2, 4.0]]), least=0.5)
    tensor(3.5000)
    """
    return kl.mean(0).clamp_min(least).sum()


def gaussian_nll(x_hat: Tensor, x: Tensor) -> Tensor:
    """Negative log-likelihood of a sample, but for a constant, under a Gaussian of the best variance there is.

    The best variance is the mean squared error itself, which leaves ``D / 2 · log mse`` (σ-VAE, Rybkin et al.,
    arXiv:2006.13202): an error and a divergence of codes can be added without a weight to tune.

    Examples
    --------
    >>> gaussian_nll(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]])) # log 2
    tensor(0.6931)
    """
    D = x[0].numel()
    return 0.5 * D * mse(x_hat, x).clamp_min(1e-12).log()


def bernoulli_kl(rates: Tensor, target: float) -> Tensor:
    """KL divergence of rates of activity from a wanted one, summed over units: ``[B, L] in 0..1 -> []``.

    With ``p`` the mean of a unit over the batch, ``r log(r / p) + (1 - r) log((1 - r) / (1 - p))`` (Ng, "Sparse
    autoencoder", CS294A lecture notes, 2011).

    Examples
    --------
    >>> bernoulli_kl(torch.tensor([[0.0, 0.5], [0.4, 0.5]]), target=0.2).item() < 0.23
    True
    >>> bernoulli_kl(torch.tensor([[0.0], [0.4]]), target=0.2).abs() < 1e-6
    tensor(True)
    """
    p = rates.mean(0).clamp(1e-6, 1 - 1e-6)
    return (target * (target / p).log() + (1 - target) * ((1 - target) / (1 - p)).log()).sum()


def contraction(z: Tensor, x: Tensor) -> Tensor:
    """Squared Frobenius norm of the Jacobian ``dz/dx``, mean over the batch: unbiased, from one backward pass.

    For random signs v, ``E |vᵀ J|² = |J|²`` (Hutchinson's estimator); contractive autoencoders: Rifai et al., 2011.
    Draws from torch's global generator; `x` must require a gradient.

    Examples
    --------
    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> contraction((x * torch.tensor([3.0, 4.0])).sum(1, keepdim=True), x).item()
    25.0
    """
    signs = torch.randint_like(z, 2) * 2 - 1
    (pulled,) = torch.autograd.grad(z, x, signs, create_graph=True)
    return pulled.square().sum() / len(x)


# -- labels ------------------------------------------------------------------------------------------------------------


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of scores ``[B, K]`` and labels ``[B]``.

    Examples
    --------
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([1]))  # log 2
    tensor(0.6931)
    """
    return F.cross_entropy(scores, labels)


def hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean multi-class hinge: how far the best wrong score comes within 1 of the right one, or above it.

    ``max(0, 1 + max_{k ≠ y} s_k - s_y)`` (Crammer and Singer, JMLR 2001), scores ``[B, K]`` and labels ``[B]``.

    Examples
    --------
    >>> hinge(torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([0]))
    tensor(0.5000)
    """
    right = scores.gather(1, labels[:, None])
    wrong = scores.scatter(1, labels[:, None], -math.inf)
    return (1 + wrong.max(1).values - right[:, 0]).clamp_min(0).mean()


# -- two players -------------------------------------------------------------------------------------------------------


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of a discriminator's logits, real ones to 1 and made ones to 0 (arXiv:1406.2661).

    Examples
    --------
    >>> discriminator_loss(torch.zeros(3), torch.zeros(3))  # 2 log 2
    tensor(1.3863)
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """What a generator minimises, the form that does not saturate: ``-mean log D(G(z))`` (arXiv:1406.2661, section 3).

    Examples
    --------
    >>> generator_loss(torch.zeros(3))  # log 2
    tensor(0.6931)
    """
    return F.softplus(-fake).mean()
