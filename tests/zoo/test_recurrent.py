"""The recurrent networks against torch's own cells, one step at a time, with resets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sandbox import zoo

T, B, D, H = 7, 3, 2, 4
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
every_cell = pytest.mark.parametrize("name", CELLS)


def make(name, layers=1):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = zoo.build(name, in_features=D, out_features=H, layers=layers).double()
        x = torch.randn(T, B, D, dtype=torch.double)
        state = torch.randn(module.state_rows, B, H, dtype=torch.double)
    return module, x, state


def stepwise(name, module, x, state, starts):
    """One layer by torch's cell: the loop that the module must equal."""
    cell = CELLS[name](D, H).double()
    cell.load_state_dict({key.removesuffix("_l0"): tensor for key, tensor in module.core.state_dict().items()})
    outputs = []
    for x_t, starts_t in zip(x, starts, strict=True):
        state = state * (1 - starts_t)[None, :, None]
        if name == "lstm":
            h, c = cell(x_t, (state[0], state[1]))
            state = torch.stack([h, c])
        else:
            state = cell(x_t, state[0])[None]
        outputs.append(state[0])
    return torch.stack(outputs), state


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


@every_cell
def test_equals_torchs_cell_with_and_without_resets(name):
    module, x, state = make(name)
    patterns = torch.zeros(5, T, B, dtype=torch.double)
    patterns[1, 0] = 1  # everybody, before the first step
    patterns[2, 3, 1] = 1  # one env in the middle
    patterns[3, 2, 0] = patterns[3, 2, 2] = patterns[3, 5, 1] = 1
    patterns[4] = 1  # everybody, always
    for starts in patterns:
        assert_close(module(x, state, starts), stepwise(name, module, x, state, starts))


@every_cell
@given(starts=st.lists(st.lists(st.booleans(), min_size=B, max_size=B), min_size=1, max_size=T))
@settings(max_examples=30, deadline=None)
def test_any_pattern_of_resets_equals_stepwise(name, starts):
    module, x, state = make(name)
    starts = torch.tensor(starts)
    x = x[: len(starts)]
    assert_close(module(x, state, starts), stepwise(name, module, x, state, starts.double()))


@every_cell
def test_a_sequence_equals_its_parts(name):
    module, x, state = make(name, layers=2)
    starts = torch.zeros(T, B)
    starts[2, 1] = starts[4, 0] = 1
    whole = module(x, state, starts)
    first, middle = module(x[:3], state, starts[:3])
    second, last = module(x[3:], middle, starts[3:])
    assert_close(whole, (torch.cat([first, second]), last))


@every_cell
def test_runs_whole_between_starts(name, monkeypatch):
    module, x, state = make(name)
    lengths = []
    unroll = module.unroll
    monkeypatch.setattr(module, "unroll", lambda x, state: lengths.append(len(x)) or unroll(x, state))
    starts = torch.zeros(T, B)
    starts[0] = 1
    module(x, state, starts)
    assert lengths == [T]
    lengths.clear()
    starts[2, 0] = starts[2, 1] = starts[5, 2] = 1
    module(x, state, starts)
    assert lengths == [2, 3, 2]


@every_cell
def test_nothing_crosses_a_start(name):
    module, x, state = make(name)
    starts = torch.zeros(T, B)
    starts[3] = 1
    x.requires_grad_()
    y, _ = module(x, state.fill_(float("nan")), starts)  # not even a NaN
    assert y[3:].isfinite().all()
    assert y[:3].isnan().all()
    module(x, module.initial_state(B), starts)[0][3:].sum().backward()
    assert not x.grad[:3].any()
    assert x.grad[3:].abs().sum() > 0


@every_cell
def test_initial_state_is_zero_like_the_parameters(name):
    module, _, _ = make(name, layers=2)
    state = module.initial_state(5)
    assert state.shape == (4 if name == "lstm" else 2, 5, H)
    assert state.dtype == torch.double
    assert not state.any()


@every_cell
def test_wrong_shapes(name):
    module, x, state = make(name)
    with pytest.raises(
        ValueError, match=rf"{name.upper()} takes state of shape \[\d, 3, 4\], got \[{len(state)}, 2, 4\]"
    ):
        module(x, state[:, :2], torch.zeros(T, B))
    with pytest.raises(ValueError, match=r"takes starts of shape \[7, 3\], got \[3, 7\]"):
        module(x, state, torch.zeros(B, T))
    with pytest.raises(ValueError, match=r"takes x of shape \[T > 0, B, 2\], got \[0, 3, 2\]"):
        module(x[:0], state, torch.zeros(0, B))
    with pytest.raises(ValueError, match="layers must be positive"):
        zoo.build(name, in_features=2, layers=0)
