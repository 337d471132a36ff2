"""Stable-Baselines3's actor-critic policies with their networks from the zoo.

The classes are SB3's, down to the parameters' names and the initial weights that a seed gives; only the modules come
from `sandbox.zoo`. `ZooFeatures` lets any encoder of the zoo be the eyes of any SB3 policy, ours or stock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import policies as sb3
from stable_baselines3.common import torch_layers
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.auxiliary import AUGMENTATIONS, LOSSES, auxiliary_for
from sandbox import zoo
from sandbox.training.device import light_optimizers, private_seed
from sandbox.training.schedules import as_schedule
from sandbox.zoo import given
from sandbox.zoo.contracts import Decoder, Encoder, Recurrent, Sequence, check_choice, scaled

# SB3 names activations by class, the zoo by word (which `activation_fn` may be, too). Any other keeps SB3's own towers.
ACTIVATIONS = {
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
}


# What a preset, which is plain text, can't name by its class.
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"rmsprop_tf_like": RMSpropTFLike}


class MlpExtractor(torch_layers.MlpExtractor):
    """The policy's and the value function's tower, each an MLP of the zoo; `activation` is the zoo's name for it."""

    def __init__(self, feature_dim: int, net_arch: Any, activation: str, device: torch.device):
        nn.Module.__init__(self)  # not SB3's: it would draw the same initial weights once more
        widths = net_arch if isinstance(net_arch, dict) else {"pi": net_arch, "vf": net_arch}
        towers: list[Any] = [
            zoo.build(
                "mlp", in_shape=(feature_dim,), widths=tuple(widths.get(key, ())), activation=activation, init=None
            )
            for key in ("pi", "vf")
        ]
        self.policy_net, self.value_net = (tower.to(device) for tower in towers)
        self.latent_dim_pi, self.latent_dim_vf = (tower.out_features for tower in towers)


class NatureCNN(torch_layers.NatureCNN):
    """SB3's image features, computed by the zoo's ``nature_cnn``, whose `channels` may be chosen."""

    def __init__(
        self,
        observation_space: gym.Space,
        features_dim: int = 512,
        normalized_image: bool = False,
        channels: tuple[int, ...] = (32, 64, 64),
    ):
        with private_seed():  # SB3's checks and errors; the weights it draws are thrown away
            super().__init__(observation_space, features_dim, normalized_image)
        encoder = zoo.build(
            "nature_cnn", in_shape=observation_space.shape, out_features=features_dim, channels=tuple(channels)
        )
        self.cnn, self.linear = encoder.cnn, encoder.linear

    def arrange(self, pictures: np.ndarray) -> np.ndarray:
        return self.cnn[0].arrange(pictures)  # type: ignore[operator]

    def forward(self, obs: Tensor) -> Tensor:  # [B, C, H, W] floats, or bytes, or bytes arranged
        return super().forward(scaled(obs) if obs.dtype == torch.uint8 else obs)


class ZooFeatures(BaseFeaturesExtractor):
    """Any encoder as the features extractor of any Stable-Baselines3 policy, with its weights kept.

    SB3 overwrites the weights that a features extractor brings (its orthogonal initialisation goes over them) and wakes
    a frozen batch norm at each update. This one lets neither happen, also in a stock SB3 algorithm:

    ``stable_baselines3.PPO("MlpPolicy", env, policy_kwargs=dict(features_extractor_class=ZooFeatures,
    features_extractor_kwargs=dict(encoder="eyes.safetensors", freeze=True)))``

    Parameters
    ----------
    observation_space : gymnasium.Space
    encoder : str, Path, dict or nn.Module
        See `as_encoder`.
    freeze : bool
        No gradient, and evaluation mode for ever.

    Raises
    ------
    ValueError
        If the encoder takes inputs of another shape than the observations have.

    Examples
    --------
    >>> ZooFeatures(spaces.Box(-1, 1, (3,)), encoder="mlp")(torch.zeros(1, 3)).shape
    torch.Size([1, 64])
    """

    def __init__(
        self, observation_space: gym.Space, encoder: str | Path | dict[str, Any] | nn.Module, freeze: bool = False
    ):
        module = as_encoder(encoder, observation_space)
        super().__init__(observation_space, int(module.out_features))  # type: ignore[arg-type]
        self.encoder, self.freeze, self.shape = module, freeze, observed_shape(observation_space)
        if freeze:
            module.requires_grad_(False).eval()

    def forward(self, obs: Tensor) -> Tensor:  # [B, ...] -> [B, features_dim]
        if obs.dtype == torch.uint8:  # pictures, possibly arranged
            return self.encoder(obs)
        return self.encoder(obs.reshape(len(obs), *self.shape))  # SB3 makes discrete ones [B, 1, D] in an update

    def train(self, mode: bool = True) -> ZooFeatures:
        super().train(mode)
        if self.freeze:
            self.encoder.eval()
        return self

    def apply(self, fn: Callable[[nn.Module], None]) -> ZooFeatures:
        return self  # an initialisation of SB3 that is meant for fresh weights


def observed_shape(space: gym.Space) -> tuple[int, ...]:
    """The shape of one observation as SB3's preprocessing leaves it: a box as it is, anything discrete one-hot.

    Examples
    --------
    >>> observed_shape(spaces.Box(0, 1, (3, 2))), observed_shape(spaces.Discrete(5))
    ((3, 2), (5,))
    """
    return tuple(space.shape) if isinstance(space, spaces.Box) else (get_flattened_obs_dim(space),)


def seen_space(eyes: Any) -> spaces.Box:
    """Of what an encoder sees: ``[D]`` floats.

    Examples
    --------
    >>> seen_space(zoo.build("mlp", in_shape=(4,), out_features=3)).shape
    (3,)
    """
    return spaces.Box(-np.inf, np.inf, (int(eyes.out_features),), np.float32)


def as_encoder(encoder: str | Path | dict[str, Any] | nn.Module, space: gym.Space) -> nn.Module:
    """The encoder that a name, a file, a specification or a module stands for, checked against the observations.

    Parameters
    ----------
    encoder : str, Path, dict or nn.Module
        A name of the zoo (a new encoder, with the zoo's initial weights), a file made by ``zoo.save``, a specification
        ``{"name": ..., "kwargs": ...}`` (``in_shape`` may be left out), or a module with `out_features` (copied, so
        that two agents do not share it).
    space : gymnasium.Space
        Of the observations as the policy sees them: images channels-first, anything discrete one-hot.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If there is no such encoder, or it takes inputs of another shape.
    """
    if isinstance(space, spaces.Dict):
        raise ValueError(
            "encoder= takes one observation, not a dictionary of them: use features_extractor_class for those"
        )
    shape = observed_shape(space)
    kind = kind_of(encoder)
    if issubclass(kind, (Recurrent, Sequence)):
        raise ValueError(
            f"encoder={kind.__name__} is a network of sequences: it needs an agent that carries a memory, such as "
            "agents.PPO or agents.A2C with encoder=, and can't be the features extractor of another"
        )
    try:
        module = given.from_given(encoder, in_shape=shape)
    except TypeError as error:
        raise ValueError(f"encoder={encoder!r}: {error}") from None
    if not isinstance(getattr(module, "out_features", None), int):
        raise ValueError(
            f"encoder={type(encoder).__name__} needs an integer attribute out_features: how many features it gives"
        )
    takes = tuple(getattr(module, "in_shape", shape))
    if takes != shape:
        raise ValueError(f"the encoder takes inputs of shape {takes}, but the observations have shape {shape}")
    _check_type(module, space)
    return module


def _check_type(encoder: nn.Module, space: gym.Space) -> None:
    """Raise a ValueError if an encoder that says what it learned from learned from other numbers than these."""
    learned = (getattr(encoder, "preprocessing", None) or {}).get("dtype")
    pixels = space.dtype == np.uint8 and isinstance(space, spaces.Box)
    shares = not isinstance(space, spaces.Box) or bool((space.low >= 0).all() and (space.high <= 1).all())
    if learned == "uint8" and not (pixels or shares):
        raise ValueError(
            "the encoder learned from pixels (bytes, which count from 0 to 1), but the observations are "
            f"{space.dtype} from {space.low.min():g} to {space.high.max():g}: let it learn from such observations"  # type: ignore[attr-defined]
        )
    if learned == "float32" and pixels:
        raise ValueError(
            "the encoder learned from floats as they are, but the observations are pixels (bytes, which count from 0 "
            "to 1): let it learn from bytes"
        )


def kind_of(encoder: str | Path | dict[str, Any] | nn.Module) -> type:
    """The class of the network that `sandbox.zoo.given.from_given` would give, for an agent.

    Raises
    ------
    ValueError
        If it is a decoder.

    Examples
    --------
    >>> kind_of("lstm").__name__
    'LSTM'
    """
    kind = given.kind_of(encoder)
    if issubclass(kind, Decoder):
        raise ValueError(f"encoder={kind.__name__} is a decoder: it goes from features to pictures, not back")
    return kind


def with_encoder(
    policy_kwargs: dict[str, Any] | None,
    encoder: Any,
    freeze: bool,
    learning_rate: Any = None,
    aux_loss: str | None = None,
    augment: str | None = None,
) -> dict[str, Any] | None:
    """`policy_kwargs` with an encoder as the policy's features extractor.

    An encoder that is trained is the body shared by two linear heads; over a frozen one policy and value function keep
    towers of their own, for they alone can learn. ``policy_kwargs["net_arch"]`` decides otherwise.

    Parameters
    ----------
    policy_kwargs : dict, optional
    encoder : str, Path, dict or nn.Module, optional
    freeze : bool
    learning_rate : float, str or schedule, optional
        Of the encoder alone.
    aux_loss : {None, "contrastive", "reconstruction"}
        Without an encoder that of the zoo's ``nature_cnn``.
    augment : {None, "shift"}
    """
    check_choice("augment", augment, (None, *AUGMENTATIONS))
    check_choice("aux_loss", aux_loss, (None, *LOSSES))
    if encoder is None and aux_loss is not None:
        encoder = "nature_cnn"
    learns = {"encoder_learning_rate": learning_rate, "aux_loss": aux_loss}
    learns = {name: value for name, value in learns.items() if value is not None}
    if freeze and (learns or augment):
        name = "augment" if augment else next(iter(learns))
        raise ValueError(f"{name}= goes with an encoder that learns, and freeze_encoder=True keeps it as it is")
    if encoder is None:
        if freeze:
            raise ValueError("freeze_encoder=True needs encoder=: there is nothing to freeze")
        if learns:
            raise ValueError("encoder_learning_rate= needs encoder=: it is that encoder's own")
        return policy_kwargs
    if policy_kwargs and "features_extractor_class" in policy_kwargs:
        raise ValueError("give encoder= or policy_kwargs['features_extractor_class'], not both")
    return {
        **({} if freeze else {"net_arch": []}),
        **(policy_kwargs or {}),
        **learns,
        "features_extractor_class": ZooFeatures,
        "features_extractor_kwargs": {"encoder": encoder, "freeze": freeze},
    }


class Bytes(sb3.BasePolicy):
    """Placed behind a policy of SB3: an image goes to an encoder of the zoo as the bytes that it is.

    SB3 makes float32 of them first. The encoder does the same, but in the precision that it runs in.
    """

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        if self.takes_bytes() and obs.dtype == torch.uint8:
            return features_extractor(obs)
        return super().extract_features(obs, features_extractor)

    @property
    def encoder(self) -> Any:
        """What sees: the encoder of the zoo under its wrapper for SB3."""
        eyes: Any = self.features_extractor
        return eyes.encoder if isinstance(eyes, ZooFeatures) else eyes

    def takes_bytes(self) -> bool:
        """Whether observations are images, and what sees them is of the zoo."""
        of_the_zoo = isinstance(self.encoder, NatureCNN | Encoder)
        return of_the_zoo and self.normalize_images and is_image_space(self.observation_space)


class ZooEyes(sb3.BasePolicy):
    """Mixed into a policy of SB3, it sees by a network of the zoo and steps Adam in one fused operation.

    Parameters
    ----------
    *args, **kwargs
        As in Stable-Baselines3.
    encoder_learning_rate : float, str or schedule, optional
        Of the encoder alone, which is then a group of its own in the optimiser.
    aux_loss : {None, "contrastive", "reconstruction"}
        What the encoder learns beside the reward, see `agents.auxiliary`.
    """

    def __init__(self, *args: Any, encoder_learning_rate: Any = None, aux_loss: str | None = None, **kwargs: Any):
        self.encoder_learning_rate, self.aux_loss = encoder_learning_rate, aux_loss
        super().__init__(*args, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"encoder_learning_rate": self.encoder_learning_rate, "aux_loss": self.aux_loss}
        given = {name: value for name, value in own.items() if value is not None}
        return {**super()._get_constructor_parameters(), **given}

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        if isinstance(self.optimizer_class, str):
            self.optimizer_class = OPTIMIZERS[self.optimizer_class]
        if self.optimizer_class is torch.optim.Adam and not {"fused", "foreach", "differentiable"} & set(
            self.optimizer_kwargs
        ):
            self.optimizer_kwargs = {**self.optimizer_kwargs, "fused": True}
        with light_optimizers():
            super()._build(lr_schedule)  # type: ignore[misc]
        if self.encoder_learning_rate is not None:
            self._group_encoder()

    def _group_encoder(self) -> None:
        """Give the encoder's weights a group of their own in the optimiser, whose rate `set_encoder_rate` sets."""
        (group,) = self.optimizer.param_groups
        own = {id(p) for part in self.modules() if isinstance(part, ZooFeatures) for p in part.encoder.parameters()}
        eyes = [p for p in group["params"] if id(p) in own]
        group["params"] = [p for p in group["params"] if id(p) not in own]
        self.optimizer.add_param_group({**{k: v for k, v in group.items() if k != "params"}, "params": eyes})
        self.set_encoder_rate(1.0)

    def set_encoder_rate(self, progress_remaining: float) -> None:
        """Set the encoder's learning rate, where it has its own."""
        if self.encoder_learning_rate is not None:
            self.optimizer.param_groups[1]["lr"] = as_schedule(self.encoder_learning_rate)(progress_remaining)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        if self.features_extractor_class is torch_layers.NatureCNN:
            return NatureCNN(self.observation_space, **self.features_extractor_kwargs)
        extractor = super().make_features_extractor()
        if self.aux_loss is not None:
            extractor.auxiliary = auxiliary_for(self.aux_loss, extractor.encoder)  # its weights are learned, too
        return extractor


class ZooNetworks(ZooEyes, sb3.ActorCriticPolicy):
    """The same for an actor-critic policy, whose towers are the zoo's, too."""

    def _build_mlp_extractor(self) -> None:
        name = self.activation_fn if isinstance(self.activation_fn, str) else ACTIVATIONS.get(self.activation_fn)
        if name is None:
            super()._build_mlp_extractor()
        else:
            self.mlp_extractor = MlpExtractor(self.features_dim, self.net_arch, name, self.device)


class ActorCriticPolicy(ZooNetworks, sb3.ActorCriticPolicy, Bytes):
    """``"MlpPolicy"``: two MLPs of the zoo over a flat observation."""


class ActorCriticCnnPolicy(ZooNetworks, sb3.ActorCriticCnnPolicy, Bytes):
    """``"CnnPolicy"``: the zoo's ``nature_cnn`` under policy and value function."""


class MultiInputActorCriticPolicy(ZooNetworks, sb3.MultiInputActorCriticPolicy):
    """``"MultiInputPolicy"``: for dictionaries of observations."""


POLICIES: dict[str, type[sb3.BasePolicy]] = {
    "MlpPolicy": ActorCriticPolicy,
    "CnnPolicy": ActorCriticCnnPolicy,
    "MultiInputPolicy": MultiInputActorCriticPolicy,
}
