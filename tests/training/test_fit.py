"""The one training loop: its steps by hand, against torch's own optimisers, and what must survive a stop."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from sandbox.training import FileError
from sandbox.training.fit import OPTIMIZERS, Fitting, evaluate, fit
from sandbox.training.schedules import Cosine, Linear, Step, Warmup

X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3).astype(np.float32)


def line(seed=0, dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def squares(model):
    def loss(x, y):
        error = (model(x) - y).square().mean()
        return error, {"size": x.new_tensor(float(len(x)))}

    return loss


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(model, epochs, fitting=None, **kwargs):
    fitting = fitting or Fitting(model)
    return fit(fitting, squares(model), (X, Y), epochs=epochs, batch_size=16, seed=1, **kwargs)


# -- one step ----------------------------------------------------------------------------------------------------------

PEERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torchs_optimiser(name):
    ours, theirs = line(), line()
    fit(Fitting(ours, name), squares(ours), (X, Y), epochs=5, batch_size=50, learning_rate=0.01)
    optimizer = PEERS[name](theirs.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        squares(theirs)(torch.tensor(X), torch.tensor(Y))[0].backward()
        optimizer.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-5)


def one_weight(w=2.0, b=1.0):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, w)
    nn.init.constant_(model.bias, b)
    return model


def one_step(model, l2=0.0, optimizer="sgd", **kwargs):
    """A step of 0.1 against a gradient of 3 for the weight and 1 for the bias."""
    x = np.array([[3.0]], np.float32)
    fit(
        Fitting(model, optimizer, l2=l2),
        lambda x: (model(x).mean(), {}),
        (x,),
        epochs=1,
        learning_rate=kwargs.pop("learning_rate", 0.1),
        **kwargs,
    )
    return model.weight.item(), model.bias.item()


def test_a_step_and_both_decays_by_hand():
    assert one_step(one_weight()) == pytest.approx((2 - 0.1 * 3, 1 - 0.1))
    assert one_step(one_weight(), l2=0.5) == pytest.approx((2 - 0.1 * (3 + 0.5 * 2), 1 - 0.1))  # biases do not decay
    assert one_step(one_weight(-2.0), l1=0.5) == pytest.approx((-2 - 0.1 * (3 - 0.5), 1 - 0.1))
    # AdamW takes the decay apart from the gradient: 2 (1 - 0.1 · 0.5) - 0.1
    assert one_step(one_weight(), l2=0.5, optimizer="adamw")[0] == pytest.approx(1.8, abs=1e-5)


def test_the_gradient_is_clipped_as_a_whole():
    length = math.sqrt(3**2 + 1)
    assert one_step(one_weight(), clip_norm=1.0) == pytest.approx((2 - 0.3 / length, 1 - 0.1 / length), abs=1e-5)


def test_schedules_set_each_steps_learning_rate():
    def rates(schedule):
        model, seen = line(), []
        fitting = Fitting(model)
        fit(
            fitting,
            squares(model),
            (X, Y),
            epochs=2,
            batch_size=25,
            learning_rate=schedule,
            after_step=lambda: seen.append(fitting.optimizer.param_groups[0]["lr"]),
        )
        return seen

    assert rates(0.5) == [0.5] * 4
    assert rates(Linear(1.0)) == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert rates(Cosine(1.0)) == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert rates(Step(1.0, factor=0.1, n_steps=2)) == pytest.approx([1.0, 1.0, 0.1, 0.1])
    assert rates(Warmup(Linear(1.0), fraction=0.5)) == pytest.approx([0.0, 0.375, 0.5, 0.25])


# -- an epoch ----------------------------------------------------------------------------------------------------------


def test_an_epoch_sees_each_sample_once_in_even_batches():
    seen, sizes = [], []
    model = nn.Linear(1, 1)

    def loss(x):
        seen.extend(x[:, 0].int().tolist())
        sizes.append(len(x))
        return model(x).mean(), {}

    numbers = np.arange(33, dtype=np.float32)[:, None]
    fit(Fitting(model), loss, (numbers,), epochs=2, batch_size=16)
    assert sorted(seen[:33]) == sorted(seen[33:]) == list(range(33))
    assert seen[:33] != seen[33:]
    assert sizes == [11] * 6


def test_the_history_has_means_over_samples():
    model = nn.Linear(1, 1)
    numbers = np.arange(5, dtype=np.float32)[:, None]
    fitting = fit(
        Fitting(model, "sgd"),
        lambda x: (0 * model(x).sum() + x.mean(), {"first": x[:, 0].max()}),
        (numbers,),
        epochs=1,
        batch_size=3,
    )
    assert fitting.history[0]["loss"] == pytest.approx(2.0)
    assert fitting.epoch == 1
    assert fitting.step == 2


def test_arrays_stay_where_they_are(tmp_path):
    big = np.lib.format.open_memmap(tmp_path / "big.npy", mode="w+", dtype=np.uint8, shape=(40, 3))
    big[:] = np.arange(120).reshape(40, 3)
    big.flush()
    readonly = np.load(tmp_path / "big.npy", mmap_mode="r")
    model, kinds = line(), set()

    def loss(x):
        kinds.add((x.dtype, tuple(x.shape)))
        return model(x.float() / 255).mean(), {}

    fit(Fitting(model), loss, (readonly,), epochs=1, batch_size=20)
    assert kinds == {(torch.uint8, (20, 3))}


def test_samples_held_out_are_not_learned_from():
    held, seen = torch.tensor([3, 7, 11]), set()
    model = nn.Linear(1, 1)

    def loss(x):
        if model.training:
            seen.update(x[:, 0].int().tolist())
        return model(x).square().mean(), {}

    numbers = np.arange(20, dtype=np.float32)[:, None]
    fitting = fit(Fitting(model), loss, (numbers,), epochs=2, batch_size=4, held_out=held)
    assert seen == set(range(20)) - {3, 7, 11}
    alone = evaluate(model, loss, (numbers[[3, 7, 11]],))["loss"]
    assert min(row["held_out_loss"] for row in fitting.history) == pytest.approx(alone)


def test_the_best_weights_are_left_and_patience_ends_it():
    model = one_weight(0.0, 0.0)
    x = np.array([[1.0], [1.0]], np.float32)
    y = np.array([[9.0], [2.0]], np.float32)  # the first is learned from, the second judged by: best on the way to 9
    fitting = fit(
        Fitting(model, "sgd"),
        lambda x, y: ((model(x) - y).square().mean(), {}),
        (x, y),
        epochs=100,
        learning_rate=0.02,
        held_out=torch.tensor([1]),
        patience=3,
    )
    losses = [row["held_out_loss"] for row in fitting.history]
    assert fitting.stopped == "no better for 3 epochs"
    assert fitting.best_epoch == int(np.argmin(losses))
    assert len(losses) == fitting.best_epoch + 1 + 3
    assert (model.weight + model.bias).item() == pytest.approx(2.0, abs=0.4)
    assert (model.weight.item() + model.bias.item() - 2.0) ** 2 == pytest.approx(min(losses), abs=1e-5)


def test_the_average_is_what_is_left():
    model = one_weight(0.0, 0.0)
    x = np.array([[1.0]], np.float32)
    fit(Fitting(model, "sgd", ema=0.5), lambda x: (model(x).mean(), {}), (x,), epochs=2, learning_rate=0.1)
    # The weight goes 0, -0.1, -0.2; its average 0, -0.05, -0.125.
    assert model.weight.item() == pytest.approx(-0.125)


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_going_on_is_as_if_it_had_not_stopped(name):
    whole, parts = line(dropout=0.3), line(dropout=0.3)
    run(whole, 6, Fitting(whole, name), learning_rate=0.01)
    fitting = run(parts, 2, Fitting(parts, name), learning_rate=0.01)
    run(parts, 6, fitting, learning_rate=0.01)
    assert torch.equal(weights(whole), weights(parts))


@pytest.mark.parametrize("ema", [None, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_going_on_from_a_file_is_as_if_it_had_not_stopped(name, ema, tmp_path):
    path = tmp_path / "fitting.safetensors"
    held = torch.arange(5)
    whole, parts, again = (line(dropout=0.3) for _ in range(3))
    everything = run(whole, 6, Fitting(whole, name, ema=ema), held_out=held, learning_rate=0.01)
    run(parts, 3, Fitting(parts, name, ema=ema), held_out=held, learning_rate=0.01, checkpoint=path)
    nn.init.zeros_(again[0].weight)  # whatever it begins with
    fitting = run(again, 6, Fitting(again, name, ema=ema), held_out=held, learning_rate=0.01, checkpoint=path)
    assert torch.equal(weights(whole), weights(again))
    assert fitting.history == everything.history
    assert fitting.best_epoch == everything.best_epoch


def test_a_checkpoint_that_is_damaged_or_of_another_network_is_one_clear_error(tmp_path):
    path = tmp_path / "fitting.safetensors"
    model = line()
    run(model, 1, checkpoint=path)
    other = nn.Linear(3, 1)
    with pytest.raises(FileError, match=r"fitting\.safetensors: not of this network and these settings"):
        fit(Fitting(other), squares(other), (X, Y), epochs=2, checkpoint=path)
    with pytest.raises(FileError, match="another ema"):
        run(line(), 2, Fitting(line(), ema=0.1), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileError, match=r"expected is a file of the kind sandbox\.fitting"):
        run(line(), 2, checkpoint=path)


# -- when it goes wrong ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_it_and_the_best_weights_stay():
    model, kept = line(), []

    def loss(x, y):
        value, metrics = squares(model)(x, y)
        if fitting.epoch == 3:
            value = value * math.nan
        if fitting.epoch == 2 and not kept:
            kept.append(weights(model).clone())  # as the third epoch found them
        return value, metrics

    fitting = Fitting(model)
    with pytest.warns(RuntimeWarning, match=r"the loss was nan in epoch 4; the weights of epoch 3, the best, are kept"):
        fit(fitting, loss, (X, Y), epochs=9, batch_size=16)
    assert fitting.stopped == "the loss was nan in epoch 4"
    assert len(fitting.history) == 3
    assert weights(model).isfinite().all()
    assert torch.equal(weights(model), kept[0])  # those that the best epoch began with: they gave a number
    assert evaluate(model, squares(model), (X, Y))["loss"] < fitting.history[0]["loss"]


def test_a_loss_that_is_no_number_from_the_start_is_an_error():
    model = line()
    with pytest.raises(FloatingPointError, match="nan in epoch 1: take a smaller learning_rate, or clip_norm"):
        fit(Fitting(model), lambda x, y: (model(x).mean() * math.nan, {}), (X, Y), epochs=2)


def test_ctrl_c_leaves_what_there_is_and_a_file_to_go_on_from(tmp_path):
    model, steps = line(), []

    def interrupt():
        steps.append(weights(model).clone())
        if len(steps) == 6:
            raise KeyboardInterrupt

    path = tmp_path / "fitting.safetensors"
    with pytest.warns(UserWarning, match="interrupted in epoch 2"):
        fitting = run(model, 9, after_step=interrupt, checkpoint=path)
    assert torch.equal(weights(model), steps[-1])
    assert not model.training
    assert fitting.stopped == "interrupted in epoch 2"
    again = run(line(), 9, checkpoint=path)
    assert again.epoch == 9
    assert again.history[0] == fitting.history[0]


@pytest.mark.parametrize(("arrays", "words"), [((X, Y[:-1]), r"\[50, 49\]"), ((X[:0], Y[:0]), r"\[0, 0\]")])
def test_arrays_that_do_not_fit(arrays, words):
    model = line()
    with pytest.raises(ValueError, match=words):
        fit(Fitting(model), squares(model), arrays, epochs=1)


def test_an_unknown_optimiser():
    with pytest.raises(ValueError, match="one of sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, got 'lion'"):
        Fitting(line(), "lion")


# -- manners -----------------------------------------------------------------------------------------------------------


def test_global_state_is_left_alone():
    def state():
        return (
            torch.get_rng_state().sum().item(),
            np.random.get_state()[1].sum(),  # noqa: NPY002
            random.getstate(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            bool((np.full(1, 1e-39, np.float32) * np.ones(1, np.float32))[0] == 0),
        )

    before = state()
    model = line(dropout=0.5)
    run(model, 2, n_threads=1, held_out=torch.arange(3))
    evaluate(model, squares(model), (X, Y))
    assert state() == before


def test_the_callers_draws_do_not_change_the_run():
    one, two = line(dropout=0.5), line(dropout=0.5)
    run(one, 3)
    torch.rand(7)
    run(two, 3)
    assert torch.equal(weights(one), weights(two))


def test_a_bar_and_a_log(capsys, monkeypatch):
    rows = []
    model = line()
    from sandbox.training import fit as module

    monkeypatch.setattr(module, "ProgressLine", lambda *a, **k: Shown(a, k))
    fitting = run(model, 2, label="fitting", log=lambda row, step: rows.append((step, row)))
    assert [step for step, _ in rows] == [4, 8]
    assert rows[1][1]["loss"] == fitting.history[1]["loss"]
    assert rows[0][1]["samples_per_second"] > 0
    assert Shown.said[-1] == (100, f"loss {fitting.history[1]['loss']:.4g}")


class Shown:
    said: list = []  # noqa: RUF012

    def __init__(self, args, kwargs):
        assert args == ("fitting", 100, "samples", 0)
        assert kwargs == {"patience": 2.0}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, done, note):
        self.said.append((done, note))


def test_medium_products_hold_for_the_gradient_too_and_leave_no_trace():
    before = torch.get_float32_matmul_precision()
    seen = []

    class Looks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append(("forward", torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")))
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            seen.append(("backward", torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")))
            return grad

    model = line()
    squared = squares(model)

    def loss(x, y):
        value, metrics = squared(x, y)
        return Looks.apply(value), metrics

    fit(Fitting(model), loss, (X, Y), epochs=1, batch_size=50, precision="medium")
    assert seen == [("forward", "medium", False), ("backward", "medium", False)]
    assert torch.get_float32_matmul_precision() == before


def test_without_decay_all_weights_are_one_group():
    assert [len(group["params"]) for group in Fitting(line()).optimizer.param_groups] == [4]
    decayed = Fitting(line(), l2=0.1).optimizer.param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in decayed] == [(2, 0.1), (2, 0.0)]
