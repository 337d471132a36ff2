"""Autoencoders that know PCA from the start: any encoder or decoder of the zoo, with a linear path beside it.

The linear path is PCA; the network beside it adds what is not linear, at first nothing. Training then goes on from the
best that a linear autoencoder can do, instead of looking for it first.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sandbox.zoo.contracts import Decoder, Encoder, check_choice
from sandbox.zoo.mlp import ACTIVATIONS
from sandbox.zoo.names import build, resolve

UNITS = tuple(name for name in ACTIVATIONS if name != "maxout")  # which would halve the code


class _BesidePCA(nn.Module):
    """What encoder and decoder share: mean and scale of the data, a linear map, and how it starts."""

    mean: Tensor
    scale: Tensor
    linear: nn.Linear | None

    def _make_path(self, D: int, linear: nn.Linear | None) -> None:
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("scale", torch.ones(()))
        self.linear = linear
        if linear is not None:
            nn.init.orthogonal_(linear.weight)

    @torch.no_grad()
    def start(self, mean: Any, scale: float, components: Any = None, spread: Any = None) -> None:
        """Set mean and scale of the data, and the linear path to its principal components.

        Parameters
        ----------
        mean : array-like [D]
            Of every value of the (flattened) data.
        scale : float
            What they are divided by, once the mean is taken away; positive.
        components : array-like [K, D], optional
            Axes of unit length; PCA's, as scikit-learn's ``components_``. Without them the linear path stays as it is.
        spread : array-like [K], optional
            Standard deviation of the scaled data along each axis: what makes the components of a code equally large. 1
            by default. An axis along which nothing spreads is left out.

        Raises
        ------
        ValueError
            If a shape is wrong, `scale` is not positive, or there is no linear path for the components.
        """
        D = len(self.mean)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive, got {scale!r}")
        mean = _array("mean", mean, (D,))
        if components is not None:
            if self.linear is None:
                raise ValueError("components are for the linear path, and there is none")
            K = self.linear.weight.numel() // D
            components = _array("components", components, (K, D))
            spread = _array("spread", torch.ones(K) if spread is None else spread, (K,))[:, None]
            spreads = spread > 1e-7 * spread.max()
            components, spread = components * spreads, torch.where(spreads, spread, 1)
            self.linear.weight.copy_(self._from_pca(components, spread))
        self.mean.copy_(mean)
        self.scale.fill_(scale)

    def _from_pca(self, components: Tensor, spread: Tensor) -> Tensor:  # [K, D], [K, 1]
        raise NotImplementedError


class LatentEncoder(_BesidePCA, Encoder):
    """A linear map and a network side by side, to a latent code: ``[B, *in_shape] -> [B, out_features]``.

    With ``x' = (x - mean) / scale`` the code is ``linear(x') + head(body(x'))``. `head` is zero at first, so that after
    `start` with what PCA found the code *is* PCA's, each component divided by its standard deviation. 4,618 parameters
    at ``in_shape=(4,), out_features=2, body="mlp"``.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of one input.
    out_features : int
        `K`, the length of a code.
    body : str or dict
        An encoder of the zoo: its name, or a specification ``{"name": ..., "kwargs": {...}}``. It sees inputs of the
        same shape.
    linear_path : bool
        False leaves the body and its head alone; the head then starts at random.
    variance : bool
        Whether there is a second head, for `distribution`.
    activation : str, optional
        Of the code's units, by the names that `MLP` knows: a code is then not negative, or from 0 to 1.
    head : bool
        False: what the body gives is the code, as it is. There is then neither a linear path nor a variance.

    Raises
    ------
    ValueError
        If the body is no encoder of the zoo, takes inputs of another shape, or, without a head, gives no code of that
        length.

    References
    ----------
    A linear map beside a network that starts at zero: Zhang et al., "Fixup initialization", arXiv:1901.09321; linear
    autoencoders find the subspace of PCA: Baldi and Hornik, Neural Networks 2 (1989); mean and variance from two heads:
    Kingma and Welling, arXiv:1312.6114.

    Examples
    --------
    >>> encoder = LatentEncoder(in_shape=(3,), out_features=1, body="mlp")
    >>> encoder.start(mean=[1, 1, 1], scale=2.0, components=[[0, 0, 1]], spread=[5])
    >>> encoder(torch.tensor([[7.0, 8.0, 21.0]])).tolist()  # (21 - 1) / 2 / 5
    [[2.0]]
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_features: int,
        body: str | dict[str, Any],
        linear_path: bool = True,
        variance: bool = False,
        activation: str | None = None,
        head: bool = True,
    ) -> None:
        super().__init__(in_shape, out_features)
        if not head and (linear_path or variance):
            raise ValueError("head=False takes linear_path=False and variance=False: they would be beside a head")
        width = {} if head else {"out_features": out_features}
        self.body = _body(Encoder, body, in_shape=self.in_shape, **width)
        self.head: nn.Module = nn.Identity()
        if head:
            self.head = nn.Linear(self.body.out_features, out_features)
            nn.init.orthogonal_(self.head.weight)
        self.deviation = nn.Linear(self.body.out_features, out_features) if variance else None
        if activation is not None:
            check_choice("activation", activation, UNITS)
        self.activation = nn.Identity() if activation is None else ACTIVATIONS[activation][0]()
        D = math.prod(self.in_shape)
        self._make_path(D, nn.Linear(D, out_features, bias=False) if linear_path else None)
        _silence(self.head if linear_path else None)
        _silence(self.deviation)

    def encode(self, x: Tensor) -> Tensor:
        x = self._standardised(x)
        return self._code(x, self.body.encode(x))

    def see(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map of the body's convolutions, and the code: ``[B, c, h, w], [B, K]``; `x` is what `forward` takes."""
        x = self._standardised(self.admit(x))
        places, features = self.body.see(x)
        return places, self._code(x, features)

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the code, a Gaussian, each ``[B, K]``; only with ``variance=True``.

        The mean is what `forward` gives, and `x` what it takes. The logarithm is 0 at first and kept within ±10.
        """
        if self.deviation is None:
            raise ValueError("this LatentEncoder was made without variance=True: its codes have no distribution")
        x = self._standardised(self.admit(x))
        features = self.body.encode(x)
        return self._code(x, features), self.deviation(features).clamp(-10, 10)

    def _standardised(self, x: Tensor) -> Tensor:
        mean = self.mean.view(1, *self.in_shape).to(x.dtype)  # pixels in bf16 stay so: floats take ten times as long
        if x.ndim == 4 and not x.is_contiguous():  # a mean in the same order of memory is subtracted three times faster
            mean = mean.contiguous(memory_format=torch.channels_last)
        return (x - mean).div_(self.scale)

    def _code(self, x: Tensor, features: Tensor) -> Tensor:
        z = self.head(features)
        return self.activation(z if self.linear is None else self.linear(x.flatten(1)) + z)

    def _from_pca(self, components: Tensor, spread: Tensor) -> Tensor:
        return components / spread


class LatentDecoder(_BesidePCA, Decoder):
    """A linear map and a network side by side, from a latent code: ``[B, in_features] -> [B, *out_shape]``.

    ``(linear(z) + body(z)) · scale + mean``. The last layer of the body is zero at first, so that after `start` with
    what PCA found this *is* the inverse of PCA. 67,596 parameters at
    ``in_features=2, out_shape=(4,), body="mlp_decoder"``.

    Parameters
    ----------
    in_features : int
        `K`, the length of a code.
    out_shape : tuple of int
        Shape of what a code becomes.
    body : str or dict
        A decoder of the zoo: its name, or a specification ``{"name": ..., "kwargs": {...}}``.
    linear_path : bool
        False leaves the body alone; its last layer then starts at random.

    Raises
    ------
    ValueError
        If the body is no decoder of the zoo, or gives another shape.

    References
    ----------
    As in `LatentEncoder`: Zhang et al., arXiv:1901.09321; Baldi and Hornik, Neural Networks 2 (1989).

    Examples
    --------
    >>> decoder = LatentDecoder(in_features=1, out_shape=(3,), body="mlp_decoder")
    >>> decoder.start(mean=[1, 1, 1], scale=2.0, components=[[0, 0, 1]], spread=[5])
    >>> decoder(torch.tensor([[2.0]])).tolist()
    [[1.0, 1.0, 21.0]]
    """

    def __init__(
        self, in_features: int, out_shape: tuple[int, ...], body: str | dict[str, Any], linear_path: bool = True
    ) -> None:
        super().__init__(in_features, out_shape)
        self.body = _body(Decoder, body, in_features=in_features, out_shape=self.out_shape)
        D = math.prod(self.out_shape)
        self._make_path(D, nn.Linear(in_features, D, bias=False) if linear_path else None)
        _silence(self.body.last if linear_path else None)

    def decode(self, z: Tensor) -> Tensor:
        x = self.body.decode(z)
        if self.linear is not None:
            x = x + self.linear(z).unflatten(1, self.out_shape)
        return torch.addcmul(self.mean.view(self.out_shape), x, self.scale)

    @property
    def last(self) -> nn.Module:
        if self.linear is not None:
            raise ValueError("a LatentDecoder with a linear path has two last layers")
        return self.body.last

    def _from_pca(self, components: Tensor, spread: Tensor) -> Tensor:
        return (components * spread).T


def _body(contract: type, body: str | dict[str, Any], **sizes: Any) -> Any:
    """The network of the zoo that a name or specification stands for, of the kind and the sizes that are wanted."""
    spec: dict[str, Any] = {"name": body} if isinstance(body, str) else body
    if not isinstance(spec, dict) or "name" not in spec or spec.keys() - {"name", "kwargs"}:
        raise ValueError(f"body must be a name of the zoo or {{'name': ..., 'kwargs': {{...}}}}, got {body!r}")
    if not issubclass(resolve(spec["name"]), contract):
        raise ValueError(f"body must be of the kind {contract.__name__}, which {spec['name']!r} is not")
    module = build(spec["name"], **{**sizes, **spec.get("kwargs", {})})
    for key, size in sizes.items():
        if getattr(module, key) != size:
            raise ValueError(f"the body has {key} {getattr(module, key)}, which must be {size} here")
    return module


def _silence(layer: nn.Module | None) -> None:
    """Let a layer give zeros."""
    for parameter in () if layer is None else layer.parameters(recurse=False):
        nn.init.zeros_(parameter)


def _array(name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    array = torch.as_tensor(values).double()
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(array.shape)}")
    return array
