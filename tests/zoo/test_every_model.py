"""What every model of the zoo keeps, by enumeration: its size and its first case are read from its docstring."""

import re

import pytest
import torch

from sandbox import zoo
from sandbox.zoo.names import resolve

B, T = 3, 5


def documented(name):
    """(parameter count, kwargs) from the sentence "1,234 parameters at ``in_shape=(4,)``" in the class's docstring."""
    found = re.search(r"([\d,]+)\s+parameters\s+at\s+``(.+?)``", resolve(name).__doc__)
    assert found, f"the docstring of {name} does not say '… parameters at ``…``'"
    return int(found[1].replace(",", "")), eval(f"dict({found[2]})")


BATCH_NORM_MLP = {"name": "mlp", "kwargs": {"widths": (16,), "norm": "batch"}}
MLP_DECODER = {"name": "mlp_decoder", "kwargs": {"widths": (16,)}}
VARIANTS = [
    ("alexnet", {"in_shape": (1, 17, 20), "out_features": 32, "dropout": 0.1}),
    (
        "conv",
        {"in_shape": (1, 17, 20), "out_features": 7, "channels": (8, 16), "norm": "batch", "activation": "leaky_relu"},
    ),
    ("conv", {"in_shape": (3, 9, 8), "channels": (16, 32), "norm": "group", "activation": "silu"}),
    ("conv_decoder", {"in_features": 5, "out_shape": (1, 17, 20), "channels": (16, 8), "norm": "batch"}),
    ("conv_decoder", {"in_features": 5, "out_shape": (3, 9, 8), "channels": (8,), "norm": "layer"}),
    ("gru", {"in_features": 3, "out_features": 8, "layers": 2}),
    ("impala_cnn", {"in_shape": (1, 10, 13), "out_features": 7, "depths": (4, 8), "scale": 2}),
    ("keypoint_decoder", {"in_features": 6, "out_shape": (2, 9, 12), "channels": (4, 8), "widths": (0.1,)}),
    ("keypoints", {"in_shape": (2, 9, 12), "out_features": 6, "channels": (4,), "temperature": 1.0}),
    ("latent_decoder", {"in_features": 3, "out_shape": (2, 3, 4), "body": MLP_DECODER, "linear_path": False}),
    ("latent_decoder", {"in_features": 3, "out_shape": (1, 9, 8), "body": "conv_decoder"}),
    ("latent_encoder", {"in_shape": (2, 3, 4), "out_features": 3, "body": BATCH_NORM_MLP, "linear_path": False}),
    ("latent_encoder", {"in_shape": (1, 9, 8), "out_features": 3, "body": "conv"}),
    (
        "latent_encoder",
        {"in_shape": (1, 9, 8), "out_features": 6, "body": "keypoints", "linear_path": False, "head": False},
    ),
    ("lstm", {"in_features": 3, "out_features": 8, "layers": 2}),
    ("mlp", {"in_shape": (2, 3, 4), "widths": (16, 32), "out_features": 5, "activation": "maxout", "norm": "batch"}),
    ("mlp", {"in_shape": (4,), "widths": (8,), "activation": "step", "dropout": 0.2, "init": None}),
    ("mlp", {"in_shape": (2, 2), "widths": ()}),
    ("mlp_decoder", {"in_features": 3, "out_shape": (2, 3, 4), "widths": (), "init": "he"}),
    ("mlp_decoder", {"in_features": 3, "out_shape": (7,), "widths": (8,), "norm": "layer", "dropout": 0.2}),
    ("nature_cnn", {"in_shape": (1, 36, 40), "out_features": 6}),
    ("nature_decoder", {"in_features": 3, "out_shape": (1, 36, 41), "channels": (8, 4), "width": 16}),
    ("resnet18", {"in_shape": (1, 9, 12), "out_features": 10}),
    ("rnn", {"in_features": 3, "out_features": 8, "layers": 2}),
    ("token_encoder", {"in_shape": (6,), "out_features": 5, "vocabulary": 4, "dim": 8, "depth": 1, "heads": 2}),
    ("token_encoder", {"in_shape": (2,), "vocabulary": 300, "causal": True, "dim": 8, "heads": 1, "dropout": 0.1}),
    ("transformer", {"in_features": 3, "out_features": 6, "causal": False, "dim": 16, "positions": "sinusoidal"}),
    ("transformer", {"in_features": 3, "dim": 8, "depth": 1, "heads": 2, "max_length": T, "dropout": 0.1}),
    ("vit", {"in_shape": (1, 8, 12), "out_features": 6, "dim": 16, "depth": 2, "heads": 4, "pool": "cls"}),
]
CASES = [(name, documented(name)[1]) for name in zoo.ZOO] + VARIANTS
every_case = pytest.mark.parametrize(("name", "kwargs"), CASES)
every_plain_case = pytest.mark.parametrize(
    ("name", "kwargs"),
    [(name, kwargs) for name, kwargs in CASES if issubclass(resolve(name), (zoo.Encoder, zoo.Decoder))],
)
ENCODERS = [(name, kwargs) for name, kwargs in CASES if issubclass(resolve(name), zoo.Encoder)]
every_case_of_pixels = pytest.mark.parametrize(("name", "kwargs"), [c for c in ENCODERS if c[0] != "token_encoder"])
every_case_of_tokens = pytest.mark.parametrize(("name", "kwargs"), [c for c in ENCODERS if c[0] == "token_encoder"])
every_name = pytest.mark.parametrize("name", zoo.ZOO)


def build(name, kwargs, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return zoo.build(name, **kwargs)


def inputs(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if isinstance(module, zoo.TokenEncoder):
        return (torch.randint(module.vocabulary, (B, *module.in_shape), generator=generator),)
    if isinstance(module, zoo.Encoder):
        return (torch.randn(B, *module.in_shape, generator=generator),)
    if isinstance(module, zoo.Decoder):
        return (torch.randn(B, module.in_features, generator=generator),)
    if isinstance(module, zoo.Recurrent):
        x = torch.randn(T, B, module.in_features, generator=generator)
        starts = torch.zeros(T, B)
        starts[0] = starts[2, 1] = 1
        return x, module.initial_state(B), starts
    return (torch.randn(B, T, module.in_features, generator=generator),)


def shape_of(module):
    """Of one output: of one step, where there are steps."""
    return module.out_shape if isinstance(module, zoo.Decoder) else (module.out_features,)


def run(module, args):
    """The output with the batch in front."""
    y = module(*args)
    return y[0].transpose(0, 1) if isinstance(module, zoo.Recurrent) else y


@every_name
def test_documented_parameter_count(name):
    count, kwargs = documented(name)
    assert sum(p.numel() for p in build(name, kwargs).parameters()) == count


@every_name
def test_documented_paper_and_example(name):
    assert re.search(r"arXiv:\d{4}\.\d{4,5}\b", resolve(name).__doc__)
    assert ">>>" in resolve(name).__doc__


@every_name
def test_is_one_of_the_four_contracts(name):
    contracts = (zoo.Encoder, zoo.Decoder, zoo.Recurrent, zoo.Sequence)
    assert sum(issubclass(resolve(name), contract) for contract in contracts) == 1


@every_case
def test_output_shape(name, kwargs):
    module = build(name, kwargs)
    steps = (T,) if isinstance(module, (zoo.Recurrent, zoo.Sequence)) else ()
    y = run(module, inputs(module))
    assert y.shape == (B, *steps, *shape_of(module))
    assert y.isfinite().all()
    for key in kwargs.keys() & {"out_features", "out_shape"}:
        assert getattr(module, key) == kwargs[key]


@every_case
def test_gradient_reaches_every_parameter(name, kwargs):
    module = build(name, kwargs)
    args = inputs(module)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # dropout
        for p in module.parameters():
            if p.ndim > 1 and not p.any():
                torch.nn.init.normal_(p)  # a layer that starts at zero lets no gradient through before its first step
        y = run(module, args)
        # Against fixed noise: the plain sum of a normalised output has no gradient.
        loss = (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum()
    if list(module.parameters()):
        loss.backward()
    without = [key for key, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@every_case
def test_eval_does_not_mix_the_batch(name, kwargs):
    module = build(name, kwargs).eval()
    args = inputs(module)
    batch_axis = 1 if isinstance(module, zoo.Recurrent) else 0
    with torch.no_grad():
        together = run(module, args)
        for i in range(B):
            alone = run(module, [a.narrow(batch_axis, i, 1) for a in args])
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


@every_plain_case
def test_empty_batch(name, kwargs):
    module = build(name, kwargs).eval()
    (x,) = inputs(module)
    assert module(x[:0]).shape == (0, *shape_of(module))


@every_case
def test_build_is_deterministic_under_a_seed(name, kwargs):
    one, two, other = (build(name, kwargs, seed).state_dict() for seed in (0, 0, 1))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not one or any(not torch.equal(one[key], other[key]) for key in one)


@every_case
def test_save_and_load_give_the_same_module(name, kwargs, tmp_path):
    module = build(name, kwargs)
    run(module, inputs(module))  # moves the running means of batch norm
    module.preprocessing = {"mean": [0.5, 0.25], "flip": True}
    before = torch.random.get_rng_state()
    zoo.save(module, tmp_path / "a.safetensors")
    again = zoo.load(tmp_path / "a.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)

    assert type(again) is type(module)
    assert again.spec == module.spec
    assert again.preprocessing == module.preprocessing
    assert again.training
    assert [(key, p.requires_grad) for key, p in again.named_parameters()] == [
        (key, p.requires_grad) for key, p in module.named_parameters()
    ]
    state, again_state = module.state_dict(), again.state_dict()
    assert state.keys() == again_state.keys()
    assert all(torch.equal(state[key], again_state[key]) for key in state)
    module.eval(), again.eval()
    assert torch.equal(run(module, inputs(module)), run(again, inputs(module)))


@every_case
def test_spec_builds_the_same_architecture(name, kwargs):
    module = build(name, kwargs)
    assert module.spec["name"] == name
    for key, value in kwargs.items():
        written = module.spec["kwargs"][key]
        if key == "body":
            assert written == module.body.spec
            assert written["name"] == (value if isinstance(value, str) else value["name"])
        else:
            assert written == (list(value) if isinstance(value, tuple) else value)
    again = zoo.build(module.spec["name"], **module.spec["kwargs"])
    assert again.spec == module.spec
    assert str(again) == str(module)


@every_case
def test_wrong_shapes_raise_one_clear_error(name, kwargs):
    module = build(name, kwargs)
    x, *rest = inputs(module)
    for wrong in (x[..., :-1] if x.shape[-1] > 1 else x.expand(*x.shape[:-1], 2), x[0], x[None], x.flatten()):
        with pytest.raises(ValueError, match=r"takes [xz] of shape \[.*\], got \[.*\]") as caught:
            module(wrong, *rest)
        assert str(list(wrong.shape)) in str(caught.value)
        assert type(module).__name__ in str(caught.value)


@every_case_of_pixels
def test_pixels_are_scaled_and_floats_are_not(name, kwargs):
    module = build(name, kwargs).eval()
    pixels = torch.randint(0, 256, (B, *module.in_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(pixels), module(pixels.float() / 255))
        assert not torch.equal(module(pixels), module(pixels.float()))
    with pytest.raises(ValueError, match=r"takes uint8 .* or floats, got torch.int64"):
        module(pixels.long())


@every_case_of_tokens
def test_tokens_are_the_same_in_every_type_and_nothing_else_is_taken(name, kwargs):
    module = build(name, kwargs).eval()
    (tokens,) = inputs(module)
    tokens %= 256
    with torch.no_grad():
        y = module(tokens)
        for dtype in (torch.uint8, torch.int32, torch.float32, torch.float64):
            assert torch.equal(module(tokens.to(dtype)), y)
        assert not torch.equal(module(tokens.flip(1)), y)
    for wrong in (-1, module.vocabulary, 0.5, float("nan"), float("inf")):
        others = tokens.double()
        others[-1, -1] = wrong
        with pytest.raises(ValueError, match=rf"whole numbers from 0 to {module.vocabulary - 1}, got {wrong}"):
            module(others)
    (T,) = module.in_shape
    for t, first in ((T, 1), (T + 1, 0), (0, 0), (1, -1)):
        with pytest.raises(ValueError, match=f"has places for {T} tokens, got {t} from place {first} on"):
            module.hidden(torch.zeros(1, t, dtype=torch.long), first)


@every_name
def test_sizes_that_are_not_positive_are_refused(name):
    _, kwargs = documented(name)
    for key in kwargs.keys() - {"body"} | ({"out_features"} if "out_shape" not in kwargs else set()):
        wrong_values = [(), 4, (-1,), (3, 0, 3), (2.5,)] if key.endswith("shape") else [0, -1, 2.5]
        for wrong in wrong_values:
            with pytest.raises(ValueError, match=key):
                zoo.build(name, **{**kwargs, key: wrong})


def test_building_running_saving_and_loading_leave_global_state_alone(tmp_path):
    def state():
        return (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.is_grad_enabled(),
            torch.get_default_device(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = state()
    module = zoo.build("nature_cnn", in_shape=(1, 36, 36))
    run(module, inputs(module))
    zoo.save(module, tmp_path / "a")
    zoo.load(tmp_path / "a")
    assert state() == before
