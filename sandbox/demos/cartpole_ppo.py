"""The library in a page: train PPO to balance a pole, see how good it is, and look at it."""

import time
from pathlib import Path

import gymnasium as gym

from agents import PPO, evaluate
from sandbox.show import write_gif
from sandbox.training import Linear

# 32 environments, stepped all at once; an id of Gymnasium, or environments of your own, would do as well.
model = PPO(
    "MlpPolicy",
    "sandbox/CartPole-v1",
    n_envs=32,
    n_steps=64,
    batch_size=256,
    n_epochs=6,
    learning_rate=Linear(3e-3),
    clip_range=Linear(0.2),
    policy_kwargs={"activation_fn": "relu"},
    device="cpu",  # small networks are faster there
    seed=0,
)
print(f"untrained: return {evaluate(model, 'sandbox/CartPole-v1')}")

start = time.perf_counter()
model.learn(60_000)
print(f"trained in {time.perf_counter() - start:.1f} s ({model.fast_path})")
print(f"trained:   return {evaluate(model, 'sandbox/CartPole-v1')}")

# An agent is used as in Stable-Baselines3: observation in, action out.
env = gym.make("sandbox/CartPole-v1", render_mode="rgb_array")
obs, info = env.reset(seed=1)
frames = []
for _step in range(200):
    action, _state = model.predict(obs, deterministic=True)
    obs, reward, terminated, truncated, info = env.step(action)
    frames.append(env.render())
    if terminated or truncated:
        break
write_gif(Path("cartpole.gif"), frames, fps=50)
print("cartpole.gif")
