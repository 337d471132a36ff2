"""Agents: the loop of agent, action, environment and reward.

Each class is a Stable-Baselines3 algorithm, several times faster. Nothing is imported before its first use, so that
listing the presets loads no torch.
"""

from typing import TYPE_CHECKING

from sandbox.lazy import contents

if TYPE_CHECKING:
    from agents.a2c import A2C
    from agents.checkpoint import load_agent, save_agent
    from agents.dqn import DQN
    from agents.evaluation import Evaluation, evaluate, interquartile_mean
    from agents.eyes import encoder_of
    from agents.loop import NonFiniteError
    from agents.policies import ZooFeatures
    from agents.ppo import PPO
    from agents.pqn import PQN
    from agents.reinforce import REINFORCE
    from agents.tabular import SARSA, QLearning
    from agents.vecenv import GymVecEnv

__all__ = [
    "A2C",
    "DQN",
    "PPO",
    "PQN",
    "REINFORCE",
    "SARSA",
    "Evaluation",
    "GymVecEnv",
    "NonFiniteError",
    "QLearning",
    "ZooFeatures",
    "encoder_of",
    "evaluate",
    "interquartile_mean",
    "load_agent",
    "save_agent",
]

__getattr__, __dir__ = contents(
    __name__,
    {
        "a2c": ("A2C",),
        "checkpoint": ("load_agent", "save_agent"),
        "dqn": ("DQN",),
        "evaluation": ("Evaluation", "evaluate", "interquartile_mean"),
        "eyes": ("encoder_of",),
        "loop": ("NonFiniteError",),
        "policies": ("ZooFeatures",),
        "ppo": ("PPO",),
        "pqn": ("PQN",),
        "reinforce": ("REINFORCE",),
        "tabular": ("SARSA", "QLearning"),
        "vecenv": ("GymVecEnv",),
    },
)
