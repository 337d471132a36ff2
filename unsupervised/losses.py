"""The losses of unsupervised learning, each a pure function of batches.

Legend: `B` batch, `D` values of a sample, `L` latent dimensions, `K` classes; ``x_hat`` reconstructions, ``z`` codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sandbox.training.losses import info_nce as info_nce  # agents have it, too
from sandbox.training.losses import several


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


# -- two views ---------------------------------------------------------------------------------------------------------


def nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """SimCLR's loss: of all other embeddings of a batch, each should be most like that of the same sample.

    The cross-entropy of ``softmax(cos(z_i, z_j) / temperature)`` over the ``2 B - 1`` embeddings that are not `z_i`
    itself, averaged over both views: ``[B, L], [B, L] -> []`` (NT-Xent, Chen et al., arXiv:2002.05709, equation 1).

    Raises
    ------
    ValueError
        If there are fewer than two samples.

    Examples
    --------
    >>> nt_xent(torch.eye(2), torch.eye(2), temperature=1.0)  # log (e + 1 + 1) - 1
    tensor(0.5514)
    """
    B = several(z1, z2)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    scores = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    partners = torch.arange(2 * B, device=z.device).roll(B)
    return F.cross_entropy(scores, partners)


def place_nce(scores: Tensor) -> Tensor:
    """`info_nce` at each of several places, in the mean: ``[P, B, B] -> []``.

    ``scores[p, i, i]`` are of what belongs together (ST-DIM, Anand et al., arXiv:1906.08226, equations 1 and 2).

    Examples
    --------
    >>> place_nce(torch.stack([torch.zeros(2, 2), 100 * torch.eye(2)]))  # log 2 at one place, 0 at the other
    tensor(0.3466)
    """
    P, B, _ = scores.shape
    several(scores[0])
    return F.cross_entropy(scores.flatten(0, 1), torch.arange(B, device=scores.device).repeat(P))


def queue_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float = 0.2) -> Tensor:
    """MoCo's loss: a query should be like its own key and unlike those in a queue: ``[B, L], [B, L], [M, L] -> []``.

    The cross-entropy of ``softmax(cos / temperature)`` over one key and the whole queue (He et al., arXiv:1911.05722,
    equation 1). No gradient goes to keys.

    Examples
    --------
    >>> queue_nce(torch.eye(2), torch.eye(2), torch.tensor([[-1.0, 0.0], [0.0, -1.0]]), 1.0)  # log (e + 1 + 1/e) - 1
    tensor(0.4076)
    """
    queries, keys, queue = (F.normalize(one, dim=1) for one in (queries, keys.detach(), queue))
    own = (queries * keys).sum(1, keepdim=True)
    scores = torch.cat([own, queries @ queue.T], 1) / temperature
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Minus the mean cosine of predictions and targets, ``[B, L], [B, L] -> []``; no gradient goes to the targets.

    SimSiam's loss (Chen and He, arXiv:2011.10566, equation 1), and but for ``2 + 2 ·`` BYOL's, the squared distance of
    normalised vectors (Grill et al., arXiv:2006.07733, equation 2).

    Examples
    --------
    >>> negative_cosine(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]]))
    tensor(-0.5000)
    """
    return -F.cosine_similarity(p, z.detach(), dim=1).mean()


def barlow_twins(z1: Tensor, z2: Tensor, weight: float = 5e-3) -> Tensor:
    """How far the correlations of two views are from the identity: ``[B, L], [B, L] -> []``.

    ``Σ_i (1 - C_ii)² + weight Σ_{i≠j} C_ij²``, with `C` the correlation of dimension i of one view and j of the other
    over the batch (Zbontar et al., arXiv:2103.03230, equation 1).

    Raises
    ------
    ValueError
        If there are fewer than two samples.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # white
    >>> barlow_twins(z, z).item(), barlow_twins(z, z[:, [1, 0]], weight=0.25).item()  # 1 + 1 + (1 + 1) / 4
    (0.0, 2.5)
    """
    B = several(z1, z2)
    first, second = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-12).sqrt() for z in (z1, z2))
    C = first.T @ second / B
    agree = C.diagonal()
    return (1 - agree).square().sum() + weight * (C.square().sum() - agree.square().sum())


def vicreg(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of VICReg: ``[B, L], [B, L] -> [], [], []`` (Bardes et al., arXiv:2105.04906, equations 1 to 5).

    Returns
    -------
    invariance
        The squared distance of two views, the mean over samples and dimensions: the usual weights belong to this one
        of the authors' program, whatever L is, and not to the formula's sum over dimensions.
    variance
        How far deviations are below 1, ``mean max(0, 1 - sqrt(var + 1e-4))`` over dimensions, the sum of both views.
    covariance
        ``Σ_{i≠j} cov_ij² / L``, the sum of both views.

    Raises
    ------
    ValueError
        If there are fewer than two samples.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # variances 2, covariance 2
    >>> [round(term.item(), 4) for term in vicreg(z, z + 1)]
    [1.0, 0.0, 8.0]
    >>> [round(term.item(), 4) for term in vicreg(torch.zeros(2, 2), torch.zeros(2, 2))]  # collapsed: 2 (1 - 0.01)
    [0.0, 1.98, 0.0]
    """
    B = several(z1, z2)
    variance = covariance = z1.new_zeros(())
    for z in (z1, z2):
        centred = z - z.mean(0)
        cov = centred.T @ centred / (B - 1)
        own = cov.diagonal()
        variance = variance + F.relu(1 - (own + 1e-4).sqrt()).mean()
        covariance = covariance + (cov.square().sum() - own.square().sum()) / z.shape[1]
    return (z1 - z2).square().mean(), variance, covariance


def effective_rank(z: Tensor) -> Tensor:
    """How many dimensions embeddings use, from 1, which is collapse, to L: ``[B, L] -> []``.

    The exponential of the entropy of the singular values, each divided by their sum (RankMe, Garrido et al.,
    arXiv:2210.02885, equation 1). No gradient.

    Examples
    --------
    >>> [round(effective_rank(z).item(), 4) for z in (torch.eye(3), torch.ones(3, 3))]
    [3.0, 1.0]
    """
    z = z.detach().double().nan_to_num(0, 0, 0)  # of a diverging network it must not be the rank that stops it
    # Half the time of singular values, and in float64 as exact as they are in float32.
    values = torch.linalg.eigvalsh(z.T @ z if z.shape[1] <= len(z) else z @ z.T).clamp_min(0).sqrt()
    shares = values / values.sum().clamp_min(1e-30)
    return torch.special.entr(shares).sum().exp().float()


def spread(z: Tensor) -> Tensor:
    """The mean deviation of normalised embeddings in units of what isotropic ones have: ``[B, L] -> []``, no gradient.

    ``mean_l std(z / |z|)_l · sqrt(L)``: about 1 of a cloud about the origin, 0 of a point (Chen and He,
    arXiv:2011.10566, section 4.1).

    Examples
    --------
    >>> z = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -9.0]])
    >>> round(spread(z).item(), 4), spread(torch.ones(4, 2)).item()
    (1.0, 0.0)
    """
    z = F.normalize(z.detach().float(), dim=1)
    return z.std(0, correction=0).mean() * z.shape[1] ** 0.5


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
