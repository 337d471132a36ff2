"""Agents: the loop of agent, action, environment and reward.

Each class is a Stable-Baselines3 algorithm, several times faster. Nothing is imported before its first use, so that
listing the presets loads no torch.
"""

from typing import TYPE_CHECKING

from sandbox.lazy import contents

if TYPE_CHECKING:
    from agents.checkpoint import load_agent, save_agent
    from agents.evaluation import Evaluation, evaluate, interquartile_mean
    from agents.onpolicy import NonFiniteError
    from agents.policies import ZooFeatures
    from agents.ppo import PPO
    from agents.vecenv import GymVecEnv

__all__ = [
    "PPO",
    "Evaluation",
    "GymVecEnv",
    "NonFiniteError",
    "ZooFeatures",
    "evaluate",
    "interquartile_mean",
    "load_agent",
    "save_agent",
]

__getattr__, __dir__ = contents(
    __name__,
    {
        "checkpoint": ("load_agent", "save_agent"),
        "evaluation": ("Evaluation", "evaluate", "interquartile_mean"),
        "onpolicy": ("NonFiniteError",),
        "policies": ("ZooFeatures",),
        "ppo": ("PPO",),
        "vecenv": ("GymVecEnv",),
    },
)
