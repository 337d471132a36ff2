"""Files: exact, atomic, and every wrong one refused in one line."""

import copy
import json
import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from sandbox import zoo
from sandbox.training import checkpoint


@pytest.fixture
def encoder():
    return zoo.build("mlp", in_shape=(3,), widths=(4,), norm="batch")


@pytest.fixture
def path(encoder, tmp_path):
    zoo.save(encoder, tmp_path / "encoder.safetensors", preprocessing={"mean": [0.5, 0.1]})
    return tmp_path / "encoder.safetensors"


def refused(path, match=None):
    with pytest.raises(zoo.FileError, match=match) as caught:
        zoo.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert message.endswith("expected is a file of the kind sandbox.zoo")


def record_of(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["sandbox.zoo"])


def forge(path, record, tensors, sign=True):
    """A file with a valid hash, whatever it says."""
    record = {key: value for key, value in record.items() if key != "sha256"}
    if sign:
        record["sha256"] = checkpoint._sha256(record, tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"sandbox.zoo": json.dumps(record)}))


def test_record(path):
    record = record_of(path)
    assert set(record) == {"format", "name", "kwargs", "in_shape", "out_features", "preprocessing", "sha256"}
    assert (record["format"], record["name"], record["in_shape"], record["out_features"]) == (1, "mlp", [3], 4)
    assert record["kwargs"]["norm"] == "batch"
    assert record["kwargs"]["dropout"] == 0.0  # a default, written down
    assert record["preprocessing"] == {"mean": [0.5, 0.1]}
    assert len(record["sha256"]) == 64


def test_truncated_anywhere(path):
    data = path.read_bytes()
    for size in sorted({*range(64), *range(0, len(data), 29), *range(len(data) - 64, len(data))}):
        path.write_bytes(data[:size])
        refused(path)
    path.write_bytes(data + b"\0")
    refused(path)
    path.write_bytes(data)
    zoo.load(path)


@pytest.mark.parametrize("flip", [0xFF, 0x01])
def test_any_byte_changed(path, flip):
    data = bytearray(path.read_bytes())
    for i in range(len(data)):
        data[i] ^= flip
        path.write_bytes(data)
        refused(path)
        data[i] ^= flip
    path.write_bytes(data)
    zoo.load(path)


def test_missing_folder_empty_and_foreign(tmp_path, encoder):
    refused(tmp_path / "nothing.safetensors", "no such file")
    refused(tmp_path, "a folder")
    refused(str(tmp_path / "nothing.safetensors"), "no such file")
    path = tmp_path / "file"
    path.write_bytes(b"")
    refused(path)
    path.write_bytes(b"PNG" * 1000)
    refused(path)
    safetensors.torch.save_file(encoder.state_dict(), path)
    refused(path, "a safetensors file of another kind")
    safetensors.torch.save_file(encoder.state_dict(), path, {"sandbox.zoo": "[1"})
    refused(path)
    safetensors.torch.save_file(encoder.state_dict(), path, {"sandbox.zoo": "[" * 100_000})
    refused(path)
    safetensors.torch.save_file(encoder.state_dict(), path, {"sandbox.zoo": "[]"})
    refused(path, "format 1")


class Trap:
    """Makes a file when unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_pickles_are_never_opened(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Trap(marker)))
    torch.save({"a": Trap(marker)}, tmp_path / "a.pt")
    refused(tmp_path / "a.pkl")
    refused(tmp_path / "a.pt")
    assert not marker.exists()
    pickle.loads((tmp_path / "a.pkl").read_bytes()).close()  # the trap is a trap
    assert marker.exists()


def test_signed_but_wrong(path, encoder):
    record, tensors = record_of(path), encoder.state_dict()
    forge(path, record, tensors)
    zoo.load(path)
    forge(path, record, tensors, sign=False)
    refused(path, "damaged")
    forge(path, {**record, "format": 2}, tensors)
    refused(path, "format 1")
    forge(path, {**record, "name": "mpl"}, tensors)
    refused(path, "no model 'mpl' in the zoo; nearest: mlp")
    for name in (["mlp"], None, "os:system"):
        forge(path, {**record, "name": name}, tensors)
        refused(path)
    forge(path, {**record, "kwargs": {**record["kwargs"], "colour": 1}}, tensors)
    refused(path, "unexpected keyword argument 'colour'")
    forge(path, {**record, "kwargs": {**record["kwargs"], "widths": [5]}}, tensors)
    refused(path, r"mlp has 0.bias of shape \(5,\), not \(4,\)")
    forge(path, {**record, "in_shape": [4]}, tensors)
    refused(path, "record of shapes")
    forge(path, record, {**tensors, "extra": torch.zeros(1)})
    refused(path, r"extra of shape None, not \(1,\)")
    forge(path, record, {key: tensor for key, tensor in tensors.items() if key != "0.weight"})
    refused(path, r"0.weight of shape \(4, 3\), not None")
    forge(path, record, {key: tensor.long() for key, tensor in tensors.items()})
    refused(path)


def test_file_error_is_a_value_error_with_its_cause(tmp_path):
    assert issubclass(zoo.FileError, ValueError)
    (tmp_path / "a").write_bytes(b"\1" * 100)
    with pytest.raises(zoo.FileError) as caught:
        zoo.load(tmp_path / "a")
    assert isinstance(caught.value.__cause__, safetensors.SafetensorError)


def test_only_what_build_made_can_be_saved(tmp_path, encoder):
    with pytest.raises(ValueError, match=r"takes modules made by zoo\.build, got a Linear"):
        zoo.save(nn.Linear(2, 2), tmp_path / "a")
    with pytest.raises(ValueError, match=r"takes modules made by zoo\.build, got a MLP"):
        zoo.save(zoo.MLP(in_shape=(2,)), tmp_path / "a")
    encoder[0] = nn.Linear(3, 5)
    with pytest.raises(ValueError, match=r"mlp has 0.bias of shape \(4,\), not \(5,\)"):
        zoo.save(encoder, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_preprocessing(tmp_path, encoder):
    path = tmp_path / "a"
    zoo.save(encoder, path)
    assert zoo.load(path).preprocessing is None
    encoder.preprocessing = {"scale": 2, "nested": {"size": [84, 84], "grey": True, "note": "é"}}
    zoo.save(encoder, path)
    assert zoo.load(path).preprocessing == encoder.preprocessing
    zoo.save(encoder, path, preprocessing={"scale": 3})
    assert zoo.load(path).preprocessing == {"scale": 3}
    assert encoder.preprocessing["scale"] == 2
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        zoo.save(encoder, path, preprocessing={"f": print})
    assert zoo.load(path).preprocessing == {"scale": 3}


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(path, encoder, monkeypatch, broken):
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        zoo.save(zoo.build("mlp", in_shape=(9,)), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_write_is_synced_before_it_is_moved(path, encoder, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, original=original: calls.append((name, a)) or original(*a))
    zoo.save(encoder, path)
    assert [name for name, _ in calls] == ["fsync", "replace"]
    temporary, target = calls[1][1]
    assert temporary.parent == target.parent


def test_saving_onto_a_folder_leaves_nothing_and_into_none_makes_it(tmp_path, encoder):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        zoo.save(encoder, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]
    zoo.save(encoder, tmp_path / "new" / "a")
    assert zoo.load(tmp_path / "new" / "a").spec == encoder.spec


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_survives(tmp_path, dtype):
    encoder = zoo.build("mlp", in_shape=(3,)).to(dtype)
    zoo.save(encoder, tmp_path / "a")
    again = zoo.load(tmp_path / "a")
    assert again[0].weight.dtype == dtype
    assert torch.equal(again[0].weight, encoder[0].weight)


def test_memory_layouts_survive_in_value(tmp_path):
    encoder = zoo.build("nature_cnn", in_shape=(1, 36, 36))
    flat = nn.utils.parameters_to_vector(encoder.parameters()).detach()
    nn.utils.vector_to_parameters(flat, encoder.parameters())  # every parameter a view of one vector
    for module in (encoder, copy.deepcopy(encoder).to(memory_format=torch.channels_last)):
        zoo.save(module, tmp_path / "a")
        again = zoo.load(tmp_path / "a")
        assert torch.equal(nn.utils.parameters_to_vector(again.parameters()), flat)


def test_loaded_module_is_independent_of_its_file_and_trains(path, encoder):
    again = zoo.load(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(again[0].weight, encoder[0].weight)
    again(torch.randn(8, 3)).sum().backward()
    with torch.no_grad():
        for p in again.parameters():
            p.sub_(p.grad)
    assert torch.equal(encoder[1].running_mean, torch.zeros(4))
