"""What an agent looks at: moments of a game, what matters to it there, and the filters that it sees with.

The agent is that of a run, if its folder is given; if not, one first learns to balance a pole from pixels (a minute).
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from matplotlib import style
from matplotlib.figure import Figure

import agents
from sandbox.runs import Run
from sandbox.sight import first_filters, saliency
from sandbox.train import TrainingProgress, trained
from sandbox.training import Linear

if len(sys.argv) > 1:
    run = Run.open(Path(sys.argv[1]))
    env_id, model = run.config["env_id"], trained(getattr(agents, run.config["algorithm"].upper()), run)
else:
    env_id, how = "sandbox/PixelCartPole-v0", {"n_envs": 16, "n_steps": 64, "batch_size": 256, "n_epochs": 6}
    how |= {"gamma": 0.98, "gae_lambda": 0.9, "learning_rate": Linear(1e-3), "clip_range": Linear(0.2)}
    model = agents.PPO("CnnPolicy", env_id, precision="auto", seed=0, **how).learn(40_000, TrainingProgress())

env, frames, seen, ended = gym.make(env_id, render_mode="rgb_array"), [], [], []
obs, _ = env.reset(seed=1)
while not any(ended) and len(seen) < 500:
    frames, seen = [*frames, env.render()], [*seen, obs]
    obs, _, *ended, _ = env.step(model.predict(obs, deterministic=False)[0])
with torch.no_grad():  # what the agent expects at each moment
    values = model.policy.predict_values(torch.as_tensor(np.stack(seen), device=model.device)).flatten().cpu().numpy()
moments = values.argsort(kind="stable")[np.linspace(0, len(seen) - 1, 6).astype(int)]  # from the worst to the best
tiles = np.pad(first_filters(model.policy), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)  # [K, C, h, w]
tiles = np.vstack(tiles.transpose(1, 2, 0, 3).reshape(*tiles.shape[1:3], -1))  # a filter is a column, a channel a row
(height, width, _), (rows, columns), size = frames[0].shape, tiles.shape, obs.shape[-1]
ratios = 6.3 * height / width + 0.9, 13 * rows / columns + 0.5
with style.context(["dark_background", {"axes.edgecolor": "black"}]):
    figure = Figure(figsize=(13, sum(ratios)), layout="constrained")
    above, below = figure.subfigures(2, height_ratios=ratios)
    panels, wall = above.subplots(3, 6), below.subplots()
    for moment, (screen, *maps) in zip(moments, panels.T, strict=True):
        screen.imshow(frames[moment])
        screen.set_title(f"step {moment}: V = {values[moment]:.2f}", fontsize=10)
        both = saliency(model.policy, seen[moment], stride=3, radius=size / 17, blur=size / 28)
        for panel, matters, colour in zip(maps, both, ([0.1, 0.6, 1.0], [1.0, 0.5, 0.0]), strict=True):
            lit = seen[moment][-1, ..., None] / 512 + matters[..., None] / matters.max() * colour
            panel.imshow(lit.clip(0, 1), extent=(0, width, height, 0))
    wall.imshow(tiles, cmap="gray")
    for axes, text in zip(panels[:, 0], ("on the screen", "for its decision", "for its estimate V"), strict=True):
        axes.set_ylabel(text)
    above.suptitle(f"{env_id}: six moments, by what the agent expects from there on (V), and what matters to it")
    wall.set_title("the filters of its first layer, a column each: above for the oldest picture, below for the newest")
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
    figure.savefig("what_the_agent_sees.png")
print("what_the_agent_sees.png")
