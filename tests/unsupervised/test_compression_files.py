"""The container and the entropy coder: every byte is accounted for, and every damage is one kind of error."""

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unsupervised.compression.container import (
    HEADER,
    MAX_CLIP,
    CorruptFile,
    Header,
    check_length,
    describe,
    pack,
    unpack,
)
from unsupervised.compression.entropy import BITS, LARGEST, TOTAL, Decoder, Encoder, Meter, Tables, counts_of
from unsupervised.compression.exact import palette_of
from unsupervised.compression.flags import around, code_flags, flag_tables
from unsupervised.compression.prior import SCALES, STEP, FactorizedPrior, normal_bits, normal_tables

PICTURE = Header(model=0xBEEF, width=31, height=17, quality=9, colour=True)
CLIP = Header(model=1, width=31, height=17, quality=1, colour=False, frames=7, group=3)


def sealed(data):
    """With the checksum that belongs to it."""
    crc = zlib.crc32(data[HEADER:], zlib.crc32(data[: HEADER - 4]))
    return data[: HEADER - 4] + struct.pack("<I", crc) + data[HEADER:]


# -- the container -----------------------------------------------------------------------------------------------------


def test_a_picture_has_a_header_of_sixteen_bytes():
    data = pack(PICTURE, [b"abc"])
    assert len(data) == 16 + 3
    assert data[:6] == b"SBX\x01\xef\xbe"
    assert unpack(data) == (PICTURE, [b"abc"])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 65535), st.integers(1, 1000), st.integers(1, 9), st.booleans(), st.booleans(), st.data())
def test_what_is_packed_is_unpacked(width, height, quality, colour, exact, data):
    group = data.draw(st.integers(0, 4096))
    frames = data.draw(st.integers(1, 20)) * bool(group)
    payloads = [data.draw(st.binary(max_size=300)) for _ in range(-(-frames // group) if group else 1)]
    header = Header(7, width, height, quality, colour, frames, group, exact=exact)
    found, again = unpack(pack(header, payloads))
    assert again == payloads
    assert found.lengths == (tuple(map(len, payloads)) if group else ())
    assert (found.shape, found.exact, found.quality) == (header.shape, exact, quality)


@pytest.mark.parametrize("data", [pack(PICTURE, [b"some payload"]), pack(CLIP, [b"one", b"", b"three"])])
def test_a_file_cut_anywhere_or_with_one_bit_changed_is_refused(data):
    for n in range(len(data)):
        with pytest.raises(CorruptFile):
            unpack(data[:n])
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFile):
            unpack(bytes(changed))
    with pytest.raises(CorruptFile):
        unpack(data + b"x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"\x89PNG" + d[4:], "begins with b'\\\\x89PN', where a compressed picture has b'SBX'"),
        (lambda d: d[:3] + b"\x02" + d[4:], "of version 2; this program reads version 1"),
        (lambda d: d[:9], "ends after 9 bytes; the header alone has 16"),
        (lambda d: d[:-1], "CRC-32"),
        (lambda d: sealed(d[:6] + b"\0\0" + d[8:]), "0 x 17 pixels"),
        (
            lambda d: sealed(d[:6] + b"\xff\xff\xff\xff" + d[10:]),
            "65535 x 65535 pixels; a picture has .* at most 67",
        ),
        (lambda d: sealed(d[:10] + b"\x0a" + d[11:]), "quality 10"),
        (lambda d: sealed(d[:11] + b"\x09" + d[12:]), "kind 9"),
        (lambda d: sealed(d[:11] + b"\x03" + d[12:18]), "within the header of a clip"),
        (lambda d: sealed(d[:11] + b"\x03" + d[12:16] + struct.pack("<IH", 2**31, 1)), "promises 2,147,483,648 groups"),
        (lambda d: sealed(d[:11] + b"\x03" + d[12:16] + struct.pack("<IH", 0, 1)), "0 frames in groups of 1"),
        (
            lambda d: sealed(d[:11] + b"\x03" + d[12:16] + struct.pack("<IHB", 9, 9, 5) + b"four"),
            "5 bytes by the index",
        ),
        (lambda d: sealed(d[:11] + b"\x03" + d[12:16] + struct.pack("<IH", 9, 9) + b"\xff" * 9), "has no end"),
    ],
)
def test_every_refusal_says_why(change, message):
    with pytest.raises(CorruptFile, match=message):
        unpack(change(pack(PICTURE, [b"some payload"])))


def test_sizes_are_refused_before_memory_is_taken():
    n = MAX_CLIP // (8000 * 8000) + 1
    with pytest.raises(CorruptFile, match="a clip has at most"):
        unpack(pack(Header(1, 8000, 8000, 1, True, n, n), [b"x"]))
    with pytest.raises(CorruptFile, match="4 bytes can't hold what its header promises, 1,250 bytes at least"):
        check_length(b"four", 10_000)


def test_only_bytes_are_a_file():
    with pytest.raises(TypeError, match="a file is given as bytes, got str"):
        unpack("photo.sbx")


def test_a_description():
    about = describe(pack(CLIP, [b"one", b"two", b"three"]))
    assert about == {
        "kind": "clip",
        "version": 1,
        "model_id": "0001",
        "width": 31,
        "height": 17,
        "channels": 1,
        "quality": 1,
        "exact": False,
        "bytes": 16 + 6 + 3 + 11,
        "frames": 7,
        "group": 3,
        "groups": 3,
    }


# -- the coder ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 40, 600])
def test_the_coder_uses_these_very_counts(n):
    import constriction

    rng = np.random.default_rng(n)
    tables = Tables([counts_of(rng.random(n + 1) ** 8)], [0])
    edges = np.cumsum(tables.counts[0])
    for place, (first, last) in enumerate(zip(edges - tables.counts[0], edges - 1, strict=True)):
        for point in (first, last):  # the state of this coder, modulo 2**24, is the point that is looked up
            assert (
                constriction.stream.stack.AnsCoder(np.array([0, point, 1], np.uint32)).decode(tables.model(0)) == place
            )


def test_a_payload_has_the_size_of_the_entropy():
    rng = np.random.default_rng(0)
    tables = normal_tables()
    which = rng.integers(0, 64, 100_000)
    scale = 0.11 * np.exp(STEP * which)
    symbols = np.rint(rng.normal(scale=scale)).astype(np.int64)
    encoder = Encoder()
    encoder.write(symbols, tables, which)
    bits = tables.bits(symbols, which)
    assert bits <= 8 * len(encoder.payload()) <= 1.001 * bits
    p = -np.log2(
        [
            counts[symbol - first] / TOTAL
            for symbol, counts, first in zip(
                symbols[:200], [tables.counts[i] for i in which[:200]], tables.firsts[which[:200]], strict=True
            )
        ]
    )
    assert tables.bits(symbols[:200], which[:200]) == pytest.approx(p.sum())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-LARGEST, LARGEST), st.integers(0, 2)), max_size=80), st.integers(0, 2**32))
def test_any_symbols_come_back(pairs, seed):
    rng = np.random.default_rng(seed)
    tables = Tables([counts_of(rng.random(n)) for n in (2, 9, 300)], [0, -4, -150])
    symbols, which = np.array(pairs, int).reshape(-1, 2).T
    encoder, meter = Encoder(), Meter()
    for coder in (encoder, meter):
        coder.code(symbols, tables, which)
        coder.code(symbols[:1], tables, which[:1])
    payload = encoder.payload()
    decoder = Decoder(payload)
    assert decoder.code(None, tables, which).tolist() == symbols.tolist()
    assert decoder.code(None, tables, which[:1]).tolist() == symbols[:1].tolist()
    decoder.finish()
    assert abs(8 * len(payload) - meter.bits) <= 64


def test_what_an_encoder_does_not_write():
    tables = Tables([counts_of([1, 1, 1])], [0])
    with pytest.raises(ValueError, match="between -16383 and 16383"):
        Encoder().write(np.array([LARGEST + 1]), tables, np.zeros(1, int))
    with pytest.raises(CorruptFile, match="multiple of 4"):
        Decoder(b"12345")
    with pytest.raises(CorruptFile, match="goes on after the last symbol"):
        Decoder(b"\x55" * 400).finish()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        try:
            Decoder(rng.bytes(40)).read(tables, np.zeros(100, int))
        except CorruptFile:
            refused += 1
    assert refused < 300


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=500))
def test_counts_are_near_the_probabilities(p):
    p = np.array(p) + 1e-9
    counts = counts_of(p)
    assert counts.sum(dtype=np.int64) == TOTAL
    assert counts.min() >= 1
    assert np.abs(counts / TOTAL - p / p.sum()).max() <= 2 * len(p) / TOTAL


@pytest.mark.parametrize("p", [[], [0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0], [np.inf]])
def test_what_are_no_probabilities(p):
    with pytest.raises(ValueError, match="probabilities must be"):
        counts_of(p)


@pytest.mark.parametrize("counts", [[TOTAL], [TOTAL, 0], [TOTAL - 2, 1], [[1, 2]]])
def test_what_is_no_table(counts):
    with pytest.raises(ValueError, match="table 0: counts must be positive"):
        Tables([counts], [0])


# -- densities ---------------------------------------------------------------------------------------------------------


def test_integer_tables_cost_what_the_normal_densities_do():
    tables = normal_tables()
    assert len(tables) == SCALES
    for index in (0, 20, 40, 63):
        reach = int(-tables.firsts[index])
        values = np.arange(-reach, reach + 1)
        p = tables.counts[index][:-1] / TOTAL
        told = 2.0 ** -normal_bits(torch.from_numpy(values), torch.full((len(values),), float(index))).double().numpy()
        np.testing.assert_allclose(p, told, rtol=0.01, atol=2e-6)
        np.testing.assert_allclose(p[:reach], p[reach + 1 :][::-1], atol=2 / TOTAL)
    assert BITS - np.log2(tables.counts[0][2]) < 2e-5  # what is certain costs nothing


def test_a_learned_density_becomes_a_table():
    torch.manual_seed(0)
    prior = FactorizedPrior(2)
    samples = torch.stack([3 * torch.randn(4000) + 5, 0.3 * torch.randn(4000)]).round()[None, :, :, None]
    optimizer = torch.optim.Adam(prior.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        bits = prior(samples + torch.rand_like(samples) - 0.5).mean()
        bits.backward()
        optimizer.step()
    tables = prior.tables()
    symbols = samples[0, :, :, 0].numpy().astype(int)
    mean = tables.bits(symbols, np.repeat([[0], [1]], 4000, 1)) / symbols.size
    shares = [np.unique(row, return_counts=True)[1] / 4000 for row in symbols]
    entropy = np.mean([-np.sum(p * np.log2(p)) for p in shares])
    assert mean < entropy + 0.08
    whole = prior.probability(torch.arange(-300.0, 301.0).expand(2, 1, -1)).sum(2)
    assert torch.allclose(whole, torch.ones(2, 1), atol=1e-3)


# -- flags and colours -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 4), (14, 10)])
@pytest.mark.parametrize("with_last", [False, True])
def test_flags_come_back(shape, with_last):
    rng = np.random.default_rng(0)
    flags, last = rng.random((2, *shape)) < 0.3
    last = last if with_last else None
    encoder = Encoder()
    code_flags(encoder, flag_tables(), flags, last, *shape)
    read = code_flags(Decoder(encoder.payload()), flag_tables(), None, last, *shape)
    np.testing.assert_array_equal(read, flags)


def test_neighbours_are_counted():
    flags = np.random.default_rng(0).random((6, 7)) < 0.5
    padded = np.pad(flags, 1)
    by_hand = [[padded[i : i + 3, j : j + 3].sum() - flags[i, j] for j in range(7)] for i in range(6)]
    np.testing.assert_array_equal(around(flags), by_hand)


def test_a_palette_begins_with_the_commonest_colour():
    frames = np.random.default_rng(0).choice([7, 90, 255], (2, 3, 5, 4), p=[0.1, 0.2, 0.7]).astype(np.uint8)
    colours, numbers = palette_of(frames)
    np.testing.assert_array_equal(np.moveaxis(colours[numbers], -1, 1), frames)
    often = np.bincount(numbers.ravel())
    assert (np.diff(often) <= 0).all()
    assert palette_of(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)) is None
