"""Every network of the sandbox, by name: `build`, `save`, `load`.

`ZOO` and `build` load no torch until a model is built; everything else is imported at its first use.
"""

from typing import TYPE_CHECKING

from sandbox.lazy import contents

if TYPE_CHECKING:
    from sandbox.training.checkpoint import FileError
    from sandbox.zoo.contracts import Encoder, Recurrent, Sequence
    from sandbox.zoo.conv import AlexNet, ImpalaCNN, NatureCNN
    from sandbox.zoo.ema import EMA
    from sandbox.zoo.files import load, save
    from sandbox.zoo.mlp import MLP, Maxout, Step
    from sandbox.zoo.names import ZOO, build
    from sandbox.zoo.noisy import NoisyLinear
    from sandbox.zoo.recurrent import GRU, LSTM, RNN
    from sandbox.zoo.resnet import ResNet18
    from sandbox.zoo.transformer import Block, Transformer, ViT

__all__ = [
    "EMA",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "ZOO",
    "AlexNet",
    "Block",
    "Encoder",
    "FileError",
    "ImpalaCNN",
    "Maxout",
    "NatureCNN",
    "NoisyLinear",
    "Recurrent",
    "ResNet18",
    "Sequence",
    "Step",
    "Transformer",
    "ViT",
    "build",
    "load",
    "save",
]

__getattr__, __dir__ = contents(
    __name__,
    {
        "contracts": ("Encoder", "Recurrent", "Sequence"),
        "conv": ("AlexNet", "ImpalaCNN", "NatureCNN"),
        "ema": ("EMA",),
        "files": ("FileError", "load", "save"),
        "mlp": ("MLP", "Maxout", "Step"),
        "names": ("ZOO", "build"),
        "noisy": ("NoisyLinear",),
        "recurrent": ("GRU", "LSTM", "RNN"),
        "resnet": ("ResNet18",),
        "transformer": ("Block", "Transformer", "ViT"),
    },
)
