"""Names, `build`, and what is imported when."""

import subprocess
import sys

import numpy as np
import pytest
from torch import nn

from sandbox import zoo
from sandbox.zoo.names import ZOO, resolve


def modules_after(code):
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_listing_names_loads_no_torch():
    listed = modules_after("from sandbox.zoo import ZOO, build; sorted(ZOO); import sandbox.zoo; dir(sandbox.zoo)")
    assert "sandbox.zoo.names" in listed
    assert "torch" not in listed
    assert "numpy" not in listed
    assert "torch" in modules_after("from sandbox.zoo import MLP")  # the test can fail


def test_no_other_room_is_imported():
    loaded = modules_after(
        "from sandbox.zoo import *; from sandbox import zoo; [zoo.names.resolve(n) for n in zoo.ZOO]"
    )
    assert "sandbox.zoo.transformer" in loaded
    assert not loaded & {"gymnasium", "sklearn", "stable_baselines3", "agents", "envs", "unsupervised", "matplotlib"}


def test_contents_is_complete_and_found():
    assert sorted(zoo.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) == zoo.__all__
    assert dir(zoo) == sorted(zoo.__all__)
    assert all(getattr(zoo, name) is not None for name in zoo.__all__)
    assert {resolve(name).__name__ for name in ZOO} <= set(zoo.__all__)
    assert list(ZOO) == sorted(ZOO)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zoo.nothing


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("nature_cn", "nature_cnn"), ("resnet", "resnet18"), ("transfromer", "transformer")]
)
def test_unknown_name_gives_the_nearest(wrong, nearest):
    with pytest.raises(ValueError, match=rf"no model '{wrong}' in the zoo; nearest: {nearest}"):
        zoo.build(wrong, in_shape=(4,))


def test_a_name_near_nothing_gives_all():
    with pytest.raises(ValueError, match=", ".join(ZOO)):
        zoo.build("qqqqqq")


def test_wrong_keywords_give_the_accepted_ones():
    accepted = "it accepts in_shape, widths, out_features, activation, norm, dropout, init"
    with pytest.raises(TypeError, match=f"mlp: got an unexpected keyword argument 'width'; {accepted}"):
        zoo.build("mlp", in_shape=(4,), width=3)
    with pytest.raises(TypeError, match=f"mlp: missing a required argument: 'in_shape'; {accepted}"):
        zoo.build("mlp")
    with pytest.raises(TypeError, match=r"mlp: .* cannot be written as JSON"):
        zoo.build("mlp", in_shape=(4,), activation=nn.ReLU)


def test_numpy_numbers_are_numbers():
    module = zoo.build("mlp", in_shape=np.array([4]), out_features=np.int64(3), dropout=np.float64(0.5))
    assert module.spec["kwargs"]["in_shape"] == [4]
    assert type(module.spec["kwargs"]["out_features"]) is int
    assert zoo.MLP(in_shape=(np.int64(4),)).in_shape == (4,)


def test_a_model_of_your_own_joins_by_name(monkeypatch, tmp_path):
    (tmp_path / "my_file.py").write_text(
        "from sandbox import zoo\n"
        "class Mean(zoo.Encoder):\n"
        "    def __init__(self, in_shape):\n"
        "        super().__init__(in_shape, in_shape[0])\n"
        "    def encode(self, x):\n"
        "        return x.flatten(2).mean(2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ZOO, "mean", "my_file:Mean")
    zoo.save(zoo.build("mean", in_shape=(3, 4, 4)), tmp_path / "mean.safetensors")
    assert zoo.load(tmp_path / "mean.safetensors").out_features == 3
