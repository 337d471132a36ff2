"""Device, threads, precision and generators: contexts that leave no trace."""

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from sandbox.training import device
from sandbox.training.device import free_memory, pick_device, precision, private_seed, threads


def blas():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


@pytest.fixture
def three():
    """A setting that nobody has by default, so that restoring something else shows."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three")
def test_threads_are_set_and_restored_in_torch_and_blas():
    before = blas()
    assert before  # else this tests nothing
    with threads(2):
        assert torch.get_num_threads() == 2
        assert set(blas()) == {2}
        with threads(1):
            assert torch.get_num_threads() == 1
            assert set(blas()) == {1}
        assert torch.get_num_threads() == 2
        assert set(blas()) == {2}
    assert torch.get_num_threads() == 3
    assert blas() == before


@pytest.mark.usefixtures("three")
def test_threads_are_restored_after_an_exception():
    before = blas()
    with pytest.raises(KeyboardInterrupt), threads(2):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 3
    assert blas() == before


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("n", [0, -1, "two"])
def test_a_wrong_number_of_threads_changes_nothing(n):
    before = blas()
    with pytest.raises((ValueError, RuntimeError, TypeError)), threads(n):
        pass
    assert torch.get_num_threads() == 3
    assert blas() == before


@pytest.mark.usefixtures("three")
def test_none_leaves_the_threads_alone():
    before = blas()
    with threads(None):
        assert torch.get_num_threads() == 3
        assert blas() == before


@pytest.mark.parametrize("name", ["fp64", "FP32", "", "bfloat16", None])
def test_an_unknown_precision_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="fp32, bf16"):
        precision(name, torch.device("cpu"))


def test_fp32_stays_float32_and_leaves_no_autocast_behind():
    x = torch.ones(4, 4)
    with precision("fp32", torch.device("cpu")):
        assert (x @ x).dtype is torch.float32
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 here")
def test_bf16_multiplies_in_bfloat16_and_ends_with_its_block():
    x = torch.ones(4, 4)
    with precision("bf16", torch.device("cpu")):
        assert (x @ x).dtype is torch.bfloat16
        assert x.sum().dtype is torch.float32
    assert (x @ x).dtype is torch.float32


def test_bf16_is_refused_where_the_processor_has_none(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    with pytest.raises(ValueError, match="AVX-512"):
        precision("bf16", torch.device("cpu"))


@pytest.mark.parametrize("name", ["cuda", "cuda:1", torch.device("cuda")])
def test_a_gpu_that_is_not_there_is_an_error_and_no_silent_cpu(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        pick_device(name)
    assert pick_device("auto") == torch.device("cpu")


def test_auto_takes_the_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    assert pick_device("cpu").type == "cpu"


def test_a_device_that_is_none_is_a_value_error():
    with pytest.raises(ValueError, match="gpu"):
        pick_device("gpu")


def test_a_private_seed_leaves_the_global_generators_where_they_were():
    def draw():
        return torch.rand(1).item(), np.random.random(), random.random()  # noqa: NPY002

    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    with private_seed(3):
        first = draw()
    with private_seed(3):
        assert draw() == first
    with pytest.raises(ZeroDivisionError), private_seed(3):
        draw()[0] / 0
    with private_seed(4):
        assert draw() != first
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]


def test_without_a_seed_a_block_draws_from_where_the_generators_are():
    state = torch.get_rng_state()
    with private_seed():
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.rand(3), inside)


def test_where_the_free_memory_is_read(monkeypatch, tmp_path):
    def meminfo(text):
        (tmp_path / "meminfo").write_text(text)
        monkeypatch.setattr(device, "Path", lambda path: tmp_path / "meminfo")

    meminfo("MemTotal: 900 kB\nMemFree: 10 kB\nMemAvailable:     300 kB\n")
    assert free_memory() == 300 * 1024
    for text in ("MemTotal: 900 kB\n", ""):  # an old kernel, or another system
        meminfo(text)
        psutil = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=1234))
        monkeypatch.setitem(sys.modules, "psutil", psutil)
        assert free_memory() == 1234
    monkeypatch.setattr(device, "Path", lambda path: tmp_path / "not there")
    assert free_memory() == 1234
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert free_memory() is None
