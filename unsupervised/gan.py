"""Generative adversarial networks: one network makes samples, another one tells them from real ones."""

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.func import functional_call

from sandbox.training.fit import Loss, Schedule
from sandbox.zoo.names import build
from unsupervised import losses
from unsupervised.autoencoder import channels_for
from unsupervised.base import TorchEstimator, mean_and_scale


class Players(nn.Module):
    """A generator, and a discriminator: the encoder and one number from its features."""

    def __init__(self, generator: nn.Module, encoder: nn.Module):
        super().__init__()
        self.generator, self.encoder = generator, encoder
        self.head = nn.Linear(encoder.out_features, 1)  # type: ignore[arg-type]

    def judge(self, x: Tensor) -> Tensor:
        """Logits [B] that samples are real."""
        return self.head(nn.functional.leaky_relu(self.encoder(x), 0.2))[:, 0]

    def judge_fixed(self, x: Tensor) -> Tensor:
        """The same, with a discriminator that is not to learn from it."""
        frozen = {name: p.detach() for name, p in self.named_parameters()}
        return functional_call(_Judge(self), {f"players.{name}": p for name, p in frozen.items()}, (x,))


class _Judge(nn.Module):
    def __init__(self, players: Players):
        super().__init__()
        self.players = players

    def forward(self, x: Tensor) -> Tensor:
        return self.players.judge(x)


@dataclass(eq=False, repr=False)
class GAN(TorchEstimator):
    """Learn to make samples that can't be told from the data.

    Both networks take a step on each batch: the discriminator to tell real from made, the generator to be taken for
    real. Pictures are made and judged by convolutions, as in DCGAN [2]_, rows by MLPs. A gradient penalty on real
    samples [3]_ keeps the game from circling. `transform` gives the features of the discriminator, `score` minus both
    losses, which says nothing of how good samples are: look at them.

    All other parameters, and the attributes, are those of `unsupervised.base.TorchEstimator`.

    Parameters
    ----------
    n_components : int
        Length of the normal noise that a sample is made from.
    n_features : int
        Of the discriminator.
    penalty : float
        Weight of the squared gradient of its logits on real samples, in units of the data's standard deviation.

    References
    ----------
    .. [1] Goodfellow et al., arXiv:1406.2661
    .. [2] Radford et al., arXiv:1511.06434
    .. [3] Mescheder et al., arXiv:1801.04406

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(3.0, 2.0, (500, 1)).astype(np.float32)
    >>> made = GAN(2, max_iter=60, random_state=0).fit(X).sample(500, random_state=0)
    >>> made.shape, bool(abs(made.mean() - 3) < 1.0)
    ((500, 1), True)
    """

    n_components: int = 32
    n_features: int = 64
    penalty: float = 1.0
    learning_rate: float | str | Schedule = field(default=3e-4, kw_only=True)
    optimizer: str = field(default="rmsprop", kw_only=True)  # momentum would carry a player past the other's answer

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TorchEstimator._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "penalty": [Interval(Real, 0, None, closed="left")],
    }

    def _build(self) -> Players:
        body: dict[str, Any] = {"name": "mlp", "kwargs": {"widths": [128, 128], "activation": "leaky_relu"}}
        maker: dict[str, Any] = {"name": "mlp_decoder", "kwargs": {"widths": [128, 128], "activation": "relu"}}
        if len(self.in_shape_) == 3 and min(self.in_shape_[1:]) > 1:
            channels = channels_for(self.in_shape_)
            body = {"name": "conv", "kwargs": {"channels": channels, "activation": "leaky_relu"}}
            kwargs = {"channels": channels[::-1], "norm": "batch", "activation": "relu"}
            maker = {"name": "conv_decoder", "kwargs": kwargs}
        generator = build(
            "latent_decoder",
            in_features=self.n_components,
            out_shape=self.in_shape_,
            body=maker,
            linear_path=False,
        )
        encoder = build(
            "latent_encoder",
            in_shape=self.in_shape_,
            out_features=self.n_features,
            body=body,
            linear_path=False,
        )
        return Players(generator, encoder)

    def _start(self, x: Tensor) -> None:
        mean, scale = mean_and_scale(x)
        self.model_.encoder.start(mean, scale)
        self.model_.generator.start(mean, scale)

    def _loss(self, x: Tensor) -> Loss:
        players = self.model_
        made = players.generator(torch.randn(len(x), self.n_components, device=x.device)).float()
        with torch.enable_grad():  # in an evaluation, too: the penalty is a derivative
            x = x.requires_grad_()
            real = players.judge(x).float()
            (slope,) = torch.autograd.grad(real.sum(), x, create_graph=True)
        penalty = (players.encoder.scale * slope).square().flatten(1).sum(1).mean()
        told = losses.discriminator_loss(real, players.judge(made.detach()).float())
        fooled = losses.generator_loss(players.judge_fixed(made).float())
        metrics = {"discriminator": told.detach(), "generator": fooled.detach(), "penalty": penalty.detach()}
        return told + fooled + 0.5 * self.penalty * penalty, metrics

    def sample(self, n: int = 1, random_state: Any = None) -> NDArray[Any]:
        """Samples made from noise: ``[n, D]`` of float32, in 0 to 1 for bytes."""
        check_is_fitted(self)
        noise = check_random_state(random_state).standard_normal((n, self.n_components)).astype(np.float32)
        return self.inverse_transform(noise)

    def inverse_transform(self, Z: NDArray[Any]) -> NDArray[Any]:
        """Samples made from given noise: ``[N, n_components] -> [N, D]``."""
        check_is_fitted(self)
        made = self._in_batches(self.model_.generator, np.asarray(Z), (self.n_components,))
        return made.reshape(len(made), -1)
