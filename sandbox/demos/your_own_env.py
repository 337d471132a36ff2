"""An environment of your own: four numpy verbs over a batch of states, then an agent that learns it.

A lander falls towards the ground and may burn fuel to brake. It earns 1 for touching down gently, nothing for a crash.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete

from agents import PPO, evaluate
from envs import Dynamics, DynamicsVectorEnv

DT, GRAVITY, THRUST, GENTLE = 0.1, 1.6, 4.0, 1.0  # s, m/s^2 (the Moon's), m/s^2, m/s


class Lander(Dynamics):
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)  # height, speed
    action_space = Discrete(2)  # fall, burn
    max_episode_steps = 200

    def initial(self, rng, num_envs, options=None):
        return np.stack([rng.uniform(8.0, 12.0, num_envs), rng.uniform(-2.0, 0.0, num_envs)])  # [2, B]

    def step(self, state, actions):
        height, speed = state
        speed += DT * (THRUST * actions - GRAVITY)
        height += DT * speed
        landed = height <= 0.0
        return np.where(landed & (speed > -GENTLE), 1.0, 0.0), landed

    def observe(self, state, previous=None):
        return (state.T / (10.0, 5.0)).astype(np.float32)  # [B, 2], of the size a network likes

    def draw(self, state):
        picture = np.full((120, 60, 3), 235, np.uint8)
        row = int(np.clip(108 - 8 * state[0], 0, 112))
        picture[row : row + 8, 26:34] = (60, 90, 140)
        return picture


class LanderVectorEnv(DynamicsVectorEnv):
    dynamics_type = Lander


model = PPO("MlpPolicy", LanderVectorEnv(32), n_steps=64, batch_size=256, learning_rate=2e-3, ent_coef=0.01, seed=0)
test_envs = LanderVectorEnv(100)
print(f"untrained: {evaluate(model, test_envs).mean:.0%} gentle landings")
model.learn(100_000)
print(f"trained:   {evaluate(model, test_envs).mean:.0%} gentle landings")
