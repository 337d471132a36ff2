"""Codecs as files: what decodes as whole numbers, the rest in half precision, and an id that names a model."""

import hashlib
import os
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sandbox.training.checkpoint import load_tensors, opening, save_tensors
from sandbox.zoo.names import plain
from unsupervised.compression.container import CorruptFile, Header, unpack
from unsupervised.compression.entropy import Tables
from unsupervised.compression.transform import BIASES, Conv, weight_unit

KIND = "sandbox.codec"


class Codec(BaseEstimator):
    """What codecs share: `save`, `load`, and the door through which a file comes in."""

    tables_: dict[str, Tables]
    channels_: int
    loss_curve_: list[float]
    model_id_: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted codec to one safetensors file: opening it runs no code."""
        check_is_fitted(self, "model_id_")
        save_tensors(path, KIND, self._record(), self._tensors())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Open what `save` wrote.

        Raises
        ------
        FileError
            If there is no such file, it is damaged, or of another estimator. One line.
        """
        record, tensors = load_tensors(path, KIND)
        with opening(path, KIND):
            return cls._made_of(record, tensors)

    @classmethod
    def _made_of(cls, record: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        if record["class"] != cls.__name__:
            raise ValueError(f"it holds a {record['class']}, not a {cls.__name__}")
        self = cls(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in record["params"].items()}
        )
        self.channels_, self.loss_curve_ = record["channels"], record["loss_curve"]
        self._take(record, tensors)
        self.model_id_ = self._id()
        return self

    def _record(self) -> dict[str, Any]:
        params: dict[str, Any] = self.get_params(deep=False)
        for name in params.keys() & {"checkpoint", "random_state", "image"}:  # of the fit, and no good elsewhere
            params[name] = None
        if callable(params["learning_rate"]):
            params["learning_rate"] = type(self).learning_rate  # type: ignore[attr-defined]
        told = {"class": type(self).__name__, "params": plain(params), "channels": self.channels_}
        return told | {"loss_curve": plain(self.loss_curve_)}

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """Everything that a fitted codec is."""

    @abstractmethod
    def _take(self, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Be the codec that `_record` and `_tensors` told."""

    def _id(self) -> int:
        """First two bytes of the SHA-256 of all that decodes."""
        digest = hashlib.sha256(str(self.channels_).encode())
        for name, tensor in sorted(self._tensors().items()):
            if tensor.dtype != torch.float16:
                digest.update(f"{name} {list(tensor.shape)}".encode())
                digest.update(tensor.numpy().tobytes())
        return int.from_bytes(digest.digest()[:2], "little")

    def _opened(self, data: bytes, clip: bool) -> tuple[Header, list[bytes]]:
        check_is_fitted(self, "model_id_")
        header, payloads = unpack(data)
        if clip != (header.group > 0):
            what, reader = ("a clip", "FrameCodec") if header.group else ("a picture", "ImageCodec")
            raise CorruptFile(f"it holds {what}, which a {reader} reads")
        if header.model != self.model_id_:
            raise CorruptFile(f"the model {header.model:04x} wrote it, and this is {self.model_id_:04x}")
        if header.colour and self.channels_ == 1:
            raise CorruptFile("it is in colour, and its model knows grey alone")
        return header, payloads


def told_layers(net: nn.Module) -> dict[str, Tensor]:
    """The convolutions of a network, narrow."""
    tensors: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        if isinstance(module, Conv):
            if module.exact:
                tensors |= told_whole(f"{name}.weight", module.weight)
                tensors[f"{name}.bias"] = (module.bias / BIASES).int()
            else:
                tensors |= {f"{name}.{key}": value.detach().half() for key, value in module.named_parameters()}
    return tensors


@torch.no_grad()
def take_layers(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back into a frozen network what `told_layers` told."""
    for name, module in net.named_modules():
        if isinstance(module, Conv):
            if module.exact:
                fill(module.weight, taken_whole(f"{name}.weight", tensors))
                fill(module.bias, tensors[f"{name}.bias"].double() * BIASES)
            else:
                fill(module.weight, tensors[f"{name}.weight"].float())
                fill(module.bias, tensors[f"{name}.bias"].float())


def told_whole(name: str, values: Tensor) -> dict[str, Tensor]:
    """Multiples of a power of two, and the power."""
    unit = weight_unit(values)
    return {name: (values / unit).short(), f"{name}_unit": torch.tensor(unit, dtype=torch.float64)}


def taken_whole(name: str, tensors: dict[str, Tensor]) -> Tensor:
    return tensors[name].double() * float(tensors[f"{name}_unit"])


@torch.no_grad()
def fill(place: Tensor, value: Tensor) -> None:
    """Copy a value into a tensor of the same shape."""
    if place.shape != value.shape:
        raise ValueError(f"its tensors are of another network: {list(value.shape)}, not {list(place.shape)}")
    place.copy_(value)


def told_tables(tables: dict[str, Tables]) -> dict[str, Tensor]:
    """Tables as tensors."""

    tensors: dict[str, Tensor] = {}
    for name, some in tables.items():
        tensors[f"tables.{name}.counts"] = torch.from_numpy(np.concatenate(some.counts).astype(np.int32))
        tensors[f"tables.{name}.sizes"] = torch.from_numpy(some.sizes.astype(np.int16))
        tensors[f"tables.{name}.firsts"] = torch.from_numpy(some.firsts.astype(np.int16))
    return tensors


def taken_tables(tensors: dict[str, Tensor]) -> dict[str, Tables]:
    tables = {}
    for name in {key.split(".")[1] for key in tensors if key.startswith("tables.")}:
        told = {key: tensors[f"tables.{name}.{key}"].numpy() for key in ("counts", "sizes", "firsts")}
        tables[name] = Tables(np.split(told["counts"], np.cumsum(told["sizes"] + 1)[:-1]), told["firsts"])
    return tables


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those whose names begin with a name and a dot, without it."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
