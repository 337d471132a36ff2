"""The file: a header of 16 bytes, and what the entropy coder wrote. No JSON, no pickle, nothing that runs.

All numbers are little-endian.

======  =====  =====================================================================================
offset  bytes  what
======  =====  =====================================================================================
0       3      ``b"SBX"``
3       1      version, 1
4       2      model: the first bytes of the SHA-256 of everything that its decoder computes with
6       2      width, pixels
8       2      height, pixels
10      1      quality, 1 to 9
11      1      bit 0: colour; bit 1: a clip; bit 2: pixels without loss; the others 0
12      4      CRC-32 of everything else, the header's first 12 bytes and all that follows
16      ...    a picture's payload; or, of a clip, uint32 frames, uint16 frames of a group, and for each group the
               length of its payload (7 bits a byte, the lowest first, bit 7: more follow), then the payloads
======  =====  =====================================================================================
"""

import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

MAGIC, VERSION = b"SBX", 1
QUALITIES = 9
MAX_SIDE = 0xFFFF
MAX_PIXELS = 1 << 26  # of one picture: 67 million, 200 MB in colour
MAX_CLIP = 1 << 31  # pixels of all frames together
MAX_GROUP = 4096  # frames
_START = struct.Struct("<3sBHHHBB")
_CRC = struct.Struct("<I")
_CLIP = struct.Struct("<IH")
HEADER = _START.size + _CRC.size


class CorruptFile(ValueError):
    """A file that is damaged, foreign, newer than this version, or of another model; the message says which."""


@dataclass(frozen=True)
class Header:
    """What is known of a file before its payload is read.

    Attributes
    ----------
    model : int
        The id of the model that wrote it, 0 to 65535.
    width, height : int
        Pixels.
    quality : int
        1 to 9.
    colour : bool
        Three channels, or one.
    frames, group : int
        Of a clip, its frames, and how many of them can be decoded without the others; 0 for a picture.
    lengths : tuple of int
        Of a clip, the bytes of each group.
    exact : bool
        Whether it holds pixels (see `unsupervised.compression.exact`), and not latents.
    """

    model: int
    width: int
    height: int
    quality: int
    colour: bool
    frames: int = 0
    group: int = 0
    lengths: tuple[int, ...] = ()
    exact: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it decodes to: ``[T,] H, W [, 3]``."""
        time = (self.frames,) if self.group else ()
        return (*time, self.height, self.width, *((3,) if self.colour else ()))


def pack(header: Header, payloads: list[bytes]) -> bytes:
    """A file: of a picture with one payload, of a clip with one for each group.

    Examples
    --------
    >>> data = pack(Header(model=7, width=3, height=2, quality=5, colour=True), [b"payload"])
    >>> header, payloads = unpack(data)
    >>> len(data), header.shape, payloads
    (23, (2, 3, 3), [b'payload'])
    """
    index = b""
    if header.group:
        lengths = b"".join(_varint(len(payload)) for payload in payloads)
        index = _CLIP.pack(header.frames, header.group) + lengths
    kind = header.colour | (header.group > 0) << 1 | header.exact << 2
    start = _START.pack(MAGIC, VERSION, header.model, header.width, header.height, header.quality, kind)
    rest = b"".join((index, *payloads))
    return start + _CRC.pack(zlib.crc32(rest, zlib.crc32(start))) + rest


def unpack(data: bytes) -> tuple[Header, list[bytes]]:
    """The header and the payloads of a file; nothing is decoded, and no memory taken beyond the file's own size.

    Raises
    ------
    CorruptFile
        If it is no such file, or not a whole one.
    TypeError
        If `data` is not bytes.

    Examples
    --------
    >>> unpack(b"PNG or something else")
    Traceback (most recent call last):
    unsupervised.compression.container.CorruptFile: it begins with b'PNG', where a compressed picture has b'SBX'
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"a file is given as bytes, got {type(data).__name__}; open(path, 'rb').read() gives them")
    data = bytes(data)
    if data[:3] != MAGIC[: len(data)]:
        raise CorruptFile(f"it begins with {data[:3]!r}, where a compressed picture has {MAGIC!r}")
    if len(data) > 3 and data[3] != VERSION:
        raise CorruptFile(f"it is of version {data[3]}; this program reads version {VERSION}, a newer one may read it")
    if len(data) < HEADER:
        raise CorruptFile(f"it ends after {len(data)} bytes; the header alone has {HEADER}")
    *_, model, width, height, quality, kind = _START.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _START.size)
    if zlib.crc32(data[HEADER:], zlib.crc32(data[: _START.size])) != crc:
        raise CorruptFile("damaged or cut off: its CRC-32 is not that of its contents")
    if not (1 <= quality <= QUALITIES and kind < 8):
        raise CorruptFile(f"quality {quality} and kind {kind}: expected are 1 to {QUALITIES} and 0 to 7")
    header = Header(model, width, height, quality, bool(kind & 1), exact=bool(kind & 4))
    rest = memoryview(data)[HEADER:]
    if kind & 2:
        header, rest = _clip(header, rest)
    check_size(header)
    payloads, at = [], 0
    for length in header.lengths or (len(rest),):
        payloads.append(bytes(rest[at : at + length]))
        at += length
    if header.group and at != len(rest):
        raise CorruptFile(f"its groups have {at} bytes by the index, and {len(rest)} in the file")
    return header, payloads


def check_size(header: Header) -> None:
    """Refuse sizes that this format doesn't hold, or that no program should take memory for.

    Raises
    ------
    CorruptFile
    """
    width, height, frames = header.width, header.height, max(header.frames, 1)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        limits = f"1 to {MAX_SIDE:,} a side, at most {MAX_PIXELS:,} in all"
        raise CorruptFile(f"{width} x {height} pixels; a picture has {limits}")
    if width * height * frames > MAX_CLIP:
        raise CorruptFile(f"{frames:,} frames of {width} x {height}; a clip has at most {MAX_CLIP:,} pixels in all")


def check_length(payload: bytes, bits: float) -> None:
    """Refuse a payload that can't hold what the header promises, before memory is taken for it.

    Parameters
    ----------
    payload : bytes
    bits : float
        What all symbols cost at least.

    Raises
    ------
    CorruptFile
    """
    if 8 * len(payload) + 64 < bits:  # the coder's own state is 64 bits
        raise CorruptFile(f"{len(payload)} bytes can't hold what its header promises, {bits / 8:,.0f} bytes at least")


def _clip(header: Header, rest: memoryview) -> tuple[Header, memoryview]:
    """A clip's header, with its index, and what follows it."""
    if len(rest) < _CLIP.size:
        raise CorruptFile("it ends within the header of a clip")
    frames, group = _CLIP.unpack_from(rest)
    if not (frames and 1 <= group <= MAX_GROUP):
        raise CorruptFile(f"a clip of {frames} frames in groups of {group}; a group has 1 to {MAX_GROUP}")
    n = -(-frames // group)
    at, lengths = _CLIP.size, []
    if n > len(rest) - at:  # an index has a byte or more for each
        raise CorruptFile(f"it promises {n:,} groups, and has {len(rest) - at:,} bytes for them")
    for _ in range(n):
        length, at = _read_varint(rest, at)
        lengths.append(length)
    return replace(header, frames=frames, group=group, lengths=tuple(lengths)), rest[at:]


def _varint(value: int) -> bytes:
    """
    >>> _varint(5), _varint(300)
    (b'\\x05', b'\\xac\\x02')
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise CorruptFile("it ends within the index of a clip, or a length in it has no end")


def describe(data: bytes) -> dict[str, Any]:
    """The header of a file in words: ``kind``, ``version``, ``model_id``, ``width``, ``height``, ``channels``, ..."""
    header, _ = unpack(data)
    about: dict[str, Any] = {
        "kind": "clip" if header.group else "image",
        "version": VERSION,
        "model_id": f"{header.model:04x}",
        "width": header.width,
        "height": header.height,
        "channels": 3 if header.colour else 1,
        "quality": header.quality,
        "exact": header.exact,
        "bytes": len(data),
    }
    if header.group:
        about |= {"frames": header.frames, "group": header.group, "groups": len(header.lengths)}
    return about
