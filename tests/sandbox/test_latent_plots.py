"""Pictures of a latent space: what is drawn where, how many frames a film has, and every wrong shape in one line."""

import numpy as np
import pytest
from PIL import Image

from sandbox import figures, latent_plots
from sandbox.latent_plots import (
    export_projector,
    latent_walk,
    plot_embedding,
    plot_keypoints,
    plot_loss,
    plot_reconstructions,
    plot_strip,
    spin_embedding,
)

BLUE, ORANGE = (np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) for text in figures.FEW[:2])


def pixels(path):
    """The picture [h, w, 3], from 0 to 255."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def frames(path):
    """Those of a GIF [n, h, w, 3], and the milliseconds each is seen."""
    with Image.open(path) as image:
        shown, pace = [], set()
        for i in range(image.n_frames):
            image.seek(i)
            shown.append(np.asarray(image.convert("RGB")).astype(int))
            pace.add(image.info.get("duration"))  # Pillow shows a frame that comes twice for twice as long
        assert image.info["loop"] == 0
        assert len(pace) == 1
        return np.stack(shown), pace.pop()


def like(picture, colour, tolerance=30):
    """Where [h, w] a picture has about this colour."""
    return (np.abs(picture - np.asarray(colour)) <= tolerance).all(axis=-1)


@pytest.fixture
def heaps():
    """Two heaps [60, 2], to the left and to the right, and which of them each row is of."""
    y = np.arange(60) % 2
    return np.random.default_rng(0).normal(scale=0.3, size=(60, 2)) + np.stack([6 * y, 0 * y], axis=1), y


@pytest.fixture
def drawn_texts(monkeypatch):
    """The words that are written, and where."""
    told = []
    write = figures.write

    def listen(axes, x, y, text, *args, **kwargs):
        told.append((text, float(x), float(y)))
        return write(axes, x, y, text, *args, **kwargs)

    monkeypatch.setattr(latent_plots, "write", listen)
    return told


# -- where rows lie ----------------------------------------------------------------------------------------------------


def test_classes_are_coloured_and_named_where_they_lie(tmp_path, heaps, drawn_texts):
    Z, y = heaps
    plot_embedding(tmp_path / "z.png", Z, y, ("left", "right"), "two heaps")
    picture = pixels(tmp_path / "z.png")
    middle = picture.shape[1] // 2
    for colour, side, other in (
        (BLUE, np.s_[:, :middle], np.s_[:, middle:]),
        (ORANGE, np.s_[:, middle:], np.s_[:, :middle]),
    ):
        assert like(picture[side], colour, 70).sum() > 200
        assert like(picture[other], colour).sum() == 0
    (_, *left), (_, *right) = drawn_texts
    assert [text for text, *_ in drawn_texts] == ["left", "right"]
    assert np.hypot(*left) < 0.2
    assert np.hypot(right[0] - 6, right[1]) < 0.2
    assert [path.name for path in tmp_path.iterdir()] == ["z.png"]


def test_what_classes_are_called_comes_from_the_names_or_from_the_labels(tmp_path, heaps, drawn_texts):
    Z, y = heaps
    for labels, names, words in (
        (np.array(["ape", "bee"])[y], None, ["ape", "bee"]),
        (y * 5 + 2, None, ["2", "7"]),
        (y == 1, None, ["False", "True"]),
        (y + 1, ("none", "one", "two", "three"), ["one", "two"]),
        (None, None, []),
        (np.empty((60, 0)), None, []),
    ):
        drawn_texts.clear()
        plot_embedding(tmp_path / "z.png", Z, labels, names)
        assert [text for text, *_ in drawn_texts] == words


@pytest.mark.parametrize("whole", [False, True])
def test_a_measure_has_a_colour_bar(tmp_path, drawn_texts, whole):
    Z = np.random.default_rng(0).normal(size=(200, 2))
    measure = np.arange(200) if whole else np.linspace(0, 1, 200)
    plot_embedding(tmp_path / "with.png", Z, measure)
    plot_embedding(tmp_path / "without.png", Z)
    bright, dark = (253, 231, 37), (68, 1, 84)  # the ends of viridis
    found = pixels(tmp_path / "with.png")
    assert not drawn_texts
    assert like(found, bright, 12).sum() > 40
    assert like(found, dark, 12).sum() > 40
    assert not like(pixels(tmp_path / "without.png"), bright, 12).any()


def test_what_is_not_a_number_is_grey_and_never_fails(tmp_path, heaps):
    plot_embedding(tmp_path / "z.png", heaps[0], np.where(heaps[1], np.nan, 1.0))
    assert like(pixels(tmp_path / "z.png"), (216, 216, 216), 8).any()
    plot_embedding(tmp_path / "z.png", heaps[0], np.full(60, np.nan))


@pytest.mark.parametrize("Z", [np.zeros((1, 2)), np.ones((9, 2)), np.stack([np.arange(9.0), np.zeros(9)], axis=1)])
def test_rows_on_one_spot_or_on_a_line_are_drawn(tmp_path, Z):
    pictures = np.zeros((len(Z), 3, 5))
    plot_embedding(tmp_path / "z.png", Z, np.arange(len(Z)) % 2, pictures=pictures)
    spin_embedding(tmp_path / "z.gif", np.concatenate([Z, Z[:, :1]], axis=1), n_frames=2)


def test_names_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.5, 2, (9, 2))
    spots = latent_plots._apart(rng.normal(scale=0.5, size=(9, 2)), sizes)
    gaps = np.abs(spots[:, None] - spots) - (sizes[:, None] + sizes) / 2
    assert (gaps.max(axis=2)[~np.eye(9, dtype=bool)] > -1e-6).all()
    far = np.array([[0.0, 0], [9, 9]])
    assert np.array_equal(latent_plots._apart(far, np.ones((2, 2))), far)


def test_a_name_lies_within_its_bent_class():
    angle = np.linspace(0, np.pi, 50)
    moon = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert np.hypot(*latent_plots._heart(moon)) == pytest.approx(1)


def test_thumbnails_are_drawn_and_none_covers_another(tmp_path, heaps):
    Z, y = heaps
    green = np.zeros((60, 6, 4, 3), np.uint8)
    green[..., 1] = 200
    plot_embedding(tmp_path / "z.png", Z, y, pictures=green)
    found = pixels(tmp_path / "z.png")
    assert like(found, (0, 200, 0), 4).sum() > 2_000
    apart, taken = np.array([0.2, 0.3]), np.array([[0.0, 0.0]])
    chosen = Z[latent_plots._spread(Z, apart, taken, np.array([0.1, 0.1]))]
    gaps = np.abs(chosen[:, None] - chosen)[~np.eye(len(chosen), dtype=bool)]
    assert 4 < len(chosen) < 60
    assert (gaps >= apart).any(axis=1).all()
    assert (np.abs(chosen) >= 0.1).any(axis=1).all()


def test_a_spin_is_one_whole_turn_that_moves_evenly(tmp_path):
    rng = np.random.default_rng(0)
    Z = rng.normal(scale=0.1, size=(300, 3)) + np.repeat(np.eye(3) * 3, 100, axis=0)
    spin_embedding(tmp_path / "z.gif", Z, np.repeat([0, 1, 1], 100), n_frames=12, fps=10)
    shown, milliseconds = frames(tmp_path / "z.gif")
    assert (len(shown), milliseconds) == (12, 100)
    assert max(shown.shape[1:3]) <= 560
    moved = np.array([np.abs(shown[i] - shown[i - 1]).mean() for i in range(12)])  # the first: from the last to it
    assert moved.min() > 0.3
    assert moved[0] < 1.5 * moved[1:].max()
    where = np.array([np.argwhere(blue).mean(axis=0)[1] for blue in shown[..., 2] > shown[..., 0] + 30])
    assert np.ptp(where) > 100
    assert np.ptp(where[:6] + where[6:]) < 60  # half a turn later it is on the other side


def test_what_is_near_hides_what_is_far(tmp_path):
    above = np.deg2rad(18)
    away = np.array([0, np.cos(above), -np.sin(above)])  # where the camera looks, at first
    spin_embedding(tmp_path / "z.gif", np.stack([-away, away, -0.5 * away]), np.array([1.0, 0.0, 0.0]), n_frames=4)
    shown, _ = frames(tmp_path / "z.gif")
    plot = shown[:, :, : int(0.8 * shown.shape[2])]  # beside the colour bar
    yellow = (plot[..., 2] < plot[..., 1] - 60).sum(axis=(1, 2))
    purple = (plot[..., 1] < plot[..., 2] - 25).sum(axis=(1, 2))
    assert yellow[0] > 20
    assert purple[0] < 5 < purple[1]


def test_the_camera_turns_about_the_third_axis():
    up = latent_plots._camera(np.array([[0.0, 0, 1], [0, 0, -1]]), 1.0)[0]
    assert np.allclose(up[:, 0], 0)
    assert up[0, 1] > 0 > up[1, 1]
    point = np.array([[0.0, -1.0, 0.0]])
    (near, depth), (far, depth_far) = latent_plots._camera(point, 0.0), latent_plots._camera(point, np.pi)
    assert depth < 1 < depth_far
    assert near[0, 1] < 0 < far[0, 1]  # seen from above, what is near is lower


# -- what is decoded ---------------------------------------------------------------------------------------------------


def test_originals_stand_above_their_reconstructions_and_noise_above_both(tmp_path):
    X = np.full((3, 10, 10, 3), 40, np.uint8)
    X[..., 1] = 200
    X_hat, noisy = X.copy(), X.copy()
    X_hat[..., 0], noisy[..., 2] = 200, 200
    cyan, green, yellow = (40, 200, 200), (40, 200, 40), (200, 200, 40)
    plot_reconstructions(tmp_path / "r.png", X, X_hat, "red below", noisy=noisy)
    picture = pixels(tmp_path / "r.png")
    rows = [np.argwhere(like(picture, colour, 3))[:, 0] for colour in (cyan, green, yellow)]
    assert all(len(row) > 5_000 for row in rows)
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()
    plot_reconstructions(tmp_path / "r.png", X, X_hat)
    assert not like(pixels(tmp_path / "r.png"), cyan, 3).any()


def test_reconstructions_have_the_brightness_of_the_originals(tmp_path):
    X = np.zeros((1, 4, 4))
    X[0, :2] = 16
    plot_reconstructions(tmp_path / "r.png", X, np.full((1, 4, 4), 4.0))
    assert like(pixels(tmp_path / "r.png"), (64, 64, 64), 1).sum() > 1_000
    plot_reconstructions(tmp_path / "r.png", X, np.full((1, 4, 4), 99.0))  # lighter than white


def test_many_pictures_take_more_bands_and_not_all_are_drawn(tmp_path):
    heights = []
    for n in (10, 20, 50):
        plot_reconstructions(tmp_path / "r.png", np.ones((n, 8, 8)), np.ones((n, 8, 8)))
        heights.append(pixels(tmp_path / "r.png").shape[0])
    assert heights[0] < heights[1] == heights[2]


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_rows_of_a_series_are_lines(tmp_path, n):
    X = np.sin(np.linspace(0, 9, 200))[None].repeat(n, axis=0)
    plot_reconstructions(tmp_path / "r.png", X, 0.9 * X, noisy=X + 0.1)
    picture = pixels(tmp_path / "r.png")
    assert like(picture, BLUE, 60).sum() > 200
    assert picture.shape[1] == 1200


def test_a_strip_gets_brighter_from_left_to_right(tmp_path):
    ramp = np.linspace(0, 1, 5)[None, :, None, None] * np.ones((3, 5, 8, 6))
    plot_strip(tmp_path / "s.png", ramp, "a ramp", names=["a", "b", "c"], values=np.linspace(-2, 2, 5), label="z")
    picture = pixels(tmp_path / "s.png")
    places = [np.argwhere(like(picture, [round(255 * level)] * 3, 2))[:, 1].mean() for level in (0.25, 0.5, 0.75)]
    assert places == sorted(places)
    own = np.linspace(-2, 2, 5) * np.array([[1], [2], [3]])
    plot_strip(tmp_path / "own.png", ramp, values=own)
    assert pixels(tmp_path / "own.png").shape[0] > picture.shape[0]  # room for the numbers below each row
    plot_strip(tmp_path / "colour.png", [[np.full((4, 4, 3), (1.0, 0, 0))] * 2])
    assert like(pixels(tmp_path / "colour.png"), (255, 0, 0), 2).sum() > 10_000


def test_points_are_drawn_where_they_are_and_faint_where_they_are_not(tmp_path):
    points = np.array([[[-1, -1, 1.0], [1, 1, 0.0]]])  # the first at the top on the left, the second nowhere
    plot_keypoints(tmp_path / "k.png", np.zeros((1, 20, 30)), points)
    picture = pixels(tmp_path / "k.png")
    there = np.argwhere(like(picture, BLUE, 30))
    black = np.argwhere(like(picture, (0, 0, 0), 2))
    middle = (black.min(0) + black.max(0)) / 2
    assert len(there) > 50
    assert (there.mean(0) < middle).all()
    assert not like(picture, (224, 123, 57), 30).any()
    plot_keypoints(tmp_path / "many.png", np.zeros((9, 20, 30, 3)), np.zeros((9, 4, 3)), "nine")


@pytest.mark.parametrize("there_and_back", [True, False])
def test_a_walk_shows_each_picture_and_goes_back(tmp_path, there_and_back):
    levels = np.array([0, 60, 120, 180])
    walk = levels[:, None, None] * np.ones((4, 8, 8))
    latent_walk(tmp_path / "w.gif", walk.astype(np.uint8), "brighter", fps=5, there_and_back=there_and_back)
    shown, milliseconds = frames(tmp_path / "w.gif")
    order = [0, 1, 2, 3, 2, 1] if there_and_back else [0, 1, 2, 3]
    middle = shown[:, shown.shape[1] // 2, shown.shape[2] // 2, 0]
    assert np.abs(middle - levels[order]).max() <= 6
    assert milliseconds == 200


def test_a_walk_has_its_place_on_the_map(tmp_path, heaps):
    Z, y = heaps
    steps = np.stack([np.linspace(0, 6, 9), np.zeros(9)], axis=1)
    latent_walk(tmp_path / "w.gif", np.zeros((9, 8, 8)), "", steps, Z, y, there_and_back=False)
    shown, _ = frames(tmp_path / "w.gif")
    right = shown[:, :, shown.shape[2] // 2 :]
    dark = (like(right, (0x22, 0x31, 0x3F), 25)).sum(axis=(1, 2))  # the way that was gone
    assert dark[-1] > 2 * dark[4] > 2 * dark[1]
    assert len(shown) == 9
    latent_walk(tmp_path / "one.gif", np.zeros((1, 8, 8)), steps=steps[:1])
    assert len(frames(tmp_path / "one.gif")[0]) == 1


# -- how it was trained ------------------------------------------------------------------------------------------------


def test_losses_are_drawn_and_only_wide_positive_ones_on_a_logarithmic_axis(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    scales = []
    monkeypatch.setattr(Axes, "set_yscale", lambda self, scale, **kwargs: scales.append(scale))
    epochs = np.arange(1, 31)
    for curve in (np.exp(-epochs / 5), 1 + 1 / epochs, -1.0 * epochs, np.zeros(3), [0.5], [np.nan, 1.0], [np.nan]):
        plot_loss(tmp_path / "l.png", curve)
    assert scales == ["log"]


def test_validation_is_a_second_line_with_its_best_epoch(tmp_path):
    plot_loss(tmp_path / "l.png", [3.0, 2, 1.5], [3, np.nan, 4.0], "a fit", "nats")
    picture = pixels(tmp_path / "l.png")
    assert like(picture, BLUE, 5).sum() > 200
    assert like(picture, ORANGE, 5).sum() > 200
    plot_loss(tmp_path / "l.png", [3.0, 2], [np.nan, np.nan])


# -- in TensorBoard ----------------------------------------------------------------------------------------------------


def test_the_projector_gets_numbers_labels_and_pictures_that_agree(tmp_path):
    rng = np.random.default_rng(0)
    Z, y, pictures = rng.normal(size=(10, 5)), np.arange(10) % 3, rng.integers(0, 256, (10, 8, 8), np.uint8)
    export_projector(tmp_path / "new" / "z", Z, y, ("a cat", "a\tdog", "owl"), pictures)
    folder = tmp_path / "new" / "z"
    assert sorted(path.name for path in folder.iterdir()) == [
        "metadata.tsv",
        "projector_config.pbtxt",
        "sprite.png",
        "tensors.tsv",
    ]
    assert np.allclose(np.loadtxt(folder / "tensors.tsv", delimiter="\t"), Z, rtol=1e-6)
    lines = (folder / "metadata.tsv").read_text().splitlines()
    assert lines == [("a cat", "a dog", "owl")[one] for one in y]
    sprite = pixels(folder / "sprite.png")
    assert sprite.shape == (32, 32, 3)
    for i, picture in enumerate(pictures):
        assert np.array_equal(sprite[i // 4 * 8 :, i % 4 * 8 :][:8, :8, 1], picture)


def test_the_projector_gets_columns_with_a_header_or_nothing_but_numbers(tmp_path):
    y = np.arange(6).reshape(3, 2)
    export_projector(tmp_path, np.eye(3), y, ("x", "y"))
    assert (tmp_path / "metadata.tsv").read_text() == "x\ty\n0\t1\n2\t3\n4\t5\n"
    export_projector(tmp_path, np.eye(3), y[:, :1], ("x",))
    assert (tmp_path / "metadata.tsv").read_text() == "0\n2\n4\n"
    export_projector(tmp_path / "bare", np.eye(3), np.empty((3, 0)))
    assert sorted(path.name for path in (tmp_path / "bare").iterdir()) == ["projector_config.pbtxt", "tensors.tsv"]
    assert "metadata" not in (tmp_path / "bare" / "projector_config.pbtxt").read_text()


def test_a_sprite_is_square_and_no_larger_than_what_is_drawn(monkeypatch):
    tall = np.zeros((3, 20, 10))
    sprite, side = latent_plots._sprite(tall)
    assert (sprite.shape, side) == ((40, 40, 3), 20)
    assert (sprite[:20, 5:15] == 0).all()
    assert (sprite[:20, :5] == 255).all()
    monkeypatch.setattr(latent_plots, "SPRITE", 16)
    sprite, side = latent_plots._sprite(tall)
    assert (sprite.shape, side) == ((16, 16, 3), 8)
    with pytest.raises(ValueError, match="at most 256"):
        latent_plots._sprite(np.zeros((300, 2, 2)))


def test_tensorboard_reads_it(tmp_path):
    pytest.importorskip("tensorboard")
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    export_projector(tmp_path, np.eye(4), np.arange(4), pictures=np.zeros((4, 6, 6)))
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (found,) = config.embeddings
    assert (found.tensor_path, found.metadata_path) == ("tensors.tsv", "metadata.tsv")
    assert (found.sprite.image_path, list(found.sprite.single_image_dim)) == ("sprite.png", [6, 6])


# -- what is refused ---------------------------------------------------------------------------------------------------


Z2, Z3, P = np.zeros((4, 2)), np.zeros((4, 3)), np.zeros((4, 5, 5))
WRONG = {
    "Z flat": (plot_embedding, (np.zeros(4),), r"Z of shape \[4\]; expected is \[N, 2\]"),
    "Z wide": (plot_embedding, (Z3,), r"Z of shape \[4, 3\]"),
    "Z empty": (plot_embedding, (np.zeros((0, 2)),), "at least one row"),
    "Z not finite": (plot_embedding, (np.full((4, 2), np.nan),), "not finite"),
    "y short": (plot_embedding, (Z2, np.zeros(3)), r"y of shape \[3\]; .*\[4\]"),
    "y of columns": (plot_embedding, (Z2, np.zeros((4, 2))), r"one label for each"),
    "a class without a name": (plot_embedding, (Z2, np.arange(4), ("a", "b")), "from 0 to 1"),
    "a name for a measure": (plot_embedding, (Z2, np.zeros(4), ("a", "b")), "whole numbers"),
    "too few pictures": (plot_embedding, (Z2, None, None, "", P[:3]), "pictures are 3, for 4 rows"),
    "channels first": (plot_embedding, (Z2, None, None, "", np.zeros((4, 3, 5, 5))), "np.moveaxis"),
    "spin in the plane": (spin_embedding, (Z2,), r"expected is \[N, 3\]"),
    "no frames": (spin_embedding, (Z3, None, None, "", 0), "n_frames must be at least 1"),
    "other X_hat": (plot_reconstructions, (P, P[:3]), r"X_hat of shape \[3, 5, 5\]; expected is that of X"),
    "other noise": (plot_reconstructions, (P, P, "", P[:, :4]), r"noisy of shape"),
    "no rows": (plot_reconstructions, (P[:0], P[:0]), r"X of shape \[0, 5, 5\]"),
    "points of two numbers": (plot_keypoints, (P, np.zeros((4, 3, 2))), r"points of shape \[4, 3, 2\]"),
    "points of others": (plot_keypoints, (P, np.zeros((3, 1, 3))), r"expected is \[4, n, 3\]"),
    "flat strips": (plot_strip, (P,), r"expected is \[K, n, H, W\]"),
    "strips' names": (plot_strip, (P[None], "", ["a", "b"]), "2 names for 1 rows"),
    "strips' values": (plot_strip, (P[None], "", None, np.zeros(3)), r"values of shape \[3\]; expected is \[4\]"),
    "a map without a way": (latent_walk, (P, "", None, Z2), "needs steps"),
    "too few steps": (latent_walk, (P, "", Z2[:2]), "2 steps for 4 pictures"),
    "no loss": (plot_loss, ([],), "training of shape"),
    "losses of two lengths": (plot_loss, ([1, 2], [1]), r"validation of shape \[1\]; expected is a loss for each of 2"),
    "projected Z": (export_projector, (np.zeros(4),), r"expected is \[N, D\]"),
    "projected y": (export_projector, (Z3, np.zeros(2)), r"y of shape \[2\]"),
    "projected names": (export_projector, (Z3, np.zeros((4, 2)), ("a",)), "1 names for 2 columns"),
    "projected pictures": (export_projector, (Z3, None, None, P[:2]), "pictures are 2, for 4 rows"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_shape_is_one_line_and_leaves_nothing(tmp_path, kind):
    draw, arguments, words = WRONG[kind]
    with pytest.raises(ValueError, match=words) as caught:
        draw(tmp_path / "p.png", *arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
