"""Every network of the sandbox, by name: `build`, `save`, `load`.

`ZOO` and `build` load no torch until a model is built; everything else is imported at its first use.
"""

from typing import TYPE_CHECKING

from sandbox.lazy import contents

if TYPE_CHECKING:
    from sandbox.training.checkpoint import FileError
    from sandbox.zoo.contracts import Decoder, Encoder, Recurrent, Sequence
    from sandbox.zoo.conv import AlexNet, Conv, ImpalaCNN, NatureCNN
    from sandbox.zoo.decoders import ConvDecoder, MLPDecoder, NatureDecoder
    from sandbox.zoo.ema import EMA
    from sandbox.zoo.files import load, save
    from sandbox.zoo.keypoints import KeypointDecoder, Keypoints
    from sandbox.zoo.latent import LatentDecoder, LatentEncoder
    from sandbox.zoo.mlp import MLP, Maxout, Step
    from sandbox.zoo.names import ZOO, build
    from sandbox.zoo.noisy import NoisyLinear
    from sandbox.zoo.quantize import FSQ, VectorQuantizer, perplexity
    from sandbox.zoo.recurrent import GRU, LSTM, RNN, RecurrentDecoder, RecurrentEncoder
    from sandbox.zoo.resnet import ResNet18
    from sandbox.zoo.tokens import TokenEncoder
    from sandbox.zoo.transformer import Block, Transformer, ViT

__all__ = [
    "EMA",
    "FSQ",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "ZOO",
    "AlexNet",
    "Block",
    "Conv",
    "ConvDecoder",
    "Decoder",
    "Encoder",
    "FileError",
    "ImpalaCNN",
    "KeypointDecoder",
    "Keypoints",
    "LatentDecoder",
    "LatentEncoder",
    "MLPDecoder",
    "Maxout",
    "NatureCNN",
    "NatureDecoder",
    "NoisyLinear",
    "Recurrent",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "ResNet18",
    "Sequence",
    "Step",
    "TokenEncoder",
    "Transformer",
    "VectorQuantizer",
    "ViT",
    "build",
    "load",
    "perplexity",
    "save",
]

__getattr__, __dir__ = contents(
    __name__,
    {
        "contracts": ("Decoder", "Encoder", "Recurrent", "Sequence"),
        "conv": ("AlexNet", "Conv", "ImpalaCNN", "NatureCNN"),
        "decoders": ("ConvDecoder", "MLPDecoder", "NatureDecoder"),
        "ema": ("EMA",),
        "files": ("FileError", "load", "save"),
        "keypoints": ("KeypointDecoder", "Keypoints"),
        "latent": ("LatentDecoder", "LatentEncoder"),
        "mlp": ("MLP", "Maxout", "Step"),
        "names": ("ZOO", "build"),
        "noisy": ("NoisyLinear",),
        "quantize": ("FSQ", "VectorQuantizer", "perplexity"),
        "recurrent": ("GRU", "LSTM", "RNN", "RecurrentDecoder", "RecurrentEncoder"),
        "resnet": ("ResNet18",),
        "tokens": ("TokenEncoder",),
        "transformer": ("Block", "Transformer", "ViT"),
    },
)
