"""Learning from sequences of tokens, such as the bytes of a text: say what comes next, or what is hidden.

What differs between `NextToken` (as GPT) and `MaskedToken` (as BERT) is who sees what, and their `_loss`.
"""

import math
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sandbox.training.device import private_seed, threads
from sandbox.training.fit import Loss, Schedule
from sandbox.zoo.names import build
from sandbox.zoo.tokens import TokenEncoder
from unsupervised import losses
from unsupervised.base import TorchEstimator

BYTES = 256
WIDE = 128  # from which width on bf16 is faster than fp32, where the processor has it
HIDDEN, EXCHANGED = 0.8, 0.1  # of the places that are asked for; the rest is seen as it is (arXiv:1810.04805)


class Telling(nn.Module):
    """An encoder of tokens, and a score for each token at each place: ``[B, t] -> [B, t, vocabulary]`` of float32."""

    def __init__(self, encoder: TokenEncoder, vocabulary: int):
        super().__init__()
        self.encoder: Any = encoder
        self.head = nn.Linear(encoder.out_features, vocabulary)

    def forward(self, tokens: Tensor, first: int = 0) -> Tensor:
        return self.head(self.encoder.hidden(tokens, first)).float()


@dataclass(eq=False, repr=False)
class TokenModel(TorchEstimator):
    """What both have in common that learn from sequences of tokens.

    Samples are rows ``[N, T]`` of whole numbers, in any type: bytes are tokens here and no pixels. Or text: a `str`, or
    `bytes`, or a list of these, each cut into windows of `context` bytes of its UTF-8 that follow each other; what is
    left at its end is dropped. `transform` gives the mean over the places of the encoder's last layer, `score` minus
    the mean loss in nats per token.

    All other parameters, and the attributes, are those of `unsupervised.base.TorchEstimator`; there are no pictures
    here, so `image_shape` stays None.

    Parameters
    ----------
    vocabulary : int
        Tokens are from 0 to one less.
    context : int
        Bytes of a window that text is cut into; rows have a length of their own.
    dim, depth, heads : int
        Width of the transformer, its blocks, and the attention heads of each.
    dropout : float
        In the transformer.
    """

    vocabulary: int = BYTES
    context: int = 128
    dim: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.0
    max_iter: int = field(default=20, kw_only=True)
    batch_size: int = field(default=32, kw_only=True)
    optimizer: str = field(default="adamw", kw_only=True)
    learning_rate: float | str | Schedule = field(default="cos_2e-3", kw_only=True)
    clip_norm: float | None = field(default=1.0, kw_only=True)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TorchEstimator._parameter_constraints,
        **{name: [Interval(Integral, 1, None, closed="left")] for name in ("dim", "depth", "heads")},
        "vocabulary": [Interval(Integral, 2, None, closed="left")],
        "context": [Interval(Integral, 2, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }
    causal: ClassVar[bool]  # whether a place sees only those before it
    extra: ClassVar[int]  # tokens that the encoder knows beyond the vocabulary

    def _checked(self, X: Any, y: ArrayLike | None = None, *, reset: bool = False) -> list[NDArray[Any]]:
        if is_text(X):
            X = windows(X, self.context if reset else self.in_shape_[0])
        (rows,) = super()._checked(X, reset=reset)
        return [as_tokens(rows, self.vocabulary)]

    def _sample_shape(self, given: tuple[int, ...] | None, D: int) -> tuple[int, ...]:
        kind = type(self).__name__
        if given is not None or self.image_shape is not None:
            raise ValueError(f"{kind} takes rows of tokens [N, T], got samples of {given or self.image_shape}")
        if D < 2:
            raise ValueError(f"{kind} takes rows of 2 tokens or more: of n_features={D} there is nothing to learn")
        return (D,)

    def _build(self) -> Telling:
        encoder = build(
            "token_encoder",
            in_shape=self.in_shape_,
            vocabulary=self.vocabulary + self.extra,
            causal=self.causal,
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            dropout=self.dropout,
        )
        return Telling(encoder, self.vocabulary)

    def _floats(self, rows: Tensor) -> Tensor:
        """Rows as tokens [B, T]: whole numbers where other estimators have floats."""
        return rows.long()

    def _work(self) -> int:
        return self.in_shape_[0] * super()._work()

    def _precision(self) -> str:
        """As asked; of itself bf16 from a width on. The kind for rows of numbers takes longer than either here."""
        return "fp32" if self.precision == "auto" and self.dim < WIDE else self.precision

    def _told(self, scores: Tensor, tokens: Tensor) -> Loss:
        """The cross-entropy of scores ``[..., vocabulary]`` and tokens ``[...]``, and what else is known of it."""
        scores, tokens = scores.flatten(0, -2), tokens.flatten()
        nats = losses.cross_entropy(scores, tokens)
        right = (scores.argmax(1) == tokens).float().mean()
        per = "bits_per_byte" if self.vocabulary == BYTES else "bits_per_token"
        return nats, {"accuracy": right, "perplexity": nats.detach().exp(), per: nats.detach() / math.log(2)}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.categorical = tags.input_tags.positive_only = True
        return tags


@dataclass(eq=False, repr=False)
class NextToken(TokenModel):
    """Say which token comes next, at every place of a sequence, from those before it: a small GPT.

    `sample` and `write` go on with a sequence from there. All parameters are those of `TokenModel`.

    References
    ----------
    Radford et al., "Language models are unsupervised multitask learners", 2019 (GPT-2); the transformer: Vaswani et
    al., arXiv:1706.03762.

    Examples
    --------
    >>> estimator = NextToken(context=9, dim=16, depth=1, heads=2, learning_rate=1e-2, random_state=0)
    >>> estimator.fit("to be or not " * 100).write("be", length=16, temperature=0)
    'be or not to be or'
    >>> estimator.transform("or not to be").shape
    (1, 16)
    """

    causal: ClassVar[bool] = True
    extra: ClassVar[int] = 0

    def _loss(self, x: Tensor) -> Loss:
        # The last token predicts nothing, so that the last place would never learn. Now and then all move up by one.
        first = int(torch.randint(2, ())) if self.model_.training else 0
        return self._told(self.model_(x[:, :-1], first), x[:, 1:])

    def sample(
        self,
        n: int = 1,
        *,
        prompt: str | bytes | ArrayLike,
        length: int = 128,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        random_state: Any = None,
    ) -> NDArray[Any]:
        """Go on with a sequence, token by token.

        Parameters
        ----------
        n : int
            How many times.
        prompt : str, bytes, [P] or [n, P]
            The beginning, one for all or one for each; of text its UTF-8. Of what is longer than the rows of the fit
            only the last `T` tokens are seen.
        length : int
            Tokens to add.
        temperature : float
            What scores are divided by: below 1 likely tokens become likelier, at 0 the likeliest is taken.
        top_k : int, optional
            Draw among so many likeliest tokens.
        top_p : float, optional
            Draw among the likeliest tokens that together have this probability, by the temperature and `top_k`
            (arXiv:1904.09751).
        random_state : int, RandomState or None

        Returns
        -------
        [n, P + length]
            The prompt and what follows it.

        Raises
        ------
        ValueError
            If the prompt is empty, of another number than `n`, or holds something that is no token; or if a number
            can't be.
        """
        check_is_fitted(self)
        for name, count in (("n", n), ("length", length)):
            if not isinstance(count, Integral) or count < 1:
                raise ValueError(f"{name} must be 1 or more, in whole numbers, got {count!r}")
        if is_text(prompt) and not isinstance(prompt, str | bytes):
            raise ValueError("prompt must be one text, or tokens, got a list of texts")
        start = as_tokens(as_bytes(prompt) if isinstance(prompt, str | bytes) else prompt, self.vocabulary, "prompt")
        if start.ndim not in (1, 2) or not start.size or (start.ndim == 2 and len(start) != n):
            raise ValueError(f"prompt must have 1 token or more, [P] or [n, P] with n={n}, got {list(start.shape)}")
        tokens = torch.tensor(np.broadcast_to(start, (n, start.shape[-1])), dtype=torch.long, device=self._on())
        with torch.no_grad(), threads(self._threads()), private_seed(_seed_from(random_state)):
            for _ in range(length):
                logits = self.model_(tokens[:, -self.in_shape_[0] :])[:, -1]
                tokens = torch.cat([tokens, drawn(logits, temperature, top_k, top_p)[:, None]], 1)
        return tokens.cpu().numpy().astype(start.dtype)

    def write(self, prompt: str, length: int = 500, **how: Any) -> str:
        """Go on with a text by `length` bytes: the prompt and what follows. All else is as in `sample`."""
        return self.sample(1, prompt=prompt, length=length, **how).tobytes().decode(errors="replace")


@dataclass(eq=False, repr=False)
class MaskedToken(TokenModel):
    """Say which tokens are hidden, from those on both sides: a small BERT.

    A part of the places is asked for. Of these 80 % are hidden behind a token that the vocabulary does not have, 10 %
    hold any other token, and 10 % are seen as they are: so a place can never be sure of what it sees. All other
    parameters are those of `TokenModel`.

    Parameters
    ----------
    masked : float
        The share of each row's places that is asked for, one at least.

    References
    ----------
    Devlin et al., "BERT: pre-training of deep bidirectional transformers", arXiv:1810.04805; `fill` in several passes:
    Ghazvininejad et al., arXiv:1904.09324.

    Examples
    --------
    >>> estimator = MaskedToken(context=13, dim=16, depth=1, heads=2, learning_rate=1e-2, random_state=0)
    >>> estimator.fit("to be or not " * 200).fill_text("to _e or n__ ")
    'to be or not '
    """

    masked: float = 0.15

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TokenModel._parameter_constraints,
        "masked": [Interval(Real, 0, 1, closed="right")],
    }
    causal: ClassVar[bool] = False
    extra: ClassVar[int] = 1

    def _loss(self, x: Tensor) -> Loss:
        seen, places = hidden(x, self.masked, self.vocabulary)
        scores = self.model_(seen)
        asked = scores.gather(1, places[..., None].expand(-1, -1, scores.shape[2]))  # [B, M, vocabulary]
        return self._told(asked, x.gather(1, places))

    def fill(self, X: ArrayLike, mask: ArrayLike, passes: int = 1) -> NDArray[Any]:
        """The most likely tokens at places that are hidden.

        Parameters
        ----------
        X : [N, t] int
            Tokens, rows as long as those of the fit or shorter; what stands at hidden places makes no difference.
        mask : [N, t] bool
            Which places are hidden.
        passes : int
            1 fills all at once, each as if it was alone. More fill the surest places first, and look again.

        Returns
        -------
        [N, t]
            `X` with the hidden places filled.

        Raises
        ------
        ValueError
            If `X` holds something else than tokens, is too long, or `mask` is no mask of its shape.
        """
        check_is_fitted(self)
        hide = np.asarray(mask)
        if hide.dtype != bool or hide.ndim != 2 or hide.shape != np.shape(X):
            raise ValueError(f"mask must be boolean, [N, t] as X is, got {hide.dtype} {list(hide.shape)}")
        if not 1 <= hide.shape[1] <= self.in_shape_[0]:
            raise ValueError(f"X must have from 1 to {self.in_shape_[0]} tokens in a row, got {hide.shape[1]}")
        if not isinstance(passes, Integral) or passes < 1:
            raise ValueError(f"passes must be 1 or more, in whole numbers, got {passes!r}")
        rows = as_tokens(np.where(hide, 0, X), self.vocabulary)
        filled = [rows[:0]]
        with torch.no_grad(), threads(self._threads()):
            for start in range(0, len(rows), self.batch_size):
                part = slice(start, start + self.batch_size)
                x = torch.tensor(rows[part], dtype=torch.long, device=self._on())
                filled.append(self._filled(x, torch.tensor(hide[part], device=x.device), int(passes)))
        return np.concatenate(filled).astype(rows.dtype)

    def _filled(self, x: Tensor, left: Tensor, passes: int) -> NDArray[Any]:
        x = x.masked_fill(left, self.vocabulary)
        for still in range(passes, 0, -1):
            sureness, guess = self.model_(x).softmax(2).max(2)  # [B, t]
            rank = sureness.masked_fill(~left, -1.0).argsort(1, descending=True).argsort(1)
            now = left & (rank < (left.sum(1, keepdim=True) + still - 1) // still)
            x, left = torch.where(now, guess, x), left & ~now
        return x.cpu().numpy()

    def fill_text(self, text: str, blank: str = "_") -> str:
        """A text of `T` bytes at most with each `blank` filled by the most likely byte, the surest first.

        Examples
        --------
        See `MaskedToken`.
        """
        if len(blank.encode()) != 1:
            raise ValueError(f"blank must be one character of one byte, got {blank!r}")
        row = as_bytes(text)[None]
        mask = row == ord(blank)
        return self.fill(row, mask, passes=max(int(mask.sum()), 1)).tobytes().decode(errors="replace")


# -- tokens ------------------------------------------------------------------------------------------------------------


def is_text(X: Any) -> bool:
    """Whether it is text, or a list of texts.

    Examples
    --------
    >>> is_text("ab"), is_text(["ab", b"cd"]), is_text([[1, 2]]), is_text([])
    (True, True, False, False)
    """
    if isinstance(X, list | tuple):
        return bool(X) and all(isinstance(one, str | bytes) for one in X)
    return isinstance(X, str | bytes)


def as_bytes(text: str | bytes) -> NDArray[np.uint8]:
    """The bytes of a text in UTF-8.

    Examples
    --------
    >>> as_bytes("aß")
    array([ 97, 195, 159], dtype=uint8)
    """
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)


def windows(text: Any, length: int) -> NDArray[np.uint8]:
    """A text, or each of a list, cut into windows of so many bytes that follow each other: ``[N, length]``.

    Raises
    ------
    ValueError
        If all are shorter than a window.

    Examples
    --------
    >>> windows(["abcde", "fgh"], 2).tobytes()
    b'abcdfg'
    """
    parts = [as_bytes(one) for one in ([text] if isinstance(text, str | bytes) else text)]
    rows = [part[: len(part) // length * length].reshape(-1, length) for part in parts]
    if not any(map(len, rows)):
        longest = max(map(len, parts))
        raise ValueError(f"no text has a window of {length} bytes, the longest has {longest}: take a smaller context")
    return np.concatenate(rows)


def as_tokens(X: ArrayLike, vocabulary: int, name: str = "X") -> NDArray[Any]:
    """Whole numbers of any type as the smallest type that holds the vocabulary.

    Raises
    ------
    ValueError
        If something is no whole number, or not of the vocabulary.

    Examples
    --------
    >>> as_tokens([[0.0, 3.0]], vocabulary=4)
    array([[0, 3]], dtype=uint8)
    >>> as_tokens([0, 4], vocabulary=4)
    Traceback (most recent call last):
    ValueError: X must hold tokens, whole numbers from 0 to vocabulary - 1 = 3, got 4
    """
    tokens = np.asarray(X)
    known = f"{name} must hold tokens, whole numbers from 0 to vocabulary - 1 = {vocabulary - 1}, got"
    if tokens.dtype.kind not in "biuf":
        raise ValueError(f"{known} {tokens.dtype}")
    wrong = (tokens < 0) | (tokens >= vocabulary)
    if tokens.dtype.kind == "f":
        wrong |= tokens != np.floor(tokens)  # NaN, too
    if wrong.any():
        raise ValueError(f"{known} {tokens[wrong][0]}")
    return tokens.astype(np.uint8 if vocabulary <= BYTES else np.int32, copy=False)


def hidden(x: Tensor, share: float, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, T]`` with some hidden, and the places ``[B, M]`` that are asked for, ``M = share T``, 1 at least.

    Of these 80 % become the token `vocabulary`, 10 % any token, and 10 % stay (arXiv:1810.04805, section 3.1). Drawn
    from torch's global generator.

    Examples
    --------
    >>> x = torch.zeros(2, 20, dtype=torch.long)
    >>> seen, places = hidden(x, 0.15, vocabulary=4)
    >>> places.shape, bool((seen.scatter(1, places, 0) == x).all())
    (torch.Size([2, 3]), True)
    """
    B, T = x.shape
    M = max(round(share * T), 1)
    places = torch.rand(B, T, device=x.device).argsort(1)[:, :M]
    fate = torch.rand(B, M, device=x.device)
    any_token = torch.randint(vocabulary, (B, M), device=x.device)
    shown = torch.where(fate < HIDDEN + EXCHANGED, any_token, x.gather(1, places)).masked_fill(
        fate < HIDDEN, vocabulary
    )
    return x.scatter(1, places, shown), places


# -- the next one ------------------------------------------------------------------------------------------------------


def drawn(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """A token for each row of logits: ``[B, K] -> [B]``, from torch's global generator; at temperature 0 the likeliest.

    Raises
    ------
    ValueError
        If the temperature is negative or no number, or `top_k` or `top_p` can't be.

    Examples
    --------
    >>> drawn(torch.tensor([[0.0, 2.0, 1.0]]), temperature=0)
    tensor([1])
    >>> drawn(torch.tensor([[0.0, 2.0, 1.0]]), temperature=9.0, top_k=1)
    tensor([1])
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0 or more, got {temperature!r}")
    kept = logits / temperature if temperature else logits
    kept = kept if top_k is None else keep_top_k(kept, top_k)
    kept = kept if top_p is None else keep_top_p(kept, top_p)
    return kept.softmax(1).multinomial(1)[:, 0] if temperature else kept.argmax(1)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Logits of all but the `k` largest as minus infinity: ``[B, K] -> [B, K]``.

    Raises
    ------
    ValueError
        If `k` is not from 1 to K.

    Examples
    --------
    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    tensor([[-inf, 3., 2.]])
    """
    if not isinstance(k, Integral) or not 1 <= k <= logits.shape[1]:
        raise ValueError(f"top_k must be a whole number from 1 to {logits.shape[1]}, got {k!r}")
    values, places = logits.topk(int(k), dim=1)
    return torch.full_like(logits, -math.inf).scatter(1, places, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Logits of all but the fewest whose probabilities come to `p` as minus infinity: ``[B, K] -> [B, K]``.

    The nucleus of Holtzman et al., arXiv:1904.09751, section 3.1: the likeliest ones, until their sum reaches `p`.

    Raises
    ------
    ValueError
        If `p` is not above 0, and 1 at most.

    Examples
    --------
    >>> keep_top_p(torch.tensor([[0.5, 0.125, 0.25, 0.125]]).log(), 0.7).exp()
    tensor([[0.5000, 0.0000, 0.2500, 0.0000]])
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must be above 0, and 1 at most, got {p!r}")
    ordered, places = logits.sort(1, descending=True)
    shares = ordered.softmax(1)
    before = shares.cumsum(1) - shares  # what those have together that are likelier
    return torch.full_like(logits, -math.inf).scatter(1, places, ordered.masked_fill(before >= p, -math.inf))


def _seed_from(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(2**31 - 1))
