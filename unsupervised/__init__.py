"""Unsupervised learning as scikit-learn estimators on the networks of the zoo.

Nothing is imported before its first use, so that naming a data set loads no torch.
"""

from typing import TYPE_CHECKING

from sandbox.lazy import contents

if TYPE_CHECKING:
    from unsupervised.bisecting import BisectingKMeans
    from unsupervised.kmeans import KMeans, SphericalKMeans, k_means, kmeans_plusplus
    from unsupervised.minibatch import MiniBatchKMeans
    from unsupervised.shards import Shards

__all__ = [
    "BisectingKMeans",
    "KMeans",
    "MiniBatchKMeans",
    "Shards",
    "SphericalKMeans",
    "k_means",
    "kmeans_plusplus",
]

__getattr__, __dir__ = contents(
    __name__,
    {
        "bisecting": ("BisectingKMeans",),
        "kmeans": ("KMeans", "SphericalKMeans", "k_means", "kmeans_plusplus"),
        "minibatch": ("MiniBatchKMeans",),
        "shards": ("Shards",),
    },
)
