"""DQN against Stable-Baselines3's, at RL-Zoo's settings: speed beside return, and what a replay of a million takes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from sandbox.bench import arguments, compare, keep, measure
from sandbox.bench.atari import their_environments
from sandbox.training import schedules

MODULE = "sandbox.bench.off_policy"
CASES = {  # environment, steps on the clock, and precisions of ours
    "CartPole": ("CartPole-v1", 50_000, ("fp32",)),
    "CartPole, sandbox/CartPole-v1": ("sandbox/CartPole-v1", 50_000, ("fp32",)),
    "Pong": ("baselines/Pong-v0", 4_000, ("bf16", "fp32")),
}

REPLAY = "a replay of a million"


def main(argv: Sequence[str] | None = None) -> int:
    listing = "\n".join(f"  {case}" for case in (*CASES, REPLAY))
    parser = arguments("off-policy", __doc__, repeats=3, epilog=f"cases:\n{listing}")
    parser.add_argument("--case", choices=[*CASES, REPLAY], metavar="CASE", help="only one of those below")
    args = parser.parse(argv)
    if args.job:
        job = args.job
        print(json.dumps(fill() if job["case"] == REPLAY else train(**job)))
        return 0
    if args.case in (None, REPLAY):
        sizes = measure(MODULE, case=REPLAY)
        keep(args.out and args.out.with_stem(f"{args.out.stem}-replay"), "off-policy, replay", [sizes])
        what = f"a replay of {sizes['transitions']:,} Atari transitions, filled in {sizes['seconds']:.0f} s"
        print(f"{what}: {sizes['resident'] / 1e9:.2f} GB of memory, {sizes['predicted'] / 1e9:.2f} predicted")
    chosen = [case for case in CASES if args.case in (None, case)]
    sides = {case: CASES[case][2] for case in chosen}
    if chosen:
        compare(
            MODULE, "off-policy", sides, args.repeats, args.out, "Steps/s, and the mean return of the last episodes"
        )
    return 0


def fill(n: int = 1_000_000) -> dict[str, Any]:
    """Fill a replay with as many transitions, stacks of four pictures in episodes of a thousand steps, and weigh it."""
    import numpy as np
    from gymnasium import spaces

    from agents.frames import FrameReplay
    from sandbox.train import resident_mb
    from sandbox.training.log import ProgressLine

    pictures, actions = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6)
    before = resident_mb()
    replay = FrameReplay(n, pictures, actions, device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (1_004, 84, 84), np.uint8)
    action, reward = np.zeros((1, 1), np.int64), np.zeros(1, np.float32)
    start = time.perf_counter()
    with ProgressLine("filling", n, "transitions") as progress:
        for i in range(n):
            t = i % 1_000
            done = np.array([t == 999])
            replay.add(frames[None, t : t + 4], frames[None, t + 1 : t + 5], action, reward, done, [{}])
            if t == 999:
                progress.update(i + 1)
    return {
        "transitions": n,
        "resident": (resident_mb() - before) * 1e6,
        "predicted": FrameReplay.predicted_bytes(n, pictures, actions),
        "seconds": time.perf_counter() - start,
    }


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
    if isinstance(settings["learning_rate"], str):
        settings["learning_rate"] = schedules.parse(settings["learning_rate"])
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
