"""K-means against scikit-learn's, and faiss's where it is installed: seeding, Lloyd, whole fits, memory, quality."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.bench import arguments, keep, measure, show, spread
from sandbox.flags import UsageError, count, nearest

if TYPE_CHECKING:
    import numpy as np

MODULE = "sandbox.bench.kmeans"


class Case(NamedTuple):
    """How many rows, columns and clusters; and what the rows are, see `points`."""

    n: int
    d: int
    k: int
    data: str

    def __str__(self) -> str:
        millions, thousands = (self.n // unit if self.n % unit == 0 else 0 for unit in (1_000_000, 1_000))
        rows = f"{millions}M" if millions else f"{thousands}k" if thousands else str(self.n)
        return f"{rows}x{self.d} k={self.k} {self.data}"


class Part(NamedTuple):
    """One table: what is measured, in which cases, with which settings of the estimator, and if faiss has the same."""

    about: str
    cases: list[Case]
    settings: dict[str, Any]
    faiss: bool = False


SHAPES = ((60_000, 784, 100), (200_000, 64, 100), (60_000, 128, 500))
BLOBS = [Case(*shape, data) for shape in SHAPES for data in ("std 5", "std 12")]
SAMPLES = [case._replace(n=20_000) for case in BLOBS]
LLOYD = [
    Case(*shape, data)
    for shape in ((60_000, 784, 10), (200_000, 64, 100), (1_000_000, 16, 64))
    for data in ("std 12", "uniform")
]
GRID = [
    Case(*shape, data)
    for shape, kinds in {
        (1_797, 64, 8): ("digits",),
        (1_797, 64, 100): ("digits",),
        (20_000, 2, 8): ("std 1", "uniform"),
        (20_000, 784, 100): ("std 1", "uniform"),
        (20_000, 128, 1_000): ("std 1", "uniform"),
        (100_000, 2, 1_000): ("std 1", "uniform"),
        (100_000, 32, 100): ("std 1", "uniform"),
        (1_000_000, 2, 8): ("std 1", "uniform"),
        (1_000_000, 16, 100): ("std 1", "uniform"),
    }.items()
    for data in kinds
]
PARTS = {
    "fit": Part("Whole fits", BLOBS, {"n_init": 1}, faiss=True),
    "fit-quality": Part("Inertia of whole fits", SAMPLES, {"n_init": 1}),
    "seeding": Part("Seeding alone, kmeans_plusplus", BLOBS, {}),
    "seeding-quality": Part("Potential after kmeans_plusplus", SAMPLES, {}),
    "lloyd": Part("Lloyd alone, the same init", LLOYD, {"n_init": 1, "tol": 0.0, "max_iter": 20}, faiss=True),
    "convergence": Part(
        "To convergence, the same init",
        [Case(200_000, 16, 64, "uniform")],
        {"n_init": 1, "tol": 0.0, "max_iter": 300},
    ),
    "small": Part(
        "Small data, n_init=10", [Case(1_797, 64, 10, data) for data in ("digits", "digits float64")], {"n_init": 10}
    ),
    "memory": Part(
        "Peak memory of a fit beyond the data",
        [*(case for case in BLOBS if case.data == "std 12"), Case(1_000_000, 16, 64, "std 12")],
        {"n_init": 1},
    ),
    "grid": Part("Whole fits of at most 20 iterations", GRID, {"n_init": 1, "max_iter": 20}, faiss=True),
}
LONG = ("grid",)  # only when it is asked for
SAME_INIT = ("lloyd", "convergence")
CLEAR = Path("/proc/self/clear_refs")
CHUNK = 4_096  # rows at a time where float64 copies of them are made


def main(argv: Sequence[str] | None = None) -> int:
    listing = "\n".join(f"  {name:16s}{part.about}: " + ", ".join(map(str, part.cases)) for name, part in PARTS.items())
    parser = arguments("kmeans", __doc__, repeats=3, epilog=f"parts and their cases:\n{listing}")
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="only this one; may be repeated; default all but " + LONG[0]
    )
    parser.add_argument("--case", action="append", metavar="CASE", help="only this one, by its name; may be repeated")
    parser.add_argument("--seeds", type=count, default=20, metavar="N", help="of the quality parts; default 20")
    parser.add_argument("--threads", type=count, default=cores(), metavar="N", help="for each; default all cores")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where ours runs; default cpu")
    parser.add_argument("--small", action="store_true", help="tiny data: to see that it runs, the numbers mean nothing")
    args = parser.parse(argv)
    if args.job:
        print(json.dumps(run(**args.job)))
        return 0
    chosen = choose(args.part, args.case)
    check_device(args.device)
    if args.small:
        chosen = {name: [smaller(case) for case in cases] for name, cases in chosen.items()}
    faiss = importlib.util.find_spec("faiss") is not None
    if not faiss and any(PARTS[name].faiss for name in chosen):
        print("faiss is not installed: scikit-learn's and ours alone")
    if not CLEAR.exists() and chosen.pop("memory", []):
        print("memory needs Linux's account of a process, /proc/self: left out")
    common = {"threads": args.threads, "device": args.device}
    where = f"{args.threads} thread{'s' * (args.threads > 1)}" + (
        f", ours on {args.device}" if args.device != "cpu" else ""
    )
    measurements: list[dict[str, Any]] = []
    for name, cases in chosen.items():
        sides = ["scikit-learn", "ours", *(["faiss"] if faiss and PARTS[name].faiss else [])]
        quality = name.endswith("-quality")
        rows: list[list[str]] = []
        for case in cases:
            job = {"part": name, "case": str(case), **case._asdict(), **common}
            if quality:
                new = [measure(MODULE, **job, who=who, seeds=args.seeds) for who in sides]
                rows.append([str(case), *differences(*(one["values"] for one in new))])
                news = f"{rows[-1][-2]}, {rows[-1][-1]} standard errors"
            else:
                rounds = [in_turn(job, sides, seed) for seed in range(args.repeats)]
                new = [one[who] for one in rounds for who in sides]
                rows += figures(name, str(case), rounds)
                news = rows[1 - len(sides)][3]
            print(f"{name}, {case}: {news}", flush=True)
            measurements += new
            keep(args.out, "kmeans", measurements)
        if quality:
            header = ["", "scikit-learn", "ours", "difference", "in standard errors"]
            show(f"{PARTS[name].about}: mean of {args.seeds} seeds ± its standard error, {where}", header, rows)
        else:
            show(f"{PARTS[name].about}: {where}, median [min, max] of {args.repeats} seeds", headers(name), rows)
    return 0


def choose(parts: list[str] | None, names: list[str] | None) -> dict[str, list[Case]]:
    """The cases of each part that was asked for."""
    parts = parts or [name for name in PARTS if name not in LONG]
    known = [str(case) for part in parts for case in PARTS[part].cases]
    for name in names or ():
        if name not in known:
            raise UsageError(f"no case {name!r} in {', '.join(parts)}{nearest(name, known)}")
    chosen = {part: [case for case in PARTS[part].cases if str(case) in (names or known)] for part in parts}
    return {part: cases for part, cases in chosen.items() if cases}


def check_device(device: str) -> None:
    """Refuse a GPU that is not there before anything is measured."""
    from sandbox.training import pick_device

    try:
        pick_device(device)
    except ValueError as error:
        raise UsageError(str(error)) from None


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def smaller(case: Case) -> Case:
    """A case of the same kind that takes no time.

    Examples
    --------
    >>> str(smaller(Case(60_000, 784, 100, "std 5")))
    '300x98 k=5 std 5'
    """
    columns = case.d if case.data.startswith("digits") else max(case.d // 8, 2)
    return Case(max(case.n // 200, 200), columns, max(case.k // 20, 2), case.data)


# -- what is measured, side by side ------------------------------------------------------------------------------------


def in_turn(job: dict[str, Any], sides: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """One measurement of each side, and from the same init, which labels are scikit-learn's."""
    if job["part"] not in SAME_INIT:
        return {who: measure(MODULE, **job, who=who, seed=seed) for who in sides}
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        files = {who: Path(folder) / f"{who}.npy" for who in sides}
        done = {who: measure(MODULE, **job, who=who, seed=seed, labels=str(files[who])) for who in sides}
        labels = {who: np.load(files[who]) for who in sides}
    for who in sides:
        del done[who]["labels"]
        done[who]["equal_labels"] = float((labels[who] == labels["scikit-learn"]).mean())
    return done


def headers(name: str) -> list[str]:
    what = "potential ÷" if name == "seeding" else "inertia ÷"
    ratio = ["MB", "MB ÷"] if name == "memory" else ["seconds", "times as fast"]
    return ["", "", *ratio, what, *(["equal labels", "rounds"] if name in SAME_INIT else [])]


def figures(name: str, case: str, rounds: Sequence[dict[str, dict[str, Any]]]) -> list[list[str]]:
    """The rows of a case, one for each side; from the same init, the inertia farthest from scikit-learn's."""
    rows = []
    for who in rounds[0]:
        pairs = [(one["scikit-learn"], one[who]) for one in rounds]
        if name == "memory":
            digits, taken = 1, [mine["megabytes"] for _, mine in pairs]
            ratio = [mine["megabytes"] / theirs["megabytes"] for theirs, mine in pairs]
        else:
            taken = [mine["seconds"] for _, mine in pairs]
            digits = 2 if statistics.median(taken) >= 1 else 4
            ratio = [theirs["seconds"] / mine["seconds"] for theirs, mine in pairs]
        quality = [mine["quality"] / theirs["quality"] for theirs, mine in pairs]
        peer, same = who == "scikit-learn", name in SAME_INIT
        row = [case if peer else "", who, f"{statistics.median(taken):,.{digits}f}"]
        if peer:
            row += ["1", "1"]
        else:
            row += [spread(ratio), f"{max(quality, key=lambda q: abs(q - 1)):.6f}" if same else spread(quality, 4)]
        if same:
            row += [f"{100 * min(mine['equal_labels'] for _, mine in pairs):.2f} %"]
            row += [f"{statistics.median(mine['iterations'] for _, mine in pairs):.0f}"]
        rows.append(row)
    return rows


def differences(theirs: Sequence[float], ours: Sequence[float]) -> list[str]:
    """Both means with their standard errors, and how much higher ours is: in percent, and in standard errors of theirs.

    An error below a millionth of the mean is rounding, and counts as a millionth.

    Examples
    --------
    >>> differences([98.0, 102.0], [101.0, 101.0])
    ['100 ± 2', '101 ± 0', '+1.0000 %', '+0.50']
    """
    (their_mean, their_error), (our_mean, our_error) = (
        (statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0)
        for values in (theirs, ours)
    )
    higher = our_mean - their_mean
    return [
        f"{their_mean:.6g} ± {their_error:.2g}",
        f"{our_mean:.6g} ± {our_error:.2g}",
        f"{100 * higher / their_mean:+.4f} %",
        f"{higher / max(their_error, 1e-6 * their_mean):+.2f}",
    ]


# -- one measurement ---------------------------------------------------------------------------------------------------


def run(
    part: str, case: str, n: int, d: int, k: int, data: str, who: str, threads: int, device: str, **job: Any
) -> dict[str, Any]:
    """One measurement of one side, on so many threads; imports, data and a tiny fit are off the clock."""
    import sklearn.cluster  # noqa: F401 (both, whoever is measured: the same memory taken before)
    from threadpoolctl import threadpool_limits

    import unsupervised  # noqa: F401
    from sandbox.training import threads as torch_and_blas

    side: Any = Faiss(threads) if who == "faiss" else Side(who, device)
    with torch_and_blas(threads), threadpool_limits(threads, user_api="openmp"):
        X = points(n, d, data, k)
        tiny = X[:200]
        side.estimator(2, n_init=1, max_iter=2, random_state=0).fit(tiny)
        if part.startswith("seeding"):
            side.seeds(tiny, 2, 0)
        how: dict[str, Any] = {
            "fit-quality": inertias,
            "seeding": seed_once,
            "seeding-quality": potentials,
            "small": fit_often,
            "memory": peak_memory,
        }
        return how.get(part, fit_once)(side, X, k, PARTS[part].settings, **job)


def fit_once(
    side: Side, X: np.ndarray, k: int, settings: dict[str, Any], seed: int, labels: str | None = None
) -> dict[str, Any]:
    """One fit; with a file for the labels, from rows drawn by the seed."""
    import numpy as np

    if labels is not None:
        settings = {**settings, "init": X[np.random.default_rng(seed).choice(len(X), k, replace=False)]}
    model = side.estimator(k, random_state=seed, **settings)
    start = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - start
    if labels is not None:
        np.save(labels, model.labels_)
    return {"seconds": seconds, "quality": inertia_of(model, X), "iterations": int(model.n_iter_)}


def fit_often(side: Side, X: np.ndarray, k: int, settings: dict[str, Any], seed: int, fits: int = 20) -> dict[str, Any]:
    """The median of many fits."""
    done = [fit_once(side, X, k, settings, seed * fits + i) for i in range(fits)]
    return {
        "seconds": statistics.median(one["seconds"] for one in done),
        "quality": statistics.fmean(one["quality"] for one in done),
    }


def inertias(side: Side, X: np.ndarray, k: int, settings: dict[str, Any], seeds: int) -> dict[str, Any]:
    models = (side.estimator(k, random_state=seed, **settings) for seed in range(seeds))
    return {"values": [inertia_of(model.fit(X), X) for model in models]}


def seed_once(side: Side, X: np.ndarray, k: int, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    centres = side.seeds(X, k, seed)
    return {"seconds": time.perf_counter() - start, "quality": inertia(X, centres)}


def potentials(side: Side, X: np.ndarray, k: int, settings: dict[str, Any], seeds: int) -> dict[str, Any]:
    return {"values": [inertia(X, side.seeds(X, k, seed)) for seed in range(seeds)]}


def peak_memory(side: Side, X: np.ndarray, k: int, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The most that a fit takes beyond what the process has already, its data included."""
    model = side.estimator(k, random_state=seed, **settings)
    CLEAR.write_text("5")  # the high-water mark starts anew from here
    before = status_mb("VmRSS")
    model.fit(X)
    megabytes = max(status_mb("VmHWM") - before, 0.004)  # a page at least: ratios are taken of it
    return {"megabytes": megabytes, "megabytes_of_data": X.nbytes / 1e6, "quality": inertia_of(model, X)}


def status_mb(field: str) -> float:
    """A line of Linux's account of this process, in MB of a million bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1_024 / 1e6


class Side:
    """Scikit-learn's k-means, or ours on a device."""

    def __init__(self, who: str, device: str):
        self.module = importlib.import_module("unsupervised" if who == "ours" else "sklearn.cluster")
        self.device = {"device": device} if who == "ours" else {}

    def estimator(self, k: int, **settings: Any) -> Any:
        return self.module.KMeans(k, **settings, **self.device)

    def seeds(self, X: np.ndarray, k: int, seed: int) -> np.ndarray:
        return self.module.kmeans_plusplus(X, k, random_state=seed, **self.device)[0]


class Faiss:
    """faiss's k-means behind scikit-learn's names; its rows are drawn at random where no init is given, as it does."""

    def __init__(self, threads: int):
        import faiss

        faiss.omp_set_num_threads(threads)

    def estimator(self, k: int, **settings: Any) -> Any:
        return FaissKMeans(k, **settings)


class FaissKMeans:
    def __init__(self, k: int, random_state: int, n_init: int, max_iter: int = 25, init: Any = None, tol: float = 0.0):
        self.k, self.n_iter_, self.init = k, max_iter, init
        # All rows take part: by default it would learn from 256 of each cluster.
        self.settings = {"niter": max_iter, "nredo": n_init, "seed": random_state, "min_points_per_centroid": 1}

    def fit(self, X: np.ndarray) -> FaissKMeans:
        import faiss

        model = faiss.Kmeans(X.shape[1], self.k, max_points_per_centroid=len(X), **self.settings)
        model.train(X, init_centroids=self.init)
        self.cluster_centers_ = model.centroids
        self.labels_ = model.index.search(X, 1)[1][:, 0]
        return self


# -- the data, and what became of it -----------------------------------------------------------------------------------


def points(n: int, d: int, data: str, k: int) -> np.ndarray:
    """The rows of a case, always the same: float32 but for ``"digits float64"``.

    ``"std 5"``: blobs around `k` centres in ``[-10, 10]^d`` with that standard deviation; ``"uniform"``: in the unit
    cube; ``"digits"``: scikit-learn's pictures of 8 x 8.

    Examples
    --------
    >>> points(5, 3, "std 5", 2).shape, points(5, 64, "digits", 10).dtype
    ((5, 3), dtype('float32'))
    """
    import numpy as np
    from sklearn.datasets import load_digits, make_blobs

    rng = np.random.default_rng(0)
    if data.startswith("digits"):
        return load_digits().data[:n].astype("float64" if data.endswith("float64") else "float32")
    if data == "uniform":
        return rng.random((n, d), dtype=np.float32)
    centres, std = rng.uniform(-10, 10, (k, d)), float(data.removeprefix("std "))
    X = np.empty((n, d), np.float32)
    for i in range(0, n, CHUNK):  # so that the float64 of it is never there at once
        rows = min(CHUNK, n - i)
        X[i : i + rows], _ = make_blobs(rows, centers=centres, cluster_std=std, random_state=i)
    return X


def inertia(X: np.ndarray, centres: np.ndarray, labels: np.ndarray | None = None) -> float:
    """Sum of the squared distances to the centres of the labels, or to the nearest ones, in float64 for everybody.

    Examples
    --------
    >>> import numpy as np
    >>> X, centres = np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [10.0]])
    >>> inertia(X, centres), inertia(X, centres, np.array([0, 0, 0]))
    (2.0, 82.0)
    """
    import numpy as np

    C, total = centres.astype(np.float64), 0.0
    for i in range(0, len(X), CHUNK):
        x = X[i : i + CHUNK].astype(np.float64)
        chosen = ((C * C).sum(1) - 2 * x @ C.T).argmin(1) if labels is None else labels[i : i + CHUNK]
        total += float(((x - C[chosen]) ** 2).sum())
    return total


def inertia_of(model: Any, X: np.ndarray) -> float:
    return inertia(X, model.cluster_centers_, model.labels_)


if __name__ == "__main__":
    raise SystemExit(main())
