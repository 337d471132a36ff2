"""`sandbox fit`: what it reads, learns and leaves in its folder, and every kind of bad input in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sandbox import fit, zoo
from sandbox.cli import FITTERS
from sandbox.runs import stem_of
from sandbox.training.checkpoint import FileError
from unsupervised import Autoencoder

SHORT = ("--max-iter", "2")
FOLDER = {
    "config.yml",
    "command.txt",
    "versions.json",
    "codes.npy",
    "summary.json",
    "metrics.csv",
    "loss.png",
    "model/estimator.safetensors",
    "model/encoder.safetensors",
}


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def pictures():
    """A folder of 40 pictures of 12x16 in colour."""
    rng = np.random.default_rng(0)
    Path("drawn").mkdir()
    for i in range(40):
        picture = np.full((12, 16, 3), rng.integers(0, 200), np.uint8)
        picture[:, : 1 + i % 12] = rng.integers(0, 255, 3)
        Image.fromarray(picture).save(f"drawn/{i:02d}.png")
    return "drawn"


@pytest.fixture
def rows():
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 5)))
    return "rows.npy"


# -- runs --------------------------------------------------------------------------------------------------------------


def test_digits_as_two_numbers(cli):
    done = cli("fit", "autoencoder", "digits", *SHORT, "--encoder", "mlp", "--seed", "3")
    assert done.code == 0, done.err
    folder = Path("runs/autoencoder/digits_1")
    assert "autoencoder on digits: 1,797 pictures of 8x8, seed 3" in done.out
    assert "mean squared error on held-out samples" in done.out
    assert "of PCA with as many components" in done.out
    assert files_in(folder) >= FOLDER | {"embedding.png", "reconstructions.png", "strips.png"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_components"] == 2
    assert summary["epochs"] == 2
    assert summary["held_out_mse"] < summary["pca_mse"]
    config = yaml.safe_load((folder / "config.yml").read_text())
    assert config["settings"] == {"max_iter": 2, "encoder": "mlp"}
    codes = np.load(folder / "codes.npy")
    estimator = fit.load(folder)
    X = fit.open_samples("digits").X
    np.testing.assert_allclose(estimator.transform(X), codes, rtol=1e-4, atol=1e-4)
    assert zoo.load(folder / "model" / "encoder.safetensors").in_shape == (1, 8, 8)


def test_three_components_turn(cli, rows):
    assert cli("fit", "autoencoder", rows, *SHORT, "--n-components", "3").code == 0
    assert (Path("runs/autoencoder/rows_1") / "embedding.gif").exists()
    assert Image.open("runs/autoencoder/rows_1/embedding.gif").n_frames > 10


ON_PICTURES = {"masked", "keypoints", "rotation", "jigsaw", "codec", "stdim"}
ON_TEXTS = {"next_token", "masked_token"}


@pytest.mark.parametrize("kind", sorted(set(FITTERS) - ON_PICTURES - ON_TEXTS - {"classifier", "inverse"}))
def test_every_kind_on_rows(cli, rows, kind):
    settings = {"vq": ("--n-components", "2", "--code-dim", "1", "--n-codes", "4"), "sequence": ("--n-components", "2")}
    done = cli("fit", kind, rows, *SHORT, *settings.get(kind, ()))
    assert done.code == 0, done.err
    folder = Path("runs", kind, "rows_1")
    assert files_in(folder) >= FOLDER
    assert type(fit.load(folder)).__module__.startswith("unsupervised.")


@pytest.mark.parametrize("kind", ["masked", "keypoints", "variational", "gan", "rotation", "jigsaw", "temporal"])
def test_pictures_in_colour(cli, pictures, kind):
    done = cli("fit", kind, pictures, *SHORT)
    assert done.code == 0, done.err
    assert "40 pictures of 12x16, in colour" in done.out
    made = files_in(Path("runs", kind, "drawn_1"))
    assert ("strips.png" in made) == (kind in ("variational", "gan"))  # the others need more to go between
    assert ("keypoints.png" in made) == (kind == "keypoints")


def test_labels_are_learned_where_there_are_any(cli, refused, rows):
    done = cli("fit", "classifier", "digits", "--max-iter", "8", "--encoder", "mlp")
    assert done.code == 0, done.err
    assert json.loads(Path("runs/classifier/digits_1/summary.json").read_text())["held_out_score"] > 0.85
    assert "Classifier learns from labels, and these samples have none" in refused("fit", "classifier", rows)


@pytest.mark.parametrize("kind", sorted(ON_TEXTS))
def test_a_text_is_judged_beside_what_costs_nothing_and_written_on(cli, kind):
    Path("book.txt").write_text("It was the best of times, it was the worst of \x1b[1mtimes.\n" * 60)
    done = cli("fit", kind, "book.txt", *SHORT, "--context", "32", "--dim", "16", "--depth", "1", "--heads", "2")
    assert done.code == 0, done.err
    assert f"{kind} on book.txt: 106 rows of 32, seed 0" in done.out
    folder = Path("runs", kind, "book_1")
    assert files_in(folder) >= FOLDER | {"sample.txt"}
    text = (folder / "sample.txt").read_text()
    assert text in done.out
    assert "\x1b" not in text  # which a terminal would obey
    summary = json.loads((folder / "summary.json").read_text())
    estimator, X = fit.load(folder), fit.open_samples("book.txt", window=32).X
    unseen = fit.held_out(len(X), {"algorithm": kind, "seed": 0})
    bits = summary["held_out_bits_per_byte"]
    assert bits == pytest.approx(-estimator.score(X[unseen]) / np.log(2), rel=1e-4)
    assert f"bits per byte on held-out windows {bits:.3f}; by how often each byte is there" in done.out
    assert summary["single_bits_per_byte"] == pytest.approx(4.1, abs=0.3)
    assert ("bz2_bits_per_byte" in summary) == (", of bz2 " in done.out) == (kind == "next_token")
    assert ("and filled in (" if kind == "masked_token" else "at temperature 0.5\n  ") in text
    assert "bits_per_byte" in (folder / "metrics.csv").read_text().splitlines()[0]


def test_tokens_that_are_no_bytes_are_judged_and_nothing_is_written(cli):
    np.save("tokens.npy", np.arange(600).reshape(60, 10) % 7)
    done = cli("fit", "next_token", "tokens.npy", *SHORT, "--vocabulary", "7", "--dim", "8", "--heads", "1")
    assert done.code == 0, done.err
    assert "bits per token on held-out windows" in done.out
    assert "by how often each token is there 2.8" in done.out  # log2 7
    assert "sample.txt" not in files_in("runs/next_token/tokens_1")


def test_samples_as_they_are_drawn():
    samples = fit.Samples(np.zeros((4, 3, 2, 5), np.uint8), np.empty((4, 0)), (), "")
    drawn = samples.pictures(np.full((2, 30), 0.5, np.float32))
    assert drawn.shape == (2, 2, 5, 3)
    assert drawn.dtype == np.uint8
    assert drawn.max() == 128
    stack = fit.Samples(np.zeros((4, 2, 2, 5), np.float32), np.empty((4, 0)), (), "")
    assert stack.pictures(np.zeros((3, 2, 2, 5))).shape == (3, 2, 5)


def test_frames_of_a_game(cli):
    done = cli("fit", "autoencoder", "atari:Pong", "--n", "60", "--size", "40", *SHORT, "--n-components", "4")
    assert done.code == 0, done.err
    assert "60 pictures of 40x40" in done.out


# -- what can't be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "what, and from which data?"),
        (("autoencoder",), "what, and from which data?"),
        (("autoencodr", "digits"), "unknown kind 'autoencodr': did you mean autoencoder?"),
        (("autoencoder", "digit"), "there is no data set 'digit'; nearest: digits"),
        (("autoencoder", "photos"), "learn from small parts of them: patches"),
        (("autoencoder", "no.npy"), "no.npy: no such file or folder"),
        (("autoencoder", "digits", "--size", "9"), "digits takes no --size"),
        (("autoencoder", "digits", "--n-components", "65"), "n_components=65 must be between 1 and"),
        (("autoencoder", "digits", "--optimiser", "sgd"), "unknown flag --optimiser: did you mean --optimizer?"),
        (("autoencoder", "digits", "--optimizer", "lion"), "'optimizer' parameter of Autoencoder must be a str among"),
        (("autoencoder", "digits", "--learning-rate", "cosine"), "neither a number nor a schedule"),
        (("autoencoder", "digits", "--encoder", "resnet81"), "no model 'resnet81' in the zoo; nearest: resnet18"),
        (("autoencoder", "digits", "--device", "cuda"), "torch sees no GPU here"),
        (("masked", "rows.npy"), "takes pictures"),
        (("next_token", "rows.npy"), "X must hold tokens, whole numbers from 0 to vocabulary - 1 = 255, got"),
        (("next_token", "digits"), "NextToken takes rows of tokens [N, T], got samples of (1, 8, 8)"),
        (("next_token", "rows.npy", "--context", "9"), "rows.npy takes no --context: that is for texts (.md"),
        (("masked_token", "no.txt"), "no.txt: no such file or folder"),
        (("autoencoder", "digits", "--n", "1"), "1 sample: there must be two or more"),
    ],
)
def test_wrong_words_are_one_line_and_leave_nothing(refused, rows, words, said):
    assert said in refused("fit", *words)
    assert not Path("runs").exists()


def test_a_full_disk_leaves_nothing(refused, rows, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sandbox.latent_plots.plot_loss", full)
    assert "No space left" in refused("fit", "autoencoder", rows, *SHORT)
    assert not Path("runs").exists()


def test_ctrl_c_in_training_keeps_what_was_learned(cli, rows, monkeypatch):
    steps = []

    def interrupt(self):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Autoencoder, "_after_step", interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        done = cli("fit", "autoencoder", rows, "--max-iter", "50")
    assert done.code == 0
    assert "(interrupted in epoch 3)" in done.out
    assert fit.load("runs/autoencoder/rows_1").transform(np.load(rows)).shape == (60, 2)


def test_a_run_that_is_no_agent_and_a_file_that_is_damaged(cli, refused, rows):
    assert cli("fit", "autoencoder", rows, *SHORT).code == 0
    for command in (["eval"], ["watch"], ["train", "--resume"]):
        assert "an estimator, not an agent; open it with sandbox.fit.load" in refused(
            *command, "runs/autoencoder/rows_1"
        )
    path = Path("runs/autoencoder/rows_1/model/estimator.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match=r"estimator\.safetensors: .*; expected is a file of the kind"):
        fit.load("runs/autoencoder/rows_1")


def test_a_run_is_named_after_its_data():
    assert stem_of("atari:Pong") == "atari:Pong"
    assert stem_of("x/two.npz:first") == "two-first"
    assert stem_of("folder/") == "folder"


@pytest.mark.parametrize("kind", FITTERS)
def test_help_teaches_and_has_the_kinds_own_settings(capsys, kind):
    from sandbox.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["fit", kind, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for words in (
        "KIND is one of",
        "DATA is one of",
        f"settings of {kind}",
        "--learning-rate SCHEDULE",
        "--batch-size",
    ):
        assert words in out
    assert "--random-state" not in out
    assert max(map(len, out.splitlines())) <= 115
