"""Unsupervised learning as scikit-learn estimators on the networks of the zoo."""

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
