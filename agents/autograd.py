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

from agents.auxiliary import AUGMENTATIONS
from agents.masks import masked
from agents.policies import Bytes, ZooFeatures
from agents.rollout import Samples
from sandbox.training.device import precision, rounded
from sandbox.zoo.contracts import channels_last

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
    augment: str | None = None
    aux_coef = 1.0
    learned_from: Any = None  # the observations of the last `forward`
    eyes: Any = None  # the features extractor with which to act, if not the policy's own
    _rounded: Any = None  # a copy of it with rounded weights
    _looked: tuple[Any, Tensor] | None = None  # the last observations that frozen eyes looked at, and what they saw
    _versions: list[int] | None = None  # of frozen eyes' weights, which change where an agent is loaded

    def __init__(self, policy: Any, precision_name: str, net: Any = None):
        self.policy, self.precision_name, self.net = policy, precision_name, net or policy
        self.discrete = isinstance(policy.action_space, spaces.Discrete)
        self.pictures = isinstance(self.net, Bytes) and self.net.takes_bytes()
        self.aux_losses: list[Tensor] = []
        self.learns()

    def learns(self, augment: str | None = None, aux_coef: float = 1.0) -> None:
        """Say what is done to pictures that are learned from, and what the encoder's other loss counts.

        Parameters
        ----------
        augment : {None, "shift"}
            DrQ's random shift (arXiv:2004.13649; of on-policy agents: arXiv:2004.14990).
        aux_coef : float
        """
        self.augment, self.aux_coef = augment, aux_coef
        self.arrange: Any = None
        if self.pictures:  # those that are moved, or drawn, stay pictures: blocks of pixels can't be
            plain = augment is not None or self.auxiliary is not None
            self.arrange = channels_last if plain else self.net.encoder.arrange

    @property
    def auxiliary(self) -> Any:
        """What the encoder learns beside the reward; None if it is nothing."""
        return getattr(getattr(self.net, "features_extractor", None), "auxiliary", None)

    @property
    def frozen(self) -> bool:
        """Whether all heads have the same eyes and these do not learn: what they see in a picture stays the same.

        It is then kept in the place of the picture, and `forward` takes it.
        """
        eyes: Any = getattr(self.net, "features_extractor", None)
        return isinstance(eyes, ZooFeatures) and eyes.freeze and getattr(self.net, "share_features_extractor", True)

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
        if self.frozen:
            versions = [weights._version for weights in self.net.features_extractor.parameters()]
            if versions != self._versions:
                self._versions, self._looked, self._rounded = versions, None, None
        shared = getattr(self.net, "share_features_extractor", True)
        rounds = self.pictures and shared and rounded(self.precision_name, self.policy.device)
        pays = self.frozen or n_steps * n_envs >= WORTH_ROUNDING
        self.eyes = self._with_rounded_weights() if rounds and pays else None

    def _with_rounded_weights(self) -> Any:
        """Round the weights once a rollout: at each step it would take longer than the products."""
        original = self.net.features_extractor
        if self._rounded is not None and self.frozen:
            return self._rounded
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
        """Observations ``[B, ...]`` -> what is kept of them, actions, values ``[B, 1]``, log_probs ``[B]``.

        They are kept as tensors, or what frozen eyes see in them.
        """
        with torch.no_grad():
            seen = self.look(obs) if self.frozen else self._features(self.inputs(obs), self.eyes)
            actions, values, log_probs = self._draw(*heads(self.policy, seen), masks)
        kept = seen if self.frozen else obs_as_tensor(obs, self.policy.device)
        return kept, actions.cpu().numpy(), values, log_probs

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
            latent_pi, _ = heads(self.policy, self._features(self.inputs(obs)))
            actions = self.policy._get_action_dist_from_latent(latent_pi).get_actions(deterministic=deterministic)
        return actions.cpu().numpy().reshape(-1, *self.policy.action_space.shape)  # type: ignore[misc]

    def values(self, obs: Any, state: Any = None) -> np.ndarray:
        """V of observations ``[N, ...]`` -> ``[N]``."""
        with torch.no_grad():
            seen = self.look(obs) if self.frozen else self._features(self.inputs(obs), self.eyes)
            return self.policy.value_net(heads(self.policy, seen)[1]).flatten().cpu().numpy()

    def inputs(self, obs: Any) -> Any:
        """Observations as the network takes them, uploaded once a rollout; pictures as bytes, arranged for its eyes.

        On the processor pictures stay in numpy, which gathers whole rows ten times faster than torch does.
        """
        if not self.pictures:
            return obs_as_tensor(obs, self.policy.device)
        arranged = self.arrange(obs)
        return arranged if self.policy.device.type == "cpu" else torch.as_tensor(arranged, device=self.policy.device)

    def augmented(self, inputs: Any) -> Any:
        """`inputs` as they are learned from: moved at random, if they are to be."""
        if self.augment is None:
            return inputs
        moved = AUGMENTATIONS[self.augment](torch.as_tensor(inputs).permute(0, 3, 1, 2))
        return moved.permute(0, 2, 3, 1)

    def look(self, obs: Any) -> Tensor:
        """What frozen eyes see in observations ``[N, ...]``: ``[N, D]``. Of the last ones it is remembered."""
        if self._looked is None or self._looked[0] is not obs:
            with torch.no_grad():
                some = (obs[start : start + AT_ONCE] for start in range(0, len(obs), AT_ONCE))
                seen = torch.cat([self._features(self.inputs(part), self.eyes) for part in some])
            self._looked = obs, seen
        return self._looked[1]

    def _features(self, inputs: Any, eyes: Any = None) -> Any:
        if self.pictures:
            inputs = torch.as_tensor(inputs).permute(0, 3, 1, 2)  # channels in front, but in memory last
        return features(self.policy, inputs, self.precision_name, eyes)

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
        self.learned_from = None

    def forward(self, batch: Samples) -> tuple[Tensor, Tensor, Tensor]:
        """``log_probs [N], values [N], entropy [N]``, their graph kept for `backward`."""
        values, log_probs, entropy = self._evaluate(batch)
        entropy = -log_probs if entropy is None else entropy  # squashed actions: no closed form, an estimate by samples
        self.outputs = [log_probs, values.flatten(), entropy]
        log_probs, values, entropy = (output.detach() for output in self.outputs)
        return log_probs, values, entropy

    def _evaluate(self, batch: Samples) -> tuple[Tensor, Tensor, Tensor | None]:
        self.learned_from = batch.obs
        seen = batch.obs if self.frozen else self._features(self.augmented(batch.obs))
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
        self._learn_beside()

    def _learn_beside(self) -> None:
        """Add the gradient of the encoder's other loss, on the pictures of the last `forward`."""
        if self.auxiliary is None:
            return
        pictures = self.learned_from
        if self.pictures:
            pictures = torch.as_tensor(pictures).permute(0, 3, 1, 2)
        with precision(self.precision_name, self.policy.device):
            loss = self.auxiliary(self.net.features_extractor.encoder, pictures)
        (self.aux_coef * loss).backward()
        self.aux_losses.append(loss.detach())

    def step(self, max_grad_norm: float) -> float:
        """One step of the policy's optimiser on the clipped gradient; returns its norm before clipping."""
        clip: Any = torch.nn.utils
        total = clip.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = float(total)
        if np.isfinite(norm):
            if norm + 1e-6 > max_grad_norm:  # else it would multiply all of them by 1
                clip.clip_grads_with_norm_(self.parameters, max_grad_norm, total)
            self.policy.optimizer.step()
            if self.auxiliary is not None:
                self.auxiliary.after_step(self.net.features_extractor.encoder)
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
