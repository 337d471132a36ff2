"""A pole balanced from pixels: four grey frames of 42 x 42 are all the agent sees, and a small CNN of its own its eyes."""

import time
from pathlib import Path

import gymnasium as gym

from agents import PPO, evaluate
from sandbox.show import write_gif
from sandbox.training import Linear
from sandbox.zoo import build

ENV = "sandbox/PixelCartPole-v0"
eyes = build("nature_cnn", in_shape=(4, 42, 42), out_features=128)

model = PPO(
    "CnnPolicy",
    ENV,
    n_envs=16,
    n_steps=64,
    batch_size=256,
    n_epochs=4,
    gamma=0.98,
    gae_lambda=0.9,
    learning_rate=Linear(1e-3),
    clip_range=Linear(0.2),
    encoder=eyes,
    device="cpu",
    seed=0,
)
print(f"untrained: return {evaluate(model, ENV, 20)}", flush=True)
start = time.perf_counter()
for _part in range(4):
    model.learn(16_384, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    print(f"{model.num_timesteps:,} steps, {seconds:.0f} s: return {evaluate(model, ENV, 20)}", flush=True)

env = gym.make("sandbox/PixelCartPole-v0", render_mode="rgb_array")
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
