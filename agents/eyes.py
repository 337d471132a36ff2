"""The way back: what an agent has learned to see, as an encoder for everybody else."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN

from agents.policies import ZooFeatures
from sandbox import zoo
from sandbox.training.device import private_seed


def encoder_of(model: BaseAlgorithm) -> Any:
    """What an agent sees by, as an encoder of the zoo: for ``zoo.save``, k-means, a probe, or another agent.

    Parameters
    ----------
    model : BaseAlgorithm
        Of this project or of Stable-Baselines3: with `encoder=`, with ``"CnnPolicy"``, or an actor-critic
        ``"MlpPolicy"``, of which it is the policy's tower.

    Returns
    -------
    Encoder
        A copy, in evaluation mode, that says what numbers it learned from.

    Raises
    ------
    ValueError
        If the agent sees by something else.

    Examples
    --------
    >>> from agents import PPO
    >>> from unsupervised import KMeans
    >>> from unsupervised.evaluate import frozen_features
    >>> model = PPO("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=8, n_steps=8)
    >>> seen = frozen_features(encoder_of(model), model.env.reset())
    >>> KMeans(2, random_state=0).fit_predict(seen).shape
    (8,)
    """
    policy: Any = model.policy
    owner = next((part for part in (policy, *policy.children()) if _extractor(part) is not None), None)
    if owner is None:
        raise ValueError(f"{type(policy).__name__} has no features extractor: there is no encoder to take out")
    extractor = _extractor(owner)
    if isinstance(extractor, ZooFeatures):
        encoder: Any = copy.deepcopy(extractor.encoder)
    elif isinstance(extractor, SB3NatureCNN):
        encoder = _nature_cnn(extractor, tuple(model.observation_space.shape))  # type: ignore[arg-type]
    elif type(extractor) is FlattenExtractor and hasattr(getattr(policy, "mlp_extractor", None), "policy_net"):
        encoder = copy.deepcopy(policy.mlp_extractor.policy_net)
        if not hasattr(encoder, "spec"):
            raise ValueError("the policy's tower is not of the zoo: give the agent an encoder=")
    else:
        raise ValueError(f"{type(extractor).__name__} is no encoder of the zoo: give the agent an encoder=")
    bytes_ = model.observation_space.dtype == np.uint8
    encoder.preprocessing = {"dtype": "uint8" if bytes_ else "float32"}
    return encoder.requires_grad_(True).eval()


def _extractor(part: Any) -> Any:
    return getattr(part, "features_extractor", None)


def _nature_cnn(extractor: Any, shape: tuple[int, ...]) -> Any:
    convolutions = [layer for layer in extractor.cnn if hasattr(layer, "out_channels")]
    sizes = {"out_features": extractor.features_dim, "channels": tuple(layer.out_channels for layer in convolutions)}
    with private_seed():
        encoder = zoo.build("nature_cnn", in_shape=shape, **sizes)
    encoder.load_state_dict(extractor.state_dict())
    return encoder
