"""Stable-Baselines3's DQN policies with their networks from the zoo, and heads for the Rainbow family.

Without a switch the classes are SB3's, down to the parameters' names and the initial weights that a seed gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.dqn import policies as sb3
from torch import Tensor, nn

from agents.policies import ACTIVATIONS, Bytes, ZooEyes
from agents.q_heads import Head, dueling, head_for
from sandbox import zoo
from sandbox.zoo.noisy import NoisyLinear

SWITCHES = ("dueling", "noisy", "distributional", "head", "norm")  # what `QNetwork` takes beyond SB3's


class QNetwork(sb3.QNetwork, Bytes):
    """Q-values of all actions: ``obs [N, ...] -> [N, A]``, from outputs ``[N, A, K]`` that a head reads.

    Parameters
    ----------
    observation_space, action_space, features_extractor, features_dim, net_arch, activation_fn, normalize_images
        As in Stable-Baselines3.
    dueling : bool
        Two streams of `net_arch`, one for the state's value and one for the actions' advantages (1511.06581).
    noisy : bool or float
        Both of `sandbox.zoo.NoisyLinear` layers (1706.10295); a number is their initial deviation.
    distributional : {None, "c51", "qr"}
        What is learned of the return, see `agents.q_heads`.
    head : dict, optional
        The settings of that head.
    norm : {None, "layer"}
        Between a linear layer and its activation.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.spaces.Discrete,
        features_extractor: Any,
        features_dim: int,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] | str = nn.ReLU,
        normalize_images: bool = True,
        dueling: bool = False,
        noisy: bool | float = False,
        distributional: str | None = None,
        head: dict[str, Any] | None = None,
        norm: str | None = None,
    ):
        # Not SB3's own constructor: it would draw initial weights of a network that is not used.
        BasePolicy.__init__(
            self,
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
        )
        self.net_arch = [64, 64] if net_arch is None else net_arch
        self.activation_fn, self.features_dim = activation_fn, features_dim  # type: ignore[assignment]
        self.switches: dict[str, Any] = {
            "dueling": dueling,
            "noisy": noisy,
            "distributional": distributional,
            "head": head,
            "norm": norm,
        }
        self.head: Head = head_for(distributional, **(head or {}))
        self.n_actions = int(action_space.n)
        self.q_net = self._stream(self.n_actions)  # type: ignore[assignment]
        self.value_net = self._stream(1) if dueling else None

    def _stream(self, n: int) -> nn.Module:
        n_outputs, noisy = n * self.head.n_outputs, self.switches["noisy"]
        name = self.activation_fn if isinstance(self.activation_fn, str) else ACTIVATIONS.get(self.activation_fn)
        if name is not None:
            sizes = {"in_shape": (self.features_dim,), "widths": tuple(self.net_arch), "out_features": n_outputs}
            return zoo.build("mlp", **sizes, activation=name, init=None, noisy=noisy, norm=self.switches["norm"])
        if noisy or self.switches["norm"]:
            known = ", ".join(sorted(set(ACTIVATIONS.values())))
            raise ValueError(f"noisy and norm need an activation_fn of the zoo ({known}), not {self.activation_fn}")
        return nn.Sequential(*create_mlp(self.features_dim, n_outputs, self.net_arch, self.activation_fn))  # type: ignore[arg-type]

    def outputs(self, obs: Any) -> Tensor:
        """What the head reads of observations: ``[N, ...] -> [N, A, K]``."""
        return self.outputs_of(self.extract_features(obs, self.features_extractor))

    def outputs_of(self, features: Tensor) -> Tensor:
        """The same from features ``[N, D]``."""
        K = self.head.n_outputs
        outputs = self.q_net(features).unflatten(1, (self.n_actions, K))
        if self.value_net is None:
            return outputs
        return dueling(self.value_net(features).unflatten(1, (1, K)), outputs)

    def forward(self, obs: Any) -> Tensor:
        return self.head.q_values(self.outputs(obs))

    def noisy_layers(self) -> list[NoisyLinear]:
        """The layers that can draw their weights anew."""
        return [module for module in self.modules() if isinstance(module, NoisyLinear)]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.switches}


class DQNPolicy(ZooEyes, sb3.DQNPolicy):
    """``"MlpPolicy"``: a Q-network and its slow copy, the target network.

    Parameters
    ----------
    observation_space, action_space, lr_schedule, *args, **kwargs
        As in Stable-Baselines3.
    dueling, noisy, distributional, head, norm
        As for `QNetwork`.
    """

    q_net: QNetwork
    q_net_target: QNetwork

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.spaces.Discrete,
        lr_schedule: Callable[[float], float],
        *args: Any,
        **kwargs: Any,
    ):
        self.switches = {name: kwargs.pop(name) for name in SWITCHES if name in kwargs}
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)

    def make_q_net(self) -> QNetwork:
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return QNetwork(**arguments, **self.switches).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.switches}


class DQNCnnPolicy(DQNPolicy, sb3.CnnPolicy):
    """``"CnnPolicy"``: over the zoo's ``nature_cnn``."""


class DQNMultiInputPolicy(DQNPolicy, sb3.MultiInputPolicy):
    """``"MultiInputPolicy"``: for dictionaries of observations."""


class Single(sb3.DQNPolicy):
    """SB3's policy without its target network."""

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        self.q_net = self.make_q_net()
        self.optimizer = self.optimizer_class(self.q_net.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]


class PQNPolicy(DQNPolicy, Single):
    """``"MlpPolicy"`` of PQN: a Q-network alone."""

    def __init__(self, *args: Any, use_sde: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)  # SB3's on-policy algorithms tell every policy of gSDE


class PQNCnnPolicy(PQNPolicy, sb3.CnnPolicy):
    """``"CnnPolicy"``: over the zoo's ``nature_cnn``."""


class PQNMultiInputPolicy(PQNPolicy, sb3.MultiInputPolicy):
    """``"MultiInputPolicy"``: for dictionaries of observations."""


DQN_POLICIES: dict[str, type[BasePolicy]] = {
    "MlpPolicy": DQNPolicy,
    "CnnPolicy": DQNCnnPolicy,
    "MultiInputPolicy": DQNMultiInputPolicy,
}

PQN_POLICIES: dict[str, type[BasePolicy]] = {
    "MlpPolicy": PQNPolicy,
    "CnnPolicy": PQNCnnPolicy,
    "MultiInputPolicy": PQNMultiInputPolicy,
}
