"""A linear layer that explores: its weights are drawn anew, from where and as widely as it learned to."""

import math

import torch
from torch import Tensor, nn


class NoisyLinear(nn.Linear):
    r"""Linear layer with factorised Gaussian noise on its weights: ``[B, in_features] -> [B, out_features]``.

    .. math:: y = (\mu_w + \sigma_w \odot f(\epsilon_o) f(\epsilon_i)^T)\, x + \mu_b + \sigma_b \odot f(\epsilon_o),
              \quad f(\epsilon) = \mathrm{sign}(\epsilon) \sqrt{|\epsilon|}

    The means are the parameters ``weight`` and ``bias`` of a plain linear layer, so its weights fit here. The layer is
    quiet, its own mean, until `reset_noise` draws.

    Parameters
    ----------
    in_features, out_features : int
    sigma : float
        Initial deviation of a weight, times ``sqrt(in_features)``.

    References
    ----------
    Fortunato et al., "Noisy networks for exploration", arXiv:1706.10295.

    Examples
    --------
    >>> layer, x = NoisyLinear(3, 2), torch.ones(1, 3)
    >>> quiet = layer(x)
    >>> layer.reset_noise()
    >>> torch.equal(layer(x), quiet)
    False
    >>> layer.hush()
    >>> torch.equal(layer(x), quiet)
    True
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__(in_features, out_features)  # torch's own draw is the paper's: uniform in 1 / sqrt(in_features)
        deviation = sigma / math.sqrt(in_features)
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), deviation))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), deviation))
        # Not what was learned: left out of files, so that a plain layer's fit and no draw is kept.
        self.register_buffer("noise_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(out_features), persistent=False)
        self.quiet = True

    def reset_noise(self) -> None:
        """Draw other weights, from torch's global generator."""
        for noise in (self.noise_in, self.noise_out):
            drawn = torch.randn_like(noise)
            noise.copy_(drawn.sign() * drawn.abs().sqrt())
        self.quiet = False

    @property
    def noise(self) -> Tensor:
        """What was drawn last, ``[in_features + out_features]``; to be set again after other draws."""
        return torch.cat([self.noise_in, self.noise_out])

    @noise.setter
    def noise(self, drawn: Tensor) -> None:
        self.noise_in.copy_(drawn[: self.in_features])
        self.noise_out.copy_(drawn[self.in_features :])
        self.quiet = False

    def hush(self) -> None:
        """Take the means for weights."""
        self.quiet = True

    def forward(self, x: Tensor) -> Tensor:
        if self.quiet:
            return super().forward(x)
        weight = self.weight + self.weight_sigma * torch.outer(self.noise_out, self.noise_in)
        return nn.functional.linear(x, weight, self.bias + self.bias_sigma * self.noise_out)
