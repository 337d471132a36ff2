"""Steps per second of our environments against Gymnasium's own, at the same actions and with equal observations."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from sandbox.bench import arguments, keep, measure, show, spread

MODULE = "sandbox.bench.env_steps"
TASKS = {  # ours, and the fastest that Gymnasium has for it
    "CartPole-v1": "vector_entry_point",
    "Acrobot-v1": "sync",
    "MountainCar-v0": "sync",
    "Pendulum-v1": "sync",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments("env-steps", __doc__, repeats=5)
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of each measurement; default 1")
    args = parser.parse(argv)
    if args.job:
        print(json.dumps(steps_per_second(**args.job)))
        return 0
    measurements, rows = [], []
    for task in TASKS:
        for n_envs in (8, 64, 512) if task == "CartPole-v1" else (8, 64):
            pairs = [
                [measure(MODULE, task=task, ours=ours, n_envs=n_envs, seconds=args.seconds) for ours in (True, False)]
                for _ in range(args.repeats)
            ]
            measurements += [one for pair in pairs for one in pair]
            rates = [[pair[i]["rate"] for pair in pairs] for i in (0, 1)]
            ratio = [ours / theirs for ours, theirs in zip(*rates, strict=True)]
            rows.append((task, str(n_envs), spread(rates[0], 0), spread(rates[1], 0), spread(ratio)))
    show(
        f"Environment steps per second: median [min, max] of {args.repeats}",
        ("", "envs", "ours", "Gymnasium's", "ratio"),
        rows,
    )
    keep(args.out, "env-steps", measurements)
    return 0


def steps_per_second(task: str, ours: bool, n_envs: int, seconds: float) -> dict[str, Any]:
    import gymnasium as gym

    envs = gym.make_vec(
        f"envs:sandbox/{task}" if ours else task, n_envs, vectorization_mode=None if ours else TASKS[task]
    )
    envs.reset(seed=0)
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(100)]
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for action in actions:
            envs.step(action)
        steps += len(actions) * n_envs
    return {"rate": steps / (time.perf_counter() - start)}


if __name__ == "__main__":
    raise SystemExit(main())
