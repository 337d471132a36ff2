"""What a Q-network has learned, as a picture: the value of every position and speed of MountainCar, and what it does there."""  # noqa: E501

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from agents import DQN, evaluate
from sandbox.train import TrainingProgress

ENV = "sandbox/MountainCar-v0"

model = DQN(
    "MlpPolicy",
    ENV,
    learning_rate=4e-3,
    batch_size=128,
    buffer_size=10_000,
    learning_starts=1_000,
    gamma=0.98,
    target_update_interval=600,
    train_freq=16,
    gradient_steps=8,
    exploration_fraction=0.2,
    exploration_final_eps=0.07,
    policy_kwargs={"net_arch": [256, 256]},
    device="cpu",
    seed=1,
)
model.learn(120_000, TrainingProgress())
print(f"return {evaluate(model, ENV)} of 100 episodes", flush=True)

positions, speeds = np.linspace(-1.2, 0.6, 181), np.linspace(-0.07, 0.07, 141)
plane = np.stack(np.meshgrid(positions, speeds), axis=-1).astype(np.float32)  # [speeds, positions, 2]
with torch.no_grad():
    q = model.q_net(torch.from_numpy(plane.reshape(-1, 2))).numpy().reshape(*plane.shape[:2], 3)

path, (obs, _) = [], (model.env.reset(), None)
for _ in range(200):
    path.append(obs[0].copy())
    obs, _reward, done, _info = model.env.step(model.predict(obs, deterministic=True)[0])
    if done[0]:
        break
path = np.array(path)

figure = Figure(figsize=(10, 4), layout="constrained")
for axes, values, title in zip(
    figure.subplots(1, 2), (q.max(2), q.argmax(2)), ("value: steps to the top, discounted", "what it does"), strict=True
):
    extent = (positions[0], positions[-1], speeds[0], speeds[-1])
    cmap = "viridis" if values.dtype.kind == "f" else "coolwarm"
    image = axes.imshow(values, origin="lower", aspect="auto", extent=extent, cmap=cmap)
    axes.plot(*path.T, color="white", linewidth=1.5)
    axes.set(title=title, xlabel="position", ylabel="speed")
    bar = figure.colorbar(image, ax=axes, ticks=None if cmap == "viridis" else [0, 1, 2])
    if cmap == "coolwarm":
        bar.ax.set_yticklabels(["push left", "coast", "push right"])
figure.savefig(Path("value_map.png"), dpi=110)
print("value_map.png")
