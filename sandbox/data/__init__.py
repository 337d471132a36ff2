"""Data sets by name, as arrays: `load`. What a data set needs is imported when it is loaded."""

from sandbox.data.names import SOURCES, Data, load

__all__ = ["SOURCES", "Data", "load"]
