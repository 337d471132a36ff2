"""`sandbox cluster`: what it reads, what it finds and leaves in its folder, and every kind of bad input in one line."""

import csv
import itertools
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sandbox import cluster, data
from sandbox.cli import CLUSTERERS
from sandbox.cluster_plots import palette
from sandbox.runs import Run
from sandbox.training.checkpoint import FileError

FOLDER = {"config.yml", "command.txt", "versions.json", "labels.npy", "summary.json", "clusters.png"}


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def summary_of(folder):
    return json.loads((Path(folder) / "summary.json").read_text())


@pytest.fixture
def heaps():
    """Four heaps far apart [400, 3], and which of them each row is of."""
    rng = np.random.default_rng(0)
    middles = np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0], [0, 0, 20]])
    of = rng.permutation(np.repeat(np.arange(4), 100))
    return middles[of] + rng.normal(size=(400, 3)), of


@pytest.fixture
def table(heaps):
    np.savetxt("heaps.csv", heaps[0], delimiter=",", header="x,y,z", comments="")
    return "heaps.csv"


@pytest.fixture
def drawn():
    """A folder of 30 pictures of 24x16, the odd ones red below, the even ones blue above; two of them larger."""
    rng = np.random.default_rng(0)
    Path("drawn").mkdir()
    for i in range(30):
        picture = rng.integers(0, 40, (24, 16, 3)).astype(np.uint8)
        picture[slice(12, 24) if i % 2 else slice(0, 12), :, 0 if i % 2 else 2] += 200
        image = Image.fromarray(picture)
        image = image.resize((32, 48)) if i in (4, 5) else image
        image.save(f"drawn/{i:02d}.{('png', 'bmp', 'gif')[i % 3]}")
    return "drawn"


def one_to_one(labels, of):
    """Whether two labellings are the same but for the names."""
    return len(set(zip(labels, of, strict=True))) == len(set(labels)) == len(set(of))


# -- what it leaves ----------------------------------------------------------------------------------------------------


def test_a_table_of_heaps_is_taken_apart_and_everything_is_kept(cli, table, heaps):
    done = cli("cluster", table, "-k", "4", "--seed", "3", "--tol", "0", "--out", "my runs")
    folder = Path("my runs/kmeans/heaps_1")
    assert (done.code, done.err) == (0, "")
    assert files_in(folder) == FOLDER | {"model/clusters.safetensors"}
    labels = np.load(folder / "labels.npy")
    assert one_to_one(labels, heaps[1])
    config = yaml.safe_load((folder / "config.yml").read_text())
    assert config["settings"] == {"tol": 0}
    assert (config["algorithm"], config["data"], config["k"], config["seed"]) == ("kmeans", table, 4, 3)
    argv = ["sandbox", "cluster", table, "-k", "4", "--seed", "3", "--tol", "0", "--out", "my runs"]
    assert shlex.split((folder / "command.txt").read_text()) == argv
    summary = summary_of(folder)
    middles = np.stack([heaps[0][labels == i].mean(axis=0) for i in range(4)])
    assert summary["inertia"] == pytest.approx(((heaps[0] - middles[labels]) ** 2).sum())
    assert (summary["n_samples"], summary["n_features"], summary["sizes"]) == (400, 3, [100] * 4)
    assert summary["silhouette"] > 0.8
    assert "ari" not in summary
    for words in ("400 rows of 3", "4 clusters", "sizes 100, 100, 100, 100", "silhouette 0.", str(folder)):
        assert words in done.out
    with Image.open(folder / "clusters.png") as picture:
        assert picture.width > 1000


def test_the_same_seed_gives_the_same_labels_and_another_run_another_folder(cli, table):
    for _ in range(2):
        assert cli("cluster", table, "-k", "7", "--seed", "1", "--n-init", "1").code == 0
    first, second = (np.load(f"runs/kmeans/heaps_{i}/labels.npy") for i in (1, 2))
    assert np.array_equal(first, second)


def test_the_digits_agree_with_their_labels_and_are_drawn(cli):
    done = cli("cluster", "digits", "-k", "10")
    folder = Path("runs/kmeans/digits_1")
    assert files_in(folder) == FOLDER | {"model/clusters.safetensors", "members.png"}
    summary = summary_of(folder)
    assert 0.5 < summary["ari"] < 0.9
    assert 0.6 < summary["nmi"] < 0.9
    assert f"ARI {summary['ari']:.3f}" in done.out
    with Image.open(folder / "members.png") as sheet:
        assert sheet.width > 1000


@pytest.mark.parametrize("method", CLUSTERERS)
@pytest.mark.parametrize("standardize", ["true", "false"])
def test_every_model_is_loaded_again_and_predicts_the_same(cli, heaps, method, standardize):
    X = heaps[0] * [1, 1, 5] + [0, 0, 100]
    np.save("rows.npy", X)
    assert cli("cluster", "rows.npy", "-k", "6", "--method", method, "--standardize", standardize).code == 0
    folder = Path(f"runs/{method}/rows_1")
    assert summary_of(folder)["k"] == 6
    again = cluster.load(folder)
    assert type(again).__name__ == ("Pipeline" if standardize == "true" else CLUSTERERS[method][0].split(":")[1])
    assert np.array_equal(again.predict(X), np.load(folder / "labels.npy"))
    assert np.array_equal(cluster.load(folder / "model" / "clusters.safetensors").predict(X), again.predict(X))


def test_standardize_gives_every_feature_the_same_say(cli):
    rng = np.random.default_rng(0)
    of = rng.integers(0, 2, 200)
    X = np.stack([of + 0.05 * rng.normal(size=200), rng.uniform(0, 1000, 200)], axis=1)
    np.save("rows.npy", X)
    assert cli("cluster", "rows.npy", "-k", "2", "--n-init", "10", "--standardize", "true").code == 0
    assert cli("cluster", "rows.npy", "-k", "2", "--n-init", "10").code == 0
    assert one_to_one(np.load("runs/kmeans/rows_1/labels.npy"), of)
    assert not one_to_one(np.load("runs/kmeans/rows_2/labels.npy"), of)


def test_auto_finds_the_heaps_and_shows_what_was_tried(cli, table, heaps):
    done = cli("cluster", table, "-k", "auto")
    assert done.code == 0
    summary = summary_of("runs/kmeans/heaps_1")
    assert summary["k"] == 4
    assert [tried["k"] for tried in summary["tried"]] == list(range(1, 21))
    assert summary["tried"][0]["silhouette"] is None  # a single cluster has none, and JSON no NaN
    assert one_to_one(np.load("runs/kmeans/heaps_1/labels.npy"), heaps[1])
    assert "k = 4" in done.out
    assert Path("runs/kmeans/heaps_1/choice.png").exists()


def test_each_iteration_is_told_with_its_inertia(cli, monkeypatch, table):
    told = []
    monkeypatch.setattr(
        cluster.ProgressLine, "update", lambda self, done, note="": told.append((self.label, done, note))
    )
    assert cli("cluster", table, "-k", "3", "--n-init", "1", "--init", "random").code == 0
    iterations = [(done, float(re.fullmatch(r"inertia ([\d.,]+)", note)[1].replace(",", "")))
                  for label, done, note in told if label == "clustering"]  # fmt: skip
    numbers, inertias = zip(*iterations, strict=True)
    assert list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    assert all(a >= b for a, b in itertools.pairwise(inertias))


# -- what it reads -----------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_is_clustered_and_its_files_are_named(cli, drawn):
    done = cli("cluster", drawn, "-k", "2")
    folder = Path("runs/kmeans/drawn_1")
    assert "30 pictures of 24x16, in colour" in done.out
    assert files_in(folder) == FOLDER | {"model/clusters.safetensors", "members.png", "labels.csv"}
    with open(folder / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cluster"]) for row in rows] == np.load(folder / "labels.npy").tolist()
    assert one_to_one([row["cluster"] for row in rows], [int(Path(row["file"]).stem) % 2 for row in rows])


def test_pictures_in_the_size_and_grey_that_are_asked_for(cli, drawn):
    assert "30 pictures of 6x9, seed" in cli("cluster", drawn, "-k", "2", "--size", "6x9", "--grey", "true").out
    assert summary_of("runs/kmeans/drawn_1")["n_features"] == 54
    assert cli("cluster", drawn, "-k", "2", "--size", "8").code == 0
    assert summary_of("runs/kmeans/drawn_2")["n_features"] == 8 * 8 * 3


def test_subfolders_are_labels(cli, drawn):
    for path in Path(drawn).iterdir():
        group = Path("groups", "odd" if int(path.stem) % 2 else "even")
        group.mkdir(parents=True, exist_ok=True)
        path.rename(group / path.name)
    assert cli("cluster", "groups", "-k", "2").code == 0
    assert summary_of("runs/kmeans/groups_1")["ari"] == 1


def test_the_colours_of_a_picture(cli):
    picture = np.full((40, 60, 3), (200, 30, 30), np.uint8)
    picture[:, 40:] = (20, 20, 220)
    Image.fromarray(picture).save("flag.png")
    done = cli("cluster", "flag.png", "-k", "2")
    folder = Path("runs/kmeans/flag_1")
    assert "the colours of 2,400 pixels" in done.out
    assert files_in(folder) == FOLDER | {"model/clusters.safetensors", "colours.png"}
    labels = np.load(folder / "labels.npy")
    assert labels.shape == (1, 40, 60)
    centres = cluster.load(folder).cluster_centers_
    assert np.array_equal(centres[labels[0]].round().astype(np.uint8), picture)


def test_photos_are_their_colours_unless_told_otherwise():
    assert cluster.open_rows("photos").X.shape == (2 * 427 * 640, 3)
    whole = cluster.open_rows("photos", pixels=False)
    assert whole.X.shape == (2, 427 * 640 * 3)
    assert whole.shape == (427, 640, 3)


def test_shards_are_found_as_the_whole_would_be(cli, heaps):
    Path("parts").mkdir()
    for i, part in enumerate(np.array_split(heaps[0], 3)):
        np.save(f"parts/{i}.npy", part)
    np.save("whole.npy", heaps[0])
    assert "read in passes" in cli("cluster", "parts", "-k", "4", "--standardize", "true").out
    assert cli("cluster", "whole.npy", "-k", "4", "--standardize", "true").code == 0
    parts, whole = (np.load(f"runs/kmeans/{name}_1/labels.npy") for name in ("parts", "whole"))
    assert np.array_equal(parts, whole)


def test_a_file_larger_than_memory_is_read_in_passes(monkeypatch, heaps):
    np.save("rows.npy", heaps[0])
    assert isinstance(cluster.open_rows("rows.npy").X, np.memmap)
    monkeypatch.setattr(cluster, "LARGE", 0)
    monkeypatch.setattr("sandbox.cluster.free_memory", lambda: 8 * heaps[0].size)
    assert isinstance(cluster.open_rows("rows.npy").X, cluster.Shards)
    monkeypatch.setattr("sandbox.cluster.free_memory", lambda: 80 * heaps[0].size)
    assert isinstance(cluster.open_rows("rows.npy").X, np.memmap)


def test_an_archive_s_array_by_name(cli, heaps):
    np.savez("both.npz", a=heaps[0], b=heaps[0][:50])
    assert "50 rows of 3" in cli("cluster", "both.npz:b", "-k", "2").out
    assert Path("runs/kmeans/both-b_1").is_dir()


def test_a_game_in_small_pictures(cli):
    pytest.importorskip("ale_py")
    rows = cluster.open_rows("atari:Pong", grey=True)
    assert rows.shape == (64, 49)
    assert rows.X.dtype == np.float32


def test_what_float32_holds_exactly_is_clustered_in_it():
    for dtype, expected in (("u1", "f4"), ("i2", "f4"), ("f2", "f4"), ("f4", "f4"), ("f8", "f8"), ("i8", "i8")):
        np.save("rows.npy", np.ones((3, 2), dtype))
        assert cluster.open_rows("rows.npy").X.dtype == expected


@pytest.mark.parametrize("k", [1, 6])
def test_one_feature_and_few_rows_can_be_drawn(cli, k):
    np.save("rows.npy", np.arange(6.0)[:, None])
    assert cli("cluster", "rows.npy", "-k", k).code == 0
    summary = summary_of("runs/kmeans/rows_1")
    assert (summary["silhouette"], sum(summary["sizes"])) == (None, 6)


def test_many_clusters_are_drawn_too(cli, drawn):
    assert cli("cluster", drawn, "-k", "30").code == 0
    assert "sizes from 1 to 1" in cli("cluster", drawn, "-k", "30").out
    assert Path("runs/kmeans/drawn_1/members.png").exists()
    assert len({tuple(colour) for colour in palette(1000).round(6).tolist()}) == 1000


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def junk():
    """Files of every wrong kind."""
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("uneven").mkdir()
    Image.new("RGB", (4, 4)).save("bad/0.png")
    Path("bad/1.png").write_bytes(b"not a picture")
    np.save("uneven/0.npy", np.ones((3, 2)))
    np.save("uneven/1.npy", np.ones((3, 4)))
    np.save("nan.npy", np.array([[1.0, np.nan], [2.0, 3.0]]))
    np.save("inf.npy", np.array([[1.0, np.inf], [2.0, 3.0]]))
    np.save("few.npy", np.ones((3, 2)))
    np.save("text.npy", np.array([["a", "b"]]))
    np.save("none.npy", np.ones((0, 2)))
    np.savez("two.npz", a=np.ones((3, 2)), b=np.ones((3, 2)))
    Path("cut.npy").write_bytes(Path("few.npy").read_bytes()[:-8])
    Path("ragged.csv").write_text("x,y\n1,2\n3\n")
    Path("words.csv").write_text("x,colour\n1,red\n")
    Path("file").write_text("mine")


BAD = [
    ([], ["which data", "sandbox cluster digits -k 10"]),
    (["digits"], ["-k 10", "-k auto"]),
    (["digits", "-k", "0"], ["'0'", "auto"]),
    (["digits", "-k", "many"], ["'many'", "auto"]),
    (["digits", "-k", "3", "--method", "kmean"], ["'kmean'", "did you mean kmeans"]),
    (["digits", "-k", "3", "--max-itr", "3"], ["--max-itr", "--max-iter"]),
    (["digits", "-k", "3", "--max-iter", "0"], ["max_iter"]),
    (["digits", "-k", "3", "--init", "best"], ["init", "k-means++"]),
    (["digits", "-k", "3", "--algorithm", "fast"], ["algorithm", "'fast'", "lloyd"]),
    (["digits", "-k", "3", "--standardize", "maybe"], ["'maybe'", "true"]),
    (["digits", "-k", "3", "--device", "gpu"], ["gpu"]),
    (["digits", "-k", "3", "--size", "8"], ["digits", "--size"]),
    (["digits", "-k", "3", "--pixels", "true"], ["digits", "--pixels", "colour"]),
    (["digits", "-k", "3", "--seed", "x"], ["--seed", "'x'"]),
    (["digits", "-k", "3", "--out", "file"], ["file", "no run folder"]),
    (["digits", "-k", "3", "--out", "file/below"], ["file/below", "no run folder"]),
    (["digits", "more", "-k", "3"], ["'more'"]),
    (["digit", "-k", "3"], ["'digit'", "digits"]),
    (["nothing.npy", "-k", "3"], ["nothing.npy", "no such file"]),
    (["file", "-k", "3"], ["file", ".npy"]),
    (["empty", "-k", "3"], ["empty", "pictures"]),
    (["bad", "-k", "1"], ["bad/1.png", "decoded"]),
    (["bad", "-k", "1", "--size", "axb"], ["'axb'", "48x64"]),
    (["uneven", "-k", "1"], ["uneven", "1.npy"]),
    (["uneven", "-k", "1", "--method", "minibatch"], ["uneven", "--method kmeans"]),
    (["nan.npy", "-k", "1"], ["Input X contains NaN."]),
    (["nan.npy", "-k", "auto"], ["contains NaN."]),
    (["nan.npy", "-k", "1", "--standardize", "true"], ["Input X contains NaN."]),
    (["inf.npy", "-k", "1"], ["Input X contains infinity"]),
    (["none.npy", "-k", "1"], ["0 sample(s)"]),
    (["text.npy", "-k", "1"], ["text.npy", "text"]),
    (["cut.npy", "-k", "1"], ["cut.npy", "damaged"]),
    (["few.npy", "-k", "4"], ["n_samples=3 should be >= n_clusters=4"]),
    (["few.npy", "-k", "2", "--grey", "true"], ["few.npy", "--grey"]),
    (["two.npz", "-k", "2"], ["two.npz:a", "two.npz:b"]),
    (["ragged.csv", "-k", "1"], ["ragged.csv", "line 3", "1 values"]),
    (["words.csv", "-k", "1"], ["words.csv", "line 2", "colour", "'red'"]),
]


@pytest.mark.parametrize(("argv", "words"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_bad_input_is_one_line_that_names_it_and_leaves_nothing(refused, junk, argv, words):
    before = files_in(".")
    line = refused("cluster", *argv)
    assert all(word in line for word in words), line
    assert len(line) < 300
    assert files_in(".") == before
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["digits", "nothing.npy"])  # said before anything is read
def test_a_gpu_that_is_not_there_is_not_silently_the_cpu(refused, monkeypatch, name):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "GPU" in refused("cluster", name, "-k", "3", "--device", "cuda")
    assert not Path("runs").exists()


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_nothing_half_written(cli, refused, monkeypatch, table, snapshot, earlier):
    if earlier:
        assert cli("cluster", table, "-k", "2").code == 0
    before = snapshot(Path())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sandbox.cluster_plots.plot_clusters", full)
    assert "No space left" in refused("cluster", table, "-k", "2")
    assert snapshot(Path()) == before
    assert Path("runs").exists() == earlier


def test_ctrl_c_leaves_nothing(cli, monkeypatch, table):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sandbox.cluster_plots.plot_clusters", interrupt)
    assert cli("cluster", table, "-k", "2").code == 130
    assert not Path("runs").exists()


def test_a_clustering_is_no_agent(cli, refused, table):
    assert cli("cluster", table, "-k", "2").code == 0
    for command in (["eval"], ["watch"], ["train", "--resume"]):
        assert "a clustering, not an agent" in refused(*command, "runs/kmeans/heaps_1")


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign", "class"])
def test_a_damaged_model_is_one_line(cli, table, damage):
    from safetensors.torch import load_file

    from sandbox.training.checkpoint import load_tensors, save_tensors

    assert cli("cluster", table, "-k", "2").code == 0
    path = Path("runs/kmeans/heaps_1/model/clusters.safetensors")
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "foreign":
        save_tensors(path, "sandbox.zoo", {}, load_file(path))
    else:
        record, tensors = load_tensors(path, "sandbox.cluster")
        save_tensors(path, "sandbox.cluster", {**record, "class": "Shards"}, tensors)
    with pytest.raises(FileError) as caught:
        cluster.load("runs/kmeans/heaps_1")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert damage != "class" or "'Shards', which this version does not know" in str(caught.value)


# -- help --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "flag"), [("kmeans", "--algorithm"), ("minibatch", "--batch-size")])
def test_help_teaches_and_has_the_methods_own_settings(capsys, method, flag):
    from sandbox.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["cluster", "--method", method, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for words in ("DATA is one of", "sandbox cluster photos -k 8", "auto", f"settings of {method}", flag, "--device"):
        assert words in out
    assert "--n-clusters" not in out
    assert max(map(len, out.splitlines())) <= 110


def test_a_run_of_a_clustering_is_named_after_its_data():
    run = Run.create(Path("runs"), {"algorithm": "kmeans", "data": "atari:Pong"}, ["sandbox"], stem="atari:Pong")
    assert run.folder == Path("runs/kmeans/atari-Pong_1")
    assert not [name for name in data.SOURCES if "/" in name]
