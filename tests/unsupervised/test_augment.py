"""Augmentations: exact properties, numbers by hand, and what holds for all of them."""

import inspect

import pytest
import torch
import torch.nn.functional as F

from unsupervised import augment
from unsupervised.augment import RECIPES


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(B=6, C=3, H=12, W=10):
    return torch.rand(B, C, H, W, generator=seeded(1))


ON_PICTURES = {
    "random_shift": augment.random_shift,
    "resized_crop": augment.resized_crop,
    "flip": augment.flip,
    "rotation": augment.rotation,
    "cutout": augment.cutout,
    "colour_jitter": augment.colour_jitter,
    "grey": augment.grey,
    "blur": augment.blur,
    "gaussian": lambda x, generator=None: augment.gaussian(x, 0.2, generator),
    "mask": lambda x, generator=None: augment.mask(x, 0.3, generator),
    "salt_and_pepper": lambda x, generator=None: augment.salt_and_pepper(x, 0.3, generator),
    "swap": lambda x, generator=None: augment.swap(x, 0.3, generator),
    **{name: RECIPES[name] for name in ("atari", "cifar", "digits")},
}
each = pytest.mark.parametrize("name", ON_PICTURES)


# -- all of them -------------------------------------------------------------------------------------------------------


def test_none_is_forgotten():
    public = {
        name
        for name, function in vars(augment).items()
        if inspect.isfunction(function) and function.__module__ == augment.__name__ and name[0] != "_"
    }
    assert {*public, "random_shift"} == {*ON_PICTURES, "mixup", "cutmix", "tabular"}  # which agents have, too
    assert set(RECIPES) == {"atari", "cifar", "digits", "tabular"}


@each
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shape_and_type_are_kept_and_the_input_is(name, dtype, channels):
    x = pictures(C=channels)
    x = (x * 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)
    before = x.clone()
    out = ON_PICTURES[name](x, generator=seeded())
    assert out.shape == x.shape
    assert out.dtype == dtype
    assert torch.equal(x, before)
    last = ON_PICTURES[name](x.contiguous(memory_format=torch.channels_last), generator=seeded())
    torch.testing.assert_close(last, out, atol=1 if dtype == torch.uint8 else 1e-5, rtol=0)


@each
def test_a_generator_decides_and_without_one_the_global_one(name):
    x = pictures(B=16)
    first = ON_PICTURES[name](x, generator=seeded(3))
    assert torch.equal(ON_PICTURES[name](x, generator=seeded(3)), first)
    assert not torch.equal(ON_PICTURES[name](x, generator=seeded(4)), first)
    before = torch.get_rng_state()
    ON_PICTURES[name](x, generator=seeded(3))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.testing.assert_close(ON_PICTURES[name](x), first)


@each
def test_each_sample_is_drawn_for_by_itself(name):
    x = pictures(B=1).expand(16, -1, -1, -1).contiguous()
    if name == "swap":  # whose samples are made of each other
        x = x + torch.arange(16.0).view(-1, 1, 1, 1)
    out = ON_PICTURES[name](x, generator=seeded()) - x
    assert len({tuple(one.flatten().round(decimals=4).tolist()) for one in out}) > 1


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_of_two_pictures_the_labels_are_the_shares(name):
    x, y = pictures(B=32).double(), F.one_hot(torch.arange(32) % 5, 5).double()
    flat = torch.arange(32.0).view(-1, 1, 1, 1).expand(32, 1, 20, 20)
    mixed, labels = getattr(augment, name)(x, y, generator=seeded())
    assert mixed.shape == x.shape
    torch.testing.assert_close(labels.sum(1), torch.ones(32, dtype=torch.float64))
    again = getattr(augment, name)(x, y, generator=seeded())
    assert torch.equal(again[0], mixed)
    means, shares = getattr(augment, name)(flat, torch.eye(32), generator=seeded(5))  # of each picture its number
    torch.testing.assert_close(means.mean((1, 2, 3)), shares @ torch.arange(32.0), rtol=1e-4, atol=1e-4)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_shift_is_padding_with_the_edge_and_a_crop():
    x = pictures(B=200, C=2, H=9, W=7)
    out, padded, seen = augment.random_shift(x, 4, seeded()), F.pad(x, (4, 4, 4, 4), mode="replicate"), set()
    for one, around in zip(out, padded, strict=True):
        places = [(i, j) for i in range(9) for j in range(9) if torch.equal(around[:, i : i + 9, j : j + 7], one)]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 70  # of 81
    assert {i for i, _ in seen} == {j for _, j in seen} == set(range(9))
    assert torch.equal(augment.random_shift(x, 0), x)


def test_a_crop_of_the_whole_is_the_whole_and_of_a_quarter_two_steps_for_one():
    x = torch.arange(8.0).view(1, 1, 1, 8).expand(50, 1, 8, 8)
    torch.testing.assert_close(augment.resized_crop(x, (1, 1), (1, 1)), x, atol=1e-5, rtol=0)
    out = augment.resized_crop(x, (0.25, 0.25), (1, 1), seeded())
    torch.testing.assert_close(out[..., 3:5].diff(dim=3), torch.full((50, 1, 8, 1), 0.5), atol=1e-4, rtol=0)
    assert out.amin() >= 0
    assert out.amax() <= 7
    assert out[:, 0, 0, 0].min() < 0.5 < 3 < out[:, 0, 0, 0].max()  # from the left edge to the middle
    whole = (x * 30).to(torch.uint8)
    assert torch.equal(augment.resized_crop(whole, (1, 1), (1, 1)), whole)


def test_a_mirror_image_is_one():
    x = pictures(B=400)
    assert torch.equal(augment.flip(x, 1.0), x.flip(3))
    assert torch.equal(augment.flip(x, 0.0), x)
    turned = (augment.flip(x, 0.25, seeded()) != x).flatten(1).any(1)
    assert 70 < turned.sum() < 130


def test_a_rotation_goes_round_the_middle_also_where_sides_differ():
    x = torch.zeros(400, 1, 31, 61)
    x[:, :, 14:17, 39:42] = 1.0  # a dot, ten pixels to the right of the middle
    out = augment.rotation(x, 90.0, seeded())[:, 0]
    rows, columns = torch.arange(31.0) - 15, torch.arange(61.0) - 30
    mass = out.sum((1, 2))
    dy, dx = (out.sum(2) @ rows) / mass, (out.sum(1) @ columns) / mass
    torch.testing.assert_close(torch.hypot(dy, dx), torch.full((400,), 10.0), atol=0.3, rtol=0)
    assert dx.min() > -0.5
    assert dy.min() < -9
    assert dy.max() > 9
    torch.testing.assert_close(augment.rotation(x, 0.0), x, atol=1e-4, rtol=0)


def test_colours_by_hand():
    x = pictures()
    torch.testing.assert_close(augment.colour_jitter(x, 0, 0, 0, 0, p=1.0), x, atol=1e-5, rtol=0)
    assert torch.allclose(augment.colour_jitter(x, p=0.0), x, atol=1e-5)
    factor = augment.colour_jitter(x, 0.4, 0, 0, 0, p=1.0, generator=seeded()) / x
    assert factor.flatten(1).std(1).max() < 1e-3
    assert 0.6 <= factor.min() < 0.9 < 1.1 < factor.max() <= 1.4
    luma = torch.tensor(augment.LUMA).view(1, 3, 1, 1)
    other = augment.colour_jitter(x, 0, 0, 0.9, 0.5, p=1.0, generator=seeded())
    torch.testing.assert_close((other * luma).sum(1), (x * luma).sum(1), atol=1e-3, rtol=0)  # as bright as before
    assert (other - x).abs().mean() > 0.05
    sharper = augment.colour_jitter(x, 0, 0.5, 0, 0, p=1.0, generator=seeded())
    middle = (x * luma).sum(1).mean((1, 2))[:, None, None, None]
    ratio = (sharper - middle) / (x - middle)
    torch.testing.assert_close(
        ratio, ratio.flatten(1).median(1).values[:, None, None, None].expand_as(ratio), rtol=1e-2, atol=0
    )


def test_strengths_of_hue_are_turns():
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(3000, 3, 1, 1)
    hues = augment.colour_jitter(red, 0, 0, 0, 0.25, p=1.0, generator=seeded()).flatten(1) @ torch.tensor(augment.YIQ).T
    start = (red[:1].flatten(1) @ torch.tensor(augment.YIQ).T)[0]
    turns = (torch.atan2(hues[:, 2], hues[:, 1]) - torch.atan2(start[2], start[1])) / (2 * torch.pi)
    assert turns.abs().max() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(torch.hypot(hues[:, 1], hues[:, 2]), torch.hypot(start[1], start[2]).expand(3000))


def test_grey_has_equal_channels():
    x = pictures(B=200)
    out = augment.grey(x, 0.3, seeded())
    equal = (out[:, 0] == out[:, 1]).flatten(1).all(1)
    assert 40 < equal.sum() < 80
    assert torch.equal(out[~equal], x[~equal])
    assert augment.grey(x[:, :1]) is not None
    assert torch.equal(augment.grey(x[:, :1], 1.0), x[:, :1])


def test_blur_is_a_gaussian_that_keeps_what_there_is():
    x = torch.zeros(2, 1, 41, 31)
    x[:, :, 20, 15] = 1.0
    out = augment.blur(x, (2.0, 2.0), p=1.0)[0, 0]
    assert out.sum() == pytest.approx(1.0, abs=1e-4)
    offsets = torch.arange(41.0) - 20
    assert (out.sum(1) @ offsets.square()).sqrt() == pytest.approx(2.0, abs=0.01)
    assert torch.equal(augment.blur(x, p=0.0), x)
    even = torch.full((2, 3, 8, 8), 0.3)
    torch.testing.assert_close(augment.blur(even, p=1.0), even)


def test_a_hole_has_the_size_that_was_asked_for():
    x = torch.ones(500, 2, 20, 10)
    out = augment.cutout(x, 0.4, fill=7.0, generator=seeded())
    holes = out == 7.0
    assert torch.equal(holes[:, 0], holes[:, 1])
    sizes = holes[:, 0].sum((1, 2))
    assert sizes.max() == 8 * 4  # where it lies inside
    assert sizes.min() == 4 * 2  # where its middle is a corner
    assert (sizes > 0).all()
    filled = holes[:, 0].any(2).sum(1) * holes[:, 0].any(1).sum(1)
    assert torch.equal(filled, sizes)  # a rectangle


def test_shares_of_a_mix_are_beta():
    x, y = torch.zeros(20_000, 1, 1, 1), torch.eye(2).repeat(10_000, 1)
    for alpha in (0.2, 1.0, 4.0):
        shares = augment.mixup(torch.arange(20_000.0).view(-1, 1), torch.eye(2).repeat(10_000, 1), alpha, seeded())[1]
        mixed = shares[(shares > 0).all(1)][:, 0]
        assert mixed.mean() == pytest.approx(0.5, abs=0.02)
        assert mixed.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
    assert augment.cutmix(x.expand(-1, 1, 8, 8), y, generator=seeded())[1].mean() == pytest.approx(0.5, abs=0.01)


def test_what_is_swapped_comes_from_the_same_column():
    x = torch.arange(500.0).view(-1, 1) + torch.tensor([0.0, 10_000.0, 20_000.0])
    out = augment.swap(x, 0.3, seeded())
    assert torch.equal((out / 10_000).floor(), torch.tensor([0.0, 1.0, 2.0]).expand(500, 3))
    assert 0.26 < (out != x).float().mean() < 0.34
    changed = (out != x).float()
    assert abs(torch.corrcoef(changed.T)[0, 1]) < 0.15


def test_noise_in_a_table_is_in_units_of_its_columns():
    x = torch.randn(4000, 2, generator=seeded()) * torch.tensor([1.0, 1e6])
    off = RECIPES["tabular"](x, seeded(1)) - x
    kept = off.abs() < x.std(0)
    for i in range(2):
        assert off[kept[:, i], i].std() < 0.6 * x[:, i].std()
    ratio = off.std(0) / x.std(0)
    torch.testing.assert_close(ratio[0], ratio[1], rtol=0.15, atol=0)


@pytest.mark.parametrize("name", ["random_shift", "resized_crop", "rotation", "blur", "colour_jitter", "mixup"])
def test_a_large_batch_takes_no_more_operations(name):
    """No loop over pictures: the number of calls into torch does not depend on the batch."""

    def calls(B):
        x = pictures(B=B)
        inputs = (x, torch.eye(B)) if name == "mixup" else (x,)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            getattr(augment, name)(*inputs, generator=seeded())
        return sum(event.count for event in profile.key_averages() if event.key.startswith("aten::"))

    calls(2)
    assert calls(64) <= calls(4) + 5
