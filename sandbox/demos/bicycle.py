"""Learning to ride a bicycle: handlebar, body, pedals and brake, and a reward for every moment upright."""

import time
from pathlib import Path

import gymnasium as gym
import numpy as np

from agents import PPO, evaluate
from sandbox.show import write_gif
from sandbox.train import TrainingProgress
from sandbox.training import Linear

ENV = "sandbox/Bicycle-v0"  # a step is 20 ms, a whole ride 1500 of them


class Still:
    """A rider who does nothing."""

    def predict(self, obs, **kwargs):
        return np.zeros((len(obs), 3), np.float32), None


model = PPO(
    "MlpPolicy",
    ENV,
    n_envs=32,
    n_steps=128,
    batch_size=512,
    n_epochs=6,
    learning_rate=Linear(1e-3),
    policy_kwargs={"activation_fn": "relu", "log_std_init": -1.0},
    device="cpu",
    seed=0,
)
print(f"no control: upright for {evaluate(Still(), ENV).mean * 0.02:.1f} s")
print(f"untrained:  upright for {evaluate(model, ENV).mean * 0.02:.1f} s")
start = time.perf_counter()
model.learn(300_000, TrainingProgress())
print(f"trained for {time.perf_counter() - start:.0f} s ({model.fast_path})")
print(f"trained:    upright for {evaluate(model, ENV).mean * 0.02:.1f} s of 30 s", flush=True)

env = gym.make(ENV, render_mode="rgb_array")
frames = []
for seed in (1, 2):  # two rides, 5 s of each
    obs, _ = env.reset(seed=seed)
    for step in range(250):
        action, _state = model.predict(obs, deterministic=True)
        obs, *_ = env.step(action)
        if step % 5 == 0:
            frames.append(env.render())
write_gif(Path("bicycle.gif"), frames, fps=10)
print("bicycle.gif")
