"""What 32 numbers keep of Pong: what they know of ball and paddles, and a walk between moments of a game."""

import sys

import numpy as np
from sklearn.decomposition import PCA

from envs.atari import record
from sandbox.latent_plots import latent_walk, plot_reconstructions
from unsupervised import Autoencoder
from unsupervised.evaluate import ram_probe

n, epochs = (int(word) for word in (sys.argv[1:] + ["4000", "20"][len(sys.argv) - 1 :]))  # frames, and epochs
played = record("Pong", n, size=(84, 84), grey=True)
X = played.frames[:, None]  # [n, 1, 84, 84] bytes
how = {"learning_rate": "cos_1e-3", "batch_size": 64, "random_state": 0, "verbose": 1}
model = Autoencoder(32, max_iter=epochs, **how).fit(X)
rows = X.reshape(n, -1) / np.float32(255)
features = {"autoencoder": model.transform(X), "PCA": PCA(32, random_state=0).fit(rows).transform(rows)}
print("what a linear layer reads of the console's memory from 32 numbers (R², 1: everything, 0: nothing)")
for name, Z in features.items():
    scores = ram_probe(Z, played.ram, "Pong").r2
    print(f"  {name:14s}" + "  ".join(f"{what} {value:.2f}" for what, value in scores.items()))

moments = np.linspace(n // 3, n - 1, 7).astype(int)
restored = model.reconstruct(X[moments])[:, 0].clip(0, 1)
plot_reconstructions("pong_latents.png", played.frames[moments] / 255, restored, "Pong, and what 32 numbers keep of it")
print("pong_latents.png")

path = model.interpolate(X[moments[:-1]], X[moments[1:]], 20).reshape(-1, 84, 84).clip(0, 1)
latent_walk("pong_latents.gif", (path * 255).astype(np.uint8), "a walk between seven moments of Pong")
print("pong_latents.gif")
