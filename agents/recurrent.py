"""Agents with a memory: a recurrent network between what a policy sees and what it decides.

The policies are Stable-Baselines3's with a network of the zoo in between (a `Recurrent`, or a `Sequence` behind a
window); `Recollection` drives one: in a rollout a step at a time, in an update whole sequences, cut where an episode
starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3.common import policies as sb3
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from agents.autograd import Autograd, features, heads, within_bounds
from agents.masks import checked, masked
from agents.policies import (
    POLICIES,
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
    ZooNetworks,
    kind_of,
    with_encoder,
)
from agents.rollout import Samples
from sandbox.training.device import precision
from sandbox.zoo.contracts import Recurrent, Sequence
from sandbox.zoo.given import from_given
from sandbox.zoo.transformer import Window

CONTEXT = 32  # steps that a transformer given by its name remembers
PADDING = 4  # the longest sequence of a batch is at most so many times as long as its shortest


def remembers(encoder: Any) -> bool:
    """Whether an `encoder=` argument stands for a network of sequences.

    Examples
    --------
    >>> remembers("lstm"), remembers("mlp")
    (True, False)
    """
    return issubclass(kind_of(encoder), (Recurrent, Sequence))


def as_memory(memory: Any, in_features: int) -> Recurrent:
    """The recurrent network that a name, a file, a specification or a module stands for.

    Parameters
    ----------
    memory : str, Path, dict or nn.Module
        As for `agents.policies.as_encoder`. A specification may leave out ``in_features``. A `Sequence` remembers as
        many steps as its ``max_length``; given by its name, 32.
    in_features : int
        How many features a step has.

    Raises
    ------
    ValueError
        If there is no such network, or it takes another number of features.
    """
    short = {"max_length": CONTEXT} if issubclass(kind_of(memory), Sequence) else {}
    module = from_given(memory, in_features=in_features, **short)
    if module.in_features != in_features:
        raise ValueError(f"the encoder takes {module.in_features} features a step, but here a step has {in_features}")
    return Window(module) if isinstance(module, Sequence) else module


def with_eyes(
    policy: Any, policy_kwargs: dict[str, Any] | None, encoder: Any, freeze: bool, **learns: Any
) -> tuple[Any, Any]:
    """Policy and `policy_kwargs` with an encoder: as the features extractor, or as the memory if it is recurrent.

    Of the former `learns` has what `agents.policies.with_encoder` takes.

    Raises
    ------
    ValueError
        If the policy is one that can't take it.
    """
    if encoder is None or not remembers(encoder):
        return policy, with_encoder(policy_kwargs, encoder, freeze, **learns)
    for name, value in learns.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} goes with an encoder of observations, and {encoder!r} is a memory")
    by_class = {POLICIES[name]: remembering for name, remembering in REMEMBERING.items()}
    remembering = {**REMEMBERING, **by_class}.get(policy)
    if remembering is None:
        raise ValueError(f"a recurrent encoder goes with the policies {', '.join(REMEMBERING)}, not with {policy}")
    kwargs = {**({} if freeze else {"net_arch": []}), **(policy_kwargs or {})}
    return remembering, {**kwargs, "memory": encoder, "freeze_memory": freeze}


class Remembering(ZooNetworks):
    """Mixed into a policy of SB3, it puts a memory between the features and the two heads.

    Parameters
    ----------
    memory : str, Path, dict or nn.Module
        See `as_memory`. With ``share_features_extractor=False`` policy and value function have one each.
    freeze_memory : bool
        Keep its weights as they are, in evaluation mode.
    """

    def __init__(self, *args: Any, memory: Any, freeze_memory: bool = False, **kwargs: Any):
        self._memory = memory, freeze_memory
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        memory, freeze = self._memory
        several = [as_memory(memory, self.features_dim) for _ in range(1 if self.share_features_extractor else 2)]
        self.memories: Any = nn.ModuleList(several).to(self.device)
        if freeze:
            self.memories.requires_grad_(False)
        self.features_dim = several[0].out_features
        super()._build(lr_schedule)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        memory, freeze_memory = self._memory
        return {**super()._get_constructor_parameters(), "memory": memory, "freeze_memory": freeze_memory}

    @property
    def memory_spec(self) -> Any:
        """What rebuilds the memory, where that is known."""
        memory = self.memories[0]
        return getattr(memory.body if isinstance(memory, Window) else memory, "spec", self._memory[0])

    def train(self, mode: bool = True) -> Remembering:
        super().train(mode)
        if self._memory[1]:
            self.memories.eval()
        return self

    def initial_state(self, n: int) -> Tensor:
        """What the memories hold before an episode, ``[S, n, D]``, those of the policy first."""
        return torch.cat([memory.initial_state(n) for memory in self.memories])

    def recall(self, obs: Any, state: Tensor) -> tuple[list[Tensor], Tensor]:
        """One step of B episodes: observations ``[B, ...]`` through the memories, see `remember`."""
        return self.remember(self.features(obs), state, n_steps=1)

    def features(self, obs: Any) -> list[Tensor]:
        """What is seen of each observation alone: one ``[N, D]``, or one for either head."""
        features: Any = self.extract_features(obs)
        return [features] if self.share_features_extractor else list(features)

    def remember(self, features: list[Tensor], state: Tensor, n_steps: int) -> tuple[list[Tensor], Tensor]:
        """Features of T steps in B episodes through the memories.

        Parameters
        ----------
        features : list of [T·B, D]
            As `features` gives them, step after step; no episode starts inside.
        state : [S, B, D]
        n_steps : int
            T.

        Returns
        -------
        features : list of [T·B, D]
            One, or one for the policy and one for the value function.
        state : [S, B, D]
        """
        outputs, states = [], []
        for memory, x, before in zip(self.memories, features, state.chunk(len(self.memories)), strict=True):
            y, after = memory.unroll(x.unflatten(0, (n_steps, -1)), before)
            outputs.append(y.flatten(0, 1))
            states.append(after)
        return outputs, torch.cat(states)

    def latents(self, remembered: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What the two heads see."""
        heads = self.mlp_extractor
        return heads.forward_actor(remembered[0]), heads.forward_critic(remembered[-1])

    def predict(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As `agents.recurrent.predict`."""
        return predict(self, *args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a policy with a memory needs its state: call predict(obs, state, episode_start)")

    evaluate_actions = predict_values = get_distribution = forward


class RecurrentActorCriticPolicy(Remembering, ActorCriticPolicy):
    """``"MlpPolicy"`` with a memory."""


class RecurrentActorCriticCnnPolicy(Remembering, ActorCriticCnnPolicy):
    """``"CnnPolicy"`` with a memory."""


class RecurrentMultiInputActorCriticPolicy(Remembering, MultiInputActorCriticPolicy):
    """``"MultiInputPolicy"`` with a memory."""


REMEMBERING: dict[Any, type[sb3.ActorCriticPolicy]] = {
    "MlpPolicy": RecurrentActorCriticPolicy,
    "CnnPolicy": RecurrentActorCriticCnnPolicy,
    "MultiInputPolicy": RecurrentMultiInputActorCriticPolicy,
}


class Recollection(Autograd):
    """A policy with a memory, driven by torch.

    Attributes
    ----------
    state : [S, B, D] Tensor
        What the memory holds now, after the last step that was acted on.
    states : [T, B, S, D] Tensor
        What it held before each step of the rollout.
    """

    recurrent = True
    frozen = False  # nor are its features kept

    def __init__(self, policy: Remembering, precision_name: str):
        super().__init__(policy, precision_name)
        self.policy: Remembering = policy
        self.pictures = False  # a memory takes them as they come
        self.state = policy.initial_state(0)

    def begin_rollout(self, n_steps: int, n_envs: int) -> None:
        """The memory goes on where it was."""
        super().begin_rollout(n_steps, n_envs)
        if self.state.shape[1] != n_envs:
            self.state = self.policy.initial_state(n_envs)
        rows, _, width = self.state.shape
        self.t, self.states = 0, self.state.new_zeros(n_steps, n_envs, rows, width)

    def act(
        self, obs: Any, starts: np.ndarray | None = None, masks: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray, Tensor, Tensor]:
        """As `Autograd.act`; the memory is cleared where an episode starts, ``[B]``."""
        obs_tensor = obs_as_tensor(obs, self.policy.device)
        with torch.no_grad(), precision(self.precision_name, self.policy.device):
            state = restarted(self.policy, self.state, starts)
            self.states[self.t] = state.transpose(0, 1)
            self.t += 1
            remembered, self.state = self.policy.recall(obs_tensor, state)
        with torch.no_grad():
            actions, values, log_probs = self._draw(*self._heads(remembered), masks)
        return obs_tensor, actions.cpu().numpy(), values, log_probs

    def values(self, obs: Any, state: Any = None) -> np.ndarray:
        """V of observations ``[N, ...]`` after what `state` ``[S, N, D]`` remembers, by default the present one."""
        obs_tensor = obs_as_tensor(obs, self.policy.device)
        with torch.no_grad(), precision(self.precision_name, self.policy.device):
            remembered, _ = self.policy.recall(obs_tensor, self.state if state is None else state)
        with torch.no_grad():
            return self.policy.value_net(self._heads(remembered)[1]).flatten().cpu().numpy()

    def _heads(self, remembered: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.policy.latents([y.float() for y in remembered])  # from here on in float32, as in `latents`

    def _evaluate(self, batch: Samples) -> tuple[Tensor, Tensor, Tensor | None]:
        with precision(self.precision_name, self.policy.device):
            remembered = self._remembered(batch)
        return self._judge(*self._heads(remembered), batch)

    def _remembered(self, batch: Samples) -> list[Tensor]:
        """What the memory gives at each sample."""
        features = self.policy.features(batch.obs)
        begins = np.flatnonzero(batch.first)
        lengths = np.diff(begins, append=len(batch.first))
        outputs, order = [], []
        for chosen in _alike(lengths):
            longest = int(lengths[chosen].max())
            steps = np.arange(longest)[:, None]  # [T, n]: samples of the same step of each sequence side by side
            inside = steps < lengths[chosen]
            samples = np.where(inside, begins[chosen] + steps, begins[chosen])
            padded = [x[torch.from_numpy(samples.reshape(-1))] for x in features]  # beyond its end, any sample will do
            before = batch.states[torch.from_numpy(begins[chosen])].transpose(0, 1)
            remembered, _ = self.policy.remember(padded, before, longest)
            real = torch.from_numpy(np.flatnonzero(inside))
            outputs.append([y[real] for y in remembered])
            order.append(samples[inside])
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return [torch.cat(parts)[back] for parts in zip(*outputs, strict=True)]


def predict(
    policy: Any,
    observation: np.ndarray | dict[str, np.ndarray],
    state: tuple[np.ndarray, ...] | None = None,
    episode_start: np.ndarray | None = None,
    deterministic: bool = False,
    action_masks: np.ndarray | None = None,
) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
    """SB3's ``policy.predict``, for policies with a memory and for actions with masks.

    Parameters
    ----------
    policy : ActorCriticPolicy
    observation : [...] or [N, ...]
    state : (array [S, N, D],), optional
        As the last call gave it back; without it, the initial one.
    episode_start : [N] booleans, optional
        Where the state is to be forgotten.
    deterministic : bool
    action_masks : [A] or [N, A] booleans, optional

    Returns
    -------
    actions : [...] or [N, ...]
    state : as given, or as it is now
    """
    policy.set_training_mode(False)
    obs, vectorized = policy.obs_to_tensor(observation)
    n = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
    with torch.no_grad():
        if isinstance(policy, Remembering):
            before = policy.initial_state(n) if state is None else torch.as_tensor(state[0], device=policy.device)
            if before.shape[1] != n:
                raise ValueError(f"the state is of {before.shape[1]} episodes, but there are {n} observations")
            remembered, after = policy.recall(obs, restarted(policy, before, episode_start))
            latent_pi, state = policy.latents(remembered)[0], (after.cpu().numpy(),)
        else:
            latent_pi, _ = heads(policy, features(policy, obs))
        masks = None if action_masks is None else checked(action_masks, policy.action_space, n)
        allowed = None if masks is None else torch.as_tensor(masks, device=policy.device)
        distribution = masked(policy._get_action_dist_from_latent(latent_pi), allowed)
        actions = distribution.get_actions(deterministic=deterministic).cpu().numpy()
    actions = within_bounds(policy, actions.reshape(-1, *policy.action_space.shape))
    return actions if vectorized else actions.squeeze(axis=0), state


def carry(before: Any, now: Any) -> None:
    """Hand what one network remembers to the one that takes its place, if that one remembers as much.

    A policy's network is another one after a change of its optimiser, its precision or the like; its episodes go on.
    """
    if not (getattr(before, "recurrent", False) and getattr(now, "recurrent", False)):
        return
    if before.state.shape[::2] != now.state.shape[::2]:
        return
    for name in {"state", "states"} & vars(before).keys():
        held = torch.as_tensor(getattr(before, name))
        mine: Any = now.state
        setattr(now, name, held.cpu().numpy().copy() if isinstance(mine, np.ndarray) else held.to(mine))


def restarted(policy: Remembering, state: Tensor, starts: np.ndarray | None) -> Tensor:
    """The state ``[S, B, D]`` with the initial one where an episode starts, ``[B]``."""
    if starts is None or not np.any(starts):
        return state
    here = torch.as_tensor(np.asarray(starts, bool), device=state.device)
    return torch.where(here[None, :, None], policy.initial_state(state.shape[1]), state)


def _alike(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """The sequences in groups of similar length, longest first: what is padded to one length wastes little."""
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        n = int(np.searchsorted(-lengths[order], -lengths[order[0]] / PADDING, side="right"))
        yield order[:n]
        order = order[n:]
