"""A network of your own as an agent's eyes: any torch module, any network of the zoo by name, or a saved one.

Catch is seen as a 10 x 5 picture: a ball falls, a paddle below must be there. Here are three ways to look at it.
"""

import tempfile

import torch
from torch import nn

from agents import PPO, evaluate
from sandbox import zoo


class TinyConv(nn.Module):
    """All that an encoder needs is `out_features`, and a `forward` from a batch of observations to features."""

    out_features = 64

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 10 * 5, 64), nn.ReLU()
        )

    def forward(self, obs):  # [B, 10, 5]
        return self.layers(obs[:, None])  # [B, 64]


def train(encoder, freeze_encoder=False):
    model = PPO(
        "MlpPolicy",
        "sandbox/Catch-v0",
        n_envs=32,
        n_steps=32,
        batch_size=256,
        n_epochs=4,
        learning_rate=2e-3,
        encoder=encoder,
        freeze_encoder=freeze_encoder,
        seed=0,
    )
    model.learn(30_000)
    return model, evaluate(model, "sandbox/Catch-v0")


torch.manual_seed(0)
model, result = train(TinyConv())
print(f"a module of your own:       return {result}   trained by {model.fast_path}")

model, result = train("mlp")
print(f"the zoo's mlp, by its name: return {result}")

# What it has learned to see goes on: saved as one file, and frozen under a new agent.
with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    zoo.save(model.policy.features_extractor.encoder, file.name)
    model, result = train(file.name, freeze_encoder=True)
print(f"the same, saved and frozen: return {result}")
