"""Digits that nobody wrote: a generator against a discriminator, watched from noise to digits."""

import sys

import numpy as np
from sklearn.neighbors import NearestNeighbors

from sandbox.data import load
from sandbox.latent_plots import latent_walk, plot_strip
from unsupervised import GAN, Classifier

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
digits = load("digits")
X = (digits.X / 16).astype(np.float32)[:, None]  # [1797, 1, 8, 8] shades
model, noise, stages = (
    GAN(16, random_state=0),
    np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32),
    [],
)
for epoch in range(epochs):
    model.partial_fit(X)
    if epoch in (0, 4, 19) or epoch == epochs - 1:
        stages.append((epoch + 1, model.inverse_transform(noise).reshape(-1, 8, 8).clip(0, 1)))
        print(f"after {epoch + 1} epochs: loss {model.loss_curve_[-1]:.3f}", flush=True)

names = [f"after {epoch} epochs" for epoch, _ in stages] + ["real"]
rows = [made[:14] for _, made in stages] + [X[:14, 0]]
plot_strip("gan_digits.png", np.stack(rows), "one digit a column, each always from the same noise", names)
print("gan_digits.png")

# Are they digits, all ten of them, and not the ones that it has seen?
judge = Classifier(max_iter=40, random_state=0).fit(X.reshape(len(X), -1), digits.y)
made = model.sample(1000, random_state=1)
sure = judge.predict_proba(made).max(1)
seen = NearestNeighbors(n_neighbors=2).fit(X.reshape(len(X), -1))
print(f"a classifier of real digits is {np.median(sure):.0%} sure of the median one made,")
print(f"and finds {np.bincount(judge.predict(made), minlength=10)} of 0 to 9 among a thousand")
away, between = seen.kneighbors(made)[0][:, 0], seen.kneighbors(X.reshape(len(X), -1))[0][:, 1]
print(f"distance to the nearest real digit: {np.median(away):.2f}; between real ones {np.median(between):.2f}")

walk = np.concatenate([noise[i] + np.linspace(0, 1, 16)[:, None] * (noise[i + 1] - noise[i]) for i in range(6)])
between = model.inverse_transform(walk.astype(np.float32)).reshape(-1, 8, 8).clip(0, 1)
latent_walk("gan_digits.gif", (between * 255).astype(np.uint8), "from noise to noise")
print("gan_digits.gif")
