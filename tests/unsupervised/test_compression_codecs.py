"""Codecs: what is decoded is the same everywhere, for ever, or there is one clear error."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sandbox.training import FileError, threads
from unsupervised import FrameCodec, ImageCodec
from unsupervised.compression import DEFAULTS, CorruptFile, decompress, default, inspect, load
from unsupervised.compression import transform as transform_module
from unsupervised.compression.container import HEADER
from unsupervised.compression.defaults import MODELS
from unsupervised.compression.entropy import Decoder, Encoder

GOLDEN = Path(__file__).parent / "golden"
TINY = {"n_latents": 12, "n_hyper": 8, "widths": (8, 8), "crop": 32, "max_iter": 1, "random_state": 0}


def scene(height, width, seed=0):
    """Something smooth with an edge and a little noise: [H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.5, 2, (3, 3))]
    light = 128 + 60 * np.stack(waves, 2) + 40 * (x > y)[..., None] + rng.normal(scale=2, size=(height, width, 3))
    return light.clip(0, 255).astype(np.uint8)


def sprites(T, height=30, width=42, colour=True):
    """A few colours: a square that moves over stripes."""
    clip = np.zeros((T, height, width, 3), np.uint8)
    clip[:, ::10] = (90, 20, 200)
    for t in range(T):
        clip[t, 4 + t % 9 : 10 + t % 9, 2 * t % 30 : 2 * t % 30 + 6] = (210, 164, 74)
    return clip if colour else clip[..., 0]


def moving(T, height=40, width=56):
    """A scene of many colours with a square that moves."""
    clip = np.stack([scene(height, width)] * T)
    for t in range(T):
        clip[t, 4:14, 3 * t % (width - 10) : 3 * t % (width - 10) + 10] = scene(10, 10, seed=5)
    return clip


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


def resealed(data, rng):
    """A file with some bytes after its checksum changed, and the checksum that belongs to it."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(HEADER, len(data))] = rng.integers(256)
    return sealed(bytes(data))


def sealed(data):
    crc = zlib.crc32(data[HEADER:], zlib.crc32(data[: HEADER - 4]))
    return data[: HEADER - 4] + struct.pack("<I", crc) + data[HEADER:]


@pytest.fixture(scope="module")
def codec():
    return ImageCodec(**TINY, crops=160).fit([scene(64, 96, seed) for seed in range(6)])


@pytest.fixture(scope="module")
def grey_codec():
    return ImageCodec(**TINY, crops=16).fit([*sprites(3, colour=False), scene(40, 48)[..., 0]])


@pytest.fixture(scope="module")
def clips(codec):
    return FrameCodec(codec, group=4, width=8, samples=64, max_iter=1, random_state=0).fit([moving(12), sprites(12)])


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (3, 17), (70, 1, 3), (8, 8, 3), (33, 40), (41, 95, 3)])
def test_any_size_in_grey_and_colour(codec, shape):
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    x.setflags(write=False)
    for quality in (1, 9):
        again = codec.decompress(codec.compress(x, quality))
        assert (again.shape, again.dtype) == (shape, np.uint8)


def test_a_higher_quality_is_larger_and_nearer(codec):
    x = scene(96, 128, seed=50)
    files = [codec.compress(x, quality) for quality in range(1, 10)]
    nearness = [psnr(codec.decompress(data), x) for data in files]
    assert np.all(np.diff([len(data) for data in files]) > 0)
    assert nearness[0] > 20
    assert nearness[8] > 32
    assert np.all(np.diff(nearness) > 0)


def test_a_file_is_as_long_as_its_entropy(codec):
    x = scene(256, 256, seed=50)
    for quality in (1, 5, 9):
        bits = codec.estimate_bits(x, quality)
        assert bits + 128 <= 8 * len(codec.compress(x, quality)) <= bits + 128 + 64


def test_latents_outside_of_the_tables_come_back(codec):
    x = scene(48, 48)
    mild = codec.tables_["normal"]
    symbols = []

    class Extreme(Encoder):
        """Writes latents that no table reaches, and remembers them."""

        def code(self, given, tables, which):
            if tables is mild:
                given = given + 9000 * (np.arange(given.size).reshape(given.shape) % 7 == 0)
            symbols.append(super().code(given, tables, which))
            return symbols[-1]

    encoder = Extreme()
    y, z = codec._latents(torch.from_numpy(x).permute(2, 0, 1)[None], 3)
    written = codec._code(encoder, z[0], y[0], 6, 6, 3)
    assert max(block.max() for block in symbols) > 8000
    assert torch.equal(codec._code(Decoder(encoder.payload()), None, None, 6, 6, 3), written)


def test_few_colours_are_kept_without_loss(codec, grey_codec):
    for x in (sprites(3)[2], sprites(3, colour=False)[2], np.zeros((5, 7, 3), np.uint8)):
        data = codec.compress(x, quality=9)
        assert inspect(data)["exact"]
        np.testing.assert_array_equal(codec.decompress(data), x)
        assert 8 * len(data) <= codec.estimate_bits(x, 9) + 128 + 64
    x = sprites(3, colour=False)[2]
    np.testing.assert_array_equal(grey_codec.decompress(grey_codec.compress(x)), x)


def test_pictures_of_every_kind_are_learned_from():
    few = np.random.default_rng(0).integers(0, 256, (3, 3, 20, 24), np.uint8)
    for X in (few, np.moveaxis(few, 1, -1), few[:, 0], [few[0, 0], few[1].transpose(1, 2, 0)]):
        fitted = ImageCodec(**TINY, crops=4).fit(X)
        assert fitted.channels_ == (1 if X[0].shape == (20, 24) and X[1].shape == (20, 24) else 3)
    same = [ImageCodec(**TINY, crops=4).fit(few).model_id_ for _ in range(2)]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), "alpha channel"),
        (np.zeros((4, 4, 2), np.uint8), "alpha channel"),
        (np.zeros((4, 4, 3)), "uint8"),
        (np.zeros((0, 4), np.uint8), "with a pixel or more"),
        (np.zeros(4, np.uint8), "a picture is uint8"),
        (np.zeros((2, 65536), np.uint8), "65536 x 2 pixels"),
    ],
)
def test_what_is_no_picture(codec, x, message):
    with pytest.raises(ValueError, match=message):
        codec.compress(x)


def test_other_wrong_calls(codec, grey_codec):
    x = scene(16, 16)
    for quality in (0, 10, 2.5):
        with pytest.raises(ValueError, match="quality must be a whole number from 1 to 9"):
            codec.compress(x, quality)
    with pytest.raises(ValueError, match="grey pictures alone"):
        grey_codec.compress(x)
    with pytest.raises(ValueError, match="no pictures"):
        ImageCodec(**TINY).fit([])
    with pytest.raises(ValueError, match="multiple of 8"):
        ImageCodec(**{**TINY, "crop": 20}).fit([x])
    with pytest.raises(ValueError, match="pictures are uint8"):
        ImageCodec(**TINY).fit([x / 255])


def test_it_is_an_estimator(codec):
    again = clone(codec)
    assert again.get_params() == codec.get_params()
    assert again.set_params(crop=64).crop == 64
    assert not hasattr(again, "model_id_")


# -- the same everywhere -----------------------------------------------------------------------------------------------


def test_pixels_do_not_depend_on_threads_precision_batch_or_strips(codec, monkeypatch):
    x = scene(200, 120, seed=9)
    data = codec.compress(x, 7)
    pixels = codec.decompress(data)
    with threads(2):
        np.testing.assert_array_equal(codec.decompress(data), pixels)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        np.testing.assert_array_equal(codec.decompress(data), pixels)
    finally:
        torch.set_float32_matmul_precision(before)
    y_hat = torch.from_numpy(np.random.default_rng(0).integers(-40, 40, (3, 12, 25, 15)) / 16)
    together = codec.model_.restored(y_hat, 7)
    alone = [codec.model_.restored(one[None], 7) for one in y_hat]
    assert torch.equal(together, torch.cat(alone))
    monkeypatch.setattr(transform_module, "STRIP", 1 << 10)
    np.testing.assert_array_equal(codec.decompress(data), pixels)
    assert codec.compress(x, 7) == data


def test_another_process_decodes_the_same(codec, clips, tmp_path):
    picture, clip = codec.compress(scene(61, 83), 6), clips.compress(moving(6), 6)
    for name, fitted, data in (("image", codec, picture), ("clip", clips, clip)):
        fitted.save(tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.sbx").write_bytes(data)
    code = """if True:
        import sys, zlib, torch
        from unsupervised.compression import load
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("medium")
        for name in ("image", "clip"):
            data = open(f"{sys.argv[1]}/{name}.sbx", "rb").read()
            print(zlib.crc32(load(f"{sys.argv[1]}/{name}.safetensors").decompress(data).tobytes()))"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, timeout=120
    )
    expected = [zlib.crc32(codec.decompress(picture).tobytes()), zlib.crc32(clips.decompress(clip).tobytes())]
    assert list(map(int, done.stdout.split())) == expected


def test_freezing_changes_pixels_by_little(codec):
    net = ImageCodec(**TINY, crops=4)
    net.channels_ = 3
    torch.manual_seed(0)
    model = net._build()
    model.synthesis.network[-2].weight.data.normal_(0, 0.05)
    r = torch.randn(2, 12, 6, 5)
    before = model.synthesis(r).double()
    model.freeze()
    after = model.synthesis(r.double().mul(4096).round().div(4096))
    assert (after - before).abs().max() < 0.5 / 255
    conv = model.synthesis.network[0]
    x = torch.from_numpy(np.random.default_rng(0).integers(-999, 999, (2, 12, 5, 7)) / 64)
    plain = torch.nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
    assert torch.equal(conv(x), transform_module.clipped(plain))


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_codec_is_kept(codec, clips, tmp_path):
    x = scene(40, 50)
    codec.save(tmp_path / "codec.safetensors")
    again = load(tmp_path / "codec.safetensors")
    assert isinstance(again, ImageCodec)
    assert again.model_id_ == codec.model_id_
    assert again.compress(x, 3) == codec.compress(x, 3)
    np.testing.assert_array_equal(again.decompress(codec.compress(x)), codec.decompress(codec.compress(x)))
    assert again.loss_curve_ == codec.loss_curve_
    clips.save(tmp_path / "clips.safetensors")
    assert load(tmp_path / "clips.safetensors").compress(moving(5)) == clips.compress(moving(5))
    with pytest.raises(FileError, match="it holds a FrameCodec, not a ImageCodec"):
        ImageCodec.load(tmp_path / "clips.safetensors")
    whole = (tmp_path / "codec.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-5])
    for name in ("cut.safetensors", "none.safetensors"):
        with pytest.raises(FileError, match=name):
            load(tmp_path / name)


def test_a_file_of_another_model_or_kind(codec, grey_codec, clips):
    data = codec.compress(scene(16, 16))
    with pytest.raises(CorruptFile, match=f"the model {codec.model_id_:04x} wrote it, and this is"):
        grey_codec.decompress(data)
    with pytest.raises(CorruptFile, match="it holds a picture, which a ImageCodec reads"):
        clips.decompress(data)
    with pytest.raises(CorruptFile, match="it holds a clip, which a FrameCodec reads"):
        codec.decompress(clips.compress(moving(3)))
    with pytest.raises(CorruptFile, match=f"the model {codec.model_id_:04x} wrote it; give that model"):
        decompress(data)


@pytest.mark.parametrize("kind", ["picture", "colours", "clip", "colours of a clip"])
def test_thousands_of_mutated_files(kind, codec, clips):
    reader, x = {
        "picture": (codec, scene(20, 30)),
        "colours": (codec, sprites(1, 12, 20)[0]),
        "clip": (clips, moving(6, 16, 24)),
        "colours of a clip": (clips, sprites(6, 16, 30)),
    }[kind]
    data = reader.compress(x, 4)
    pixels, rng = reader.decompress(data), np.random.default_rng(0)
    for _ in range(2500):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            at = rng.integers(len(changed) + 1)
            way = rng.integers(4)
            if way == 0 and at < len(changed):
                changed[at] = rng.integers(256)
            elif way == 1:
                changed[at:] = b""
            elif way == 2:
                changed[at:at] = rng.bytes(rng.integers(1, 9))
            else:
                del changed[at : at + rng.integers(1, 9)]
        try:
            again = reader.decompress(bytes(changed))
        except CorruptFile:
            continue
        np.testing.assert_array_equal(again, pixels)
    refused = 0
    for _ in range(150):  # whoever takes care to set the checksum gets a picture or the same error
        try:
            assert reader.decompress(resealed(data, rng)).dtype == np.uint8
        except CorruptFile:
            refused += 1
    assert refused > 0


def test_a_header_that_promises_more_than_the_payload_can_hold(codec):
    data = codec.compress(scene(16, 16), 1)
    large = sealed(data[:6] + struct.pack("<HH", 8000, 8000) + data[10:])
    with pytest.raises(CorruptFile, match="can't hold what its header promises"):
        codec.decompress(large)


# -- clips -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [moving, sprites])
def test_any_part_of_a_clip(clips, make):
    clip = make(11)
    data = clips.compress(clip, 5)
    whole = clips.decompress(data)
    assert whole.shape == clip.shape
    assert inspect(data)["groups"] == 3
    assert inspect(data)["exact"] == (make is sprites)
    for start, stop in ((0, 1), (3, 5), (4, 8), (7, 11), (10, None), (5, 5)):
        np.testing.assert_array_equal(clips.decompress(data, start, stop), whole[start:stop])
    for wrong in ((-1, 3), (3, 12), (5, 4)):
        with pytest.raises(ValueError, match="there are 11"):
            clips.decompress(data, *wrong)
    assert 8 * len(data) - clips.estimate_bits(clip, 5) <= 8 * (16 + 6 + 3 * (2 + 8))


def test_a_group_is_read_without_the_others(clips):
    data = bytearray(clips.compress(moving(8), 5))
    whole = clips.decompress(bytes(data))
    data[-30:-20] = bytes(10)  # of the second group
    data = bytearray(sealed(bytes(data)))
    np.testing.assert_array_equal(clips.decompress(bytes(data), 0, 4), whole[:4])


def test_what_stands_still_costs_nearly_nothing(clips):
    still = np.stack([scene(40, 56)] * 4)
    one, four = len(clips.compress(still[:1])), len(clips.compress(still))
    assert four <= one + 16
    again = clips.decompress(clips.compress(still))
    assert (again == again[0]).all()


def test_every_frame_is_as_near_as_a_picture(clips, codec):
    clip = moving(12)
    again = clips.decompress(clips.compress(clip, 6))
    alone = np.stack([codec.decompress(codec.compress(frame, 6)) for frame in clip])
    assert min(psnr(a, b) for a, b in zip(again, clip, strict=True)) > psnr(alone, clip) - 1.5
    assert len(clips.compress(clip, 6)) < 0.7 * sum(len(codec.compress(frame, 6)) for frame in clip)


def test_a_cut_to_another_scene(clips):
    clip = np.concatenate([moving(2), np.stack([scene(40, 56, seed=77)] * 2)])
    again = clips.decompress(clips.compress(clip, 6))
    assert psnr(again[3], clip[3]) > 25


def test_few_colours_in_a_clip_are_kept_without_loss(clips):
    for clip in (sprites(9), sprites(9, colour=False)):
        np.testing.assert_array_equal(clips.decompress(clips.compress(clip)), clip)


def test_the_axes_of_a_clip(clips):
    clip = moving(5)
    assert clips.compress(np.moveaxis(clip, -1, 1)) == clips.compress(clip)
    for wrong in (clip[0, 0], clip / 255, clip[:0]):
        with pytest.raises(ValueError, match=r"uint8|a clip"):
            clips.compress(wrong)
    with pytest.raises(ValueError, match="three frames or more"):
        FrameCodec().fit(clip[:2])


# -- what comes with the package ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sbx")), ids=lambda path: path.stem)
def test_golden_files_decode_for_ever(path):
    np.testing.assert_array_equal(decompress(path.read_bytes()), np.load(path.with_suffix(".npy")))


def test_there_are_golden_files():
    assert len(list(GOLDEN.glob("*.sbx"))) >= 4


def test_the_models_that_come_with_the_package():
    assert sum((MODELS / f"{name}.safetensors").stat().st_size for name in ("photo", "clip")) <= 3e6
    for name in DEFAULTS:
        x = sprites(3, 16, 16) if name == "clip" else scene(9, 9)
        data = default(name).compress(x)
        assert inspect(data)["model"] == name
        assert decompress(data).shape == x.shape
    with pytest.raises(ValueError, match="there is no model 'video': photo, atari, clip"):
        default("video")
