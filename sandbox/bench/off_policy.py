"""DQN against Stable-Baselines3's, at RL-Zoo's settings: speed beside return, and what a replay of a million takes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.bench import compare
from sandbox.bench.atari import their_environments
from sandbox.flags import Parser, count

MODULE = "sandbox.bench.off_policy"
CASES = {  # environment, steps on the clock, and precisions of ours
    "CartPole": ("CartPole-v1", 50_000, ("fp32",)),
    "CartPole, sandbox/CartPole-v1": ("sandbox/CartPole-v1", 50_000, ("fp32",)),
    "Pong": ("baselines/Pong-v0", 4_000, ("bf16", "fp32")),
}


def main(argv: Sequence[str] | None = None) -> int:
    listing = "\n".join(f"  {case}" for case in CASES)
    parser = Parser(prog="sandbox bench off-policy", description=__doc__, epilog=f"cases:\n{listing}")
    parser.add_argument("--repeats", type=count, default=3, metavar="N", help="seeds of each case; default 3")
    parser.add_argument("--case", choices=CASES, metavar="CASE", help="only one of those below")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the raw measurements as JSON")
    parser.add_argument("--job", type=json.loads, help="one measurement, as the bench starts it")
    args = parser.parse(argv)
    if args.job:
        print(json.dumps(train(**args.job)))
        return 0
    chosen = [args.case] if args.case else CASES
    sides = {case: CASES[case][2] for case in chosen}
    compare(MODULE, "off-policy", sides, args.repeats, args.out, "Steps/s, and the mean return of the last episodes")
    return 0


def train(case: str, who: str, seed: int) -> dict[str, Any]:
    """One training; construction, and in Pong the steps before learning starts, off the clock."""
    import numpy as np
    import stable_baselines3
    import torch
    import torch._dynamo  # which the first optimiser does, in Stable-Baselines3 with the construction: off the clock

    import agents
    from agents import vecenv
    from agents.presets import find

    env_id, n_timesteps, _ = CASES[case]
    games = env_id.startswith("baselines/")
    settings = dict(find(env_id, "dqn")["atari" if games else "rl-zoo"].settings)
    for name in ("n_timesteps", "env_id", "n_envs", "greedy", "eval_episodes", "final_episodes", "film", "precision"):
        settings.pop(name, None)
    if not games:
        torch.set_num_threads(1)
        settings["device"] = "cpu"
    else:
        settings["learning_starts"] = 1_000
    if games and who == "theirs":  # noqa: SIM108
        envs = their_environments("Pong", 1, seed)
    else:
        envs = vecenv.make(env_id, 1)  # of a Gymnasium id, SB3's own vector of Gymnasium's environment
    kind = stable_baselines3.DQN if who == "theirs" else agents.DQN
    kwargs: dict[str, Any] = {} if who == "theirs" else {"precision": who}
    model: Any = kind("CnnPolicy" if games else "MlpPolicy", envs, seed=seed, **settings, **kwargs)
    if games:
        model.learn(1_200)
    start, before = time.perf_counter(), model.num_timesteps if games else 0
    model.learn(n_timesteps, reset_num_timesteps=not games)
    seconds = time.perf_counter() - start
    returns = [episode["r"] for episode in model.ep_info_buffer]
    return {
        "rate": (model.num_timesteps - before) / seconds,
        "seconds": seconds,
        "return": float(np.mean(returns)) if returns else float("nan"),
        "fast_path": "" if who == "theirs" else str(model.fast_path),
    }


if __name__ == "__main__":
    raise SystemExit(main())
