"""Every network of the sandbox, by name: `build`, `save`, `load`.

`ZOO` and `build` load no torch until a model is built; everything else is imported at its first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sandbox.zoo.names import ZOO, build

if TYPE_CHECKING:
    from sandbox.zoo.contracts import Encoder, Recurrent, Sequence
    from sandbox.zoo.conv import AlexNet, ImpalaCNN, NatureCNN
    from sandbox.zoo.ema import EMA
    from sandbox.zoo.files import FileError, load, save
    from sandbox.zoo.mlp import MLP, Maxout, Step
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

_CONTENTS = {
    "contracts": ("Encoder", "Recurrent", "Sequence"),
    "conv": ("AlexNet", "ImpalaCNN", "NatureCNN"),
    "ema": ("EMA",),
    "files": ("FileError", "load", "save"),
    "mlp": ("MLP", "Maxout", "Step"),
    "recurrent": ("GRU", "LSTM", "RNN"),
    "resnet": ("ResNet18",),
    "transformer": ("Block", "Transformer", "ViT"),
}


def __getattr__(name: str) -> Any:
    for module, names in _CONTENTS.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
