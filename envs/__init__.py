"""Environments, registered with Gymnasium on import: ``make`` and ``make_vec`` take every id in ``IDS``.

>>> import gymnasium
>>> gymnasium.make_vec("envs:sandbox/CartPole-v1", num_envs=8)  # "envs:" imports this package where nobody did
CartPoleVectorEnv(sandbox/CartPole-v1, num_envs=8)
"""

import importlib

from gymnasium.envs.registration import register, registry

from envs.acrobot import Acrobot, AcrobotEnv, AcrobotVectorEnv
from envs.bicycle import (
    Bicycle,
    BicycleEnv,
    BicycleGoal,
    BicycleGoalEnv,
    BicycleGoalVectorEnv,
    BicycleVectorEnv,
)
from envs.cartpole import (
    CartPole,
    CartPoleEnv,
    CartPoleNoVel,
    CartPoleNoVelEnv,
    CartPoleNoVelVectorEnv,
    CartPoleVectorEnv,
)
from envs.dynamics import Dynamics
from envs.mountain_car import (
    MountainCar,
    MountainCarContinuous,
    MountainCarContinuousEnv,
    MountainCarContinuousVectorEnv,
    MountainCarEnv,
    MountainCarVectorEnv,
)
from envs.names import ENTRY_POINTS, IDS, PROTOCOLS, atari_games
from envs.pendulum import Pendulum, PendulumEnv, PendulumVectorEnv
from envs.pixel import Catch, CatchEnv, CatchVectorEnv, PixelCartPole, PixelCartPoleEnv, PixelCartPoleVectorEnv
from envs.probe import (
    Probe,
    ProbeAction,
    ProbeActionEnv,
    ProbeActionVectorEnv,
    ProbeConstant,
    ProbeConstantEnv,
    ProbeConstantVectorEnv,
    ProbeDiscount,
    ProbeDiscountEnv,
    ProbeDiscountVectorEnv,
    ProbeObservation,
    ProbeObservationEnv,
    ProbeObservationVectorEnv,
    ProbePolicy,
    ProbePolicyEnv,
    ProbePolicyVectorEnv,
    ProbeTruncation,
    ProbeTruncationEnv,
    ProbeTruncationVectorEnv,
)
from envs.value_probe import (
    ProbeChain,
    ProbeChainEnv,
    ProbeChainVectorEnv,
    ProbeDelay,
    ProbeDelayEnv,
    ProbeDelayVectorEnv,
    ProbeManyActions,
    ProbeManyActionsEnv,
    ProbeManyActionsVectorEnv,
    ProbeOverestimation,
    ProbeOverestimationEnv,
    ProbeOverestimationVectorEnv,
    ProbeRare,
    ProbeRareEnv,
    ProbeRareVectorEnv,
    ProbeTwoValued,
    ProbeTwoValuedEnv,
    ProbeTwoValuedVectorEnv,
    ValueProbe,
)
from envs.vector import DynamicsEnv, DynamicsVectorEnv

__all__ = [
    "IDS",
    "Acrobot",
    "AcrobotEnv",
    "AcrobotVectorEnv",
    "Bicycle",
    "BicycleEnv",
    "BicycleGoal",
    "BicycleGoalEnv",
    "BicycleGoalVectorEnv",
    "BicycleVectorEnv",
    "CartPole",
    "CartPoleEnv",
    "CartPoleNoVel",
    "CartPoleNoVelEnv",
    "CartPoleNoVelVectorEnv",
    "CartPoleVectorEnv",
    "Catch",
    "CatchEnv",
    "CatchVectorEnv",
    "Dynamics",
    "DynamicsEnv",
    "DynamicsVectorEnv",
    "MountainCar",
    "MountainCarContinuous",
    "MountainCarContinuousEnv",
    "MountainCarContinuousVectorEnv",
    "MountainCarEnv",
    "MountainCarVectorEnv",
    "Pendulum",
    "PendulumEnv",
    "PendulumVectorEnv",
    "PixelCartPole",
    "PixelCartPoleEnv",
    "PixelCartPoleVectorEnv",
    "Probe",
    "ProbeAction",
    "ProbeActionEnv",
    "ProbeActionVectorEnv",
    "ProbeChain",
    "ProbeChainEnv",
    "ProbeChainVectorEnv",
    "ProbeConstant",
    "ProbeConstantEnv",
    "ProbeConstantVectorEnv",
    "ProbeDelay",
    "ProbeDelayEnv",
    "ProbeDelayVectorEnv",
    "ProbeDiscount",
    "ProbeDiscountEnv",
    "ProbeDiscountVectorEnv",
    "ProbeManyActions",
    "ProbeManyActionsEnv",
    "ProbeManyActionsVectorEnv",
    "ProbeObservation",
    "ProbeObservationEnv",
    "ProbeObservationVectorEnv",
    "ProbeOverestimation",
    "ProbeOverestimationEnv",
    "ProbeOverestimationVectorEnv",
    "ProbePolicy",
    "ProbePolicyEnv",
    "ProbePolicyVectorEnv",
    "ProbeRare",
    "ProbeRareEnv",
    "ProbeRareVectorEnv",
    "ProbeTruncation",
    "ProbeTruncationEnv",
    "ProbeTruncationVectorEnv",
    "ProbeTwoValued",
    "ProbeTwoValuedEnv",
    "ProbeTwoValuedVectorEnv",
    "ValueProbe",
]

for _id, _path in ENTRY_POINTS.items():
    if _id not in registry:  # a second import must not warn
        _module, _name = _path.split(":")
        _dynamics: type[Dynamics] = getattr(importlib.import_module(_module), _name)
        register(
            _id,
            entry_point=f"{_path}Env",
            vector_entry_point=f"{_path}VectorEnv",
            max_episode_steps=_dynamics.max_episode_steps,
            reward_threshold=_dynamics.reward_threshold,
        )

for _game in atari_games():  # envs.atari, and with it ale-py, is only imported to make one
    for _protocol, _kwargs in PROTOCOLS.items():
        if f"{_protocol}/{_game}-v0" not in registry:
            register(
                f"{_protocol}/{_game}-v0",
                entry_point="envs.atari:AtariEnv",
                vector_entry_point="envs.atari:AtariVectorEnv",
                kwargs={"game": _game, **_kwargs},
            )
