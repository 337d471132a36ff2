"""A network as people give it: by name, by file, by specification, or as a module."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from sandbox.zoo.files import load
from sandbox.zoo.names import ZOO, build, resolve

Given = str | Path | dict[str, Any] | nn.Module


def from_given(network: Given, **kwargs: Any) -> Any:
    """The network that a name, a file, a specification or a module stands for; a module is copied.

    Parameters
    ----------
    network : str, Path, dict or nn.Module
        A name of the zoo, a file made by ``zoo.save``, the folder of a run, a specification
        ``{"name": ..., "kwargs": ...}``, or a module.
    **kwargs
        To build it with, where it is built and its specification does not say otherwise.

    Raises
    ------
    ValueError
        If there is no such network.
    FileError
        If there is no such file, or it is damaged.

    Examples
    --------
    >>> from_given({"name": "mlp", "kwargs": {"widths": [8]}}, in_shape=(4,)).out_features
    8
    """
    if isinstance(network, nn.Module):
        return copy.deepcopy(network)
    if isinstance(network, dict):
        return build(_specified(network), **{**kwargs, **network.get("kwargs", {})})
    return load(network) if is_file(network) else build(str(network), **kwargs)


def kind_of(network: Given) -> type:
    """The class of the network that `from_given` would give.

    Examples
    --------
    >>> kind_of("lstm").__name__
    'LSTM'
    """
    if isinstance(network, dict):
        return resolve(_specified(network))
    if isinstance(network, nn.Module) or is_file(network):
        return type(network if isinstance(network, nn.Module) else load(network))
    return resolve(str(network))


def brings_weights(network: Given | None) -> bool:
    """Whether what is given has weights of its own: a module, or a file.

    Examples
    --------
    >>> brings_weights(nn.Identity()), brings_weights("mlp"), brings_weights(None)
    (True, False, False)
    """
    return isinstance(network, nn.Module) or (isinstance(network, str | Path) and is_file(network))


def is_file(network: str | Path) -> bool:
    """Whether the word means a file, or a run's folder, not a name of the zoo."""
    path = Path(network)
    return bool(path.suffix) or "/" in str(network) or (str(network) not in ZOO and path.is_dir())


def _specified(network: dict[str, Any]) -> str:
    """The name in a specification, which has nothing but a name and keywords."""
    if "name" not in network or network.keys() - {"name", "kwargs"} or not isinstance(network.get("kwargs", {}), dict):
        raise ValueError(
            f"encoder={network}: a specification is a name of the zoo and its keywords, such as "
            "{'name': 'lstm', 'kwargs': {'out_features': 64}}"
        )
    return str(network["name"])
