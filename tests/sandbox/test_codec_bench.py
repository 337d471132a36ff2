"""The bench of compressed files, on little data: what it measures, and the tables and plots it makes of it."""

import json
import zlib

import numpy as np
import pytest

from sandbox import rate_distortion as rd
from sandbox.bench import codec as bench

pytest.importorskip("constriction")
pytest.importorskip("skimage")


class Coarse:
    """Loses the lowest bits of each byte, the more the lower the quality."""

    def compress(self, x, quality=5):
        step = 2 ** (6 - quality // 2)
        kept = (x // step * step + step // 2).astype(np.uint8)
        return np.array([x.ndim, *x.shape], np.int32).tobytes() + zlib.compress(kept.tobytes())

    def decompress(self, data):
        n = np.frombuffer(data[:4], np.int32)[0]
        shape = np.frombuffer(data[4 : 4 + 4 * n], np.int32)
        return np.frombuffer(zlib.decompress(data[4 + 4 * n :]), np.uint8).reshape(shape)

    def estimate_bits(self, x, quality=5):
        return 8 * len(self.compress(x, quality)) / 1.01


@pytest.fixture
def coarse(monkeypatch):
    """A codec that needs no training, in the place of the default ones."""
    codec = Coarse()
    monkeypatch.setattr(bench, "model", lambda name: codec)
    return codec


@pytest.mark.parametrize("who", ["ours", "JPEG", "WebP"])
@pytest.mark.parametrize("case", ["photos", "atari"])
def test_a_curve_is_made_of_the_sizes_of_real_files(coarse, case, who):
    if case == "atari":
        pytest.importorskip("ale_py")
    found = bench.curve(case, who, small=True)
    (name, pictures), *_ = bench.held_out(case, small=True).items()
    pixels = sum(x.shape[0] * x.shape[1] for x in pictures)
    for (bpp, quality), told in zip(found["curves"][name], found["files"][name], strict=True):
        assert bpp == 8 * told["bytes"] / pixels
        assert 5 < quality < 70
    if who == "JPEG":
        assert {told["way"] for told in found["files"][name]} == {"4:2:0", "4:4:4"}
        told = found["files"][name][0]
        assert not found["exact"]
        assert told["bytes"] == sum(len(rd.jpeg(x, told["setting"], told["way"])) for x in pictures)
    if who == "WebP":
        files = [rd.lossless_webp(x) for x in pictures]
        assert found["exact"][name] == 8 * sum(map(len, files)) / pixels
        assert all((rd.opened(data, True) == x).all() for data, x in zip(files, pictures, strict=True))
    json.dumps(found, allow_nan=False)


def test_a_clip_is_one_file(coarse):
    pytest.importorskip("av")
    pytest.importorskip("ale_py")
    clip = bench.held_out("clip", small=True)["Pong"][0]
    assert clip.shape == (12, 210, 160, 3)
    for who in ("ours", "x264"):
        found = bench.curve("clip", who, small=True)
        bpp, quality = found["curves"]["Pong"][-1]
        told = found["files"]["Pong"][-1]
        assert bpp == 8 * told["bytes"] / (12 * 210 * 160)
        if who == "x264":
            data = rd.x264(clip, told["setting"], told["way"])
            assert told["bytes"] == len(data)
            assert quality == pytest.approx(rd.psnr(clip, rd.played(data, True)))


def test_what_is_restored_exactly_has_no_psnr_in_the_file_and_is_compared(coarse, monkeypatch):
    monkeypatch.setattr(bench, "held_out", lambda case, small: {"flat": [np.full((16, 16, 3), 5, np.uint8)]})
    coarse.decompress = lambda data: np.full((16, 16, 3), 5, np.uint8)
    curves = bench.curve("photos", "ours", small=True)["curves"]
    assert {quality for _, quality in curves["flat"]} == {None}
    ours = {"flat": [(1.0, np.inf)]}
    row = bench.compared("photos", {"JPEG": {"flat": [(1.0, 30.0), (4.0, 36.0)]}, "ours": ours})[0]
    assert row[:5] == ("photos", "JPEG", "-50.0 %", "0.500", "30 to 36")


def test_speed_and_overhead(coarse):
    import torch

    threads = torch.get_num_threads()
    try:
        ours, jpeg = (bench.speed(who, 2, small=True) for who in ("ours", "JPEG"))
    finally:
        torch.set_num_threads(threads)
    assert set(ours["seconds"]) == {"1", "2"}
    assert set(jpeg["seconds"]) == {"1"}
    assert all(second > 0 for sides in ours["seconds"].values() for side in sides for second in side)
    assert ours["megabytes"] == 64 * 96 * 3 / 1e6
    for case in ("image", "clip"):
        for one in bench.overhead(case, small=True)["files"]:
            assert one["over"] == pytest.approx(0.01)
    assert bench.picture_of_768x512().shape == (512, 768, 3)


def test_held_out_data_is_what_no_default_model_has_learned_from():
    from unsupervised.compression.defaults import MODELS

    for path in MODELS.glob("*.json"):
        record = json.loads(path.read_text())
        if path.stem == "photo" and "held_out" in record:
            assert set(bench.PHOTOS) <= set(record["held_out"])
        assert bench.HELD_OUT not in np.atleast_1d(record.get("seeds", []))
    photos = bench.held_out("photos")
    assert list(photos) == list(bench.PHOTOS)
    assert all(x.ndim == 3 and min(x.shape[:2]) > 140 for found in photos.values() for x in found)


def test_the_tables_and_plots(monkeypatch, capsys, tmp_path):
    def measure(module, part, case="", who="", repeats=0, small=False):
        assert module == "sandbox.bench.codec"
        job = {"part": part, "case": case, "who": who}
        if part == "curve":
            scale = {"ours": 0.5, "JPEG": 2.0, "WebP": 1.0, "x264": 0.25}[who]
            curve = [(scale * 0.1 * 2**i, 30.0 + 3 * i) for i in range(5)]
            if case == "atari" and who == "WebP":
                curve = [(1.0, 90.0), (2.0, 99.0)]
            if case == "clip" and who == "ours":
                curve[-1] = (curve[-1][0], None)
            exact = {"one": 3.0, "two": 3.0} if who == "WebP" else {}
            if case == "atari" and who == "ours":
                curve[-1] = (curve[-1][0], None)
            return {**job, "curves": {"one": curve, "two": curve}, "files": {}, "exact": exact}
        if part == "speed":
            sides = [[0.2, 0.1, 0.3], [0.4, 0.4, 0.4]]
            return {**job, "seconds": {"1": sides}, "setting": "quality 5", "megabytes": 1.2, "bpp": 0.5, "psnr": 31.0}
        return {**job, "files": [{"quality": 5, "bytes": 1010, "entropy": 1000.0, "over": 0.01}]}

    monkeypatch.setattr(bench, "measure", measure)
    assert bench.main(["--repeats", "3", "--out", str(tmp_path / "codec.json")]) == 0
    out = capsys.readouterr().out
    for words in ("-75.0 %", "-50.0 %", "2.000", "a lossless WebP, 3.0000", "200 [100, 300]", "6.0", "+1.000%"):
        assert words in out, words
    assert all(used in " ".join(out.split()) for used in rd.USED.values())
    assert len(json.loads((tmp_path / "codec.json").read_text())["measurements"]) == 3 + 3 + 2 + 3 + 2
    for case in bench.CURVES:
        assert (tmp_path / f"codec-{case}.png").stat().st_size > 10_000
    assert bench.main(["--part", "speed"]) == 0
    assert "PSNR against" not in capsys.readouterr().out


@pytest.mark.parametrize("part", bench.PARTS)
def test_each_part_is_measured_in_a_process_of_its_own(part, monkeypatch, capsys):
    jobs = []

    def measure(module, **job):
        jobs.append(job)
        raise KeyError

    monkeypatch.setattr(bench, "measure", measure)
    with pytest.raises(KeyError):
        bench.main(["--part", part, "--small"])
    job = jobs[0]
    assert job.pop("small") is True
    assert job.pop("part") == ("curve" if part in bench.CURVES else part)
