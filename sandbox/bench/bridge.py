"""Eyes that learned without a reward, given to an agent: beside every control, or no table."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from sandbox.bench import arguments, keep, measure, ratios, show
from sandbox.flags import count

MODULE = "sandbox.bench.bridge"
TASK = "sandbox/PixelCartPole-v0"
WANTED = (195.0, 475.0)
FRAMES = 10_000  # of random play, that encoders learn from
SETTINGS = {"n_envs": 16, "n_steps": 64, "batch_size": 256, "n_epochs": 6, "gamma": 0.98, "gae_lambda": 0.9}
BODY = {"name": "nature_cnn", "kwargs": {"out_features": 128}}  # of every arm but PCA
ARMS: dict[str, dict[str, Any]] = {  # how the eyes are made, and what the agent is told beside
    "end to end": {},
    "augmentation only": {"agent": {"augment": "shift"}},
    "random, frozen": {"eyes": "random", "agent": {"freeze_encoder": True}},
    "PCA, frozen": {"eyes": "PCA", "agent": {"freeze_encoder": True}},
    "autoencoder, frozen": {"eyes": "Autoencoder", "agent": {"freeze_encoder": True}},
    "TemporalContrast, frozen": {"eyes": "TemporalContrast", "agent": {"freeze_encoder": True}},
    "STDIM, frozen": {"eyes": "STDIM", "agent": {"freeze_encoder": True}},
    "STDIM, fine-tuned": {"eyes": "STDIM", "agent": {"encoder_learning_rate": "lin_3e-4"}},
}
PONG = {  # who plays, on how many games at once
    "SB3, end to end, 8 games": 8,
    "ours, end to end, 8 games": 8,
    "ours, frozen, 8 games": 8,
    "ours, frozen, 32 games": 32,
}
PEER = "SB3, end to end, 8 games"
PARTS = ("cartpole", "pong")


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments("bridge", __doc__, repeats=5)
    parser.add_argument("--part", choices=PARTS, help="only one of the two")
    parser.add_argument("--n-timesteps", type=count, default=100_000, metavar="N", help="of each agent; default 100000")
    parser.add_argument(
        "--small", action="store_true", help="little data, few steps: to see that it runs, the numbers mean nothing"
    )
    args = parser.parse(argv)
    if args.job:
        parts: dict[str, Callable[..., dict[str, Any]]] = {"cartpole": learn, "pong": play}
        job = dict(args.job)
        print(json.dumps(parts[job.pop("part")](**job)))
        return 0
    measurements: list[dict[str, Any]] = []

    def take(**job: Any) -> dict[str, Any]:
        measurements.append(measure(MODULE, **job, small=args.small))
        keep(args.out, "bridge", measurements)
        return measurements[-1]

    if args.part in (None, "cartpole"):
        steps = 2_048 if args.small else args.n_timesteps
        rounds = [
            {arm: take(part="cartpole", arm=arm, seed=seed, n_timesteps=steps) for arm in ARMS}
            for seed in range(args.repeats)
        ]
        table(rounds)
    if args.part in (None, "pong"):
        games = [{who: take(part="pong", who=who, seed=seed) for who in PONG} for seed in range(args.repeats)]
        rows = ratios("Pong", games, PEER, "return", 1)
        columns = ("PPO", "SB3's", "ours", "ratio", "score, SB3's", "ours")
        show(f"Steps/s of training, PPO at RL-Zoo's settings: {args.repeats} seeds", columns, rows)
    return 0


def table(rounds: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Of each arm the seconds to each return, pre-training included, and what it came to.

    Raises
    ------
    ValueError
        If an arm is missing: there is no table without its controls.
    """
    from agents.evaluation import interquartile_mean

    missing = sorted({arm for one in rounds for arm in ARMS.keys() - one.keys()})
    if missing or not rounds:
        raise ValueError(f"no table without its controls: {', '.join(missing or ARMS)} was not measured")
    import numpy as np

    rows = []
    for arm in ARMS:
        found = [one[arm] for one in rounds]
        iqm, low, high = interquartile_mean(np.array([one["return"] for one in found]))
        cells = [f"{statistics.median(one['pretraining'] for one in found):.0f}"]
        for wanted in WANTED:
            seconds = [one["seconds"].get(str(wanted)) for one in found]
            reached = [s + one["pretraining"] for s, one in zip(seconds, found, strict=True) if s is not None]
            median = statistics.median([*reached, *[math.inf] * (len(found) - len(reached))])
            told = f"{median:.0f}" if math.isfinite(median) else "–"
            cells.append(f"{told} ({len(reached)} of {len(found)})" if reached else "never")
        speed = statistics.median(one["rate"] for one in found)
        rows.append((arm, *cells, f"{iqm:.0f} [{low:.0f}, {high:.0f}]", f"{speed:,.0f}"))
    until = tuple(f"s to {one:.0f}" for one in WANTED)
    title = f"PPO on {TASK}: medians and interquartile mean of {len(rounds)} seeds, seconds with pre-training"
    show(title, ("eyes", "pre-training, s", *until, "return at the end", "steps/s"), rows)


# -- a pole from pixels ------------------------------------------------------------------------------------------------


def learn(arm: str, seed: int, n_timesteps: int, small: bool = False) -> dict[str, Any]:
    """One arm: make its eyes, then train an agent until it is good, both on the clock."""
    import torch

    from agents import PPO, evaluate
    from sandbox.clock import Clock
    from sandbox.training.schedules import Linear, as_schedule

    torch.set_num_threads(1)
    how, n = ARMS[arm], 300 if small else FRAMES
    start = time.perf_counter()
    encoder = eyes(how["eyes"], n, seed, small) if "eyes" in how else BODY
    pretraining = time.perf_counter() - start if how.get("eyes") not in (None, "random") else 0.0
    told = dict(how.get("agent", {}))
    if "encoder_learning_rate" in told:
        told["encoder_learning_rate"] = as_schedule(told["encoder_learning_rate"])
    schedules: dict[str, Any] = {"learning_rate": Linear(1e-3), "clip_range": Linear(0.2)}
    model = PPO("CnnPolicy", TASK, encoder=encoder, seed=seed, device="cpu", **SETTINGS, **schedules, **told)  # type: ignore[arg-type]
    clock = Clock(TASK, WANTED, every=4_096, seed=1000 + seed)
    model.learn(n_timesteps, clock)
    return {
        "pretraining": pretraining,
        "seconds": {str(wanted): clock.reached[wanted][0] if wanted in clock.reached else None for wanted in WANTED},
        "steps": {str(wanted): clock.reached[wanted][1] if wanted in clock.reached else None for wanted in WANTED},
        "return": evaluate(model, TASK, 5 if small else 50, seed=20_000).mean,
        "rate": clock.num_timesteps / clock.running,
        "curve": clock.curve,
        "fast_path": str(model.fast_path),
    }


def eyes(kind: str, n: int, seed: int, small: bool = False) -> Any:
    """An encoder of one kind, that has learned from `n` observations of random play, if it learns."""
    import numpy as np
    from sklearn.decomposition import PCA

    import unsupervised
    from sandbox import zoo
    from sandbox.data import load

    played = load(f"env:{TASK}", n=n, seed=seed)
    few = {"max_iter": 1} if small else {}
    common = {"encoder": BODY, "n_features": 128, "random_state": seed}
    if kind == "random":
        return unsupervised.SimCLR(**common, max_iter=1, learning_rate=1e-30).fit(played.X[:300]).encoder_  # type: ignore[arg-type]
    if kind == "PCA":
        rows = played.X.reshape(n, -1) / np.float32(255)
        pca = PCA(128, svd_solver="randomized", random_state=seed).fit(rows)
        nothing = {"name": "mlp", "kwargs": {"widths": [1]}}
        encoder = zoo.build("latent_encoder", in_shape=played.X.shape[1:], out_features=128, body=nothing)
        encoder.start(pca.mean_, 1.0, pca.components_, pca.explained_variance_**0.5)
        return encoder
    if kind == "Autoencoder":
        settings = {"encoder": "nature_cnn", "linear_path": False, "max_iter": 15, "learning_rate": "cos_1e-3", **few}
        return unsupervised.Autoencoder(128, random_state=seed, **settings).fit(played.X).encoder_  # type: ignore[arg-type]
    method = {
        "TemporalContrast": {"max_iter": 15},
        "STDIM": {"max_iter": 15},
    }[kind]
    estimator = getattr(unsupervised, kind)(**common, **{**method, **few})
    return estimator.fit(played.X, played.episodes).encoder_


# -- Pong --------------------------------------------------------------------------------------------------------------


def play(who: str, seed: int, small: bool = False) -> dict[str, Any]:
    """Steps/s of PPO on Pong; the first rollouts are off the clock, with all that is made and imported once."""
    import numpy as np
    import stable_baselines3
    import torch

    import agents
    from sandbox import zoo
    from sandbox.bench.atari import resolved, rl_zoos, their_environments

    settings = rl_zoos("Pong", "ppo")
    settings.pop("n_envs")
    n_envs = PONG[who]
    if who == PEER:
        settings["policy_kwargs"] = resolved(settings.get("policy_kwargs"))
        model: Any = stable_baselines3.PPO(
            "CnnPolicy", their_environments("Pong", n_envs, seed), seed=seed, device="cpu", **settings
        )
    else:
        told: dict[str, Any] = {"n_envs": n_envs, "precision": "auto", "device": "cpu"}
        if "frozen" in who:
            torch.manual_seed(seed)
            told |= {"encoder": zoo.build("nature_cnn", in_shape=(4, 84, 84)), "freeze_encoder": True}
            settings["n_steps"] = settings.get("n_steps", 128) * 8 // n_envs  # as many samples for each update
        model = agents.PPO("CnnPolicy", "baselines/Pong-v0", seed=seed, **settings, **told)
    per_rollout = n_envs * model.n_steps
    model.learn(per_rollout)
    start, before = time.perf_counter(), model.num_timesteps
    model.learn(per_rollout * (1 if small else 8), reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    scores = [episode["r"] for episode in model.ep_info_buffer]
    return {
        "rate": (model.num_timesteps - before) / seconds,
        "seconds": seconds,
        "return": float(np.mean(scores)) if scores else float("nan"),
        "fast_path": "" if who == PEER else str(model.fast_path),
    }


if __name__ == "__main__":
    raise SystemExit(main())
