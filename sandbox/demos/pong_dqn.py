"""Deep Q-learning on Pong: a replay that keeps each frame once, and a network that says what each action is worth.

It takes hours on two cores; with a number of steps after its name, such as 20000, as long as that.
"""

import sys
import time

from agents import DQN, evaluate
from sandbox.train import TrainingProgress
from sandbox.training import Linear

ENV = "baselines/Pong-v0"
STEPS = int(float(sys.argv[1])) if len(sys.argv) > 1 else 1_000_000

model = DQN(
    "CnnPolicy",
    ENV,
    n_envs=8,
    learning_rate=Linear(3e-4),
    batch_size=64,
    buffer_size=100_000,
    learning_starts=min(5_000, STEPS // 4),
    target_update_interval=2_000,
    train_freq=1,
    gradient_steps=2,
    exploration_fraction=0.05,
    exploration_final_eps=0.01,
    n_steps=3,  # the rewards of three steps count before the network is asked
    prioritized=True,  # what surprised is seen again
    policy_kwargs={"features_extractor_kwargs": {"channels": [16, 32], "features_dim": 256}},
    precision="auto",  # bf16 where the processor has it
    seed=0,
)
replay = model.replay_buffer
plain = 2 * replay.buffer_size * replay.n_envs * 4 * 84 * 84
print(f"replay: {replay.frames.nbytes / 1e9:.2f} GB, and {plain / 1e9:.2f} GB if every picture were kept", flush=True)

start = time.perf_counter()
model.learn(STEPS, TrainingProgress())
minutes = (time.perf_counter() - start) / 60
print(f"trained {model.num_timesteps:,} steps in {minutes:.1f} minutes ({model.fast_path})", flush=True)
games = 20 if STEPS > 100_000 else 1
print(f"{games} whole games: score {evaluate(model, ENV, n_episodes=games)}", flush=True)
