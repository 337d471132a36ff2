"""A Q-network behind the verbs of `QStep`, differentiated by torch: for pictures, noisy layers and large networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.autograd import Autograd
from agents.q_policies import DQNPolicy, QNetwork
from sandbox.training.device import precision


class QAutograd(Autograd):
    """A DQN policy, differentiated by torch and stepped by its own optimiser.

    Parameters
    ----------
    policy : DQNPolicy
    precision_name : {"fp32", "bf16", "auto"}
    """

    def __init__(self, policy: DQNPolicy, precision_name: str):
        super().__init__(policy, precision_name, policy.q_net)
        self.online, self.target = policy.q_net, getattr(policy, "q_net_target", policy.q_net)  # PQN has no target

    def prepare(self, n: int) -> None:
        """Be ready to answer for `n` observations outside of a rollout, by the weights as they are now."""
        self.begin_rollout(1, n)

    def rows(self, n: int) -> Tensor:
        """0, 1, ... n - 1."""
        return torch.arange(n, device=self.policy.device)

    def reset_noise(self, net: QNetwork | None = None) -> None:
        """Draw the weights of noisy layers anew."""
        for layer in (net or self.online).noisy_layers():
            layer.reset_noise()

    @property
    def noise(self) -> list[Tensor]:
        """What the online network's noisy layers have drawn last."""
        return [layer.noise for layer in self.online.noisy_layers()]

    @noise.setter
    def noise(self, drawn: list[Tensor]) -> None:
        for layer, noise in zip(self.online.noisy_layers(), drawn, strict=True):
            layer.noise = noise

    def hush(self) -> None:
        """Take the means of noisy layers."""
        for layer in [*self.online.noisy_layers(), *self.target.noisy_layers()]:
            layer.hush()

    def q_values(self, obs: Any) -> np.ndarray:
        """Of observations of N: ``[N, A]``."""
        with torch.no_grad():
            # Of few observations the rounding would take longer than it saves.
            name = self.precision_name if self.eyes is not None else "fp32"
            inputs = self.look(obs) if self.frozen else self.inputs(obs)
            outputs = self._outputs(self.online, inputs, self.eyes, name)
            return self.online.head.q_values(outputs).cpu().numpy()

    def greedy(self, obs: Any) -> np.ndarray:
        """The best actions ``[N]`` for observations of N."""
        return self.q_values(obs).argmax(1)

    def next_outputs(self, inputs: Any) -> Tensor:
        """What the target network says of `inputs`: ``[N, A, K]``."""
        self.reset_noise(self.target)
        with torch.no_grad():
            return self._outputs(self.target, inputs)

    def choice(self, inputs: Any) -> Tensor:
        """What the online network says of `inputs`, without a graph: ``[N, A, K]``."""
        with torch.no_grad():
            return self._outputs(self.online, inputs)

    def forward(self, inputs: Any) -> Tensor:  # type: ignore[override]
        """The same with its graph, kept for `backward`."""
        self.learned_from = inputs
        self.outputs = [self._outputs(self.online, inputs)]
        return self.outputs[0].detach()

    def backward(self, actions: Tensor, by_outputs: Tensor) -> None:  # type: ignore[override]
        """From the loss's derivative by the outputs of the actions taken, ``[N], [N, K]``, to each parameter's."""
        (outputs,) = self.outputs
        gradient = torch.zeros_like(outputs)
        gradient[self.rows(len(actions)), actions] = by_outputs
        self.forget()
        outputs.backward(gradient)
        self._learn_beside()

    def _features(self, inputs: Any, eyes: Any = None) -> Tensor:
        return self._seen_by(self.online, inputs, eyes, self.precision_name)

    def _outputs(self, net: QNetwork, inputs: Any, eyes: Any = None, precision_name: str | None = None) -> Tensor:
        """Of `inputs`, which frozen eyes have looked at already."""
        seen = inputs if self.frozen else self._seen_by(net, inputs, eyes, precision_name or self.precision_name)
        return net.outputs_of(seen)

    def _seen_by(self, net: QNetwork, inputs: Any, eyes: Any, precision_name: str) -> Tensor:
        eyes = eyes or net.features_extractor
        with precision(precision_name, self.policy.device):
            if self.pictures:
                features = eyes(torch.as_tensor(inputs).permute(0, 3, 1, 2))  # channels in front, but in memory last
            else:
                features = net.extract_features(inputs, eyes)
        return features.float()
