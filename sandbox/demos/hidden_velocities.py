"""What a memory is for: CartPole that shows where things are, but not how fast they move.

An MLP sees a still picture and has to guess; an LSTM remembers the last ones and feels the speed.
"""

import time

from stable_baselines3.common.vec_env import VecNormalize

from agents import PPO, evaluate, vecenv
from sandbox.train import TrainingProgress
from sandbox.training import Linear

ENV, STEPS = "sandbox/CartPoleNoVel-v1", 100_000

for name, encoder in (("MLP", None), ("LSTM", {"name": "lstm", "kwargs": {"out_features": 64}})):
    model = PPO(
        "MlpPolicy",
        VecNormalize(vecenv.make(ENV, n_envs=8), gamma=0.98),  # a metre and a radian, made alike
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        learning_rate=Linear(1e-3),
        clip_range=Linear(0.2),
        encoder=encoder,  # a network of sequences gives the agent a memory
        policy_kwargs={
            "net_arch": {"pi": [64], "vf": [64]},
            "activation_fn": "relu",
            "share_features_extractor": False,
        },
        device="cpu",
        seed=0,
    )
    start = time.perf_counter()
    model.learn(STEPS, TrainingProgress())
    print(f"{name:>4}: return {evaluate(model, ENV)} of 500 after {time.perf_counter() - start:.0f} s", flush=True)
