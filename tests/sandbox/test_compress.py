"""`sandbox compress`, `decompress`, `inspect` and `fit codec`: files there and back, and every kind of bad input."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sandbox import compress as files
from sandbox import rate_distortion as rd
from sandbox.training.checkpoint import FileError
from unsupervised import FrameCodec, ImageCodec, compression

pytest.importorskip("constriction")


@pytest.fixture(scope="session")
def photo():
    """A picture with edges, a slope and some noise, [48, 64, 3]."""
    rng = np.random.default_rng(0)
    x = np.add.outer(np.arange(48), 2 * np.arange(64))[:, :, None] + np.array([0, 20, 60])
    x[10:30, 20:40] = 200
    return (x + rng.normal(0, 3, x.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def saved(photo, tmp_path_factory):
    """A codec that learned from one picture for a moment, in a file."""
    codec = ImageCodec(8, 8, (8, 8), crop=32, crops=64, max_iter=2, batch_size=8, random_state=0)
    path = tmp_path_factory.mktemp("codec") / "model.safetensors"
    codec.fit([photo]).save(path)
    return path


@pytest.fixture
def own(saved):
    """Its flags."""
    return "--model", saved


def written(path, x, **settings):
    Image.fromarray(x).save(path, **settings)
    return path


# -- there and back ----------------------------------------------------------------------------------------------------


def test_a_picture_there_and_back(cli, photo, own):
    written("photo.png", photo)
    done = cli("compress", "photo.png", "photo.sbx", *own)
    assert done.code == 0, done.err
    assert done.err == ""
    size = Path("photo.sbx").stat().st_size
    row = next(line.split() for line in done.out.splitlines() if line.startswith("photo.sbx, quality 5"))
    assert row[3:5] == [f"{size:,}", f"{8 * size / (48 * 64):.3f}"]
    for words in ("JPEG 4:", "WebP, quality", "PSNR", "MS-SSIM of 3 of its 5 scales", "method 6", "photo.png (64x48"):
        assert words in done.out
    done = cli("decompress", "photo.sbx", "again.png", *own)
    assert done.code == 0, done.err
    again = np.asarray(Image.open("again.png"))
    np.testing.assert_array_equal(again, ImageCodec.load(own[1]).decompress(Path("photo.sbx").read_bytes()))
    assert f"{rd.psnr(photo, again):.2f} dB" in cli("compress", "photo.png", "photo.sbx", *own).out
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".npy", ".jpg"])
def test_each_format_is_read_and_written(photo, suffix, tmp_path):
    for x in (photo, photo[..., 0]):
        path = tmp_path / f"x{suffix}"
        files.write(path, x)
        again = files.read(path)
        if suffix == ".webp" and x.ndim == 2:  # a WebP has colours always
            again = again[..., 0]
        assert again.shape == x.shape
        assert np.abs(again.astype(int) - x).max() <= (40 if suffix == ".jpg" else 0)


def test_a_jpeg_keeps_all_its_colours(photo, tmp_path):
    files.write(tmp_path / "x.jpg", photo)
    with Image.open(tmp_path / "x.jpg") as image:
        assert [sampling[1:3] for sampling in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_pictures_of_any_kind_are_bytes_in_grey_or_colour(photo, mode, tmp_path):
    image = Image.fromarray(photo).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 256)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    image.save(path)
    x = files.read(path)
    assert x.dtype == np.uint8
    assert x.shape == ((48, 64) if mode in ("1", "L", "LA", "I;16") else (48, 64, 3))
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(x, photo)
    if mode == "I;16":
        np.testing.assert_array_equal(x, np.asarray(Image.fromarray(photo).convert("L")))


def test_a_picture_is_turned_as_the_camera_says(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert files.read(written(tmp_path / "x.png", photo, exif=exif)).shape == (64, 48, 3)


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        ((5, 6), (5, 6)),
        ((5, 6, 3), (5, 6, 3)),
        ((7, 5, 6), (7, 5, 6)),
        ((7, 5, 6, 3), (7, 5, 6, 3)),
        ((7, 3, 5, 6), (7, 5, 6, 3)),
        ((7, 1, 5, 6), (7, 5, 6)),
        ((7, 5, 6, 1), (7, 5, 6)),
    ],
)
def test_an_array_is_a_picture_or_a_clip_by_its_shape(shape, read, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    assert files.read(tmp_path / "x.npy").shape == read


def test_a_gif_is_a_clip_and_what_a_frame_leaves_out_is_as_it_was(tmp_path):
    frames = np.zeros((4, 12, 16, 3), np.uint8)
    for i in range(4):
        frames[i, 2:6, 3 * i : 3 * i + 4] = (250, 10, 10)
    files.write(tmp_path / "x.gif", frames)
    np.testing.assert_array_equal(files.read(tmp_path / "x.gif"), frames)
    pictures = [Image.fromarray(frames[0, :, :, 1]), *map(Image.fromarray, frames[1:])]  # the first one is grey
    pictures[0].save(tmp_path / "first.gif", save_all=True, append_images=pictures[1:])
    assert files.read(tmp_path / "first.gif").shape == frames.shape
    still = frames[[0, 1, 1, 1, 2, 3, 3]]  # Pillow writes equal ones as one that is shown for longer
    files.write(tmp_path / "still.gif", still)
    np.testing.assert_array_equal(files.read(tmp_path / "still.gif"), still)
    files.write(tmp_path / "grey.gif", frames[..., 0])
    np.testing.assert_array_equal(files.read(tmp_path / "grey.gif"), frames[..., 0])


def test_inspect_says_what_a_file_holds(cli, photo, own):
    written("photo.png", photo)
    cli("compress", "photo.png", "photo.sbx", *own, "--quality", "3", "--compare", "false")
    done = cli("inspect", "photo.sbx")
    told = {line[:16].strip(): line[16:] for line in done.out.splitlines()}
    assert told["kind"] == "image"
    assert (told["width"], told["height"], told["channels"], told["quality"]) == ("64", "48", "3", "3")
    assert told["bytes"] == str(Path("photo.sbx").stat().st_size)
    assert "--model" in told["model"]


def test_nothing_is_compared_unless_wanted(cli, photo, own):
    written("photo.png", photo)
    out = cli("compress", "photo.png", "photo.sbx", *own, "--compare", "false").out
    assert "JPEG" not in out
    assert "photo.sbx, quality 5" in out


def test_an_opaque_alpha_channel_is_none(cli, photo, own):
    Image.fromarray(photo).convert("RGBA").save("photo.png")
    assert cli("compress", "photo.png", "photo.sbx", *own, "--compare", "false").code == 0


def test_a_tiny_picture_has_no_similarity_and_says_so(cli, own):
    written("dot.png", np.zeros((1, 1, 3), np.uint8))
    out = cli("compress", "dot.png", "dot.sbx", *own).out
    assert "no MS-SSIM" in out
    assert "makes no file nearer" in out


# -- bad input ---------------------------------------------------------------------------------------------------------


def resealed(data):
    """With the checksum that its altered contents have."""
    return data[:12] + struct.pack("<I", zlib.crc32(data[16:], zlib.crc32(data[:12]))) + data[16:]


@pytest.fixture
def place(photo, saved, tmp_path):
    """A folder of things to go wrong with."""
    codec = ImageCodec.load(saved)
    data = codec.compress(photo)
    written("photo.png", photo)
    Image.fromarray(np.dstack([photo, np.full((48, 64), 128, np.uint8)])).save("alpha.png")
    Path("cut.png").write_bytes(Path("photo.png").read_bytes()[:300])
    Path("empty.png").write_bytes(b"")
    Path("words.png").write_text("not a picture")
    written("photo.tiff", photo)
    np.save("floats.npy", np.zeros((4, 5, 6)))
    np.save("none.npy", np.zeros((0, 5, 6), np.uint8))
    np.save("row.npy", np.zeros(5, np.uint8))
    np.save("alpha.npy", np.zeros((2, 5, 6, 4), np.uint8))
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    np.save("clip.npy", np.zeros((3, 16, 16), np.uint8))
    Path("photo.sbx").write_bytes(data)
    Path("cut.sbx").write_bytes(data[:-5])
    Path("header.sbx").write_bytes(data[:9])
    Path("empty.sbx").write_bytes(b"")
    Path("flipped.sbx").write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    Path("newer.sbx").write_bytes(resealed(data[:3] + b"\x09" + data[4:]))
    Path("huge.sbx").write_bytes(resealed(data[:6] + b"\xff\xff\xff\xff" + data[10:]))
    Path("other.sbx").write_bytes(resealed(data[:4] + bytes([data[4] ^ 255, data[5]]) + data[6:]))
    Path("folder").mkdir()
    Path("folder.png").mkdir()
    return tmp_path


BAD = [
    (["compress"], ["IN", "OUT"]),
    (["compress", "photo.png"], ["OUT"]),
    (["compress", "nowhere.png", "x.sbx"], ["nowhere.png", "no such file"]),
    (["compress", "folder.png", "x.sbx"], ["folder.png", "a folder"]),
    (["compress", "folder", "x.sbx"], ["folder", ".png", ".gif"]),
    (["compress", "photo.tiff", "x.sbx"], [".tiff", ".png", ".npy"]),
    (["compress", "alpha.png", "x.sbx"], ["alpha.png", "transparent"]),
    (["compress", "alpha.npy", "x.sbx"], ["alpha.npy", "alpha channel"]),
    (["compress", "cut.png", "x.sbx"], ["cut.png", "damaged"]),
    (["compress", "empty.png", "x.sbx"], ["empty.png", "damaged"]),
    (["compress", "words.png", "x.sbx"], ["words.png", "damaged"]),
    (["compress", "floats.npy", "x.sbx"], ["floats.npy", "uint8", "float64"]),
    (["compress", "none.npy", "x.sbx"], ["none.npy", "no pixels"]),
    (["compress", "row.npy", "x.sbx"], ["row.npy", "[5]", "[T, H, W]"]),
    (["compress", "objects.npy", "x.sbx"], ["objects.npy"]),
    (["compress", "photo.png", "photo.jpg"], ["photo.jpg", "photo.sbx"]),
    (["compress", "photo.png", "photo.png"], ["photo.png", "photo.sbx"]),
    (["compress", "photo.png", "x.sbx", "--quality", "0"], ["'0'", "1 to 9"]),
    (["compress", "photo.png", "x.sbx", "--quality", "high"], ["'high'", "1 to 9"]),
    (["compress", "photo.png", "x.sbx", "--model", "phto"], ["phto", "photo", "fit codec"]),
    (["compress", "photo.png", "x.sbx", "--model", "folder"], ["folder", "fit codec"]),
    (["compress", "photo.png", "x.sbx", "--model", "photo.png"], ["photo.png"]),
    (["compress", "photo.png", "x.sbx", "--modle", "photo"], ["--modle", "--model"]),
    (["compress", "clip.npy", "x.sbx", "--model", "OWN"], ["a model for pictures", "a clip"]),
    (["decompress", "nowhere.sbx", "x.png"], ["nowhere.sbx", "no such file"]),
    (["decompress", "folder", "x.png"], ["folder", "a folder"]),
    (["decompress", "photo.png", "x.png"], ["photo.png", "SBX"]),
    (["decompress", "empty.sbx", "x.png", "--model", "OWN"], ["empty.sbx"]),
    (["decompress", "header.sbx", "x.png", "--model", "OWN"], ["header.sbx", "9 bytes"]),
    (["decompress", "cut.sbx", "x.png", "--model", "OWN"], ["cut.sbx", "CRC"]),
    (["decompress", "flipped.sbx", "x.png", "--model", "OWN"], ["flipped.sbx", "CRC"]),
    (["decompress", "newer.sbx", "x.png", "--model", "OWN"], ["newer.sbx", "version 9"]),
    (["decompress", "huge.sbx", "x.png", "--model", "OWN"], ["huge.sbx", "65535"]),
    (["decompress", "other.sbx", "x.png", "--model", "OWN"], ["other.sbx", "wrote it"]),
    (["decompress", "photo.sbx", "x.png"], ["photo.sbx", "--model"]),
    (["decompress", "photo.sbx", "x.gif", "--model", "OWN"], ["x.gif", ".png"]),
    (["decompress", "photo.sbx", "x.tiff", "--model", "OWN"], ["x.tiff", ".png"]),
    (["decompress", "photo.sbx", "x.png", "--frames", "0:1", "--model", "OWN"], ["photo.sbx", "no frames"]),
    (["decompress", "photo.sbx", "x.png", "--frames", "first"], ["'first'", "100:200"]),
    (["decompress", "photo.sbx", "x.gif", "--fps", "0"], ["--fps"]),
    (["inspect"], ["FILE"]),
    (["inspect", "nowhere.sbx"], ["nowhere.sbx", "no such file"]),
    (["inspect", "photo.png"], ["photo.png", "SBX"]),
    (["inspect", "cut.sbx"], ["cut.sbx", "CRC"]),
    (["fit", "codec", "digits"], ["digits", "float64"]),
    (["fit", "codec", "folder"], ["folder", "no pictures"]),
    (["fit", "codec", "folder", "--lambda", "[1]"], ["folder"]),
    (["fit", "codec", "photo.png"], ["two or more"]),
    (["fit", "codec", "photos", "--n-latents", "0"], ["n_latents"]),
]


@pytest.mark.parametrize(("argv", "words"), BAD, ids=lambda value: " ".join(value) if value[0] else None)
def test_bad_input_is_one_line_and_nothing_is_written(refused, place, snapshot, own, argv, words):
    before = snapshot(place)
    said = refused(*[own[1] if word == "OWN" else word for word in argv])
    assert all(word in said for word in words), said
    assert snapshot(place) == before


def test_a_large_picture_is_refused_before_it_is_decoded(refused, monkeypatch, place):
    monkeypatch.setattr("unsupervised.compression.container.MAX_PIXELS", 1000)
    monkeypatch.setattr("PIL.Image.Image.load", lambda self: pytest.fail("decoded"))
    assert "3,072 pixels: at most 1,000" in refused("compress", "photo.png", "x.sbx")


def test_a_place_that_can_not_be_written_to(refused, place, own, monkeypatch):
    assert "photo.png" in refused("compress", "photo.png", "photo.png/x.sbx", *own, "--compare", "false")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in refused("compress", "photo.png", "x.sbx", *own, "--compare", "false")
    assert not Path("x.sbx").exists()


def test_what_is_not_installed_is_named_with_its_extra(refused, place, monkeypatch, own):
    import sys

    monkeypatch.setitem(sys.modules, "constriction", None)
    for module in [name for name in sys.modules if name.startswith("unsupervised.compression.entropy")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr("unsupervised.compression.load", _needs_constriction)
    said = refused("compress", "photo.png", "x.sbx", *own)
    assert "rl-unsup-sandbox[compression]" in said


def _needs_constriction(path):
    import constriction

    return constriction


def test_only_so_much_of_a_foreign_file_is_read(place, monkeypatch):
    seen = []
    monkeypatch.setattr(compression, "inspect", lambda data: seen.append(len(data)) or {})
    Path("large.sbx").write_bytes(b"PK" + bytes(10**6))
    files.inspect("large.sbx")
    assert seen == [16]


@pytest.mark.parametrize("command", ["compress", "decompress", "inspect"])
def test_help_teaches(capsys, command):
    from sandbox.cli import main

    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert f"  sandbox {command} photo" in out
    assert max(map(len, out.splitlines())) <= 120


# -- clips -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def moving():
    """A square that goes to the right, [10, 16, 24, 3]."""
    clip = np.full((10, 16, 24, 3), 40, np.uint8)
    for t in range(10):
        clip[t, 4:9, 2 * t : 2 * t + 4] = (220, 60, 30)
    return clip


@pytest.fixture(scope="session")
def saved_for_clips(saved, moving, tmp_path_factory):
    """A codec for clips that learned for a moment, in a file."""
    path = tmp_path_factory.mktemp("codec") / "clips.safetensors"
    codec = FrameCodec(ImageCodec.load(saved), group=4, width=8, samples=8, max_iter=1, random_state=0)
    codec.fit(moving).save(path)
    return path


@pytest.fixture
def clip(moving):
    """The clip in clip.npy."""
    np.save("clip.npy", moving)
    return moving


@pytest.fixture
def own_clips(saved_for_clips):
    return "--model", saved_for_clips


def test_a_clip_there_and_back_and_parts_of_it(cli, clip, own_clips):
    pytest.importorskip("av")
    done = cli("compress", "clip.npy", "clip.sbx", *own_clips)
    assert done.code == 0, done.err
    for words in ("clip.npy (10 frames of 24x16, in colour", "x264 4:", "preset medium", "MS-SSIM of 1 of its 5"):
        assert words in done.out
    whole = FrameCodec.load(own_clips[1]).decompress(Path("clip.sbx").read_bytes())
    quality = rd.psnr(clip, whole)
    assert (f"{quality:.2f} dB" if np.isfinite(quality) else "exact") in done.out
    for flags, (start, stop) in {(): (0, 10), ("--frames", "3:7"): (3, 7), ("--frames", "8:"): (8, 10)}.items():
        assert cli("decompress", "clip.sbx", "again.npy", *own_clips, *flags).code == 0
        np.testing.assert_array_equal(np.load("again.npy"), whole[start:stop])
    assert cli("decompress", "clip.sbx", "again.gif", *own_clips, "--fps", "25").code == 0
    again = files.read("again.gif")
    assert again.shape == whole.shape
    assert np.abs(again.astype(int) - whole).mean() < 2
    with Image.open("again.gif") as image:
        assert image.info["duration"] == 40
    told = {line[:16].strip(): line[16:] for line in cli("inspect", "clip.sbx").out.splitlines()}
    assert (told["kind"], told["frames"], told["group"], told["groups"]) == ("clip", "10", "4", "3")


def test_a_model_for_clips_takes_no_picture(refused, place, own_clips):
    assert "a model for clips, and this is a picture" in refused("compress", "photo.png", "x.sbx", *own_clips)
    assert "a model for clips, and this is a picture" in refused("decompress", "photo.sbx", "x.png", *own_clips)


@pytest.mark.parametrize(("flags", "words"), [("3:11", "0 to 10"), ("10:", "0 to 10"), ("7:3", "0 to 10")])
def test_frames_that_are_not_there(cli, refused, clip, own_clips, flags, words):
    assert cli("compress", "clip.npy", "clip.sbx", "--compare", "false", *own_clips).code == 0
    assert words in refused("decompress", "clip.sbx", "x.npy", *own_clips, "--frames", flags)
    assert ".gif" in refused("decompress", "clip.sbx", "x.png", *own_clips)
    assert not Path("x.npy").exists()


def test_without_pyav_a_clip_is_not_compared_and_that_is_said(cli, clip, own_clips, monkeypatch):
    for module in (files, rd):
        monkeypatch.setattr(module, "has_x264", lambda: False)
    done = cli("compress", "clip.npy", "clip.sbx", *own_clips)
    assert done.code == 0
    assert "not compared with x264" in done.out


# -- a codec of one's own ----------------------------------------------------------------------------------------------


def test_a_codec_of_ones_own(cli, photo):
    Path("drawn").mkdir()
    for i in range(4):
        written(f"drawn/{i}.png", photo[i:, 2 * i :])  # of four sizes
    tiny = ["--crops", "16", "--crop", "32", "--max-iter", "2", "--n-latents", "8", "--n-hyper", "8"]
    done = cli("fit", "codec", "drawn", *tiny, "--widths", "[8, 8]", "--learning-rate", "1e-3", "--seed", "1")
    assert done.code == 0, done.err
    assert "codec on drawn: 4 pictures of 4 sizes, in colour, seed 1" in done.out
    folder = Path("runs/codec/drawn_1")
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert made == {
        *("config.yml", "command.txt", "versions.json", "metrics.csv", "summary.json", "model/codec.safetensors"),
        *("loss.png", "rate_distortion.png", "pictures.png"),
    }
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["held_out"] == 1
    assert [len(summary["curves"][name]) for name in ("ours", "JPEG", "WebP")] == [9, 10, 10]
    assert cli("compress", "drawn/0.png", "x.sbx", "--model", folder).code == 0
    assert cli("decompress", "x.sbx", "x.png", "--model", folder).code == 0
    assert Image.open("x.png").size == (64, 48)


def test_pictures_to_learn_from_keep_their_sizes_unless_one_is_asked_for(photo, tmp_path):
    from sandbox.fit_codec import open_samples

    for i in range(3):
        written(tmp_path / f"{i}.png", photo[8 * i :])
    assert [x.shape for x in open_samples(str(tmp_path)).pictures] == [(48, 64, 3), (40, 64, 3), (32, 64, 3)]
    assert {x.shape for x in open_samples(str(tmp_path), size=(8, 9)).pictures} == {(8, 9, 3)}
    assert [x.shape for x in open_samples(str(tmp_path), n=1, grey=True).pictures] == [(48, 64)]
    assert str(open_samples("patches", n=5, size=(20, 30))) == "5 pictures of 20x30, in colour"


# -- quality -----------------------------------------------------------------------------------------------------------


def test_psnr_by_hand():
    x, y = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    y[0, 0, 0] = 12  # mean squared error 144 / 12
    assert rd.psnr(x, y) == pytest.approx(10 * np.log10(255**2 / 12))
    assert rd.psnr(x, x) == float("inf")
    clip = np.stack([x, y])
    assert rd.psnr(clip, np.stack([x, x])) == pytest.approx(10 * np.log10(255**2 / 6))


def test_one_scale_of_ms_ssim_is_scikit_images_ssim():
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (21, 30), np.uint8)
    y = (x + rng.normal(0, 30, x.shape)).clip(0, 255).astype(np.uint8)
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    theirs = metrics.structural_similarity(x.astype(float), y.astype(float), full=True, **how)[1][5:-5, 5:-5].mean()
    assert rd.ms_ssim(x, y) == (pytest.approx(theirs, rel=1e-9), 1)


def test_ms_ssim_as_published_step_by_step():
    import torch
    import torch.nn.functional as F

    rng = np.random.default_rng(1)
    x = np.kron(rng.integers(0, 256, (23, 29)), np.ones((8, 8))).astype(np.uint8)[:, :, None].repeat(3, 2)
    y = (x + rng.normal(0, 25, x.shape)).clip(0, 255).astype(np.uint8)
    a, b = (torch.tensor(z.astype(float) @ [0.299, 0.587, 0.114])[None, None] for z in (x, y))
    g = torch.exp(-((torch.arange(11.0).double() - 5) ** 2) / (2 * 1.5**2))
    window = (torch.outer(g, g) / g.sum() ** 2)[None, None]
    result = 1.0
    for i, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if i:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        ma, mb = F.conv2d(a, window), F.conv2d(b, window)
        va, vb, cov = (F.conv2d(p, window) - q for p, q in ((a * a, ma * ma), (b * b, mb * mb), (a * b, ma * mb)))
        part = (2 * cov + 58.5225) / (va + vb + 58.5225)
        if i == 4:
            part = part * (2 * ma * mb + 6.5025) / (ma**2 + mb**2 + 6.5025)
        result *= float(part.mean()) ** weight
    value, scales = rd.ms_ssim(x, y)
    assert scales == 5
    assert value == pytest.approx(result, rel=1e-9)


@pytest.mark.parametrize(("side", "scales"), [(10, 0), (11, 1), (21, 1), (22, 2), (175, 4), (176, 5), (400, 5)])
def test_a_small_picture_has_fewer_scales(side, scales):
    x = np.zeros((side, 400), np.uint8)
    value, found = rd.ms_ssim(x, x)
    assert found == scales
    assert value == 1 or scales == 0


# -- other formats -----------------------------------------------------------------------------------------------------


def test_the_nearest_size_is_found():
    for size in (0, 1, 7, 50, 5040, 9999, 10**6):
        quality, data = rd.nearest(lambda quality: bytes(quality**2), range(1, 101), size)
        assert abs(len(data) - size) == min(abs(q * q - size) for q in range(1, 101))
        assert len(data) == quality**2


def test_peers_are_whole_files_of_nearly_that_size(photo):
    big = np.kron(photo, np.ones((4, 4, 1), np.uint8)) // 2 + np.random.default_rng(0).integers(0, 60, (192, 256, 3))
    big = big.astype(np.uint8)
    (jpeg, by_jpeg), (webp, by_webp) = rd.peers(big, 12_000)
    for point, y in ((jpeg, by_jpeg), (webp, by_webp)):
        assert abs(point.bytes / 12_000 - 1) < 0.1
        assert point.psnr == rd.psnr(big, y)
        assert point.bpp == 8 * point.bytes / (192 * 256)
        assert (point.ms_ssim, point.scales) == rd.ms_ssim(big, y)
    kind, quality = jpeg.name.split(", quality ")
    both = [rd.jpeg(big, int(quality), chroma) for chroma in rd.CHROMA]
    assert jpeg.bytes == len(both[kind == "JPEG 4:4:4"])
    found = [rd.nearest(lambda q, way=way: rd.jpeg(big, q, way), range(1, 101), 12_000)[1] for way in rd.CHROMA]
    assert all(abs(len(data) / 12_000 - 1) < 0.1 for data in found)
    assert jpeg.psnr == max(rd.psnr(big, rd.opened(data, True)) for data in found)


def test_other_formats_are_used_at_their_best(photo):
    def saved(kind, **settings):
        file = io.BytesIO()
        Image.fromarray(photo).save(file, kind, **settings)
        return file.getvalue()

    assert rd.jpeg(photo, 75) == saved("JPEG", optimize=True)  # 75 and 4:2:0 are Pillow's own
    assert len(rd.jpeg(photo, 75)) < len(saved("JPEG"))
    assert rd.webp(photo, 80) == saved("WEBP", method=6)
    assert rd.webp(photo, 80) != saved("WEBP", method=0)


def test_x264_is_used_at_its_preset(moving):
    pytest.importorskip("av")
    told = rd.x264(moving, 20)
    assert b"crf=20.0" in told  # x264 writes its settings into the stream
    assert all(setting in told for setting in (b"subme=7", b"ref=3", b"bframes=3", b"keyint=250"))  # medium


def test_jpeg_has_the_better_of_its_two_chromas(photo):
    sharp = np.zeros((64, 64, 3), np.uint8)
    sharp[::2, :, 0] = sharp[:, ::2, 2] = 255  # colours that change from pixel to pixel
    size = len(rd.jpeg(sharp, 60, "4:4:4"))
    point, _ = rd.peers(sharp, size)[0]
    assert point.name.startswith("JPEG 4:4:4")
    assert rd.peers(photo[..., 0], 900)[0][0].name.startswith("JPEG, ")


def test_a_side_that_a_format_can_not_hold_leaves_it_out():
    x = np.zeros((2, 16_384), np.uint8)
    assert [point.name.split(",")[0] for point, _ in rd.peers(x, 500)] == ["JPEG"]


@pytest.mark.parametrize(
    ("shape", "chromas"),
    [
        ((16, 24, 3), {"4:2:0", "4:4:4"}),
        ((15, 23, 3), {"4:4:4"}),
        ((16, 24), {"4:2:0"}),
        ((15, 23), {"4:4:4"}),
    ],
)
def test_x264_takes_clips_of_any_size(shape, chromas):
    pytest.importorskip("av")
    base = np.kron(np.random.default_rng(0).integers(0, 256, (4, 6, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    x = np.stack([np.roll(base, i, 1) for i in range(6)])[:, : shape[0], : shape[1]]
    x = x if len(shape) == 3 else x[..., 0]
    assert set(rd.chromas(x)) == chromas
    for chroma in chromas:
        sizes = []
        for crf in (40, 10):
            data = rd.x264(x, crf, chroma)
            y = rd.played(data, x.ndim == 4)
            assert y.shape == x.shape
            sizes.append((len(data), rd.psnr(x, y)))
        assert sizes[0] < sizes[1]
        assert sizes[0][1] < sizes[1][1]


# -- BD-rate -----------------------------------------------------------------------------------------------------------


def test_bd_rate_of_known_curves():
    anchor = [(10 * 2**i, 30 + 3 * i) for i in range(4)]
    assert rd.bd_rate(anchor, anchor) == pytest.approx(0)
    assert rd.bd_rate(anchor, [(0.3 * rate, q) for rate, q in anchor]) == pytest.approx(-0.7)
    # Where one is twice the other at one end and equal at the other, the mean of the logarithms is half of log 2.
    assert rd.bd_rate([(1, 30), (8, 39)], [(2, 30), (8, 39)]) == pytest.approx(2**0.5 - 1)


def test_bd_rate_is_over_what_both_reach():
    anchor = [(10 * 2**i, 30 + 3 * i) for i in range(6)]
    ours = [(0.5 * rate, q) for rate, q in anchor[2:4]] + [(10**6, 60.0)]
    assert rd.bd_rate(anchor, [(0.5 * rate, q) for rate, q in anchor[2:4]]) == pytest.approx(-0.5)
    assert np.isfinite(rd.bd_rate(anchor, ours))


@pytest.mark.parametrize("ours", [[(1, 10.0), (2, 20.0)], [(1, 40.0), (2, 50.0)], [(1, 39.0), (2, 50.0)]])
def test_bd_rate_refuses_curves_that_share_no_psnr(ours):
    with pytest.raises(ValueError, match="share no PSNR"):
        rd.bd_rate([(1, 30.0), (2, 33.0), (3, 39.0)], ours)


def test_bd_rate_needs_two_points():
    with pytest.raises(ValueError, match="fewer than two"):
        rd.bd_rate([(1, 30.0), (2, 33.0)], [(1, 30.0), (2, 30.0)])


def test_an_exact_file_has_the_best_psnr_of_the_other_curve():
    anchor = [(10 * 2**i, 30 + 3 * i) for i in range(4)]  # up to 39 dB in 80 bits
    exact = float("inf")
    assert rd.bd_rate(anchor, [*anchor[:3], (80, exact)]) == pytest.approx(0)
    assert rd.bd_rate(anchor, [*anchor, (500, exact)]) == pytest.approx(0)
    # Alone, it costs the same at each PSNR: of 10 to 80 the logarithmic mean is the root of 800.
    assert rd.bd_rate(anchor, [(5, exact), (6, exact)]) == pytest.approx(5 / 800**0.5 - 1)
    assert rd.bd_rate([(5, exact)], anchor) == pytest.approx(800**0.5 / 5 - 1)
    with pytest.raises(ValueError, match="fewer than two"):
        rd.bd_rate([(5, exact)], [(6, exact)])


def test_read_raises_its_own_error_alone(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "x.png")
    whole, said = (tmp_path / "x.png").read_bytes(), []
    for _ in range(200):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(256)
        (tmp_path / "y.png").write_bytes(data)
        try:
            assert files.read(tmp_path / "y.png").dtype == np.uint8
        except FileError as error:
            said.append(str(error))
    assert len(said) > 50
    assert not any("\n" in words for words in said)
