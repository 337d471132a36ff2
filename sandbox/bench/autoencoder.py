"""Autoencoders: samples/s against a plain PyTorch loop, errors against PCA's, and what features know of a game."""

from __future__ import annotations

import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any

from sandbox.bench import arguments, keep, measure, ratios, show, spread

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

MODULE = "sandbox.bench.autoencoder"
SPEED = {  # the network, and epochs
    "MLP 784-512-16, batch 128": 10,
    "conv, 84x84 frames, batch 128": 4,
}
ERRORS = ("digits", "Pong", "Breakout")
SIZES = (2, 4, 8, 16, 32)
PROBED = ("player y", "enemy y", "ball x", "ball y")
PROBES = ("keypoints, 30", "autoencoder, 32", "PCA, 32", "random keypoints, 30", "random NatureCNN, 32")
PARTS = ("speed", "error", "probe")


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments("autoencoder", __doc__, repeats=3)
    parser.add_argument("--part", choices=PARTS, help="only one of the three")
    parser.add_argument("--case", choices=(*SPEED, *ERRORS), metavar="CASE", help="only one data set, or network")
    parser.add_argument(
        "--small", action="store_true", help="little data: to see that it runs, the numbers mean nothing"
    )
    args = parser.parse(argv)
    if args.job:
        parts: dict[str, Callable[..., dict[str, Any]]] = {"speed": speed, "error": error, "probe": probe}
        job = dict(args.job)
        print(json.dumps(parts[job.pop("part")](**job)))
        return 0
    measurements: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]]

    def take(**job: Any) -> dict[str, Any]:
        measurements.append(measure(MODULE, **job, small=args.small))
        keep(args.out, "autoencoder", measurements)
        return measurements[-1]

    def chosen(part: str, cases: Sequence[str]) -> list[str]:
        return [case for case in cases if args.part in (None, part) and args.case in (None, case)]

    if cases := chosen("speed", tuple(SPEED)):
        rows = []
        for case in cases:
            rows += ratios(case, [_round(take, case, seed) for seed in range(args.repeats)], "plain", "loss", 5)
        columns: tuple[str, ...] = ("", "plain loop", "ours", "ratio", "held-out MSE, plain", "ours")
        show("Samples/s of the same network", columns, rows)
    if cases := chosen("error", ERRORS):
        rows = []
        for case in cases:
            for n in SIZES:
                found = [take(part="error", case=case, n=n, seed=seed) for seed in range(args.repeats)]
                ratio = spread([one["mse"] / one["pca"] for one in found])
                pca, ours = f"{_median(found, 'pca'):.3g}", f"{_median(found, 'mse'):.3g}"
                rows.append((f"{case}, {n}", pca, ours, ratio, spread([one["seconds"] for one in found], 0)))
                print(f"{case}, {n}: {ratio} of PCA's", flush=True)
        columns = ("data, components", "PCA", "ours", "ratio", "seconds")
        show(f"Mean squared error on held-out samples: median [min, max] of {args.repeats} seeds", columns, rows)
    if chosen("probe", ("Pong",)):
        found = [take(part="probe", case="Pong", seed=seed) for seed in range(args.repeats)]
        rows = [
            (who, spread([one[who]["mean"] for one in found]), *(f"{_median(found, who, name):.2f}" for name in PROBED))
            for who in PROBES
        ]
        for who, seconds in found[0]["seconds"].items():
            print(f"seconds of training, {who}: {seconds:.0f}")
        title = f"R² of Pong's memory from frozen features: median [min, max] of {args.repeats} seeds"
        show(title, ("features", "mean", *PROBED), rows)
    return 0


def _median(found: list[dict[str, Any]], *keys: str) -> float:
    values: list[Any] = [reduce(getitem, keys, one) for one in found]
    return statistics.median(values)


# -- speed -------------------------------------------------------------------------------------------------------------


def _round(take: Any, case: str, seed: int) -> dict[str, Any]:
    sides = ("plain", "ours", "ours, fp32") + (("pythae",) if importlib.util.find_spec("pythae") else ())
    return {who: take(part="speed", case=case, who=who, seed=seed) for who in sides}


def speed(case: str, who: str, seed: int, small: bool = False) -> dict[str, Any]:
    """Train one network for some epochs by a plain loop or by ours; construction and data off the clock."""
    import torch
    import torch._dynamo  # which the first optimiser of a plain loop imports: off the clock

    conv = case.startswith("conv")
    X, held_out = frames("Pong", small) if conv else patches(small)
    epochs = 1 if small else SPEED[case]
    if who == "plain":
        torch.manual_seed(seed)
        net = plain_network(conv)
        seconds, loss = plain_loop(net, X, held_out, epochs)
    elif who == "pythae":
        seconds, loss = pythae_loop(plain_network(conv), X, held_out, epochs, seed)
    else:
        from unsupervised import Autoencoder

        encoder: Any = "nature_cnn" if conv else {"name": "mlp", "kwargs": {"widths": [512], "activation": "relu"}}
        how = {"linear_path": False, "precision": "fp32" if who.endswith("fp32") else "auto", "random_state": seed}
        estimator = Autoencoder(32 if conv else 16, encoder=encoder, max_iter=epochs, **how)  # type: ignore[arg-type]
        start = time.perf_counter()
        estimator.fit(X)
        seconds, loss = time.perf_counter() - start, -estimator.score(held_out)
    return {"rate": epochs * len(X) / seconds, "seconds": seconds, "loss": loss}


def plain_network(conv: bool) -> nn.Module:
    """The networks of the two cases as anybody would write them down."""
    from torch import nn

    if not conv:
        layers = nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 16), nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 784)
        return nn.Sequential(nn.Flatten(), *layers)
    encoder = (
        *(nn.Conv2d(1, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 32)),
    )
    decoder = (
        *(nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7))),
        *(nn.ConvTranspose2d(64, 64, 3), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, 2), nn.ReLU()),
        nn.ConvTranspose2d(32, 1, 8, 4),
    )
    return nn.Sequential(*encoder, *decoder)


def plain_loop(net: nn.Module, X: np.ndarray, held_out: np.ndarray, epochs: int) -> tuple[float, float]:
    """DataLoader, Adam, float32: seconds, and the error on held-out samples."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, unseen = as_floats(X), as_floats(held_out)
    loader = DataLoader(TensorDataset(x), batch_size=128, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    start = time.perf_counter()
    for _ in range(epochs):
        for (batch,) in loader:
            loss = torch.nn.functional.mse_loss(net(batch).view(batch.shape), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        return seconds, float((net(unseen).view(unseen.shape) - unseen).square().mean())


def pythae_loop(net: Any, X: np.ndarray, held_out: np.ndarray, epochs: int, seed: int) -> tuple[float, float]:
    """The same network in pythae's pipeline."""
    import tempfile

    import torch
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    half = len(net) // 2 + (len(net) % 2)

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = net[:half]

        def forward(self, x: Any) -> Any:
            return ModelOutput(embedding=self.layers(x))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = net[half:]

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.layers(z).view(len(z), *X.shape[1:]))

    latent = 32 if X.ndim == 4 else 16
    model = AE(AEConfig(input_dim=X.shape[1:], latent_dim=latent), encoder=Encoder(), decoder=Decoder())
    with tempfile.TemporaryDirectory() as folder:
        settings = {"num_epochs": epochs, "learning_rate": 1e-3, "per_device_train_batch_size": 128, "seed": seed}
        pipeline = TrainingPipeline(BaseTrainerConfig(output_dir=folder, no_cuda=True, **settings), model)
        start = time.perf_counter()
        pipeline(train_data=as_floats(X))
        seconds = time.perf_counter() - start
    unseen = as_floats(held_out)
    with torch.no_grad():
        restored = model.decoder(model.encoder(unseen).embedding).reconstruction
        return seconds, float((restored - unseen).square().mean())


# -- quality -----------------------------------------------------------------------------------------------------------


def error(case: str, n: int, seed: int, small: bool = False) -> dict[str, Any]:
    """Held-out error of an autoencoder and of PCA, with the same number of components."""
    from sklearn.decomposition import PCA

    from unsupervised import Autoencoder

    X, held_out = digits(seed) if case == "digits" else frames(case, small)
    rows, unseen = (as_floats(part).flatten(1).numpy() for part in (X, held_out))
    pca = PCA(n, random_state=seed).fit(rows)
    start = time.perf_counter()
    estimator = Autoencoder(n, random_state=seed, **settings_of(case, small)).fit(X)
    seconds = time.perf_counter() - start
    restored = estimator.reconstruct(held_out).reshape(unseen.shape)
    return {
        "mse": float(((restored - unseen) ** 2).mean()),
        "pca": float(((pca.inverse_transform(pca.transform(unseen)) - unseen) ** 2).mean()),
        "seconds": seconds,
        "epochs": estimator.n_iter_,
    }


def settings_of(case: str, small: bool = False) -> dict[str, Any]:
    """How an autoencoder is trained on a data set."""
    if small:
        return {"max_iter": 2}
    if case == "digits":
        return {"max_iter": 100, "learning_rate": "cos_1e-3"}
    return {"max_iter": 8, "learning_rate": "cos_1e-3", "batch_size": 64, "warmup": 0.05}


def probe(case: str, seed: int, small: bool = False) -> dict[str, Any]:
    """What a linear layer reads of a game's memory from features: ours, PCA's, and those of networks left at random."""
    import numpy as np
    from sklearn.decomposition import PCA

    from envs.recording import record
    from unsupervised import Autoencoder, KeypointAutoencoder
    from unsupervised.evaluate import frozen_features, ram_probe

    n = 400 if small else 6000
    played = record(case, n, seed=seed, size=(84, 84), grey=True)
    X = played.frames[:, None]
    points = {"max_iter": 2 if small else 6, "learning_rate": "cos_2e-3", "batch_size": 32, "warmup": 0.05}
    estimators: dict[str, Any] = {
        "keypoints, 30": KeypointAutoencoder(30, random_state=seed, **points),  # type: ignore[arg-type]
        "autoencoder, 32": Autoencoder(32, random_state=seed, **settings_of(case, small)),
    }
    features, seconds = {}, {}
    for who, estimator in estimators.items():
        start = time.perf_counter()
        estimator.fit(X)
        seconds[who] = time.perf_counter() - start
        features[who] = estimator.transform(X)
    rows = X.reshape(n, -1) / np.float32(255)
    features["PCA, 32"] = PCA(32, random_state=seed).fit(rows).transform(rows)
    still = {
        "random_state": seed,
        "max_iter": 1,
        "learning_rate": 1e-30,
    }  # all that comes from the data: mean and scale
    for who, estimator in (
        ("random keypoints, 30", KeypointAutoencoder(30, **still)),  # type: ignore[arg-type]
        ("random NatureCNN, 32", Autoencoder(32, linear_path=False, **still)),  # type: ignore[arg-type]
    ):
        features[who] = frozen_features(estimator.fit(X[::10]).encoder_, X)
    result: dict[str, Any] = {"seconds": seconds}
    for who, found in features.items():
        r2 = ram_probe(found, played.ram, case, random_state=seed).r2
        named = {name: r2[name] for name in PROBED}
        result[who] = {**named, "mean": float(np.mean(list(named.values())))}
    return result


# -- data --------------------------------------------------------------------------------------------------------------


def digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits from 0 to 1, 1437 to learn from and 360 held out."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    from sandbox.data import load

    X = (load("digits").rows / 16).astype(np.float32)
    return tuple(train_test_split(X, test_size=360, random_state=seed))  # type: ignore[return-value]


def patches(small: bool) -> tuple[np.ndarray, np.ndarray]:
    """Parts of photos as rows of 784 bytes."""
    from sandbox.data import load

    rows = load("patches", n=500 if small else 20_000, size=(28, 28), grey=True).rows
    cut = len(rows) // 10
    return rows[cut:], rows[:cut]


def frames(game: str, small: bool) -> tuple[np.ndarray, np.ndarray]:
    """Frames of random play ``[N, 1, 84, 84]``, and those of other games to judge by."""
    from envs.recording import record

    sizes = (150, 50) if small else (3000, 1000)
    both = [record(game, n, seed=seed, size=(84, 84), grey=True).frames[:, None] for seed, n in enumerate(sizes)]
    return both[0], both[1]


def as_floats(X: np.ndarray) -> Any:
    """A tensor of float32, bytes from 0 to 1."""
    import torch

    x = torch.from_numpy(X).float()
    return x / 255 if X.dtype == "uint8" else x


if __name__ == "__main__":
    raise SystemExit(main())
