"""A learned codec for pictures and clips, with real files.

Nothing is imported before its first use.
"""

from typing import TYPE_CHECKING

from sandbox.lazy import contents

if TYPE_CHECKING:
    from unsupervised.compression.codec import ImageCodec
    from unsupervised.compression.container import CorruptFile
    from unsupervised.compression.defaults import DEFAULTS, decompress, default, inspect, load
    from unsupervised.compression.frames import FrameCodec

__all__ = ["DEFAULTS", "CorruptFile", "FrameCodec", "ImageCodec", "decompress", "default", "inspect", "load"]

__getattr__, __dir__ = contents(
    __name__,
    {
        "codec": ("ImageCodec",),
        "container": ("CorruptFile",),
        "defaults": ("DEFAULTS", "decompress", "default", "inspect", "load"),
        "frames": ("FrameCodec",),
    },
)
