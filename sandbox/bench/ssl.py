"""Features without labels: samples/s against plain PyTorch with views made picture by picture, and against chance.

``speed`` trains the same network by the same method, ours and as people write it: a data set that makes two views of a
picture at a time by PIL or numpy, a DataLoader, Adam, float32. ``probe`` asks what each method has learned: a linear
layer and the nearest neighbours, beside those of the same network left at random.
"""

from __future__ import annotations

import copy
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sandbox.bench import arguments, keep, measure, ratios, show, spread
from sandbox.bench.autoencoder import PROBED

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

MODULE = "sandbox.bench.ssl"
SPEED = {"photos, 32x32, conv": 4, "Pong, 4x84x84, nature_cnn": 3}  # the data, the network, and epochs
COMPARED = ("SimCLR", "BYOL", "SimSiam")
BATCH = 256
TEMPERATURE, MOMENTUM = 0.5, 0.98  # of SimCLR and of BYOL, as ours have them
PARTS = ("speed", "probe", "ram")
GHOSTS = tuple(f"{ghost} {axis}" for ghost in ("sue", "inky", "pinky", "blinky") for axis in "xy")
READ = {  # of each game, what is read from its memory
    "Pong": ("player y", "enemy y", "ball x", "ball y"),
    "Breakout": ("player x", "ball x", "ball y"),
    "MsPacman": ("player x", "player y", *GHOSTS),
}
STATES = {"n_features": 256, "max_iter": 10, "batch_size": 64}  # how STDIM learns from frames
JUDGED = ("probe", "knn", "random_probe", "random_knn")
BALL_X, BINS = 49, 8  # the byte of Pong's memory that neighbours are asked for, in so many ranges, each as frequent


def nudged(x: Tensor) -> Tensor:
    """Frames moved by a pixel at most: a method that is to know where a ball is must not learn to overlook it."""
    from sandbox.training.shift import random_shift

    return random_shift(x, 1)


def covered(x: Tensor) -> Tensor:
    """Frames moved by a pixel at most, lighter or darker, with two places covered: no object can tell them alone."""
    from unsupervised.augment import colour_jitter, cutout

    x, fill = nudged(x), float(x.mean())
    return colour_jitter(cutout(cutout(x, 0.3, fill), 0.3, fill), p=1.0)


METHODS = ("SimCLR", "MoCo", "BYOL", "SimSiam", "BarlowTwins", "VICReg")
IN_GAMES: dict[str, Any] = {"max_iter": 8, "batch_size": 64, "views": covered}
GENTLY = IN_GAMES | {"batch_size": 128, "learning_rate": "cos_2e-4"}
KEYS = {"views": nudged, "learning_rate": "cos_1e-4", "temperature": 0.1, "queue": 1024}
PROBE: dict[str, dict[str, dict[str, Any]]] = {  # how each method is trained on each data set
    "digits": {name: {"max_iter": 60} for name in METHODS}
    | {"SimSiam": {"max_iter": 100, "hidden": 512, "dim": 256}},  # whose bottleneck is a quarter of `dim`
    "Pong": dict.fromkeys(METHODS, IN_GAMES)
    | {
        "MoCo": GENTLY | KEYS,  # at the others' rate its embeddings collapse
        "BarlowTwins": GENTLY,
        "TemporalContrast": IN_GAMES | {"views": nudged, "learning_rate": "cos_3e-4", "steps": 1},
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments("ssl", __doc__, repeats=3)
    parser.add_argument("--part", choices=PARTS, help="only one of the three")
    parser.add_argument("--case", choices=(*SPEED, *PROBE, *READ), metavar="CASE", help="only one data set or game")
    parser.add_argument("--method", choices=tuple(PROBE["Pong"]), metavar="NAME", help="only one, such as SimCLR")
    parser.add_argument(
        "--small", action="store_true", help="little data: to see that it runs, the numbers mean nothing"
    )
    args = parser.parse(argv)
    if args.job:
        parts: dict[str, Callable[..., dict[str, Any]]] = {"speed": speed, "probe": probe, "ram": states}
        job = dict(args.job)
        print(json.dumps(parts[job.pop("part")](**job)))
        return 0
    measurements: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]]
    header: tuple[str, ...]

    def take(**job: Any) -> dict[str, Any]:
        measurements.append(measure(MODULE, **job, small=args.small))
        keep(args.out, "ssl", measurements)
        return measurements[-1]

    def chosen(part: str, cases: Sequence[str]) -> list[str]:
        return [case for case in cases if args.part in (None, part) and args.case in (None, case)]

    if cases := chosen("speed", tuple(SPEED)):
        rows = []
        for case in cases:
            for method in (name for name in COMPARED if args.method in (None, name)):
                rounds = [_round(take, case, method, seed) for seed in range(args.repeats)]
                rows += ratios(f"{case}: {method}", rounds, "plain", "probe", 2)
        header = ("", "plain loop", "ours", "ratio", "probe, plain", "ours")
        show(f"Samples/s of the same network and method: median [min, max] of {args.repeats} seeds", header, rows)
    for case in chosen("probe", tuple(PROBE)):
        rows = []
        for method in (name for name in PROBE[case] if args.method in (None, name)):
            found = [take(part="probe", case=case, method=method, seed=seed) for seed in range(args.repeats)]
            gains = [spread([one[kind] - one[f"random_{kind}"] for one in found], 3) for kind in ("probe", "knn")]
            told = [f"{statistics.median(one[key] for one in found):.3f}" for key in JUDGED]
            rows.append((method, *told, *gains, spread([one["seconds"] for one in found], 0)))
            print(f"{case}, {method}: probe {gains[0]}, neighbours {gains[1]} above random", flush=True)
        header = ("method", "probe", "kNN", "random probe", "random kNN", "probe gains", "kNN gains", "seconds")
        what = "accuracy" if case == "digits" else "R² of positions, and accuracy of which eighth the ball is in"
        show(f"{case}, {what}: median of {args.repeats} seeds, gains with [min, max]", header, rows)
    if games := chosen("ram", tuple(READ)):
        rows = []
        for game in games:
            found = [take(part="ram", case=game, seed=seed) for seed in range(args.repeats)]
            means = [spread([one[who]["mean"] for one in found]) for who in ("encoder", "random", "PCA")]
            gains = [spread([one["encoder"]["mean"] - one[who]["mean"] for one in found]) for who in ("random", "PCA")]
            rows.append((game, *means, *gains, spread([one["seconds"] for one in found], 0)))
            print(f"{game}: {gains[0]} above random, {gains[1]} above PCA", flush=True)
        header = ("game", "STDIM, 256", "random, 256", "PCA, 256", "minus random", "minus PCA", "seconds")
        show(f"Mean R² of the console's memory, whole games held out: {args.repeats} seeds", header, rows)
    return 0


# -- speed -------------------------------------------------------------------------------------------------------------


def _round(take: Any, case: str, method: str, seed: int) -> dict[str, Any]:
    """Each side once, by turns; of the plain loop's two ways to load, the one that was faster."""
    found = {
        who: take(part="speed", case=case, method=method, who=who, seed=seed)
        for who in ("plain", "ours", "plain, 2 workers", "ours, fp32")
    }
    alone, helped = found["plain"], found.pop("plain, 2 workers")
    return found | {"plain": max(alone, helped, key=lambda one: one["rate"])}


def speed(case: str, method: str, who: str, seed: int, small: bool = False) -> dict[str, Any]:
    """Train one network for some epochs by a plain loop or by ours; construction and data off the clock."""
    import torch
    import torch._dynamo  # which the first optimiser of a plain loop imports: off the clock

    X, labels = _data(case, small)
    epochs = 1 if small else SPEED[case]
    if who.startswith("plain"):
        torch.manual_seed(seed)
        random.seed(seed)
        model = PlainSSL(X.shape[1:], method)
        seconds = plain_loop(model, X, epochs, workers=2 if who.endswith("workers") else 0)
        features = model.features(X)
    else:
        import unsupervised

        estimator = getattr(unsupervised, method)(
            max_iter=epochs, precision="fp32" if who.endswith("fp32") else "auto", random_state=seed
        )
        start = time.perf_counter()
        estimator.fit(X)
        seconds = time.perf_counter() - start
        features = estimator.transform(X)
    found = _probed(features, labels)
    return {"rate": epochs * len(X) / seconds, "seconds": seconds, "probe": found}


def _data(case: str, small: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures ``[N, C, H, W]`` uint8, and which photo each is of, or the console's memory."""
    import numpy as np

    from sandbox.data import load

    if case.startswith("photos"):
        found = load("patches", n=300 if small else 4096, size=(32, 32))
        return np.ascontiguousarray(np.moveaxis(found.X, -1, 1)), found.y
    found = load("atari:Pong", n=300 if small else 2048, size=(84, 84), grey=True, stack=4)
    return found.X, found.y


def _probed(features: np.ndarray, labels: np.ndarray) -> float:
    """What a linear layer reads: which photo a part is of, of a fourth of them; or where things are in a game."""
    from unsupervised.evaluate import LinearProbe

    if labels.ndim == 2:
        return _positions(features, labels)
    cut = 3 * len(features) // 4
    return LinearProbe(random_state=0).fit(features[:cut], labels[:cut]).score(features[cut:], labels[cut:])


def _positions(features: np.ndarray, ram: np.ndarray, seed: int = 0) -> float:
    """The mean R² of Pong's four positions; scores are left out: held-out frames have some that were never seen."""
    from unsupervised.evaluate import ram_probe

    r2 = ram_probe(features, ram, "Pong", random_state=seed).r2
    return statistics.mean(r2[name] for name in PROBED)


# -- the peer: as people write it --------------------------------------------------------------------------------------


class Views:
    """A data set whose item is two views of one picture, made when it is asked for."""

    def __init__(self, X: np.ndarray):
        import numpy as np

        self.view = _shifted if X.shape[1] == 4 else _photo_view
        self.pictures = X if X.shape[1] == 4 else np.ascontiguousarray(np.moveaxis(X, 1, -1))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        picture = self.pictures[i]
        return self.view(picture), self.view(picture)


def _photo_view(picture: np.ndarray) -> Tensor:
    """Crop, mirror, colours, grey: the steps of the usual pipeline for ``[H, W, 3]``, by PIL, in its order."""
    from PIL import Image

    image = Image.fromarray(picture)
    width, height = image.size
    image = image.crop(_box(width, height)).resize((width, height), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.8:
        for change in random.sample((_brighter, _sharper, _stronger, _turned), 4):
            image = change(image)
    if random.random() < 0.2:
        image = image.convert("L").convert("RGB")
    return _tensor(image)


def _box(width: int, height: int) -> tuple[int, int, int, int]:
    """A part of a picture, of 0.2 to 1 of its area and sides of 3 to 4 up to 4 to 3."""
    for _ in range(10):
        area, aspect = width * height * random.uniform(0.2, 1.0), math.exp(random.uniform(-1, 1) * math.log(4 / 3))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


def _brighter(image: Any) -> Any:
    from PIL import ImageEnhance

    return ImageEnhance.Brightness(image).enhance(random.uniform(0.6, 1.4))


def _sharper(image: Any) -> Any:
    from PIL import ImageEnhance

    return ImageEnhance.Contrast(image).enhance(random.uniform(0.6, 1.4))


def _stronger(image: Any) -> Any:
    from PIL import ImageEnhance

    return ImageEnhance.Color(image).enhance(random.uniform(0.6, 1.4))


def _turned(image: Any, most: float = 0.1) -> Any:
    """Another hue, by up to so many turns."""
    import numpy as np
    from PIL import Image

    hue, saturation, value = image.convert("HSV").split()
    moved = np.array(hue, np.uint8) + np.uint8(int(random.uniform(-most, most) * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(moved), saturation, value)).convert("RGB")


def _tensor(image: Any) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)


def _shifted(frames: np.ndarray, pad: int = 4) -> Tensor:
    """A stack of frames ``[C, H, W]`` padded with its edge, and cropped anywhere."""
    import numpy as np
    import torch

    _, H, W = frames.shape
    wider = np.pad(frames, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    top, left = random.randint(0, 2 * pad), random.randint(0, 2 * pad)
    return torch.from_numpy(wider[:, top : top + H, left : left + W]).float().div_(255)


def plain_encoder(in_shape: Sequence[int]) -> nn.Module:
    """The encoders of the two cases as anybody would write them down."""
    from torch import nn

    if in_shape[0] == 4:
        return nn.Sequential(
            *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU()),
        )
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
        *(nn.Conv2d(64, 128, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 256), nn.ReLU()),
        *(nn.Linear(256, 128), nn.ReLU()),
    )


def plain_head(layers: int = 2, hidden: int = 256, last_norm: bool = False) -> nn.Module:
    """A projector or predictor from 128 values to 128."""
    from torch import nn

    parts: list[nn.Module] = []
    for before in (128, *[hidden] * (layers - 2)):
        parts += [nn.Linear(before, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    parts.append(nn.Linear(hidden, 128))
    return nn.Sequential(*parts, *([nn.BatchNorm1d(128, affine=False)] if last_norm else []))


class PlainSSL:
    """One of the methods, written down in PyTorch: its networks, its loss, and what follows a step."""

    def __init__(self, in_shape: Sequence[int], method: str):
        from torch import nn

        self.method, self.encoder = method, plain_encoder(in_shape)
        projector = plain_head(3, last_norm=True) if method == "SimSiam" else plain_head()
        self.network = nn.Sequential(self.encoder, projector)
        self.target = copy.deepcopy(self.network).requires_grad_(False) if method == "BYOL" else None
        narrow = 32 if method == "SimSiam" else 256
        self.predictor = nn.Identity() if method == "SimCLR" else plain_head(hidden=narrow)

    def parameters(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.predictor.parameters()]

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        if self.method == "SimCLR":
            z = F.normalize(self.network(torch.cat([x1, x2])), dim=1)
            scores = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
            return F.cross_entropy(scores, torch.arange(len(z)).roll(len(x1)))
        z1, z2 = self.network(x1), self.network(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        if self.target is not None:
            with torch.no_grad():
                z1, z2 = self.target(x1), self.target(x2)
        alike = F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()
        return 2 - alike if self.target is not None else -alike / 2

    def after_step(self) -> None:
        if self.target is not None:
            for slow, parameter in zip(self.target.parameters(), self.network.parameters(), strict=True):
                slow.data = MOMENTUM * slow.data + (1 - MOMENTUM) * parameter.data

    def features(self, X: np.ndarray) -> np.ndarray:
        import torch

        self.encoder.eval()
        with torch.no_grad():
            return torch.cat([self.encoder(x.float() / 255) for x in torch.from_numpy(X).split(BATCH)]).numpy()


def plain_loop(model: PlainSSL, X: np.ndarray, epochs: int, workers: int = 0) -> float:
    """DataLoader, Adam, float32: the seconds that it took."""
    import torch
    from torch.utils.data import DataLoader

    data: Any = Views(X)
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    for _ in range(epochs):
        for x1, x2 in loader:
            loss = model.loss(x1, x2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.after_step()
    return time.perf_counter() - start


# -- what was learned --------------------------------------------------------------------------------------------------


def probe(case: str, method: str, seed: int, small: bool = False) -> dict[str, Any]:
    """A linear layer and the nearest neighbours, on features of a method and of its network left at random."""
    import unsupervised

    kind: Any = getattr(unsupervised, method)
    settings = {**PROBE[case][method], **({"max_iter": 2} if small else {})}
    X, y, judged = _digits(seed) if case == "digits" else _pong(seed, small)
    given = (y,) if method == "TemporalContrast" else ()
    start = time.perf_counter()
    learned = kind(random_state=seed, **settings).fit(X, *given)
    seconds = time.perf_counter() - start
    still = kind(random_state=seed, **{**settings, "max_iter": 1, "learning_rate": 1e-30}).fit(X, *given)
    found = dict(zip(JUDGED, (*judged(learned), *judged(still)), strict=True))
    return {**found, "seconds": seconds}


def states(case: str, seed: int, small: bool = False) -> dict[str, Any]:
    """What a linear layer reads of a game's memory from 20,000 frames of random play, beside both controls."""
    import numpy as np

    from envs.recording import record
    from unsupervised import STDIM
    from unsupervised.evaluate import judge_ram

    played = record(case, 600 if small else 20_000, seed=seed, size=(84, 84), grey=True)
    X, games = played.frames[:, None], np.cumsum(played.starts)
    settings: dict[str, Any] = {**STATES, **({"max_iter": 1} if small else {})}
    start = time.perf_counter()
    learned = STDIM(random_state=seed, **settings).fit(X, games)
    seconds = time.perf_counter() - start
    starts = None if small else played.starts
    judged = judge_ram(learned, X, played.ram, case, starts=starts, variables=READ[case], random_state=seed)
    return {**{who: {**one.r2, "mean": one.mean} for who, one in judged.scores.items()}, "seconds": seconds}


def _digits(seed: int) -> tuple[np.ndarray, None, Callable[[Any], tuple[float, float]]]:
    """1437 digits to learn from, and a judge of an estimator by 360 others."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    from sandbox.data import load
    from unsupervised.evaluate import LinearProbe, knn_accuracy

    found = load("digits")
    X = (found.X / 16).astype(np.float32)[:, None]
    train, test, y_train, y_test = train_test_split(X, found.y, test_size=360, random_state=seed, stratify=found.y)

    def judged(estimator: Any) -> tuple[float, float]:
        features, others = estimator.transform(train), estimator.transform(test)
        linear = LinearProbe(random_state=0).fit(features, y_train).score(others, y_test)
        return linear, knn_accuracy(features, y_train, test_features=others, test_y=y_test)

    return train, None, judged


def _pong(seed: int, small: bool) -> tuple[np.ndarray, np.ndarray, Callable[[Any], tuple[float, float]]]:
    """Frames of random play, the episode of each, and a judge: the R² of positions, and neighbours on the ball."""
    import numpy as np

    from sandbox.data import load
    from unsupervised.evaluate import knn_accuracy

    found = load("atari:Pong", n=400 if small else 4000, seed=seed, size=(84, 84), grey=True)
    X, ram = found.X[:, None], found.y
    edges = np.quantile(ram[:, BALL_X], np.arange(1, BINS) / BINS)
    ball = np.digitize(ram[:, BALL_X], edges)
    cut = 4 * len(X) // 5
    seen, asked = slice(cut - 10), slice(cut, None)  # and a gap: the frame before would tell

    def judged(estimator: Any) -> tuple[float, float]:
        features = estimator.transform(X)
        near = knn_accuracy(features[seen], ball[seen], test_features=features[asked], test_y=ball[asked])
        return _positions(features, ram, seed), near

    assert found.episodes is not None
    return X, found.episodes, judged


if __name__ == "__main__":
    raise SystemExit(main())
