"""What some 30 numbers keep of Pong: what they know of ball and paddles, and a walk between moments of a game."""

import sys

import numpy as np
from sklearn.decomposition import PCA

from envs.atari import record
from sandbox.latent_plots import latent_walk, plot_keypoints, plot_reconstructions
from unsupervised import Autoencoder, KeypointAutoencoder
from unsupervised.evaluate import ram_probe

n, epochs = (int(word) for word in (sys.argv[1:] + ["4000", "10"][len(sys.argv) - 1 :]))  # frames, and epochs
played = record("Pong", n, size=(84, 84), grey=True)
X = played.frames[:, None]  # [n, 1, 84, 84] bytes
how = {"max_iter": epochs, "random_state": 0, "verbose": 1}
pixels = Autoencoder(32, learning_rate="cos_1e-3", batch_size=64, **how).fit(X)
points = KeypointAutoencoder(30, learning_rate="cos_2e-3", batch_size=32, **how).fit(X)
rows = X.reshape(n, -1) / np.float32(255)
features = {"keypoints": points.transform(X), "autoencoder": pixels.transform(X)}
features["PCA"] = PCA(32, random_state=0).fit(rows).transform(rows)
print("what a linear layer reads of the console's memory from some 30 numbers (R², 1: everything, 0: nothing)")
for name, Z in features.items():
    scores = ram_probe(Z, played.ram, "Pong").r2
    print(f"  {name:14s}" + "  ".join(f"{what} {value:.2f}" for what, value in scores.items()))

moments = np.linspace(n // 3, n - 1, 7).astype(int)
restored = pixels.reconstruct(X[moments])[:, 0].clip(0, 1)
plot_reconstructions("pong_latents.png", played.frames[moments] / 255, restored, "Pong, and what 32 numbers keep of it")
print("pong_latents.png")
shown = np.linspace(n // 3, n - 1, 12).astype(int)
plot_keypoints("pong_keypoints.png", played.frames[shown], points.points(X[shown]), "Pong as ten points")
print("pong_keypoints.png")

path = pixels.interpolate(X[moments[:-1]], X[moments[1:]], 20).reshape(-1, 84, 84).clip(0, 1)
latent_walk("pong_latents.gif", (path * 255).astype(np.uint8), "a walk between seven moments of Pong")
print("pong_latents.gif")
