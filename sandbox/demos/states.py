"""How a car too weak for its hill gets up: the states an agent visits, in clusters, and a typical moment of each."""

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from sklearn.preprocessing import StandardScaler
from stable_baselines3.common.vec_env import VecNormalize

from agents import PPO, evaluate, vecenv
from sandbox.train import TrainingProgress
from sandbox.training import Linear
from unsupervised import KMeans

ENV, GAMES, rng = "sandbox/MountainCarContinuous-v0", 32, np.random.default_rng(0)
COLOURS = ["#429297", "#e07a5f", "#816eb2", "#e2ac3f", "#577545", "#4d6cae"]
world = VecNormalize(vecenv.make(ENV, n_envs=8), gamma=0.9999)
how = {"n_steps": 128, "batch_size": 64, "n_epochs": 4, "gamma": 0.9999, "gae_lambda": 0.98, "ent_coef": 0.01}
how |= {"use_sde": True, "sde_sample_freq": 16, "policy_kwargs": {"activation_fn": "relu"}, "device": "cpu"}
model = PPO("MlpPolicy", world, learning_rate=Linear(3e-3), seed=0, **how)
model.learn(30_000, TrainingProgress())
print(f"return {evaluate(model, ENV)} of 100 episodes; 90 counts as solved", flush=True)


def visited(act):
    """The states of some games until each has ended, [N, 2], and at which step of its game each was."""
    games = gym.make_vec(ENV, num_envs=GAMES)
    (obs, _), running, states, times = games.reset(seed=0), np.full(GAMES, True), [], []
    for step in range(300):
        states.append(obs[running])
        times.append(np.full(running.sum(), step))
        obs, _rewards, terminated, truncated, _infos = games.step(act(obs))
        running &= ~(terminated | truncated)
    return np.concatenate(states), np.concatenate(times)


X, times = visited(lambda obs: model.predict(world.normalize_obs(obs), deterministic=True)[0])
at_random, _ = visited(lambda obs: rng.uniform(-1, 1, (GAMES, 1)).astype(np.float32))  # to compare with
scaler = StandardScaler().fit(X)  # a speed of 0.07 is high, a position of 0.07 is not far
clusters = KMeans(len(COLOURS), n_init=10, random_state=0).fit(scaler.transform(X))
where, elsewhere = clusters.labels_, clusters.predict(scaler.transform(at_random))
typical = X[clusters.transform(scaler.transform(X)).argmin(axis=0)]  # [K, 2], the state nearest to each centre

figure = Figure(figsize=(13, 4.6), dpi=100, layout="constrained")
plane, frames = figure.subfigures(1, 2, width_ratios=[1, 1.9])
axes = plane.subplots()
axes.set(title=f"{len(X):,} states of {GAMES} games", xlabel="position", ylabel="speed")
(car := gym.make(ENV, render_mode="rgb_array")).reset()
order = sorted(range(len(COLOURS)), key=lambda k: times[where == k].mean())  # as the agent comes through them
for i, (k, colour, panel) in enumerate(zip(order, COLOURS, frames.subplots(2, 3).flat, strict=True), 1):
    axes.scatter(*X[where == k].T, s=5, color=colour, linewidths=0)
    axes.annotate(str(i), typical[k], ha="center", va="center", bbox={"boxstyle": "circle", "facecolor": "white"})
    car.unwrapped.state = typical[k]
    panel.imshow(car.render())
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(color=colour, linewidth=3)
    often, position, speed = f"{(where == k).mean():.0%} of the time", *X[where == k].mean(axis=0)
    words = f"{i}: {often}, {(elsewhere == k).mean():.0%} at random\nmean position {position:.2f}, speed {speed:+.3f}"
    print(panel.set_title(words, fontsize=9).get_text().replace("\n", "; "))
figure.savefig("states.png")
print("states.png")
