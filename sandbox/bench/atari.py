"""PPO and A2C on an Atari game against Stable-Baselines3's, at RL-Zoo's settings, each on its own environments."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.bench import arguments, compare, keep, measure, show, spread
from sandbox.training import schedules

MODULE = "sandbox.bench.atari"
CONTROL = {"n_envs": 16, "n_steps": 64, "batch_size": 256, "n_epochs": 6, "gamma": 0.98, "gae_lambda": 0.9}
CASES = {  # algorithm, precisions of ours, steps on the clock
    "PPO": (("bf16", "fp32"), 8_192),
    "A2C": (("bf16", "fp32"), 16_000),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments("atari", __doc__, repeats=3)
    parser.add_argument("--game", default="Pong", metavar="GAME", help="default Pong")
    parser.add_argument(
        "--control", action="store_true", help="instead: what bf16 and fp32 learn on sandbox/PixelCartPole-v0"
    )
    args = parser.parse(argv)
    if args.job:
        print(json.dumps(control(**args.job) if "steps" in args.job else train(**args.job)))
        return 0
    if args.control:
        return compare_precisions(args.repeats, args.out)
    sides = {case: precisions for case, (precisions, _) in CASES.items()}
    title = "Steps/s on all cores, and the mean score of the games so far"
    compare(MODULE, "atari", sides, args.repeats, args.out, title, game=args.game)
    return 0


def compare_precisions(n_seeds: int, out: Path | None, steps: int = 40_000) -> int:
    """The same settings and seeds in both precisions, on a task that is learned in a minute."""
    measurements: list[dict[str, Any]] = []
    for seed in range(n_seeds):
        for precision in ("fp32", "bf16"):
            measurements.append(measure(MODULE, steps=steps, precision=precision, seed=seed))
            print(f"seed {seed}, {precision}: return {measurements[-1]['return']:.1f}", flush=True)
            keep(out, "precision", measurements)
    rows = [
        (precision, spread([one["return"] for one in measurements if one["precision"] == precision], 1))
        for precision in ("fp32", "bf16")
    ]
    show(f"PPO on sandbox/PixelCartPole-v0, {steps:,} steps: return of 100 episodes, {n_seeds} seeds", ("", ""), rows)
    return 0


def control(steps: int, precision: str, seed: int) -> dict[str, Any]:
    """One training of the control, and what it reached."""
    from agents import PPO, evaluate

    settings: dict[str, Any] = {**CONTROL, "learning_rate": schedules.Linear(1e-3), "clip_range": schedules.Linear(0.2)}
    env_id = "sandbox/PixelCartPole-v0"
    model = PPO("CnnPolicy", env_id, precision=precision, seed=seed, **settings).learn(steps)
    return {"return": evaluate(model, env_id, seed=10_000).mean, "fast_path": str(model.fast_path)}


def train(game: str, case: str, who: str, seed: int) -> dict[str, Any]:
    """One training; the first rollouts are off the clock, with all that is made and imported once."""
    import numpy as np
    import stable_baselines3

    import agents

    settings = rl_zoos(game, case.lower())
    n_envs = settings.pop("n_envs")
    if who == "theirs":
        envs = their_environments(game, n_envs, seed)
        settings["policy_kwargs"] = resolved(settings.get("policy_kwargs"))
        model = getattr(stable_baselines3, case)("CnnPolicy", envs, seed=seed, **settings)
    else:
        env_id = f"baselines/{game}-v0"
        model = getattr(agents, case)("CnnPolicy", env_id, n_envs=n_envs, seed=seed, precision=who, **settings)
    model.learn(n_envs * model.n_steps * 2)
    start, before = time.perf_counter(), model.num_timesteps
    model.learn(CASES[case][1], reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    rate = (model.num_timesteps - before) / seconds
    scores = [episode["r"] for episode in model.ep_info_buffer]
    path = "" if who == "theirs" else str(model.fast_path)
    return {
        "rate": rate,
        "seconds": seconds,
        "return": float(np.mean(scores)) if scores else float("nan"),
        "fast_path": path,
    }


def rl_zoos(game: str, algorithm: str) -> dict[str, Any]:
    """RL-Zoo's settings of a constructor, and `n_envs`."""
    from agents.presets import find
    from sandbox.train import SCHEDULES

    settings = dict(find(f"baselines/{game}-v0", algorithm)["atari"].settings)
    for name in ("n_timesteps", "greedy", "eval_episodes", "final_episodes", "film", "precision"):
        settings.pop(name)
    for name in SCHEDULES & settings.keys():
        settings[name] = schedules.parse(settings[name]) if isinstance(settings[name], str) else settings[name]
    return settings


def their_environments(game: str, n_envs: int, seed: int) -> Any:
    """As RL-Zoo makes them: ``AtariWrapper`` around each, four pictures in a stack."""
    import ale_py
    import gymnasium as gym
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gym.register_envs(ale_py)
    return VecFrameStack(make_atari_env(f"{game}NoFrameskip-v4", n_envs, seed=seed), n_stack=4)


def resolved(policy_kwargs: dict[str, Any] | None) -> dict[str, Any] | None:
    """With the optimiser's class in place of its name."""
    from agents.policies import OPTIMIZERS

    if policy_kwargs and "optimizer_class" in policy_kwargs:
        return {**policy_kwargs, "optimizer_class": OPTIMIZERS[policy_kwargs["optimizer_class"]]}
    return policy_kwargs


if __name__ == "__main__":
    raise SystemExit(main())
