"""Sequences of tokens, such as the bytes of a text, as vectors."""

import torch
from torch import Tensor, nn

from sandbox.zoo.contracts import Encoder, check_sizes
from sandbox.zoo.transformer import Transformer

SPREAD = 0.1  # of what tokens and places begin as: from GPT-2's 0.02, as from 1, a few hundred steps come less far


class TokenEncoder(Encoder):
    """Whole numbers to a vector, by a transformer that looks each one up: ``[B, T] -> [B, out_features]``.

    The mean over the places of what `hidden` gives at each. Tokens may come in any type, bytes (uint8) as well as
    floats, and are taken as they are: they are names, not pixels, and nothing is divided by 255. 842,496 parameters at
    ``in_shape=(128,)``.

    Parameters
    ----------
    in_shape : tuple of int
        ``(T,)``, how many tokens one input has.
    out_features : int, optional
        Width of a final linear layer; without it the output has `dim` features.
    vocabulary : int
        Tokens are from 0 to one less.
    causal : bool
        Whether a place sees only itself and those before (GPT), or all (BERT).
    dim, depth, heads : int
        Width, number of blocks, attention heads per block.
    dropout : float
        On attention weights and on what each half of a block adds.

    Raises
    ------
    ValueError
        If `in_shape` is not one number or a size does not fit; by `forward`, if the input has another shape or holds
        something that is no token.

    References
    ----------
    Radford et al., "Language models are unsupervised multitask learners", 2019 (causal); Devlin et al.,
    arXiv:1810.04805 (not); Vaswani et al., arXiv:1706.03762.

    Examples
    --------
    >>> encoder = TokenEncoder(in_shape=(5,), dim=8, depth=1, heads=2)
    >>> text = torch.tensor([list(b"hello"), list(b"world")])
    >>> encoder(text).shape, encoder.hidden(text[:, :3]).shape
    (torch.Size([2, 8]), torch.Size([2, 3, 8]))
    >>> encoder(text + 200)
    Traceback (most recent call last):
    ValueError: TokenEncoder takes whole numbers from 0 to 255, got 304
    """

    def __init__(
        self,
        in_shape: tuple[int],
        out_features: int | None = None,
        vocabulary: int = 256,
        causal: bool = False,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        check_sizes(vocabulary=vocabulary, dim=dim)
        super().__init__(in_shape, dim if out_features is None else out_features)
        if len(self.in_shape) != 1:
            raise ValueError(f"TokenEncoder takes sequences, in_shape=(T,), got in_shape={self.in_shape}")
        self.vocabulary = vocabulary
        self.body = Transformer(
            in_features=vocabulary,
            out_features=out_features,
            causal=causal,
            dim=dim,
            depth=depth,
            heads=heads,
            max_length=self.in_shape[0],
            dropout=dropout,
        )
        # The linear layer of a vector that is 1 at the token and 0 elsewhere: looked up instead of multiplied.
        self.body.add_module("embed", nn.Embedding(vocabulary, dim))
        for table in (self.body.embed.weight, self.body.positions):
            nn.init.normal_(table, std=SPREAD)

    def admit(self, x: Tensor) -> Tensor:
        tokens = super().admit(x.double())  # which asks for the shape
        wrong = (tokens < 0) | (tokens >= self.vocabulary) | (tokens != tokens.floor())  # the last one: NaN, too
        if wrong.any():
            first = f"{tokens[wrong][0].item():.15g}"
            raise ValueError(f"TokenEncoder takes whole numbers from 0 to {self.vocabulary - 1}, got {first}")
        return tokens.long()

    def encode(self, x: Tensor) -> Tensor:
        return self.hidden(x).mean(1)

    def hidden(self, tokens: Tensor, first: int = 0) -> Tensor:
        """What the last layer gives at each place: ``[B, t] int -> [B, t, out_features]``, for any `t` up to `T`.

        `first` is the place of the first token: with ``first=1`` and ``t = T - 1`` the last place of all is used, too.
        """
        T, past = self.in_shape[0], first + tokens.shape[1]
        if not 0 <= first < past <= T:
            raise ValueError(f"TokenEncoder has places for {T} tokens, got {tokens.shape[1]} from place {first} on")
        places = torch.arange(first, past, device=tokens.device)
        return self.body.encode_at(tokens, places[None])
