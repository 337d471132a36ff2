"""Look at 64 dimensions in three: an autoencoder's and PCA's, turning side by side, each digit in its colour."""

import numpy as np
from sklearn.decomposition import PCA

from sandbox.data import load
from sandbox.latent_plots import export_projector, spin_embedding
from unsupervised import Autoencoder
from unsupervised.evaluate import silhouette

digits = load("digits")
X = (digits.rows / 16).astype(np.float32)
model = Autoencoder(n_components=3, max_iter=100, learning_rate="cos_2e-3", random_state=0, verbose=1).fit(X)
found = {"autoencoder": model.transform(X), "PCA": PCA(3).fit_transform(X)}
for name, Z in found.items():
    apart = silhouette(Z, digits.y, random_state=0)
    print(f"{name:12s} how far apart the ten digits are (silhouette, 1 at most): {apart.mean:.2f} ± {apart.error:.2f}")
    title = f"digits in three dimensions, by {'an autoencoder' if name == 'autoencoder' else name}"
    spin_embedding(f"see_in_3d_{name.lower()}.gif", Z, digits.y, digits.names, title)
    print(f"see_in_3d_{name.lower()}.gif")
export_projector("see_in_3d_projector", found["autoencoder"], digits.y, digits.names, digits.X)
print("see_in_3d_projector: open it with `tensorboard --logdir see_in_3d_projector`")
