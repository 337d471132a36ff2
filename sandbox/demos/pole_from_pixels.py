"""A pole balanced from pixels: four grey frames of 42 x 42 are all that the agent sees, through eyes of its own."""

import time
from pathlib import Path

import gymnasium as gym
import torch
from torch import nn

from agents import PPO, evaluate
from sandbox.show import write_gif
from sandbox.train import TrainingProgress
from sandbox.training import Linear

ENV = "sandbox/PixelCartPole-v0"


class Eyes(nn.Module):
    """Two convolutions that leave the picture a place for everything: [B, 4, 42, 42] -> [B, 128]."""

    out_features = 128

    def __init__(self):
        super().__init__()
        convolutions = nn.Conv2d(4, 16, 6, stride=3), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()
        self.layers = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(32 * 6 * 6, 128), nn.ReLU())
        for layer in self.layers[::2]:
            if hasattr(layer, "weight"):
                nn.init.orthogonal_(layer.weight, 2**0.5)

    def forward(self, x):
        return self.layers(x)


torch.manual_seed(0)
settings = {"n_envs": 16, "n_steps": 64, "batch_size": 256, "n_epochs": 6, "gamma": 0.98, "gae_lambda": 0.9}
schedules = {"learning_rate": Linear(1e-3), "clip_range": Linear(0.2)}
model = PPO("CnnPolicy", ENV, encoder=Eyes(), seed=0, **settings, **schedules)
print(f"untrained: return {evaluate(model, ENV, 20)} of 500; training takes a few minutes", flush=True)
start = time.perf_counter()
model.learn(100_000, TrainingProgress())
print(f"trained:   return {evaluate(model, ENV, 20)} after {time.perf_counter() - start:.0f} s", flush=True)

env = gym.make(ENV, render_mode="rgb_array")
obs, _ = env.reset(seed=1)
frames = []
for _step in range(200):
    action, _state = model.predict(obs, deterministic=True)
    obs, _, terminated, truncated, _ = env.step(action)
    frames.append(env.render())
    if terminated or truncated:
        break
write_gif(Path("pole_from_pixels.gif"), frames, fps=50)
print("pole_from_pixels.gif")
