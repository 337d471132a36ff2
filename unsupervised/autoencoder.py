"""Autoencoders: N dimensions in, n out, and back.

They differ in what else a code is held to: nothing (`Autoencoder`), to survive noise (`DenoisingAutoencoder`), to be
mostly silent (`SparseAutoencoder`), to change little (`ContractiveAutoencoder`), to be like a normal distribution
(`VariationalAutoencoder`), to be one of a few words (`VQAutoencoder`).
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sandbox.training.device import pick_device
from sandbox.training.fit import Loss, evaluate
from sandbox.zoo.given import Given, brings_weights, from_given
from sandbox.zoo.names import build
from sandbox.zoo.quantize import FSQ, VectorQuantizer, perplexity
from unsupervised import losses
from unsupervised.augment import NOISES
from unsupervised.base import TorchEstimator, mean_and_scale

FRAME = 36  # pixels of a side, from which on the network that learned Atari sees a picture


class Coder(nn.Module):
    """An encoder and a decoder, which are trained together."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder: Any = encoder
        self.decoder: Any = decoder
        for linear in (encoder.linear, decoder.linear):
            if linear is not None:  # PCA is good as it is, and an optimiser's first steps would undo it
                linear.requires_grad_(False)


class WordCoder(Coder):
    """The same with a quantizer between them, for each part of a code."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, quantizer: nn.Module, code_dim: int):
        super().__init__(encoder, decoder)
        self.quantizer: Any = quantizer
        self.code_dim = code_dim

    def parts(self, x: Tensor) -> Tensor:
        """Codes before they are quantised ``[B, parts, code_dim]``, in float32 at least."""
        z = self.encoder(x)
        return z.to(torch.promote_types(x.dtype, torch.float32)).unflatten(1, (-1, self.code_dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors ``[B, n_components]``, their symbols ``[B, parts]``, and how far codes are from them."""
        z = self.parts(x)
        z_hat, symbols, *distance = self.quantizer(z)
        return z_hat.flatten(1).to(z.dtype), symbols, distance[0] if distance else z.new_zeros(())


@dataclass(eq=False, repr=False)
class Autoencoder(TorchEstimator):
    """Compress samples to a few numbers that they can be restored from.

    The encoder is the sum of a linear map and a network, and so is the decoder. The linear maps are PCA's and stay so;
    the networks add nothing before the first step: it starts as PCA, and goes on from there.

    All parameters after these, and the attributes, are those of `unsupervised.base.TorchEstimator`.

    Parameters
    ----------
    n_components : int
        Length of the code; 2 or 3 to look at the data.
    encoder : str, path, dict or nn.Module, optional
        A network of the zoo (see `sandbox.zoo.given`), the body of the encoder; weights that it brings are kept. By
        default an MLP for rows, ``"nature_cnn"`` for pictures of 36 pixels or more, ``"conv"`` for smaller ones.
    decoder : str or dict, optional
        A decoder of the zoo; by default the encoder's mirror image.
    linear_path : bool
        Whether there are linear maps, started from PCA. They need ``n_components <= min(n_samples, n_features)``.
    loss : {"mse", "mae", "huber", "bce"}
        Of a reconstruction. "bce" takes values from 0 to 1, and has no linear path.

    References
    ----------
    Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313 (2006).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, np.pi, 500)
    >>> X = np.column_stack([np.cos(angle), np.sin(angle)])  # half a circle: one dimension, but not a linear one
    >>> estimator = Autoencoder(n_components=1, max_iter=30, random_state=0).fit(X)
    >>> estimator.transform(X).shape, bool(estimator.score(X) > -0.005)  # PCA's: -0.05
    ((500, 1), True)
    """

    n_components: int = 2
    encoder: Given | None = None
    decoder: str | dict[str, Any] | None = None
    linear_path: bool = True
    loss: str = "mse"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TorchEstimator._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "encoder": "no_validation",
        "decoder": "no_validation",
        "linear_path": ["boolean"],
        "loss": [StrOptions(set(losses.RECONSTRUCTION))],
    }

    _whitened: ClassVar[bool] = False  # whether all dimensions of a code begin with a variance of 1, or their mean

    def _build(self) -> Coder:
        straight = self._straight()
        body = body_for(self.in_shape_, self.encoder)
        own = opened(body, self.in_shape_) if brings_weights(body) else None
        shapes = {"in_shape": self.in_shape_, "out_features": self.n_components, **self._encoder_options()}
        encoder = build("latent_encoder", body=body if own is None else own.spec, linear_path=straight, **shapes)
        if own is not None:
            encoder.body.load_state_dict(own.state_dict())
        decoder = build(
            "latent_decoder",
            in_features=self.n_components,
            out_shape=self.in_shape_,
            body=mirror(encoder.body.spec, self.in_shape_) if self.decoder is None else self.decoder,
            linear_path=straight,
        )
        return Coder(encoder, decoder)

    def _straight(self) -> bool:
        return self.linear_path and self.loss != "bce"

    def _encoder_options(self) -> dict[str, Any]:
        return {}

    def _start(self, x: Tensor) -> None:
        rows = x.flatten(1)
        n, D = rows.shape
        if self.loss == "bce":
            if not 0 <= float(rows.min()) <= float(rows.max()) <= 1:
                raise ValueError(
                    f"loss='bce' takes values from 0 to 1, got {float(rows.min()):g} to {float(rows.max()):g}"
                )
            return
        mean, scale = mean_and_scale(x)
        axes = {}
        if self._straight():
            if self.n_components > min(n, D):
                raise ValueError(
                    f"n_components={self.n_components} must be between 1 and min(n_samples, n_features)={min(n, D)}, "
                    f"with n_samples={n} and n_features={D}; linear_path=False takes more"
                )
            axes = principal_axes((rows - mean) / scale, self.n_components, self._whitened)
        self.model_.encoder.start(mean, scale, **axes)
        self.model_.decoder.start(mean, scale, **axes)

    def _loss(self, x: Tensor) -> Loss:
        return self._error(self.model_.decoder(self.model_.encoder(x)), x), {}

    def _error(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """The error in units of the data's standard deviation: an optimiser should not see in which units they are."""
        scale = self.model_.encoder.scale
        if self.loss == "huber":  # whose threshold is in these units
            return losses.huber(x_hat.float() / scale, x / scale)
        unit = {"mse": scale.square(), "mae": scale}.get(self.loss, 1.0)
        return losses.RECONSTRUCTION[self.loss](x_hat.float(), x) / unit

    def _code(self, x: Tensor) -> Tensor:
        """Codes as `transform` gives them."""
        return self.model_.encoder(x)

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Minus the mean error of reconstructions, in the units of `X`: the larger the better."""
        check_is_fitted(self)
        arrays = self._checked(X)
        self.model_.to(pick_device(self.device))

        def error(rows: Tensor) -> Loss:
            x = self._floats(rows)
            return losses.RECONSTRUCTION[self.loss](self.model_.decoder(self._code(x)).float(), x), {}

        return -evaluate(self.model_, error, arrays, self.batch_size)["loss"]

    def _writable(self, name: str, value: Any) -> Any:
        if name == "encoder" and brings_weights(value):  # its weights are in the model: the file may be gone one day
            return self.model_.encoder.spec["kwargs"]["body"]
        return super()._writable(name, value)

    @property
    def decoder_(self) -> Any:
        """The decoder of the zoo; under ``loss="bce"`` it gives logits."""
        check_is_fitted(self, "model_")
        return self.model_.decoder

    def inverse_transform(self, Z: ArrayLike) -> NDArray[Any]:
        """From codes to samples: ``[N, n_components] -> [N, D]``, bytes as numbers from 0 to 1."""
        check_is_fitted(self)
        codes = check_array(Z, dtype=[np.float64, np.float32])
        if codes.shape[1] != self.n_components:
            raise ValueError(f"codes have n_components={self.n_components} values, got {codes.shape[1]}")
        return self._in_batches(_Flat(self.model_.decoder, self.loss == "bce"), codes, (self.n_components,))

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Samples as their codes restore them, in the shape that they came in."""
        X_hat = self.inverse_transform(self.transform(X))
        return X_hat.reshape(np.shape(X))

    def interpolate(self, a: ArrayLike, b: ArrayLike, n: int = 8) -> NDArray[Any]:
        """What lies between samples, decoded from codes on the line between theirs.

        Parameters
        ----------
        a, b : [N, D], or in the shape of pictures
        n : int
            Steps, with both ends.

        Returns
        -------
        [N, n, D], or [N, n, *shape of one]
        """
        starts, ends = self.transform(a), self.transform(b)
        along = np.linspace(0, 1, n, dtype=starts.dtype)[:, None]
        codes = starts[:, None] * (1 - along) + ends[:, None] * along  # [N, n, n_components]
        return self.inverse_transform(codes.reshape(-1, codes.shape[2])).reshape(len(codes), n, *np.shape(a)[1:])


@dataclass(eq=False, repr=False)
class DenoisingAutoencoder(Autoencoder):
    """Restore samples from noisy ones: the code must hold what noise can't hide.

    All other parameters are those of `Autoencoder`. `transform` and `reconstruct` take samples as they are; give them
    noisy ones to have them cleaned.

    Parameters
    ----------
    noise : {"gaussian", "mask", "salt_and_pepper"}
        See `unsupervised.augment`.
    noise_level : float
        Standard deviation of Gaussian noise, in standard deviations of the data; else the share of values hidden.

    References
    ----------
    Vincent et al., "Stacked denoising autoencoders", JMLR 11 (2010).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat(rng.normal(size=(300, 1)), 8, axis=1)  # eight times the same number
    >>> noisy = X + rng.normal(size=X.shape)
    >>> cleaned = DenoisingAutoencoder(1, noise_level=1.0, max_iter=30, random_state=0).fit(X).reconstruct(noisy)
    >>> bool(np.square(cleaned - X).mean() < 0.2)  # the noise: 1
    True
    """

    noise: str = "gaussian"
    noise_level: float = 0.3

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Autoencoder._parameter_constraints,
        "noise": [StrOptions(set(NOISES))],
        "noise_level": [Interval(Real, 0, None, closed="left")],
    }

    def _loss(self, x: Tensor) -> Loss:
        return self._error(self.model_.decoder(self.model_.encoder(self.corrupt(x))), x), {}

    def corrupt(self, x: Tensor) -> Tensor:
        """Samples as they are shown in training ``[B, *in_shape_]``, drawn from torch's global generator."""
        level = self.noise_level
        if self.noise == "gaussian":
            level *= float(self.model_.encoder.scale)
        return NOISES[self.noise](x, level)


@dataclass(eq=False, repr=False)
class SparseAutoencoder(Autoencoder):
    """A code of many units of which few are active at a time.

    All other parameters are those of `Autoencoder`; there is no linear path, and a code may be longer than a sample.

    Parameters
    ----------
    n_components : int
    penalty : {"l1", "kl"}
        "l1": units are ReLUs, and their mean activity is added to the loss. "kl": units are sigmoids, and what is added
        is how far each one's mean is from `sparsity`.
    weight : float
        Of the penalty, relative to the variance of the data.
    sparsity : float
        Wanted share of activity, for "kl".

    References
    ----------
    Ng, "Sparse autoencoder", CS294A lecture notes (2011); Glorot et al., "Deep sparse rectifier networks" (2011).

    Examples
    --------
    >>> X = np.eye(6).repeat(40, axis=0)
    >>> estimator = SparseAutoencoder(12, max_iter=20, random_state=0).fit(X)
    >>> bool((estimator.transform(X) >= 0).all())
    True
    """

    n_components: int = 64
    penalty: str = "l1"
    weight: float = 0.01
    sparsity: float = 0.05

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Autoencoder._parameter_constraints,
        "penalty": [StrOptions({"l1", "kl"})],
        "weight": [Interval(Real, 0, None, closed="left")],
        "sparsity": [Interval(Real, 0, 1, closed="neither")],
    }

    def _straight(self) -> bool:
        return False

    def _encoder_options(self) -> dict[str, Any]:
        return {"activation": "relu" if self.penalty == "l1" else "sigmoid"}

    def _loss(self, x: Tensor) -> Loss:
        z = self.model_.encoder(x).float()
        error = self._error(self.model_.decoder(z), x)
        penalty = z.abs().mean() if self.penalty == "l1" else losses.bernoulli_kl(z, self.sparsity) / self.n_components
        return error + self.weight * penalty, {"error": error.detach(), "activity": (z > 0.01).float().mean()}


@dataclass(eq=False, repr=False)
class ContractiveAutoencoder(Autoencoder):
    """A code that changes little when a sample does: the norm of its Jacobian is added to the loss.

    All other parameters are those of `Autoencoder`; there is no linear path, whose Jacobian nothing would make smaller.

    Parameters
    ----------
    weight : float
        Of the squared norm for each component, both in units of the data's standard deviation.

    References
    ----------
    Rifai et al., "Contractive auto-encoders", ICML 2011; its norm is estimated, see `unsupervised.losses.contraction`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 6))
    >>> ContractiveAutoencoder(2, max_iter=5, random_state=0).fit(X).transform(X).shape
    (200, 2)
    """

    weight: float = 0.1

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Autoencoder._parameter_constraints,
        "weight": [Interval(Real, 0, None, closed="left")],
    }

    def _straight(self) -> bool:
        return False

    def _loss(self, x: Tensor) -> Loss:
        with torch.enable_grad():  # in an evaluation, too: the loss is a derivative
            x = x.requires_grad_()
            z = self.model_.encoder(x).float()
            norm = losses.contraction(z, x)
        error = self._error(self.model_.decoder(z), x.detach())
        # Of standardised samples x' = x / scale it would be scale² times as much.
        weight = self.weight * self.model_.encoder.scale.square() / (self.n_components * x[0].numel())
        return error + weight * norm, {"error": error.detach(), "contraction": norm.detach()}


@dataclass(eq=False, repr=False)
class VariationalAutoencoder(Autoencoder):
    """A code that is a distribution, held close to the normal one: to draw new samples from, and to go between them.

    The loss is the negative evidence bound in nats for each value: how likely a sample is given a drawn code, and how
    far that code's distribution is from N(0, 1). Under "mse" the noise of samples is the best there is (σ-VAE) [1]_, so
    that there is nothing to weigh. `transform` gives the mean. All other parameters are those of `Autoencoder`.

    Parameters
    ----------
    beta : float
        Weight of the divergence; more than 1 asks for codes whose dimensions are independent [2]_.
    free_bits : float
        Nats of each dimension that cost nothing [3]_.

    References
    ----------
    .. [1] Kingma and Welling, arXiv:1312.6114; σ-VAE: Rybkin et al., arXiv:2006.13202
    .. [2] Higgins et al., "beta-VAE", ICLR 2017
    .. [3] Kingma et al., arXiv:1606.04934

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 1)) @ rng.normal(size=(1, 5)) + 3
    >>> estimator = VariationalAutoencoder(1, max_iter=30, random_state=0).fit(X)
    >>> drawn = estimator.sample(1000, random_state=0)
    >>> drawn.shape, bool(np.allclose(drawn.mean(0), X.mean(0), atol=0.3))
    ((1000, 5), True)
    """

    beta: float = 1.0
    free_bits: float = 0.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Autoencoder._parameter_constraints,
        "loss": [StrOptions({"mse", "bce"})],
        "beta": [Interval(Real, 0, None, closed="left")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
    }

    _whitened: ClassVar[bool] = True  # as the distribution that codes are held to

    def _encoder_options(self) -> dict[str, Any]:
        return {"variance": True}

    def _loss(self, x: Tensor) -> Loss:
        mean, log_var = (one.float() for one in self.model_.encoder.distribution(x))
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        x_hat, D = self.model_.decoder(z).float(), x[0].numel()
        divergence = losses.free_bits(losses.gaussian_kl(mean, log_var), self.free_bits)
        likelihood = losses.gaussian_nll(x_hat, x) if self.loss == "mse" else D * self._error(x_hat, x)
        metrics = {"error": self._error(x_hat, x).detach(), "divergence": divergence.detach()}
        return (likelihood + self.beta * divergence) / D, metrics

    def sample(self, n: int = 1, random_state: Any = None) -> NDArray[Any]:
        """New samples, decoded from codes that are drawn: ``[n, D]`` of float32."""
        check_is_fitted(self)
        codes = check_random_state(random_state).standard_normal((n, self.n_components))
        return self.inverse_transform(codes.astype(np.float32))


@dataclass(eq=False, repr=False)
class VQAutoencoder(Autoencoder):
    """A code of words: each part of it is one of a few vectors, so that a sample is a handful of whole numbers.

    A code of `n_components` is cut into parts of `code_dim` values, and each part replaced by the nearest of `n_codes`
    vectors. These follow the codes as running means; they start from k-means++ centres of the first codes [1]_. Or,
    with ``quantizer="fsq"``, each value is rounded to one of a few levels: nothing to learn, nothing to collapse [2]_.

    `transform` gives the vectors, `symbols` their numbers. All other parameters are those of `Autoencoder`.

    Parameters
    ----------
    n_components : int
    n_codes : int
        Vectors in the book.
    code_dim : int
        Values of each, a divisor of `n_components`.
    quantizer : {"ema", "fsq"}
    levels : tuple of int
        For "fsq", of each of the `code_dim` values; as many as that.
    commitment : float
        Weight of the distance of codes from their vectors, for "ema".

    References
    ----------
    .. [1] van den Oord et al., arXiv:1711.00937
    .. [2] Mentzer et al., arXiv:2309.15505

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(300, 6))
    >>> estimator = VQAutoencoder(4, n_codes=16, code_dim=2, max_iter=5, random_state=0).fit(X)
    >>> estimator.symbols(X[:3]).shape, bool(estimator.symbols(X).max() < 16)
    ((3, 2), True)
    """

    n_components: int = 32
    n_codes: int = 256
    code_dim: int = 4
    quantizer: str = "ema"
    levels: tuple[int, ...] = (8, 5, 5, 5)
    commitment: float = 0.25

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Autoencoder._parameter_constraints,
        "n_codes": [Interval(Integral, 2, None, closed="left")],
        "code_dim": [Interval(Integral, 1, None, closed="left")],
        "quantizer": [StrOptions({"ema", "fsq"})],
        "levels": ["array-like"],
        "commitment": [Interval(Real, 0, None, closed="left")],
    }

    def _build(self) -> Coder:
        if self.n_components % self.code_dim:
            raise ValueError(f"n_components={self.n_components} must be a multiple of code_dim={self.code_dim}")
        if self.quantizer == "fsq" and len(self.levels) != self.code_dim:
            raise ValueError(
                f"levels={tuple(self.levels)} must be code_dim={self.code_dim} numbers, one for each value"
            )
        coder, fsq = super()._build(), self.quantizer == "fsq"
        quantizer = FSQ(tuple(self.levels)) if fsq else VectorQuantizer(self.n_codes, self.code_dim)
        return WordCoder(coder.encoder, coder.decoder, quantizer, self.code_dim)

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        if self.quantizer == "ema":
            from unsupervised.kmeans import kmeans_plusplus

            z = self.model_.parts(x).flatten(0, 1).cpu().numpy()
            if len(z) < self.n_codes:
                raise ValueError(f"n_codes={self.n_codes} are more than the {len(z)} parts of n_samples={len(x)} codes")
            centers, _ = kmeans_plusplus(z, self.n_codes, random_state=self._seed)
            self.model_.quantizer.start(torch.from_numpy(centers).to(x.device))

    def _code(self, x: Tensor) -> Tensor:
        z_hat, _, _ = self.model_(x)
        return z_hat

    def _loss(self, x: Tensor) -> Loss:
        z_hat, symbols, distance = self.model_(x)
        error = self._error(self.model_.decoder(z_hat), x)
        metrics = {"error": error.detach(), "perplexity": perplexity(symbols)}
        return error + self.commitment * distance, metrics

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """The vectors that stand for samples: ``[N, D] -> [N, n_components]``."""
        check_is_fitted(self)
        return self._in_batches(_Part(self.model_, 0), self._checked(X)[0])

    def symbols(self, X: ArrayLike) -> NDArray[np.int64]:
        """The numbers of these vectors: ``[N, D] -> [N, n_components / code_dim]``."""
        check_is_fitted(self)
        return self._in_batches(_Part(self.model_, 1), self._checked(X)[0])

    def look_up(self, symbols: ArrayLike) -> NDArray[Any]:
        """The vectors of numbers, as `inverse_transform` takes them: ``[N, parts] -> [N, n_components]``."""
        check_is_fitted(self)
        numbers = check_array(symbols, dtype=np.int64)
        parts, n_codes = self.n_components // self.code_dim, self.model_.quantizer.n_codes
        if numbers.shape[1] != parts or numbers.min() < 0 or numbers.max() >= n_codes:
            raise ValueError(f"symbols are [N, {parts}] from 0 to {n_codes - 1}")
        with torch.no_grad():
            device = self._on()
            found = self.model_.quantizer.look_up(torch.from_numpy(numbers).to(device)).flatten(1)
        return found.float().cpu().numpy()


class _Part(nn.Module):
    """One of the things that a network gives."""

    def __init__(self, network: nn.Module, which: int):
        super().__init__()
        self.network, self.which = network, which

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[self.which]


class _Flat(nn.Module):
    """A decoder whose samples are rows."""

    def __init__(self, decoder: nn.Module, logits: bool):
        super().__init__()
        self.decoder, self.logits = decoder, logits

    def forward(self, z: Tensor) -> Tensor:
        x_hat = self.decoder(z).flatten(1)
        return x_hat.sigmoid() if self.logits else x_hat


def body_for(in_shape: tuple[int, ...], encoder: Given | None) -> Given:
    """The encoder that is given, or the one that suits samples of a shape."""
    if encoder is not None:
        return encoder
    if len(in_shape) == 3 and min(in_shape[1:]) >= FRAME:
        return "nature_cnn"
    if len(in_shape) == 3 and min(in_shape[1:]) > 1:
        return {"name": "conv", "kwargs": {"channels": channels_for(in_shape)}}
    return {"name": "mlp", "kwargs": {"widths": [256, 256], "activation": "relu"}}


def channels_for(in_shape: tuple[int, ...]) -> list[int]:
    """Of convolutions that halve pictures: as many as their smaller side can be halved, four at most.

    Examples
    --------
    >>> channels_for((1, 8, 8)), channels_for((3, 6, 40))
    ([32, 64, 128], [32, 64])
    """
    halvings = int(math.log2(min(in_shape[1:])))
    return [32, 64, 128, 128][: min(halvings, 3 if min(in_shape[1:]) < FRAME else 4)]


def mirror(spec: dict[str, Any], in_shape: tuple[int, ...]) -> Given:
    """The decoder that undoes an encoder of the zoo, step by step where it has one."""
    kwargs = spec["kwargs"]
    if spec["name"] == "mlp":
        kept = {key: kwargs[key] for key in ("activation", "norm", "dropout", "init")}
        return {"name": "mlp_decoder", "kwargs": {**kept, "widths": kwargs["widths"][::-1]}}
    if spec["name"] == "nature_cnn":
        return {"name": "nature_decoder", "kwargs": {"channels": kwargs["channels"][::-1]}}
    if spec["name"] == "conv":
        return {"name": "conv_decoder", "kwargs": {"channels": kwargs["channels"][::-1]}}
    return "conv_decoder" if len(in_shape) == 3 else "mlp_decoder"


def opened(network: Given, in_shape: tuple[int, ...]) -> Any:
    """The encoder of the zoo that is given, for samples of a shape."""
    built = from_given(network, in_shape=in_shape)
    if getattr(built, "spec", None) is None:
        raise ValueError(f"encoder={type(built).__name__} is not of the zoo: make it with sandbox.zoo.build")
    if tuple(built.in_shape) != tuple(in_shape):
        raise ValueError(f"the encoder takes samples of shape {tuple(built.in_shape)}, but X has {tuple(in_shape)}")
    return built


def principal_axes(rows: Tensor, n: int, whitened: bool) -> dict[str, Tensor]:
    """The first axes of centred rows [N, D], components [n, D], and what codes along them are divided by, spread [n].

    That is each axis's own standard deviation if they are to be whitened. Else it is one number for all: axes of little
    variance are mostly noise, and whoever measures distances between codes would hear it as loud as the rest.
    """
    X = rows.double() if rows.numel() < 1 << 22 else rows
    with np.errstate(invalid="ignore"):  # of data that are all the same it asks for shares of no variance
        pca = PCA(n, random_state=0).fit(X.cpu().numpy())
    variance = pca.explained_variance_
    spread = np.sqrt(variance if whitened else np.full(n, variance.mean()))
    return {"components": torch.tensor(pca.components_).to(rows), "spread": torch.tensor(spread).to(rows)}
