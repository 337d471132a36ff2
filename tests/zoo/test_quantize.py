"""Quantizers: numbers by hand, gradients as if nothing were rounded."""

import itertools
import math

import pytest
import torch

from sandbox import zoo


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def codebook(*codes, decay=0.99):
    quantizer = zoo.VectorQuantizer(len(codes), len(codes[0]), decay=decay)
    quantizer.start(torch.tensor(codes))
    return quantizer


# -- vector quantisation -----------------------------------------------------------------------------------------------


def test_nearest_codes_and_commitment_by_hand():
    quantizer = codebook([0.0, 0.0], [10.0, 0.0], [0.0, 10.0]).eval()
    z = torch.tensor([[[1.0, 2.0], [9.0, 3.0]], [[1.0, 9.0], [5.1, 0.0]]])
    z_hat, symbols, loss = quantizer(z)
    assert symbols.tolist() == [[0, 1], [2, 1]]
    assert symbols.dtype == torch.int64
    assert z_hat.tolist() == [[[0, 0], [10, 0]], [[0, 10], [10, 0]]]
    assert loss.item() == pytest.approx((1 + 4 + 1 + 9 + 1 + 1 + 4.9**2 + 0) / 8)
    assert torch.equal(quantizer.look_up(symbols), z_hat)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (2, 0), (2, 3, 4)])
def test_any_shape_before_the_last(shape):
    quantizer = zoo.VectorQuantizer(5, 3)
    z_hat, symbols, loss = quantizer(torch.randn(*shape, 3))
    assert z_hat.shape == (*shape, 3)
    assert symbols.shape == shape
    assert loss.shape == ()


def test_the_nearest_is_the_nearest():
    quantizer = zoo.VectorQuantizer(50, 8).eval()
    z = torch.randn(300, 8)
    assert torch.equal(quantizer(z)[1], torch.cdist(z, quantizer.codes).argmin(1))


def test_gradient_goes_straight_through():
    quantizer = codebook([0.0, 0.0], [1.0, 1.0])
    z = torch.tensor([[0.2, 0.3], [0.9, 0.6]], requires_grad=True)
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    z_hat, _, _ = quantizer(z)
    (z_hat * weights).sum().backward()
    assert torch.equal(z.grad, weights)
    z.grad = None
    quantizer = codebook([0.0, 0.0], [1.0, 1.0])
    quantizer(z)[2].backward()
    torch.testing.assert_close(z.grad, 2 * (z.detach() - torch.tensor([[0.0, 0.0], [1.0, 1.0]])) / 4)
    assert not list(quantizer.parameters())


def test_what_comes_out_is_exactly_a_code():
    quantizer = codebook([0.1], [0.3])
    z_hat, _, _ = quantizer(torch.tensor([[1e8], [-1e8]], requires_grad=True))
    assert torch.equal(z_hat, torch.tensor([[0.3], [0.1]]))


def test_moving_averages_by_hand():
    quantizer = codebook([0.0], [10.0], [100.0], decay=0.9)
    quantizer(torch.tensor([[1.0], [2.0], [13.0]]))
    # counts: 0.9 · 1 + 0.1 · n; sums: 0.9 · code + 0.1 · the sum of those that chose it
    counts, sums = [0.9 + 0.2, 0.9 + 0.1, 0.9], [0.3, 9 + 1.3, 90]
    torch.testing.assert_close(quantizer.counts, torch.tensor(counts))
    torch.testing.assert_close(quantizer.sums.flatten(), torch.tensor(sums))
    smoothed = [(n + 1e-5) / (3 + 3e-5) * 3 for n in counts]
    torch.testing.assert_close(
        quantizer.codes.flatten(), torch.tensor([s / n for s, n in zip(sums, smoothed, strict=True)])
    )
    assert quantizer.idle.tolist() == [0, 0, 1]
    quantizer(torch.tensor([[100.0]]))
    assert quantizer.idle.tolist() == [1, 1, 0]
    assert quantizer.counts.tolist() == pytest.approx([0.99, 0.9, 0.91])


def test_a_code_that_has_never_counted_is_still_a_number():
    quantizer = codebook([0.0], [10.0], decay=0.5)
    quantizer.counts.zero_(), quantizer.sums.zero_()
    quantizer(torch.tensor([[8.0]]))
    assert quantizer.codes.flatten().tolist() == pytest.approx([0, 8], rel=1e-4)


def test_a_code_ends_at_the_mean_of_its_vectors():
    quantizer = codebook([0.0, 0.0], [5.0, 5.0], decay=0.9)
    z = torch.tensor([[1.0, 1.0], [1.0, 3.0], [6.0, 4.0]])
    for _ in range(300):
        quantizer(z)
    torch.testing.assert_close(quantizer.codes, torch.tensor([[1.0, 2.0], [6.0, 4.0]]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("how", ["eval", "no_grad"])
def test_outside_training_nothing_moves(how):
    quantizer = codebook([0.0], [10.0])
    before = {key: tensor.clone() for key, tensor in quantizer.state_dict().items()}
    if how == "eval":
        quantizer.eval()(torch.randn(9, 1))
    else:
        with torch.no_grad():
            quantizer(torch.randn(9, 1))
    assert all(torch.equal(tensor, before[key]) for key, tensor in quantizer.state_dict().items())
    quantizer.train()(torch.randn(9, 1))
    assert not torch.equal(quantizer.codes, before["codes"])


def test_codes_that_nothing_uses_are_put_on_a_vector_of_the_batch():
    quantizer = codebook([0.0], [1000.0], decay=0.9)  # 10 calls
    z = torch.tensor([[1.0], [2.0], [3.0]])
    for _ in range(9):
        quantizer(z)
    assert quantizer.codes[1].item() == pytest.approx(1000, rel=1e-3)
    assert quantizer.idle.tolist() == [0, 9]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = z[torch.randint(3, (2,))][1]
        torch.manual_seed(5)
        quantizer(z)
    torch.testing.assert_close(quantizer.codes[1], expected, atol=1e-3, rtol=0)
    assert quantizer.idle.tolist() == [0, 0]
    assert quantizer.counts[1] == 1


def test_after_a_bad_start_every_code_comes_into_use():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clusters = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
        quantizer = codebook(*[[50.0 + i, 50.0] for i in range(8)], decay=0.9)
        for _ in range(200):
            z = (clusters + 0.1 * torch.randn(32, 4, 2)).flatten(0, 1)
            _, symbols, _ = quantizer(z)
        assert zoo.perplexity(symbols) > 4
        assert quantizer.eval()(clusters)[2] < 0.02


def test_deterministic_under_a_seed():
    def trained():
        with torch.random.fork_rng():
            torch.manual_seed(3)
            quantizer = zoo.VectorQuantizer(20, 2, decay=0.5)
            for _ in range(20):
                quantizer(torch.randn(10, 2))
        return quantizer.state_dict()

    one, two = trained(), trained()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_state_goes_on_where_it_was():
    quantizer, again = zoo.VectorQuantizer(6, 2), zoo.VectorQuantizer(6, 2)
    for _ in range(3):
        quantizer(torch.randn(10, 2))
    again.load_state_dict(quantizer.state_dict())
    z = torch.randn(10, 2)
    quantizer(z), again(z)
    assert set(quantizer.state_dict()) == {"codes", "counts", "sums", "idle"}
    assert torch.equal(quantizer.codes, again.codes)


def test_bf16_chooses_as_float32_does():
    quantizer = codebook(*[[10 + i / 100] for i in range(50)]).eval()
    z = quantizer.codes.clone()
    with torch.autocast("cpu", torch.bfloat16):
        assert quantizer(z)[1].tolist() == list(range(50))


def test_what_a_vector_quantizer_refuses():
    for kwargs, match in [
        ({"n_codes": 0}, "n_codes must be positive"),
        ({"dim": -1}, "dim must be positive"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\)"),
        ({"decay": -0.1}, r"decay must be in \[0, 1\)"),
    ]:
        with pytest.raises(ValueError, match=match):
            zoo.VectorQuantizer(**{"n_codes": 2, "dim": 2, **kwargs})
    quantizer = zoo.VectorQuantizer(4, 3)
    with pytest.raises(ValueError, match=r"takes z of shape \[\.\.\., 3\], got \[2, 4\]"):
        quantizer(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"centers must have shape \[4, 3\], got \[3, 3\]"):
        quantizer.start(torch.zeros(3, 3))


def test_perplexity():
    assert zoo.perplexity(torch.arange(7)).item() == pytest.approx(7)
    assert zoo.perplexity(torch.zeros(5, 2, dtype=torch.int64)).item() == 1
    half, quarter = 0.5 * math.log(2), 0.25 * math.log(4)
    assert zoo.perplexity(torch.tensor([4, 4, 2, 9])).item() == pytest.approx(math.exp(half + 2 * quarter))


# -- finite scalar quantisation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "values"),
    [
        (2, [-1, 0]),
        (3, [-1, 0, 1]),
        (4, [-1, -0.5, 0, 0.5]),
        (5, [-1, -0.5, 0, 0.5, 1]),
        (8, [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]),
    ],
)
def test_levels_by_hand(levels, values):
    fsq = zoo.FSQ((levels,))
    z_hat, symbols = fsq(torch.linspace(-9, 9, 2001)[:, None])
    assert z_hat.unique().tolist() == values
    assert symbols.unique().tolist() == list(range(levels))
    assert torch.equal(z_hat.flatten().sort()[0], z_hat.flatten())  # in order
    assert fsq.look_up(torch.arange(levels)).flatten().tolist() == values
    z_hat, symbols = fsq(torch.zeros(1, 1))
    assert z_hat.item() == 0
    assert symbols.item() == levels // 2


def test_thresholds_by_hand():
    # Three levels: tanh(z) · 0.999 rounds up from atanh(0.5 / 0.999).
    threshold = math.atanh(0.5 / 0.999)
    _, symbols = zoo.FSQ((3,))(
        torch.tensor([-threshold - 1e-3, -threshold + 1e-3, threshold - 1e-3, threshold + 1e-3])[:, None]
    )
    assert symbols.tolist() == [0, 1, 1, 2]
    # Four: tanh(z + s) · 1.4985 - 0.5 with s = tan(0.5 / 1.4985), -0.5 in the middle.
    shift = math.tan(0.5 / 1.4985)
    _, symbols = zoo.FSQ((4,))(torch.tensor([-shift - 1e-3, -shift + 1e-3])[:, None])
    assert symbols.tolist() == [1, 2]


def test_symbols_count_through_all_combinations_the_first_fastest():
    fsq = zoo.FSQ((3, 2, 4))
    assert fsq.n_codes == 24
    z_hat = fsq.look_up(torch.arange(24))
    values = [[-1, 0, 1], [-1, 0], [-1, -0.5, 0, 0.5]]
    expected = [list(reversed(one)) for one in itertools.product(*reversed(values))]
    assert z_hat.tolist() == expected


@pytest.mark.parametrize("levels", [(8, 6, 5), (2,), (7, 2, 3)])
def test_every_symbol_there_and_back(levels):
    fsq = zoo.FSQ(levels)
    symbols = torch.arange(fsq.n_codes)
    z_hat = fsq.look_up(symbols)
    L = torch.tensor(levels)
    reach, offset = (L - 1) * 0.999 / 2, 0.5 * (L % 2 == 0)
    inside = ((z_hat * (L // 2) + offset) / reach).clamp(-0.9999, 0.9999)
    z = torch.atanh(inside) - torch.tan(offset / reach)
    again, found = fsq(z)
    assert torch.equal(found, symbols)
    assert torch.equal(again, z_hat)


def test_gradient_is_that_of_the_bound_alone():
    z = torch.randn(5, 2, requires_grad=True)
    z_hat, symbols = zoo.FSQ((5, 4))(z)
    z_hat.sum().backward()
    shift, reach = torch.tensor([0, math.tan(0.5 / 1.4985)]), torch.tensor([1.998, 1.4985])
    expected = (1 - torch.tanh(z.detach() + shift) ** 2) * reach / 2
    torch.testing.assert_close(z.grad, expected)
    assert not symbols.requires_grad


def test_fsq_of_any_shape_without_state():
    fsq = zoo.FSQ([4, 3])
    z_hat, symbols = fsq(torch.randn(2, 3, 4, 2))
    assert z_hat.shape == (2, 3, 4, 2)
    assert symbols.shape == (2, 3, 4)
    assert symbols.dtype == torch.int64
    torch.testing.assert_close(fsq.look_up(symbols), z_hat)
    assert not fsq.state_dict()
    assert not list(fsq.parameters())


def test_what_fsq_refuses():
    for wrong in ((), (1,), (3, 0), (2.5,)):
        with pytest.raises(ValueError, match="levels must be"):
            zoo.FSQ(wrong)
    with pytest.raises(ValueError, match=r"FSQ takes z of shape \[\.\.\., 2\], got \[5, 3\]"):
        zoo.FSQ((3, 3))(torch.zeros(5, 3))


def test_quantizers_are_no_encoders():
    assert not {"vector_quantizer", "fsq"} & set(zoo.ZOO)
