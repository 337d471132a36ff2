"""Files that a crash cannot lose and that run no code."""

import json
import os
import pickle
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sandbox.training.checkpoint import FileError, atomic, load_tensors, save_tensors, write_text

KIND = "test.kind"
DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.safetensors"
    save_tensors(path, KIND, {"step": 7, "name": "höhe"}, {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)})
    return path


def refused(path, kind=KIND):
    """The one line with which a file is refused."""
    with pytest.raises(FileError) as caught:
        load_tensors(path, kind)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert kind in message
    return message


# -- atomic ------------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_with_its_folder_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "deep" / "note.txt"
    with atomic(path) as draft:
        draft.write_text("whole")
        assert not path.exists()
        assert draft.parent == path.parent  # a rename must not cross file systems
        assert draft.suffix == ".txt"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "note.txt"
    path.write_text("old")

    def fail():
        with atomic(path) as draft:
            draft.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_death_in_the_middle_of_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    code = """if True:
        import os, sys
        from sandbox.training.checkpoint import atomic
        with atomic(sys.argv[1]) as draft, open(draft, "w") as file:
            file.write("half of the n")
            file.flush()
            os._exit(9)"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"


def test_a_reader_of_the_old_file_keeps_it_whole_and_the_new_one_is_on_the_disk_before_it_has_the_name(
    tmp_path, monkeypatch
):
    path, calls = tmp_path / "note.txt", []
    path.write_text("old")
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: calls.append(name) or real(*a))
    with open(path) as reader:
        write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert calls[:2] == ["fsync", "replace"]


def test_two_writers_do_not_share_a_draft(tmp_path):
    with atomic(tmp_path / "a.txt") as first, atomic(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a.txt").read_text() == "1"  # the outer block ends last


def test_text_is_utf8_whatever_the_locale(tmp_path):
    write_text(tmp_path / "t.txt", "± · →\n")
    assert (tmp_path / "t.txt").read_bytes() == "± · →\n".encode()


def test_a_tensor_file_is_as_readable_as_a_text_file(tmp_path, good):
    write_text(tmp_path / "t.txt", "x")
    assert stat.S_IMODE(good.stat().st_mode) == stat.S_IMODE((tmp_path / "t.txt").stat().st_mode)


# -- tensors there and back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3)], ids=str)
def test_every_dtype_and_shape_comes_back_bit_by_bit(tmp_path, dtype, shape):
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 50).to(dtype)
    save_tensors(tmp_path / "f", KIND, {}, {"x": tensor})
    _, tensors = load_tensors(tmp_path / "f", KIND)
    assert tensors["x"].dtype is dtype
    assert tensors["x"].shape == tensor.shape
    assert torch.equal(tensors["x"].flatten().view(torch.uint8), tensor.flatten().view(torch.uint8))


def test_views_shared_and_transposed_tensors_come_back(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    given_ = {"whole": base, "t": base.T, "row": base[1], "again": base, "grad": base.clone().requires_grad_()}
    save_tensors(tmp_path / "f", KIND, {}, given_)
    _, tensors = load_tensors(tmp_path / "f", KIND)
    assert all(torch.equal(tensors[name], value) for name, value in given_.items())


def test_nan_and_infinity_come_back(tmp_path):
    save_tensors(tmp_path / "f", KIND, {"loss": float("inf")}, {"x": torch.tensor([torch.nan, -torch.inf, -0.0])})
    record, tensors = load_tensors(tmp_path / "f", KIND)
    assert record["loss"] == float("inf")
    assert np.array_equal(tensors["x"].numpy(), [np.nan, -np.inf, -0.0], equal_nan=True)


def test_what_is_loaded_is_not_tied_to_the_file(good):
    _, tensors = load_tensors(good, KIND)
    good.write_bytes(b"\0" * good.stat().st_size)
    assert tensors["w"].sum() == 15


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(record=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_any_record_comes_back(tmp_path_factory, record):
    path = tmp_path_factory.mktemp("f") / "f"
    save_tensors(path, KIND, record, {})
    loaded, _ = load_tensors(path, KIND)
    assert {key: loaded[key] for key in record} == record


def test_whole_numbers_as_keys_become_text_and_the_file_still_opens(tmp_path):
    save_tensors(tmp_path / "f", KIND, {"by_step": {2: "a", 10: "b"}}, {})
    assert load_tensors(tmp_path / "f", KIND)[0]["by_step"] == {"2": "a", "10": "b"}


def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(good):
    before = good.read_bytes()
    with pytest.raises(TypeError):
        save_tensors(good, KIND, {"f": object()}, {})
    assert good.read_bytes() == before


# -- refused -----------------------------------------------------------------------------------------------------------


def test_no_file_and_a_folder(tmp_path):
    assert "no such file" in refused(tmp_path / "nothing")
    assert "folder" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0", b"hello", b"\xff" * 100, b"PK\x03\x04" + b"x" * 50], ids=repr)
def test_foreign_bytes(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    refused(tmp_path / "f")


def test_a_file_cut_anywhere(good):
    whole = good.read_bytes()
    for length in range(len(whole)):
        good.write_bytes(whole[:length])
        refused(good)
    good.write_bytes(whole + b"\0")
    refused(good)


def test_a_flipped_bit_anywhere_is_seen_or_means_nothing(good):
    whole, expected = good.read_bytes(), load_tensors(good, KIND)
    for i in range(len(whole)):
        flipped = bytearray(whole)
        flipped[i] ^= 1 << (i % 8)
        good.write_bytes(flipped)
        try:
            record, tensors = load_tensors(good, KIND)
        except FileError:
            continue
        assert record == expected[0]
        assert all(torch.equal(tensors[name], tensor) for name, tensor in expected[1].items())


def test_another_kind_of_safetensors(tmp_path, good):
    refused(good, "sandbox.zoo")
    save_file({"w": torch.ones(2)}, tmp_path / "plain")
    refused(tmp_path / "plain")
    save_file({"w": torch.ones(2)}, tmp_path / "list", metadata={KIND: "[1, 2]"})
    refused(tmp_path / "list")
    save_file({"w": torch.ones(2)}, tmp_path / "json", metadata={KIND: "{not json"})
    refused(tmp_path / "json")
    save_file({"w": torch.ones(2)}, tmp_path / "unsigned", metadata={KIND: json.dumps({"format": 1})})
    assert "sha256" in refused(tmp_path / "unsigned")
    save_file({"w": torch.ones(2)}, tmp_path / "newer", metadata={KIND: json.dumps({"format": 99})})
    assert "format" in refused(tmp_path / "newer")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("write", [lambda x, f: f.write_bytes(pickle.dumps(x)), torch.save], ids=["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(tmp_path, write):
    write(Bomb(str(tmp_path / "ran")), tmp_path / "f")
    refused(tmp_path / "f")
    assert not (tmp_path / "ran").exists()
