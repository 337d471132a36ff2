"""Transformers: one block, read forward (GPT), both ways (BERT) or over the patches of an image (ViT)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sandbox.zoo.contracts import Encoder, Recurrent, Sequence, check_choice, check_dropout, check_sizes
from sandbox.zoo.conv import check_image


class Transformer(Sequence):
    """Pre-norm transformer: ``[B, T, in_features] -> [B, T, out_features]``, causal (GPT) or bidirectional (BERT).

    A linear layer to `dim`, positions, `depth` blocks of attention and feed-forward, layer norm. 867,200 parameters at
    ``in_features=64``.

    Parameters
    ----------
    in_features : int
        `D` of one step's input.
    out_features : int, optional
        Width of a final linear layer; without it the output has `dim` features.
    causal : bool
        Whether a step sees only itself and the past.
    dim, depth, heads : int
        Width, number of blocks, attention heads per block (`dim` a multiple of `heads`).
    max_length : int
        The longest `T`.
    positions : {"learned", "sinusoidal"}
        How a step knows its place; sinusoidal needs an even `dim`.
    dropout : float
        On attention weights and on what each half of a block adds.

    Raises
    ------
    ValueError
        If a size does not fit or `positions` is unknown; by `forward`, if `T` is greater than `max_length`.

    References
    ----------
    Vaswani et al., "Attention is all you need", arXiv:1706.03762; bidirectional: Devlin et al., arXiv:1810.04805;
    norm before instead of after, as in GPT-2: Xiong et al., arXiv:2002.04745.

    Examples
    --------
    >>> gpt = Transformer(in_features=3, out_features=5, causal=True)
    >>> gpt(torch.zeros(2, 7, 3)).shape
    torch.Size([2, 7, 5])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        causal: bool = True,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
        max_length: int = 512,
        positions: str = "learned",
        dropout: float = 0.0,
    ) -> None:
        check_sizes(dim=dim, depth=depth, heads=heads, max_length=max_length)
        check_choice("positions", positions, ("learned", "sinusoidal"))
        check_dropout(dropout)
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim}, heads={heads}")
        super().__init__(in_features, dim if out_features is None else out_features, causal)
        self.max_length = max_length
        self.embed = nn.Linear(in_features, dim)
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(max_length, dim).normal_(std=0.02))
        else:
            self.register_buffer("positions", _sinusoids(max_length, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, causal, dropout, depth) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Identity() if out_features is None else nn.Linear(dim, out_features)

    def encode(self, x: Tensor, mask: Tensor | None) -> Tensor:
        T = x.shape[1]
        if len(self.positions) < T:
            raise ValueError(f"Transformer takes at most max_length={len(self.positions)} steps, got {T}")
        looks = None if mask is None else self._looks(mask)
        return self._run(self.embed(x) + self.positions[:T], looks)

    def encode_at(self, x: Tensor, places: Tensor) -> Tensor:
        """Steps of a longer sequence, each with its place: ``[B, S, in_features], [B, S] -> [B, S, out_features]``."""
        return self._run(self.embed(x) + self.positions[places], None)

    def _run(self, x: Tensor, looks: Tensor | None) -> Tensor:  # [B, T, dim] -> [B, T, out_features]
        for block in self.blocks:
            x = block(x, looks)
        return self.head(self.norm(x))

    def _looks(self, mask: Tensor) -> Tensor:  # [B, T] -> [B, 1, T, T]: which step looks at which
        T = mask.shape[1]
        looks = mask[:, None, None, :].expand(-1, 1, T, T)
        if self.causal:
            looks = looks.tril()
        itself = torch.eye(T, dtype=torch.bool, device=mask.device)
        return looks | itself  # not every kernel survives a step that looks at nothing


class Window(Recurrent):
    """A network of sequences as a recurrent one, that remembers the last `context` steps and nothing before.

    Its state holds those steps' inputs, each with a 1 that says it has been lived through, so that one step at a time
    and many at once give the same. What it gives at a step is the sequence's output at the last place of its window.

    Parameters
    ----------
    body : Sequence
        Such as a causal :class:`Transformer`.
    context : int, optional
        Steps in the window, the present one included; by default the body's `max_length`.

    Raises
    ------
    ValueError
        If `context` is not positive, or more than the body takes.

    Examples
    --------
    >>> memory = Window(Transformer(in_features=3, dim=8, depth=1, heads=2, max_length=4))
    >>> y, state = memory(torch.zeros(5, 2, 3), memory.initial_state(2), torch.zeros(5, 2))
    >>> y.shape, state.shape
    (torch.Size([5, 2, 8]), torch.Size([3, 2, 4]))
    """

    def __init__(self, body: Sequence, context: int | None = None) -> None:
        longest = getattr(body, "max_length", None)
        context = longest if context is None else context
        if context is None or context < 2 or (longest is not None and context > longest):
            raise ValueError(f"context must be 2 or more, and at most the body's max_length={longest}, got {context}")
        super().__init__(body.in_features, body.out_features, context - 1, body.in_features + 1)
        self.body, self.context = body, context

    def unroll(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        T, B, _ = x.shape
        stream = torch.cat([state, F.pad(x, (0, 1), value=1.0)])  # [context - 1 + T, B, D + 1]
        windows = stream.unfold(0, self.context, 1).movedim(-1, 2).flatten(0, 1)  # [T B, context, D + 1]
        y = self.body(windows[..., :-1], windows[..., -1])[:, -1]
        return y.unflatten(0, (T, B)), stream[T:]


class Block(nn.Module):
    """One pre-norm transformer block: ``[B, T, dim] -> [B, T, dim]`` (arXiv:1706.03762, arXiv:2002.04745).

    Parameters
    ----------
    dim, heads : int
        Width, and attention heads that divide it; the feed-forward is four times as wide.
    causal : bool
        Whether a step sees only itself and the past, where `forward` gets no mask.
    dropout : float
        On attention weights and on what each half adds.
    depth : int
        How many blocks are stacked; the layers that add to the stream start smaller by its root, as in GPT-2.

    Examples
    --------
    >>> Block(dim=8, heads=2, causal=False)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, dim: int, heads: int, causal: bool, dropout: float = 0.0, depth: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = _linear(dim, 3 * dim, std=0.02)
        self.project = _linear(dim, dim, std=0.02 / math.sqrt(2 * depth))
        self.norm2 = nn.LayerNorm(dim)
        self.feed = nn.Sequential(
            _linear(dim, 4 * dim, std=0.02),
            nn.GELU(),
            _linear(4 * dim, dim, std=0.02 / math.sqrt(2 * depth)),
        )

    def forward(self, x: Tensor, looks: Tensor | None = None) -> Tensor:  # [B, T, dim], [B or 1, 1, T, T]
        x = x + self._drop(self._attend(self.norm1(x), looks))
        return x + self._drop(self.feed(self.norm2(x)))

    def _attend(self, x: Tensor, looks: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, T, dim / heads]
        p = self.dropout if self.training else 0.0
        causal = self.causal and looks is None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=looks, dropout_p=p, is_causal=causal)
        return self.project(y.transpose(1, 2).flatten(2))  # [B, T, dim]

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class ViT(Encoder):
    """Vision transformer: ``[B, C, H, W] -> [B, out_features]``.

    The image is cut into patches, the patches are the steps of a bidirectional `Transformer` with learned positions.
    2,691,264 parameters at ``in_shape=(3, 32, 32)``.

    Parameters
    ----------
    in_shape : tuple of int
        ``(C, H, W)``, `H` and `W` multiples of `patch`.
    out_features : int, optional
        Width of a final linear layer; without it the output has `dim` features.
    patch : int
        Side of a patch in pixels.
    dim, depth, heads : int
        Width, number of blocks, attention heads per block.
    pool : {"mean", "cls"}
        What becomes the output: the mean over the patches, or an extra step put before them. That step's input is
        zero: all that it has to learn is in its position.
    dropout : float
        On attention weights and on what each half of a block adds.

    Raises
    ------
    ValueError
        If `in_shape` is no image or cannot be cut into patches, a size does not fit or `pool` is unknown.

    References
    ----------
    Dosovitskiy et al., "An image is worth 16x16 words", arXiv:2010.11929.

    Examples
    --------
    >>> vit = ViT(in_shape=(3, 32, 32))
    >>> vit(torch.zeros(2, 3, 32, 32)).shape, vit.patches(torch.zeros(2, 3, 32, 32)).shape
    (torch.Size([2, 192]), torch.Size([2, 64, 48]))
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_features: int | None = None,
        patch: int = 4,
        dim: int = 192,
        depth: int = 6,
        heads: int = 3,
        pool: str = "mean",
        dropout: float = 0.0,
    ) -> None:
        check_image("ViT", in_shape)
        check_sizes(patch=patch)
        C, H, W = in_shape
        if H % patch or W % patch:
            raise ValueError(f"ViT takes images whose sides are multiples of patch={patch}, got {tuple(in_shape)}")
        check_choice("pool", pool, ("mean", "cls"))
        super().__init__(in_shape, dim if out_features is None else out_features)
        self.patch = patch
        self.pool = pool
        self.body = Transformer(
            in_features=C * patch**2,
            out_features=out_features,
            causal=False,
            dim=dim,
            depth=depth,
            heads=heads,
            max_length=(H // patch) * (W // patch) + (pool == "cls"),
            dropout=dropout,
        )

    def patches(self, x: Tensor) -> Tensor:
        """Cut ``[B, C, H, W]`` into ``[B, H/patch · W/patch, C·patch²]``, row by row."""
        return F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)

    def encode_some(self, x: Tensor, seen: Tensor) -> Tensor:
        """The outputs at some patches, which alone are looked at: ``[B, C, H, W], [B, S] -> [B, S, out_features]``.

        What a masked autoencoder hides is not computed with (He et al., arXiv:2111.06377).
        """
        steps = self.patches(self.admit(x))
        return self.body.encode_at(steps.gather(1, seen[..., None].expand(-1, -1, steps.shape[2])), seen)

    def encode(self, x: Tensor) -> Tensor:
        steps = self.patches(x)  # [B, patches, C patch²]
        if self.pool == "mean":
            return self.body(steps).mean(1)  # [B, out_features]
        return self.body(F.pad(steps, (0, 0, 1, 0)))[:, 0]


def _linear(fan_in: int, fan_out: int, std: float) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def _sinusoids(max_length: int, dim: int) -> Tensor:
    if dim % 2:
        raise ValueError(f"positions='sinusoidal' needs an even dim, got {dim}")
    frequencies = 10_000 ** (-torch.arange(0, dim, 2) / dim)  # [dim / 2]
    angles = torch.arange(max_length)[:, None] * frequencies  # [max_length, dim / 2]
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)  # sin, cos, sin, cos …
