"""A package whose contents are imported at their first use, so that naming them costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def contents(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """The module-level ``__getattr__`` (PEP 562) of a package.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    modules : mapping of str to tuple of str
        The names that each of its modules holds.

    Returns
    -------
    callable

    Examples
    --------
    >>> contents("json", {"decoder": ("JSONDecoder",)})("JSONDecoder").__name__
    'JSONDecoder'
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return __getattr__
