"""Handwritten digits in ten clusters, found without a label: their centres, typical members and odd ones."""

import numpy as np
from matplotlib.figure import Figure

from sandbox.data import load
from unsupervised import KMeans
from unsupervised.evaluate import agreement, silhouette

K, TYPICAL, ODD = 10, 5, 2
digits = load("digits")
X, y = digits.rows, digits.y  # [1797, 64] shades; which digit each is serves only to compare
model = KMeans(K, n_init=10, random_state=0).fit(X)


def majority(labels):
    """The digit that each cluster has most of, and which part of the cluster it is."""
    counts = np.array([np.bincount(y[labels == k], minlength=10) for k in range(K)])  # [K, 10]
    return counts.argmax(1), counts.max(1) / counts.sum(1)


rng = np.random.default_rng(0)
ten = X[rng.choice(len(X), K, replace=False)]
labellings = {
    "k-means": model.labels_,
    "nearest of ten digits, drawn": ((X[:, None] - ten) ** 2).sum(2).argmin(1),
    "labels, drawn": rng.integers(K, size=len(X)),
}
print("purity: how many digits are what most of their cluster are; ARI: 1 if the clusters are the digits, 0 by chance")
for name, labels in labellings.items():
    purity = np.mean(majority(labels)[0][labels] == y)
    ari, nmi = agreement(y, labels)
    print(f"{name:30s}purity {purity:.2f}  ARI {ari:5.2f}  NMI {nmi:.2f}  silhouette {silhouette(X, labels).mean:5.2f}")

figure = Figure(figsize=(10, 8.6), dpi=110, facecolor="white")
grid = figure.add_gridspec(1 + TYPICAL + ODD, K, wspace=0.12, hspace=0.12, left=0.1, right=0.98, bottom=0.02, top=0.9)
digit, part = majority(model.labels_)
distances = model.transform(X)  # [N, K], from each digit to each centre
for column, k in enumerate(np.lexsort((-part, digit))):
    members = np.flatnonzero(model.labels_ == k)
    members = members[distances[members, k].argsort()]
    others = members[y[members] != digit[k]][::-1][:ODD]  # farthest first
    shown = [model.cluster_centers_[k], *X[members[:TYPICAL]], *X[others]]
    for row, values in enumerate(shown):
        axes = figure.add_subplot(grid[row, column], xticks=[], yticks=[])
        axes.imshow(values.reshape(8, 8), cmap="gray_r" if row else "BuGn", vmin=0, vmax=16)
        axes.spines[:].set_color("#e07a5f" if row > TYPICAL else "#c9ced6")
        if row == 0:
            axes.set_title(f"{len(members)} digits,\n{part[k]:.0%} are {digit[k]}", fontsize=9)
for row, words in ((0, "centre"), (1, "most\ntypical"), (1 + TYPICAL, "another digit,\nfarthest out")):
    place = grid[row, 0].get_position(figure)
    figure.text(0.09, (place.y0 + place.y1) / 2, words, ha="right", va="center", fontsize=9)
figure.suptitle("k-means on 1,797 digits, without labels", y=0.975)
figure.savefig("cluster_digits.png")
print("cluster_digits.png")
