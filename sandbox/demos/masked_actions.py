"""Forbidden actions: the same agent learns to drive a taxi, once knowing what is pointless, once finding it out.

Gymnasium's Taxi says in its infos which of the six actions would do anything: no driving into walls, no picking up
where nobody waits. `mask_actions=True` draws among the others alone.
"""

import time

import gymnasium as gym
import numpy as np

from agents import PPO
from sandbox.train import TrainingProgress

STEPS = 150_000


def mean_return(model, masked, n_episodes=50):
    """Full episodes with the likeliest of the actions that are allowed."""
    returns = []
    for seed in range(n_episodes):
        env, ended, total = gym.make("Taxi-v4"), False, 0.0
        obs, info = env.reset(seed=seed)
        while not ended:
            masks = info["action_mask"] if masked else None
            action, _ = model.predict(obs, deterministic=True, action_masks=masks)
            obs, reward, terminated, truncated, info = env.step(int(action))
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    return np.mean(returns)


print(f"Taxi-v4, {STEPS:,} steps each; the best policy earns about 8 a ride, doing nothing -200")
for masked in (False, True):
    model = PPO(
        "MlpPolicy",
        "Taxi-v4",
        n_envs=16,
        n_steps=64,
        batch_size=256,
        n_epochs=6,
        learning_rate=3e-3,
        ent_coef=0.01,
        policy_kwargs={"net_arch": [32]},
        mask_actions=masked,
        device="cpu",
        seed=0,
    )
    start = time.perf_counter()
    model.learn(STEPS, TrainingProgress())
    seconds, what = time.perf_counter() - start, "with masks" if masked else "without"
    print(f"{what:>10}: return {mean_return(model, masked):6.1f} after {seconds:.0f} s ({model.fast_path})", flush=True)
