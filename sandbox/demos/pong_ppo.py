"""Atari in a page: PPO learns Pong from the last four pictures of the screen, and is filmed at it.

It takes an hour or more on two cores at 2 GHz; with a number of steps after its name, such as 20000, as long as that.
"""

import sys
import time
from pathlib import Path

import gymnasium as gym

from agents import PPO, evaluate
from sandbox.show import write_gif
from sandbox.train import TrainingProgress
from sandbox.training import Linear

ENV = "baselines/Pong-v0"  # rewards clipped for training, four frames a step; machado/Pong-v0 has sticky actions
STEPS = int(float(sys.argv[1])) if len(sys.argv) > 1 else 1_700_000

model = PPO(
    "CnnPolicy",
    ENV,
    n_envs=16,
    n_steps=128,
    batch_size=256,
    n_epochs=4,
    learning_rate=Linear(7e-4),
    clip_range=0.1,
    ent_coef=Linear(0.01),  # explore less and less
    policy_kwargs={"features_extractor_kwargs": {"channels": [16, 32], "features_dim": 256}},  # the network of 2013
    precision="auto",  # bf16 where the processor has it
    seed=0,
)
start = time.perf_counter()
model.learn(STEPS, TrainingProgress())
minutes = (time.perf_counter() - start) / 60
print(f"trained {model.num_timesteps:,} steps in {minutes:.1f} minutes ({model.fast_path})", flush=True)

# A policy for games is one that draws: its likeliest actions alone may repeat themselves for ever.
result = evaluate(model, ENV, n_episodes=20, deterministic=False)
print(f"20 whole games: score {result}, from {result.returns.min():.0f} to {result.returns.max():.0f}", flush=True)

env = gym.make(ENV, render_mode="rgb_array")
obs, _ = env.reset(seed=1)
frames = []
for step in range(200):
    action, _state = model.predict(obs, deterministic=False)
    obs, *_ = env.step(action)
    if step >= 50:  # by then the ball is in play: from there on 10 s, 15 pictures each
        frames.append(env.render().repeat(2, axis=0).repeat(2, axis=1))
write_gif(Path("pong_ppo.gif"), frames, fps=15)
print("pong_ppo.gif")
