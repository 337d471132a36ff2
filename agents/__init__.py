"""Agents: the loop of agent, action, environment and reward.

Each class is a Stable-Baselines3 algorithm, several times faster. Nothing is imported before its first use, so that
listing the presets loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.checkpoint import load_agent, save_agent
    from agents.evaluate import Evaluation, evaluate
    from agents.onpolicy import NonFiniteError
    from agents.policies import ZooFeatures
    from agents.ppo import PPO
    from agents.vecenv import GymVecEnv

__all__ = ["PPO", "Evaluation", "GymVecEnv", "NonFiniteError", "ZooFeatures", "evaluate", "load_agent", "save_agent"]

_CONTENTS = {
    "checkpoint": ("load_agent", "save_agent"),
    "evaluate": ("Evaluation", "evaluate"),
    "onpolicy": ("NonFiniteError",),
    "policies": ("ZooFeatures",),
    "ppo": ("PPO",),
    "vecenv": ("GymVecEnv",),
}


def __getattr__(name: str) -> Any:
    for module, names in _CONTENTS.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
