"""What DQN and PQN share: which loop drives their Q-network, and how it is asked for actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import DQN as SB3DQN

from agents import by_hand
from agents.loop import FastPath, Loop, overridden
from agents.q_autograd import QAutograd
from agents.q_policies import DQNPolicy
from sandbox.training.device import rounded

BYPASSED = ("forward", "extract_features", "predict", "_predict")


class QAgent(Loop):
    """An agent that acts by a Q-network, mixed in before the loop that trains it."""

    noisy = False
    noise_steps = 1  # of the environments, by the same noise
    _n_calls = 0
    _noise: Any = None  # of the network, while it stays the same
    exploration_rate: float

    def _eyes(self) -> Any:
        return self.policy.q_net.features_extractor  # type: ignore[union-attr]

    @property
    def fast_path(self) -> FastPath:
        """Which loop trains this agent, and why it is not a faster one.

        ``by hand``: an MLP, its forward and backward pass and its optimiser in numpy. ``autograd``: any other network.
        ``inherited``: Stable-Baselines3's own code, because a user's subclass overrides what the others bypass.
        """
        policy = self.policy
        if not isinstance(policy, DQNPolicy):
            return FastPath("inherited", f"{type(policy).__name__} is not a policy of this project")
        own = overridden(policy, BYPASSED) or overridden(policy.q_net, (*BYPASSED, "outputs", "outputs_of"))
        if own:
            return FastPath("inherited", own)
        if rounded(self.precision, self.device):
            return FastPath("autograd", "precision is bf16")
        reason = by_hand.q_refusal(policy)
        return FastPath("autograd", reason) if reason else FastPath("by hand")

    def _choose_network(self) -> Any:
        """The Q-network as the loop drives it; None where SB3's own loop must."""
        before = self._network
        as_before = before is not None and before.fits(self.policy) and before.precision_name == self.precision
        if as_before and not overridden(self.policy, BYPASSED):
            return before
        path, policy = self.fast_path, self.policy
        if not path:
            self._needs_own_loop(path)
            self._network = None
        else:
            by_numpy = path.kind == "by hand"
            network: Any = by_hand.q_network(policy) if by_numpy else QAutograd(policy, self.precision)  # type: ignore[arg-type]
            if isinstance(network, QAutograd):
                network.learns(self.augment, self.aux_coef)
            self._network = self._driven(network)
            self._network.precision_name = self.precision
        return self._network

    def _driven(self, network: Any) -> Any:
        """The network with the verbs of the loop that trains it."""
        return network

    def _needs_own_loop(self, path: FastPath) -> None:
        """Raise a ValueError if what was asked for is more than Stable-Baselines3's loop, on this `path`, can do."""

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_noise"]

    def _explore(self, network: Any, obs: Any, n: int) -> np.ndarray:
        """What to do in n environments; as in Stable-Baselines3 one coin says for all whether they act at random."""
        if self.noisy:
            if self._noise is None or self._n_calls % self.noise_steps == 0:
                network.reset_noise()
                self._noise = network.noise
            network.noise = self._noise  # learning has drawn others in the meantime
            return network.greedy(obs)
        if np.random.rand() < self.exploration_rate:  # SB3's generator, and so its very actions  # noqa: NPY002
            return np.array([self.action_space.sample() for _ in range(n)])
        return network.greedy(obs)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As in Stable-Baselines3, in a fraction of the time."""
        space, batch, one = self.observation_space, None, False
        if isinstance(observation, np.ndarray) and observation.dtype == space.dtype and space.shape:
            one = observation.shape == space.shape
            batch = observation[None] if one else observation if observation.shape[1:] == space.shape else None
        network = None if batch is None else self._choose_network()
        if network is None:
            if self.noisy:
                for layer in self.policy.q_net.noisy_layers():  # type: ignore[union-attr, operator]
                    layer.hush()
            return SB3DQN.predict(self, observation, state, episode_start, deterministic)  # type: ignore[arg-type]
        network.prepare(len(batch))  # type: ignore[arg-type]
        if deterministic:
            network.hush()
            actions = network.greedy(batch)
        else:
            self._noise = None  # each call draws its own
            actions = self._explore(network, batch, len(batch))  # type: ignore[arg-type]
        return actions.squeeze(0) if one else actions, state
