"""Unsupervised learning as scikit-learn estimators on the networks of the zoo.

Nothing is imported before its first use, so that naming a data set loads no torch.
"""

from typing import TYPE_CHECKING

from sandbox.lazy import contents

if TYPE_CHECKING:
    from unsupervised.autoencoder import (
        Autoencoder,
        ContractiveAutoencoder,
        DenoisingAutoencoder,
        SparseAutoencoder,
        VariationalAutoencoder,
        VQAutoencoder,
    )
    from unsupervised.base import TorchEstimator, load
    from unsupervised.bisecting import BisectingKMeans
    from unsupervised.compression import FrameCodec, ImageCodec
    from unsupervised.contrastive import BYOL, BarlowTwins, MoCo, SimCLR, SimSiam, TemporalContrast, VICReg
    from unsupervised.gan import GAN
    from unsupervised.keypoints import KeypointAutoencoder
    from unsupervised.kmeans import KMeans, SphericalKMeans, k_means, kmeans_plusplus
    from unsupervised.masked import MaskedAutoencoder
    from unsupervised.minibatch import MiniBatchKMeans
    from unsupervised.pretext import InverseDynamics, Jigsaw, RotationPrediction
    from unsupervised.sequence import SequenceAutoencoder
    from unsupervised.shards import Shards
    from unsupervised.stdim import STDIM
    from unsupervised.supervised import Classifier, Regressor
    from unsupervised.tokens import MaskedToken, NextToken

__all__ = [
    "BYOL",
    "GAN",
    "STDIM",
    "Autoencoder",
    "BarlowTwins",
    "BisectingKMeans",
    "Classifier",
    "ContractiveAutoencoder",
    "DenoisingAutoencoder",
    "FrameCodec",
    "ImageCodec",
    "InverseDynamics",
    "Jigsaw",
    "KMeans",
    "KeypointAutoencoder",
    "MaskedAutoencoder",
    "MaskedToken",
    "MiniBatchKMeans",
    "MoCo",
    "NextToken",
    "Regressor",
    "RotationPrediction",
    "SequenceAutoencoder",
    "Shards",
    "SimCLR",
    "SimSiam",
    "SparseAutoencoder",
    "SphericalKMeans",
    "TemporalContrast",
    "TorchEstimator",
    "VICReg",
    "VQAutoencoder",
    "VariationalAutoencoder",
    "k_means",
    "kmeans_plusplus",
    "load",
]

__getattr__, __dir__ = contents(
    __name__,
    {
        "autoencoder": (
            "Autoencoder",
            "ContractiveAutoencoder",
            "DenoisingAutoencoder",
            "SparseAutoencoder",
            "VQAutoencoder",
            "VariationalAutoencoder",
        ),
        "base": ("TorchEstimator", "load"),
        "bisecting": ("BisectingKMeans",),
        "compression": ("FrameCodec", "ImageCodec"),
        "contrastive": ("BYOL", "BarlowTwins", "MoCo", "SimCLR", "SimSiam", "TemporalContrast", "VICReg"),
        "gan": ("GAN",),
        "keypoints": ("KeypointAutoencoder",),
        "kmeans": ("KMeans", "SphericalKMeans", "k_means", "kmeans_plusplus"),
        "masked": ("MaskedAutoencoder",),
        "minibatch": ("MiniBatchKMeans",),
        "pretext": ("InverseDynamics", "Jigsaw", "RotationPrediction"),
        "sequence": ("SequenceAutoencoder",),
        "shards": ("Shards",),
        "stdim": ("STDIM",),
        "supervised": ("Classifier", "Regressor"),
        "tokens": ("MaskedToken", "NextToken"),
    },
)
