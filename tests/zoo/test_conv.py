"""The convolutional encoders: architecture by numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from sandbox import zoo
from sandbox.zoo.conv import BlockConv2d, NatureCNN


def convolutions(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def test_nature_cnn_is_stable_baselines3s():
    torch_layers = pytest.importorskip("stable_baselines3.common.torch_layers")
    gymnasium = pytest.importorskip("gymnasium")
    space = gymnasium.spaces.Box(0, 255, (4, 84, 84), "uint8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch_layers.NatureCNN(space)
        torch.manual_seed(0)
        ours = zoo.NatureCNN(space.shape)
        pixels = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in ours.state_dict().items())
    assert torch.equal(ours(pixels), theirs(pixels.float() / 255.0))


def test_nature_cnn_layers():
    cnn = zoo.NatureCNN((4, 84, 84))
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions(cnn)] == [
        (32, 8, 4),
        (64, 4, 2),
        (64, 3, 1),
    ]
    assert cnn.linear[0].in_features == 64 * 7 * 7
    assert (cnn(torch.rand(2, 4, 84, 84)) >= 0).all()


def test_nature_cnn_smallest_image():
    assert zoo.NatureCNN((1, 36, 36)).linear[0].in_features == 64
    for shape in [(1, 35, 84), (84, 84, 4)]:
        with pytest.raises(ValueError, match=r"NatureCNN takes images \[C, H, W\] of at least 36x36 pixels, got"):
            zoo.NatureCNN(shape)


@pytest.mark.parametrize("name", ["alexnet", "impala_cnn", "nature_cnn", "resnet18", "vit"])
def test_vectors_are_refused(name):
    with pytest.raises(ValueError, match=r"takes images \[C, H, W\].*, got in_shape \(4,\)"):
        zoo.build(name, in_shape=(4,))


def test_impala_has_fifteen_convolutions():
    cnn = zoo.ImpalaCNN((4, 84, 84))
    assert [c.out_channels for c in convolutions(cnn)] == [16] * 5 + [32] * 10
    assert cnn.linear[0].in_features == 32 * 11 * 11  # 84 → 42 → 21 → 11
    assert [c.out_channels for c in convolutions(zoo.ImpalaCNN((4, 16, 16), scale=2))] == [32] * 5 + [64] * 10


def test_impala_residual_adds_to_its_input():
    cnn = zoo.ImpalaCNN((4, 16, 16))
    residual = cnn.cnn[2]
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(residual(x) - x, residual.layers(x), atol=1e-6, rtol=0)
    nn.init.zeros_(residual.layers[3].weight)
    nn.init.zeros_(residual.layers[3].bias)
    assert torch.equal(residual(x), x)


def test_alexnet_layers():
    net = zoo.AlexNet((3, 32, 32))
    assert [c.out_channels for c in convolutions(net)] == [64, 192, 384, 256, 256]
    assert net.linear[1].in_features == 256 * 4 * 4
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    with pytest.raises(ValueError, match="dropout must be in"):
        zoo.AlexNet((3, 32, 32), dropout=1.5)


def test_resnet18_is_the_published_size():
    # 11,173,962 is the count usually given for CIFAR-10, with its ten classes.
    assert sum(p.numel() for p in zoo.ResNet18((3, 32, 32), out_features=10).parameters()) == 11_173_962
    net = zoo.ResNet18((3, 32, 32))
    main = [c for c in convolutions(net) if c.kernel_size == (3, 3)]
    assert len(main) == 17  # and the linear layer is the eighteenth
    assert [c.out_channels for c in convolutions(net) if c.kernel_size == (1, 1)] == [128, 256, 512]
    with torch.no_grad():
        assert net.stages(net.stem(torch.zeros(1, 3, 32, 32))).shape == (1, 512, 4, 4)


def test_resnet18_block_adds_its_shortcut_and_starts_as_he():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = zoo.ResNet18((3, 8, 8)).eval()
    block = net.stages[1]
    x = torch.randn(2, 64, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(block(x), (x + block.layers(x)).clamp(min=0))
    weight = net.stages[6].layers[0].weight  # 256 to 512 channels
    assert weight.var().item() == pytest.approx(2 / (512 * 9), rel=0.02)


@pytest.mark.parametrize(("kernel", "stride", "shape"), [(8, 4, (4, 84, 84)), (4, 2, (3, 10, 8)), (2, 2, (1, 4, 6))])
def test_a_convolution_over_blocks_is_the_convolution_over_pictures(kernel, stride, shape):
    torch.manual_seed(0)
    layer = BlockConv2d(shape[0], 5, kernel, stride=stride).double()
    pictures = np.random.default_rng(0).standard_normal((3, *shape))
    arranged = layer.arrange(pictures)
    assert arranged.shape == (3, shape[1] // stride, shape[2] // stride, stride**2 * shape[0])
    assert arranged.flags.c_contiguous
    gradients = []
    for x in (torch.from_numpy(pictures), torch.from_numpy(arranged).permute(0, 3, 1, 2)):
        y = layer(x)
        layer.zero_grad()
        (y * torch.arange(y.numel()).reshape(y.shape)).sum().backward()
        gradients.append((y.detach(), layer.weight.grad.clone(), layer.bias.grad.clone()))
    for by_pictures, by_blocks in zip(*gradients, strict=True):
        torch.testing.assert_close(by_blocks, by_pictures)


def test_pictures_that_can_not_be_cut_stay_whole_with_their_channels_last():
    pictures = np.arange(2 * 3 * 42 * 44, dtype=np.uint16).reshape(2, 3, 42, 44)
    arranged = BlockConv2d(3, 2, 8, stride=4).arrange(pictures)
    np.testing.assert_array_equal(arranged, pictures.transpose(0, 2, 3, 1))


def test_the_door_takes_blocks_of_the_right_shape_only():
    encoder = NatureCNN(in_shape=(4, 84, 84))
    blocks = torch.zeros(2, 64, 21, 21, dtype=torch.uint8)
    assert encoder(blocks).shape == (2, 512)
    for wrong in (blocks[:, :60], blocks[..., :20]):
        with pytest.raises(ValueError, match=r"takes x of shape \[B, 4, 84, 84\]"):
            encoder(wrong)
    with pytest.raises(ValueError, match=r"takes x of shape \[B, 4, 42, 42\]"):
        NatureCNN(in_shape=(4, 42, 42))(torch.zeros(1, 64, 10, 10))
