"""Eyes for Pong: an encoder learns from random play, without a reward; then an agent gets it in one argument."""

import sys
import time

import numpy as np

from agents import PPO, encoder_of, evaluate
from envs.atari import record
from sandbox import zoo
from sandbox.data import load
from sandbox.train import TrainingProgress
from unsupervised import STDIM, KMeans
from unsupervised.evaluate import frozen_features, judge_ram

GAME = "baselines/Pong-v0"
n_frames, epochs, steps = (int(word) for word in (sys.argv[1:] + ["8000", "6", "100000"][len(sys.argv) - 1 :]))

# 1. Learn to see: which frame comes next, asked at every place of the picture.
played = load("atari:Pong", n=n_frames, stack=4, size=(84, 84), grey=True)
eyes = STDIM(n_features=256, max_iter=epochs, batch_size=64, random_state=0, verbose=1)
start = time.perf_counter()
eyes.fit(played.X, played.episodes)
print(f"learned from {n_frames:,} frames of random play in {time.perf_counter() - start:.0f} s", flush=True)

# 2. What do they know? A linear layer reads the console's memory, from games that were not learned from.
again = record("Pong", n_frames // 2, seed=1, size=(84, 84), grey=True)
stacks = load("atari:Pong", n=n_frames // 2, seed=1, stack=4, size=(84, 84), grey=True).X
variables = ("player y", "enemy y", "ball x", "ball y")
print(judge_ram(eyes, stacks, again.ram, "Pong", variables=variables), flush=True)

# 3. The agent gets them, frozen: each picture is looked at once, and rollouts keep what is seen instead of pictures.
zoo.save(eyes.encoder_, "eyes_for_pong.safetensors")  # opening the file never runs code
settings = {"n_envs": 32, "n_steps": 32, "batch_size": 256, "n_epochs": 4, "learning_rate": 5e-4, "ent_coef": 0.01}
agent = PPO("CnnPolicy", GAME, encoder="eyes_for_pong.safetensors", freeze_encoder=True, precision="auto", **settings)
start = time.perf_counter()
agent.learn(steps, TrainingProgress())
seconds = time.perf_counter() - start
print(f"{agent.num_timesteps:,} steps in {seconds:.0f} s, {agent.num_timesteps / seconds:,.0f} a second", flush=True)
print(f"score of five whole games: {evaluate(agent, GAME, 5, deterministic=False)} (random play: -20.7)", flush=True)

# 4. And the way back: what an agent sees is data again, for k-means for one.
seen = frozen_features(encoder_of(agent), stacks)
groups = KMeans(8, random_state=0).fit_predict(seen)
print("moments of a game in eight groups:", np.bincount(groups).tolist())
