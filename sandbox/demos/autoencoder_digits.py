"""Each digit as two numbers: a map of all of them, what lies between, and what is lost, beside PCA."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from sandbox.data import load
from sandbox.latent_plots import plot_embedding
from unsupervised import Autoencoder

digits = load("digits")
X = (digits.rows / 16).astype(np.float32)  # [1797, 64] shades; which digit each is serves only to colour the map
train, test, y_train, y_test = train_test_split(X, digits.y, test_size=0.2, random_state=0)

model = Autoencoder(n_components=2, max_iter=100, learning_rate="cos_2e-3", random_state=0, verbose=1).fit(train)
pca = PCA(2).fit(train)
print("of digits that neither has seen:  mean squared error    nearest neighbours say which digit it is")
for name, coder in {"autoencoder, 2 numbers": model, "PCA, 2 numbers": pca}.items():
    codes = coder.transform(test)
    error = np.square(coder.inverse_transform(codes) - test).mean()
    right = KNeighborsClassifier(10).fit(coder.transform(train), y_train).score(codes, y_test)
    print(f"  {name:32s}{error:.4f}                {right:.0%}")

Z = model.transform(X)
plot_embedding("autoencoder_digits.png", Z, digits.y, digits.names, "1,797 digits as two numbers each", digits.X)
print("autoencoder_digits.png")

low, high = np.percentile(Z, [2, 98], axis=0)
across, down = np.meshgrid(np.linspace(low[0], high[0], 16), np.linspace(high[1], low[1], 16))
decoded = model.inverse_transform(np.stack([across, down], axis=2).reshape(-1, 2))  # [256, 64]
tiles = np.pad(decoded.reshape(16, 16, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))  # a little white between them
sheet = tiles.swapaxes(1, 2).reshape(160, 160)
figure = Figure(figsize=(7, 7.3), dpi=110, layout="constrained")
axes = figure.subplots()
axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
axes.set(xticks=[], yticks=[], title="the same map, decoded: what stands at each place of it")
figure.savefig("autoencoder_digits_map.png")
print("autoencoder_digits_map.png")
