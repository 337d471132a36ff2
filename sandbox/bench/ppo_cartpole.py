"""CartPole: PPO's steps per second against Stable-Baselines3's, and each agent's seconds until it is solved."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from sandbox.bench import arguments, keep, measure, show, spread
from sandbox.flags import count

MODULE = "sandbox.bench.ppo_cartpole"
SOLVED = 475.0
ARMS = {  # whose PPO, and on which environments
    "SB3": ("stable_baselines3", "SB3's make_vec_env"),
    "ours": ("agents", "sandbox/CartPole-v1"),
    "ours, drop-in": ("agents", "SB3's make_vec_env"),
}
SOLVERS: dict[str, tuple[str, str, str]] = {  # arm, algorithm, preset
    "SB3's PPO": ("SB3", "ppo", "rl-zoo"),
    "PPO": ("ours", "ppo", "fast"),
    "PQN": ("ours", "pqn", "fast"),
    "A2C": ("ours", "a2c", "rl-zoo"),
    "REINFORCE": ("ours", "reinforce", "fast"),
    "DQN": ("ours", "dqn", "rl-zoo"),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments("ppo-cartpole", __doc__)
    parser.add_argument(
        "--repeats", type=count, default=5, metavar="N", help="of the speed part, and seeds of the other; default 5"
    )
    parser.add_argument(
        "--n-timesteps", type=count, default=100_000, metavar="N", help="of each training; default 100000"
    )
    parser.add_argument("--part", choices=["speed", "solve"], help="only one of the two parts")
    args = parser.parse(argv)
    if args.job:
        parts: dict[str, Any] = {"speed": train_at_full_speed, "solve": train_until_solved}
        print(json.dumps(parts[args.job.pop("part")](**args.job)))
        return 0
    measurements: list[dict[str, Any]] = []
    if args.part in (None, "speed"):
        measurements += speed(args.repeats, args.n_timesteps)
    if args.part in (None, "solve"):
        measurements += solve(args.repeats, args.n_timesteps)
    keep(args.out, "ppo-cartpole", measurements)
    return 0


def speed(repeats: int, n_timesteps: int) -> list[dict[str, Any]]:
    """All arms in turn, `repeats` times; the ratios are of neighbours in time."""
    rounds = [
        {arm: measure(MODULE, part="speed", arm=arm, seed=seed, n_timesteps=n_timesteps) for arm in ARMS}
        for seed in range(repeats)
    ]
    rows = []
    for arm, (_, envs) in ARMS.items():
        rate = [n_timesteps / one[arm]["seconds"] for one in rounds]
        ratio = [one["SB3"]["seconds"] / one[arm]["seconds"] for one in rounds]
        returns = [one[arm]["return"] for one in rounds]
        rows.append((arm, envs, spread(rate, 0), spread(ratio), spread(returns, 0)))
    title = f"PPO, RL-Zoo's settings, {n_timesteps:,} steps, one thread: median [min, max] of {repeats} seeds"
    show(title, ("", "environments", "steps/s", "ratio to SB3", "return of 20 episodes"), rows)
    return [one[arm] for one in rounds for arm in ARMS]


def solve(repeats: int, n_timesteps: int) -> list[dict[str, Any]]:
    """Seconds to the first of two evaluations in a row at 475 or more.

    20 episodes, off the clock, after each update that comes 2,000 steps or more after the last evaluation.
    """
    rounds = [
        {who: measure(MODULE, part="solve", who=who, seed=seed, n_timesteps=n_timesteps) for who in SOLVERS}
        for seed in range(repeats)
    ]
    rows, medians = [], {}
    for who, (_, _, preset) in SOLVERS.items():
        seconds = [one[who]["seconds"] if one[who]["solved"] else math.inf for one in rounds]
        steps = [one[who]["steps"] for one in rounds]
        medians[who] = statistics.median(seconds)
        solved = f"{sum(one[who]['solved'] for one in rounds)} of {repeats}"
        rows.append((who, preset, spread(seconds), spread(steps, 0), solved))
    title = f"Seconds of training until solved (two evaluations in a row at {SOLVED:.0f} or more)"
    show(title, ("", "preset", "seconds", "steps", "solved"), rows)
    for slower, faster in (("SB3's PPO", "PPO"), ("PPO", "PQN")):
        print(f"median {slower} / median {faster}: {medians[slower] / medians[faster]:.1f}")
    return [one[who] for one in rounds for who in SOLVERS]


def agent(arm: str, algorithm: str, preset: str, seed: int) -> Any:
    """The untrained agent of an arm, on one thread: the faster number for either."""
    import torch
    from stable_baselines3.common.env_util import make_vec_env

    import agents
    from agents import vecenv
    from agents.presets import find
    from sandbox.train import build

    torch.set_num_threads(1)
    settings = dict(find("CartPole-v1", algorithm)[preset].settings)
    config = {"env_id": settings.pop("env_id"), "n_envs": settings.pop("n_envs"), "seed": seed, "settings": settings}
    settings.pop("n_timesteps")
    whose, _ = ARMS[arm]
    if arm == "ours":
        envs = vecenv.make(config["env_id"], config["n_envs"])
    else:
        envs = make_vec_env("CartPole-v1", config["n_envs"], seed=seed)
    if whose == "stable_baselines3":
        import stable_baselines3

        return build(stable_baselines3.PPO, config, envs)
    return build(getattr(agents, algorithm.upper()), config, envs)


def train_at_full_speed(arm: str, seed: int, n_timesteps: int) -> dict[str, Any]:
    from agents.evaluation import evaluate

    model = agent(arm, "ppo", "rl-zoo", seed)
    start = time.perf_counter()
    model.learn(n_timesteps)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "return": evaluate(model, "sandbox/CartPole-v1", 20, seed=1000 + seed).mean}


def train_until_solved(who: str, seed: int, n_timesteps: int) -> dict[str, Any]:
    from sandbox.clock import Clock

    clock = Clock("sandbox/CartPole-v1", [SOLVED], every=2_000, seed=1000 + seed)
    agent(*SOLVERS[who], seed).learn(n_timesteps, clock)
    seconds, steps = clock.reached.get(SOLVED, (clock.running, clock.num_timesteps))
    return {"solved": SOLVED in clock.reached, "seconds": seconds, "steps": steps}


if __name__ == "__main__":
    raise SystemExit(main())
