"""The k-means bench: its data, what it counts, and that both sides do the same work."""

import importlib.util
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sandbox.bench import kmeans
from sandbox.bench.kmeans import PARTS, Case, inertia, points

TIMED = [name for name in PARTS if not name.endswith("-quality")]


def tiny(part):
    """The first case of a part, small, without the names that only the whole bench uses."""
    case = kmeans.smaller(PARTS[part].cases[0])
    return {"part": part, "case": str(case), **case._asdict(), "threads": 1, "device": "cpu"}


@pytest.fixture
def faked(monkeypatch):
    """The bench without its processes: the jobs that it would have started."""
    jobs = []

    def measure(module, **job):
        jobs.append(dict(job))
        slow = 2.0 if job["who"] == "scikit-learn" else 1.0
        if "labels" in job:
            np.save(job["labels"], np.array([0, 0, 1, 1] if job["who"] == "scikit-learn" else [0, 0, 1, 0]))
        if "seeds" in job:
            return {**job, "values": [90.0 + slow * 10, 110.0 + slow * 10]}
        return {**job, "seconds": slow, "megabytes": 8 * slow, "quality": 10.01 if slow == 1 else 10.0, "iterations": 7}

    monkeypatch.setattr(kmeans, "measure", measure)
    return jobs


# -- its data, and what it counts --------------------------------------------------------------------------------------


def test_blobs_have_their_centres_and_their_spread():
    X = points(10_000, 8, "std 5", 3)
    assert X.dtype == np.float32
    centres = np.random.default_rng(0).uniform(-10, 10, (3, 8))
    labels = ((X[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert math.sqrt(inertia(X, centres, labels) / X.size) == pytest.approx(5, rel=0.02)
    assert np.bincount(labels).min() > 3_000
    assert abs(centres).max() < 10
    assert not np.array_equal(X[: kmeans.CHUNK][:100], X[kmeans.CHUNK :][:100])


def test_the_same_case_has_the_same_rows_and_a_sample_its_first_ones():
    assert np.array_equal(points(6_000, 4, "std 12", 5), points(6_000, 4, "std 12", 5))
    assert np.array_equal(
        points(2 * kmeans.CHUNK, 4, "std 12", 5)[: kmeans.CHUNK], points(kmeans.CHUNK, 4, "std 12", 5)
    )
    uniform = points(1_000, 3, "uniform", 5)
    assert uniform.dtype == np.float32
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert points(1_797, 64, "digits float64", 10).dtype == np.float64


def test_inertia_is_counted_in_float64_whatever_is_given():
    X = 1e3 + points(kmeans.CHUNK + 100, 4, "uniform", 2)
    centres, labels = X[:2] + np.float32(0.1), np.arange(len(X)) % 2
    exact = ((X.astype(float) - centres.astype(float)[labels]) ** 2).sum()
    assert inertia(X, centres, labels) == pytest.approx(exact, rel=1e-12)


def test_names_of_cases_say_their_size():
    assert str(Case(1_000_000, 16, 64, "uniform")) == "1Mx16 k=64 uniform"
    assert str(Case(60_000, 784, 100, "std 5")) == "60kx784 k=100 std 5"
    assert str(Case(1_797, 64, 10, "digits")) == "1797x64 k=10 digits"
    for name, part in PARTS.items():
        names = [str(case) for case in part.cases]
        assert len(set(names)) == len(names), name


def test_an_error_of_nothing_but_rounding_is_not_divided_by():
    assert kmeans.differences([100.0, 100.0], [100.0, 100.0])[-1] == "+0.00"
    assert kmeans.differences([100.0, 100.0], [100.0001, 100.0001])[-1] == "+1.00"


# -- one measurement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", TIMED)
def test_both_sides_are_timed_on_the_same_work(part, tmp_path):
    job = tiny(part)
    if part in kmeans.SAME_INIT:
        job["labels"] = str(tmp_path / "labels.npy")
    theirs, ours = (kmeans.run(**job, who=who, seed=0) for who in ("scikit-learn", "ours"))
    assert theirs.keys() == ours.keys()
    assert theirs["megabytes" if part == "memory" else "seconds"] > 0
    assert ours["quality"] == pytest.approx(theirs["quality"], rel=1e-3 if part in kmeans.SAME_INIT else 0.5)
    if part in kmeans.SAME_INIT:
        assert ours["iterations"] == theirs["iterations"]
        assert np.load(job["labels"]).shape == (job["n"],)


@pytest.mark.parametrize("part", [name for name in PARTS if name not in TIMED])
def test_quality_is_one_figure_a_seed(part):
    job = tiny(part)
    theirs, ours = (kmeans.run(**job, who=who, seeds=3)["values"] for who in ("scikit-learn", "ours"))
    assert len(theirs) == len(ours) == 3
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.5)


def test_the_init_is_drawn_by_the_seed_and_both_begin_there():
    inits = []

    class Spy:
        def estimator(self, k, **settings):
            inits.append(settings["init"])
            return SimpleNamespace(fit=lambda X: None, labels_=np.zeros(9, int), cluster_centers_=X[:k], n_iter_=1)

    X = points(9, 2, "uniform", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "save", lambda *args: None)
        for seed in (0, 0, 1):
            kmeans.fit_once(Spy(), X, 3, {}, seed, labels="nowhere")
    assert np.array_equal(inits[0], inits[1])
    assert not np.array_equal(inits[0], inits[2])
    assert all(any((row == x).all() for x in X) for row in inits[0])


HUNGRY = """
import numpy as np
from sandbox.bench import kmeans

class Hungry:
    labels_, cluster_centers_ = np.zeros(4, int), np.zeros((1, 2))

    def estimator(self, k, **settings):
        return self

    def fit(self, X):
        np.ones(40_000_000, np.uint8)

before = np.ones(80_000_000, np.uint8)  # a higher mark, before the fit
del before
print(kmeans.peak_memory(Hungry(), np.zeros((4, 2)), 1, {}, 0)["megabytes"])
"""


@pytest.mark.skipif(not kmeans.CLEAR.exists(), reason="Linux's account of a process")
def test_peak_memory_is_what_a_fit_took_for_a_moment():
    """In a process of its own, as measurements are: this one may have memory left over from other tests."""
    done = subprocess.run([sys.executable, "-c", HUNGRY], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(40, abs=8)


def test_a_measurement_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    kmeans.run(**{**tiny("small"), "threads": before + 1}, who="scikit-learn", seed=0)
    assert torch.get_num_threads() == before


def test_faiss_learns_from_all_rows_and_is_told_the_rest(monkeypatch):
    told = {}

    class Kmeans:
        def __init__(self, d, k, **settings):
            told.update(settings, d=d, k=k)
            self.centroids, self.index = np.zeros((k, d)), self

        def train(self, X, init_centroids=None):
            told["init"] = init_centroids

        def search(self, X, n):
            return np.zeros((len(X), n)), np.zeros((len(X), n), int)

    fake = SimpleNamespace(Kmeans=Kmeans, omp_set_num_threads=lambda n: told.update(threads=n))
    monkeypatch.setitem(sys.modules, "faiss", fake)
    job = tiny("lloyd")
    labels = kmeans.points(job["n"], job["d"], job["data"], job["k"])
    result = kmeans.run(**tiny("fit"), who="faiss", seed=3)
    assert (told["max_points_per_centroid"], told["seed"], told["threads"]) == (tiny("fit")["n"], 3, 1)
    assert told["init"] is None
    assert result["iterations"] == told["niter"] == 25
    kmeans.fit_once(kmeans.Faiss(1), labels, 2, PARTS["lloyd"].settings, 0, labels="/dev/null")
    assert told["niter"] == 20
    assert told["init"].shape == (2, job["d"])


# -- the whole bench ---------------------------------------------------------------------------------------------------


def test_it_goes_through_all_parts_but_the_long_one_in_turn_and_keeps_all(faked, cli, tmp_path, monkeypatch):
    monkeypatch.setattr(kmeans.importlib.util, "find_spec", lambda name: None)
    done = cli("bench", "kmeans", "--repeats", "2", "--out", "b.json", "--threads", "3")
    assert done.code == 0
    assert "faiss is not installed" in done.out
    assert [job["who"] for job in faked] == ["scikit-learn", "ours"] * (len(faked) // 2)
    assert {job["part"] for job in faked} == set(PARTS) - {"grid"}
    assert {job["threads"] for job in faked} == {3}
    for part in (part for part in PARTS.values() if part is not PARTS["grid"]):
        assert part.about in done.out
    assert "2.00 [2.00, 2.00]" in done.out  # times as fast
    assert "0.50 [0.50, 0.50]" in done.out  # memory
    assert "1.0010 [1.0010, 1.0010]" in done.out  # inertia
    assert "1.001000" in done.out  # from the same init
    assert "75.00 %" in done.out  # equal labels
    assert "-8.3333 %" in done.out  # 110 beside 120
    assert "-1.00" in done.out
    kept = json.loads((tmp_path / "b.json").read_text())["measurements"]
    assert len(kept) == len(faked)
    assert {one["equal_labels"] for one in kept if one["part"] == "lloyd"} == {1.0, 0.75}
    assert not [one for one in kept if "labels" in one]


def test_faiss_has_its_rows_where_it_is_installed_and_does_the_same(faked, cli, monkeypatch):
    monkeypatch.setattr(kmeans.importlib.util, "find_spec", lambda name: name)
    done = cli("bench", "kmeans", "--repeats", "1", "--part", "grid", "--part", "seeding")
    assert done.code == 0
    assert "not installed" not in done.out
    sides = {part: [job["who"] for job in faked if job["part"] == part] for part in ("grid", "seeding")}
    assert sides["grid"] == ["scikit-learn", "ours", "faiss"] * len(PARTS["grid"].cases)
    assert sides["seeding"] == ["scikit-learn", "ours"] * len(PARTS["seeding"].cases)


def test_one_case_alone_and_small(faked, cli):
    done = cli("bench", "kmeans", "--case", "200kx64 k=100 std 5", "--repeats", "1", "--small")
    assert done.code == 0
    assert {(job["part"], job["case"]) for job in faked} == {
        ("fit", "1kx8 k=5 std 5"),
        ("seeding", "1kx8 k=5 std 5"),
    }


def test_what_cannot_be_measured_is_refused_in_one_line(refused, monkeypatch):
    line = refused("bench", "kmeans", "--part", "lloyd", "--case", "1Mx16 k=64 uniforn")
    assert "did you mean 1Mx16 k=64 uniform" in line
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "'cuda' was asked for" in refused("bench", "kmeans", "--device", "cuda")


@pytest.mark.slow
def test_it_runs_from_end_to_end(tmp_path):
    command = [sys.executable, "-m", kmeans.MODULE, "--small", "--repeats", "1", "--seeds", "2", "--out", "b.json"]
    for part in ("fit", "fit-quality", "lloyd", "memory"):
        command += ["--part", part]
    for case in ("60kx784 k=100 std 12", "20kx784 k=100 std 5", "60kx784 k=10 std 12"):
        command += ["--case", case]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "b.json").read_text())["measurements"]
    assert {one["part"] for one in kept} == {"fit", "fit-quality", "lloyd", "memory"}
    assert {one["who"] for one in kept} >= {"scikit-learn", "ours"}
    assert ("faiss" in {one["who"] for one in kept}) == (importlib.util.find_spec("faiss") is not None)
    assert min(one["equal_labels"] for one in kept if one["part"] == "lloyd") > 0.99
