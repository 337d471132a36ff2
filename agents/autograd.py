"""Any torch policy behind the verbs of `MLPStep`: for networks that are too large or too rich for numpy."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from agents.masks import masked
from agents.policies import Bytes, ZooFeatures
from agents.rollout import Samples
from sandbox.training.device import precision, rounded

AT_ONCE = 256  # observations that frozen eyes look at together
WORTH_ROUNDING = 64  # observations of a rollout, in which rounded weights gain what it takes to make them


class Autograd:
    """A policy of Stable-Baselines3, differentiated by torch and stepped by its own optimiser.

    Parameters
    ----------
    policy : ActorCriticPolicy
    precision_name : {"fp32", "bf16", "auto"}
    net : nn.Module, optional
        The part of the policy that sees, if that is not all of it.
    """

    recurrent = False
    eyes: Any = None  # the features extractor with which to act, if not the policy's own
    _rounded: Any = None  # a copy of it with rounded weights

    def __init__(self, policy: Any, precision_name: str, net: Any = None):
        self.policy, self.precision_name, self.net = policy, precision_name, net or policy
        self.discrete = isinstance(policy.action_space, spaces.Discrete)
        self.pictures = isinstance(self.net, Bytes) and self.net.takes_bytes()
        self.arrange: Any = self.net.encoder.arrange if self.pictures else None

    @property
    def frozen(self) -> bool:
        """Whether both heads have the same eyes and these do not learn: what they see in a picture stays the same."""
        eyes: Any = getattr(self.net, "features_extractor", None)
        return isinstance(eyes, ZooFeatures) and eyes.freeze and self.net.share_features_extractor

    @property
    def acting_threads(self) -> int | None:
        """A few pictures are not worth waking a second thread, which would then spin beside those of the games."""
        return 1 if self.pictures else None

    def fits(self, policy: ActorCriticPolicy) -> bool:
        """Whether this drives `policy`."""
        return policy is self.policy

    def begin_rollout(self, n_steps: int, n_envs: int) -> None:
        """Evaluation mode: no dropout, no statistics of a batch."""
        self.policy.set_training_mode(False)
        shared = getattr(self.net, "share_features_extractor", True)
        rounds = self.pictures and shared and rounded(self.precision_name, self.policy.device)
        self.eyes = self._with_rounded_weights() if rounds and n_steps * n_envs >= WORTH_ROUNDING else None

    def _with_rounded_weights(self) -> Any:
        """Round the weights once a rollout: at each step it would take longer than the products."""
        original = self.net.features_extractor
        if self._rounded is None:
            self._rounded = copy.deepcopy(original).requires_grad_(False).eval()
            for layer in self._rounded.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(torch.bfloat16)
        with torch.no_grad():
            self._rounded.load_state_dict(original.state_dict())  # which copies, and rounds where the copy is rounder
        return self._rounded

    def act(
        self, obs: Any, starts: np.ndarray | None = None, masks: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray, Tensor, Tensor]:
        """Observations ``[B, ...]`` -> themselves as tensors, actions, values ``[B, 1]``, log_probs ``[B]``."""
        with torch.no_grad():
            actions, values, log_probs = self._draw(*self._latents(self.inputs(obs), self.eyes), masks)
        return obs_as_tensor(obs, self.policy.device), actions.cpu().numpy(), values, log_probs

    def _draw(self, latent_pi: Tensor, latent_vf: Tensor, masks: np.ndarray | None) -> tuple[Tensor, Tensor, Tensor]:
        allowed = None if masks is None else torch.as_tensor(masks, device=self.policy.device)
        distribution = masked(self.policy._get_action_dist_from_latent(latent_pi), allowed)
        actions = distribution.get_actions()
        log_probs = distribution.log_prob(actions)
        return actions.reshape(-1, *self.policy.action_space.shape), self.policy.value_net(latent_vf), log_probs  # type: ignore[misc]

    def predict(self, obs: np.ndarray, deterministic: bool) -> np.ndarray:
        """Actions ``[N, ...]`` for observations ``[N, ...]``, by the weights as they are now."""
        self.policy.set_training_mode(False)
        with torch.no_grad():
            latent_pi, _ = self._latents(self.inputs(obs))
            actions = self.policy._get_action_dist_from_latent(latent_pi).get_actions(deterministic=deterministic)
        return actions.cpu().numpy().reshape(-1, *self.policy.action_space.shape)  # type: ignore[misc]

    def values(self, obs: Any, state: Any = None) -> np.ndarray:
        """V of observations ``[N, ...]`` -> ``[N]``."""
        with torch.no_grad():
            latent_vf = self._latents(self.inputs(obs), self.eyes)[1]
            return self.policy.value_net(latent_vf).flatten().cpu().numpy()

    def inputs(self, obs: Any) -> Any:
        """Observations as the network takes them, uploaded once a rollout; pictures as bytes, arranged for its eyes.

        On the processor pictures stay in numpy, which gathers whole rows ten times faster than torch does.
        """
        if not self.pictures:
            return obs_as_tensor(obs, self.policy.device)
        arranged = self.arrange(obs)
        return arranged if self.policy.device.type == "cpu" else torch.as_tensor(arranged, device=self.policy.device)

    def study(self, inputs: Any) -> Tensor:
        """What frozen eyes see in `inputs` ``[N, ...]``, once for all epochs of an update; `forward` takes it then."""
        with torch.no_grad():
            some = (inputs[start : start + AT_ONCE] for start in range(0, len(inputs), AT_ONCE))
            return torch.cat([self._features(part) for part in some])

    def _features(self, inputs: Any, eyes: Any = None) -> Any:
        if self.pictures:
            inputs = torch.as_tensor(inputs).permute(0, 3, 1, 2)  # channels in front, but in memory last
        return features(self.policy, inputs, self.precision_name, eyes)

    def _latents(self, inputs: Any, eyes: Any = None) -> tuple[Tensor, Tensor]:
        """What the two heads see of `inputs`."""
        return heads(self.policy, self._features(inputs, eyes))

    def array(self, rows: np.ndarray) -> Tensor:
        """Any other rows, likewise; actions as integers where they are discrete."""
        tensor = torch.as_tensor(rows, device=self.policy.device)
        if tensor.dtype == torch.bool:
            return tensor
        return tensor.float() if tensor.is_floating_point() or not self.discrete else tensor.long()

    def begin_update(self) -> None:
        """Training mode."""
        self.policy.set_training_mode(True)
        # Looked for once an update: to walk through all modules takes as long as a small network's forward pass.
        self.parameters = list(self.net.parameters())

    def forget(self) -> None:
        """Drop the gradients of the last step."""
        for parameter in self.parameters:
            parameter.grad = None

    def end_update(self) -> None:
        """The graph is done with."""
        self.outputs: list[Tensor] = []

    def forward(self, batch: Samples) -> tuple[Tensor, Tensor, Tensor]:
        """``log_probs [N], values [N], entropy [N]``, their graph kept for `backward`."""
        values, log_probs, entropy = self._evaluate(batch)
        entropy = -log_probs if entropy is None else entropy  # squashed actions: no closed form, an estimate by samples
        self.outputs = [log_probs, values.flatten(), entropy]
        log_probs, values, entropy = (output.detach() for output in self.outputs)
        return log_probs, values, entropy

    def _evaluate(self, batch: Samples) -> tuple[Tensor, Tensor, Tensor | None]:
        seen = batch.obs if self.frozen else self._features(batch.obs)
        return self._judge(*heads(self.policy, seen), batch)

    def _judge(self, latent_pi: Tensor, latent_vf: Tensor, batch: Samples) -> tuple[Tensor, Tensor, Tensor | None]:
        distribution = masked(self.policy._get_action_dist_from_latent(latent_pi), batch.masks)
        return self.policy.value_net(latent_vf), distribution.log_prob(batch.actions), distribution.entropy()

    def backward(self, by_log_probs: Tensor, by_values: Tensor, by_entropy: float) -> None:
        """From the loss's derivative by the outputs of `forward` to each parameter's gradient."""
        self.forget()
        gradients = [by_log_probs, by_values, torch.full_like(by_values, by_entropy)]
        wanted = [i for i, output in enumerate(self.outputs) if output.requires_grad and (i < 2 or by_entropy)]
        torch.autograd.backward([self.outputs[i] for i in wanted], [gradients[i] for i in wanted])

    def step(self, max_grad_norm: float) -> float:
        """One step of the policy's optimiser on the clipped gradient; returns its norm before clipping."""
        clip: Any = torch.nn.utils
        total = clip.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = float(total)
        if np.isfinite(norm):
            if norm + 1e-6 > max_grad_norm:  # else it would multiply all of them by 1
                clip.clip_grads_with_norm_(self.parameters, max_grad_norm, total)
            self.policy.optimizer.step()
        return norm


def within_bounds(policy: ActorCriticPolicy, actions: np.ndarray) -> np.ndarray:
    """A policy's actions as the environment takes them: of a box, unscaled if they are squashed, else clipped."""
    space = policy.action_space
    if not isinstance(space, spaces.Box):
        return actions
    return policy.unscale_action(actions) if policy.squash_output else np.clip(actions, space.low, space.high)


def features(policy: ActorCriticPolicy, obs: Any, precision_name: str = "fp32", eyes: Any = None) -> Any:
    """What the policy's eyes see in observations: ``[N, ...] -> [N, D]``, or two of these, if each head has its own.

    The precision is that of the eyes, where the work is; from there on all is float32.
    """
    with precision(precision_name, policy.device):
        seen: Any = policy.extract_features(obs, eyes)
    return seen.float() if policy.share_features_extractor else [each.float() for each in seen]


def heads(policy: ActorCriticPolicy, seen: Any) -> tuple[Tensor, Tensor]:
    """What policy and value function make of `features`: ``[N, D_pi], [N, D_vf]``."""
    if policy.share_features_extractor:
        return policy.mlp_extractor(seen)
    return policy.mlp_extractor.forward_actor(seen[0]), policy.mlp_extractor.forward_critic(seen[1])
