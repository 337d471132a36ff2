"""What an agent that sees pictures looks at: where they matter to it, and the filters that see them first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.autograd import features, heads

COPIES = 128  # of an observation that go through the network together
MEMORIES = ("memories", "lstm_actor")  # what a policy with a memory has, ours and sb3-contrib's


def saliency(
    policy: Any, obs: np.ndarray, stride: int = 4, radius: float = 5.0, blur: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Where an observation matters to a policy's decision, and where to its estimate of the return.

    At each point of a grid the observation is blurred there and nowhere else, in all its channels. What the blur takes
    away is what was to be seen, so the change of the two heads' outputs tells how much that mattered: with ``π`` the
    outputs of the head for actions (logits, or the means of a Gaussian) and ``V`` the value, both primed where blurred,

    ``by_policy = ½ Σ (π - π')²,  by_value = ½ (V - V')²``

    Parameters
    ----------
    policy : ActorCriticPolicy of Stable-Baselines3, stock or ours
        With pictures for observations, and no memory. It is left in evaluation mode, as by its `predict`.
    obs : [C, H, W]
        One observation, as the policy gets it: uint8, or floats.
    stride : int
        Pixels from one point of the grid to the next; the maps in between are interpolated.
    radius : float
        Standard deviation in pixels of the Gaussian spot that is blurred.
    blur : float
        Standard deviation in pixels of the Gaussian blur.

    Returns
    -------
    by_policy, by_value : [H, W] float32
        Zero or more; in the units of the outputs, squared.

    Raises
    ------
    ValueError
        If the policy has no actor and critic, has a memory or sees no pictures, if `obs` is of another shape than it
        sees, or if a size is not positive.

    Notes
    -----
    An edge that is always there, such as a wall, answers as well: blurred it looks as it never does. A plain surface
    never answers, for a blur leaves it as it is.

    References
    ----------
    Greydanus et al., "Visualizing and Understanding Atari Agents", arXiv:1711.00138. Radius and blur are theirs, for
    pictures of 80 x 80.

    Examples
    --------
    >>> from agents import PPO
    >>> model = PPO("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=1, device="cpu", seed=0)
    >>> obs = model.env.reset()[0]  # [4, 42, 42]: a cart at the bottom with its pole, black around them
    >>> by_policy, by_value = saliency(model.policy, obs, radius=2.0, blur=2.0)
    >>> by_policy.shape, bool(by_policy[28:].sum() > 100 * by_policy[:, :8].sum())
    ((42, 42), True)
    """
    _check(policy, obs, {"stride": stride, "radius": radius, "blur": blur})
    policy.set_training_mode(False)
    sharp = torch.as_tensor(obs, device=policy.device).float()  # [C, H, W]
    H, W = sharp.shape[1:]
    down, across = (_gaussian(torch.arange(size), torch.arange(size), blur).to(sharp) for size in (H, W))
    blurred = (down / down.sum(1, keepdim=True)) @ sharp @ (across / across.sum(1, keepdim=True)).T
    grid = -(-H // stride), -(-W // stride)  # points, each in the middle of a cell
    spots = [
        _gaussian((torch.arange(points) + 0.5) * size / points - 0.5, torch.arange(size), radius).to(sharp)
        for points, size in zip(grid, (H, W), strict=True)
    ]
    masks = (spots[0][:, None, :, None] * spots[1][None, :, None, :]).reshape(-1, 1, H, W)
    with torch.no_grad():
        before = _heads(policy, sharp[None])
        after = [_heads(policy, sharp + some * (blurred - sharp)) for some in masks.split(COPIES)]
        maps = [
            0.5 * (torch.cat(changed) - unchanged).square().sum(1).reshape(1, 1, *grid)
            for unchanged, changed in zip(before, zip(*after, strict=True), strict=True)
        ]
        by_policy, by_value = (nn.functional.interpolate(one, size=(H, W), mode="bilinear")[0, 0] for one in maps)
    return by_policy.cpu().numpy(), by_value.cpu().numpy()


def first_filters(policy: Any) -> np.ndarray:
    """The weights of a policy's first convolution.

    Parameters
    ----------
    policy : ActorCriticPolicy of Stable-Baselines3, stock or ours

    Returns
    -------
    [K, C, h, w] float32
        A copy: `K` filters, each with a picture for every channel of the observation. Where policy and value function
        have eyes of their own, they are the policy's.

    Raises
    ------
    ValueError
        If there is no convolution in what the policy sees with.

    Examples
    --------
    >>> from agents import PPO
    >>> model = PPO("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=1, device="cpu", seed=0)
    >>> first_filters(model.policy).shape  # four pictures of 8 x 8 in each of 32
    (32, 4, 8, 8)
    """
    for layer in getattr(policy, "features_extractor", nn.Identity()).modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach().float().cpu().numpy().copy()
    raise ValueError(f"{type(policy).__name__} has no convolution before its heads, and so no filters to show")


def _check(policy: Any, obs: np.ndarray, sizes: dict[str, float]) -> None:
    """The door of `saliency`."""
    name = type(policy).__name__
    if not all(hasattr(policy, head) for head in ("action_net", "value_net", "mlp_extractor")):
        raise ValueError(f"{name} is no actor-critic policy: of a model, give model.policy")
    if any(hasattr(policy, memory) for memory in MEMORIES):
        raise ValueError(f"{name} has a memory: what it does depends on more than the picture")
    shape = getattr(policy.observation_space, "shape", None)
    if shape is None or len(shape) != 3:
        raise ValueError(f"{name} sees no pictures [C, H, W], but {policy.observation_space}")
    if np.shape(obs) != shape:
        raise ValueError(f"{name} sees pictures of shape {list(shape)}, got {list(np.shape(obs))}")
    if min(sizes.values()) <= 0:
        raise ValueError(f"expected {', '.join(sizes)} > 0, got {', '.join(map(str, sizes.values()))}")


def _gaussian(centres: Tensor, pixels: Tensor, width: float) -> Tensor:
    """``[G], [P] -> [G, P]``, 1 where they meet."""
    return torch.exp(-0.5 * ((pixels[None] - centres[:, None]) / width).square())


def _heads(policy: Any, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Observations ``[N, C, H, W]``, in the space's own range, to what decides ``[N, A]`` and the values ``[N, 1]``."""
    latent_pi, latent_vf = heads(policy, features(policy, obs))
    return policy.action_net(latent_pi), policy.value_net(latent_vf)
