"""What the presets reach over seeds: the return of 100 full episodes, beside agents that have learned nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.bench import arguments, keep, measure, show, spread
from sandbox.flags import count

MODULE = "sandbox.bench.learning"
CASES = {  # algorithm, environment, preset, and the return to be reached
    "CartPole": ("ppo", "CartPole-v1", "rl-zoo", 500.0),
    "CartPole, fast": ("ppo", "CartPole-v1", "fast", 500.0),
    "Pendulum": ("ppo", "Pendulum-v1", "rl-zoo", -175.0),
    "Pendulum, fast": ("ppo", "Pendulum-v1", "fast", -175.0),
    "Bicycle": ("ppo", "sandbox/Bicycle-v0", "fast", None),
    "CartPole without velocities": ("ppo", "sandbox/CartPoleNoVel-v1", "rl-zoo", 475.0),
    "MountainCar, fast": ("ppo", "MountainCar-v0", "fast", -112.0),
    "Acrobot, fast": ("ppo", "Acrobot-v1", "fast", -75.0),
    "MountainCarContinuous, fast": ("ppo", "MountainCarContinuous-v0", "fast", 90.0),
    "Bicycle to a goal": ("ppo", "sandbox/BicycleGoal-v0", "fast", None),
    "Acrobot": ("ppo", "Acrobot-v1", "rl-zoo", -75.0),
    "MountainCar": ("ppo", "MountainCar-v0", "rl-zoo", -112.0),
    "CartPole, DQN": ("dqn", "CartPole-v1", "rl-zoo", 475.0),
    "CartPole, DQN fast": ("dqn", "CartPole-v1", "fast", 475.0),
    "Acrobot, QR-DQN": ("dqn", "Acrobot-v1", "qr-fast", -75.0),
    "Acrobot, DQN fast": ("dqn", "Acrobot-v1", "fast", -75.0),
    "MountainCar, DQN": ("dqn", "MountainCar-v0", "rl-zoo", -112.0),
    "MountainCar, DQN fast": ("dqn", "MountainCar-v0", "fast", -112.0),
    "CartPole, PQN": ("pqn", "CartPole-v1", "fast", 475.0),
}


def main(argv: Sequence[str] | None = None) -> int:
    listing = "\n".join(f"  {case}" for case in CASES)
    parser = arguments("learning", __doc__, epilog=f"cases:\n{listing}")
    parser.add_argument("--seeds", type=count, default=5, metavar="N", help="default 5")
    parser.add_argument("--case", action="append", choices=CASES, metavar="CASE", help="only this one; may be repeated")
    parser.add_argument("--preset", metavar="NAME", help="another one than the case's")
    args = parser.parse(argv)
    if args.job:
        print(json.dumps(train(**args.job)))
        return 0
    import numpy as np

    from agents.evaluation import interquartile_mean

    measurements: list[dict[str, Any]] = []
    rows = []
    for case in args.case or CASES:
        target = CASES[case][3]
        runs = [measure(MODULE, case=case, preset=args.preset, seed=seed) for seed in range(args.seeds)]
        measurements += runs
        mean, low, high = interquartile_mean(np.array([run["return"] for run in runs]))
        controls = [", ".join(f"{name} {value:.1f}" for name, value in runs[0]["controls"].items())]
        reached = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
        seconds = spread([run["seconds"] for run in runs], 0)
        rows.append((case, "" if target is None else f"{target:.0f}", reached, *controls, seconds))
        print(f"{case}: {reached}, seeds " + ", ".join(f"{run['return']:.1f}" for run in runs), flush=True)
        keep(args.out, "learning", measurements)  # after each case: all of them take an hour
        if args.out:
            draw(args.out.with_suffix(".png"), measurements)
    show(
        f"Return of 100 episodes, interquartile mean over {args.seeds} seeds [95 % bootstrap interval]",
        ("", "to reach", "reached", "controls", "seconds"),
        rows,
    )
    return 0


def draw(path: Path, measurements: Sequence[dict[str, Any]]) -> None:
    """One panel a case: a dot for each seed, their interquartile mean with its interval, and random actions."""
    import numpy as np
    from matplotlib.figure import Figure

    from agents.evaluation import interquartile_mean

    cases = list(dict.fromkeys(one["case"] for one in measurements))
    columns = min(len(cases), 4)
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(3 * columns, 2.4 * rows), layout="constrained")
    for i, case in enumerate(cases):
        runs = [one for one in measurements if one["case"] == case]
        returns = np.array([run["return"] for run in runs])
        mean, low, high = interquartile_mean(returns)
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.errorbar([0.4], [mean], [[mean - low], [high - mean]], fmt="s", color="#3e4e63", capsize=4)
        axes.plot(np.linspace(-0.2, 0.2, len(returns)), returns, "o", color="#429297", alpha=0.7)
        axes.axhline(runs[0]["controls"]["random"], color="#e26d5c", linewidth=1, label="random actions")
        target = CASES[case][3]
        if target is not None:
            axes.axhline(target, color="#3e4e63", linewidth=1, linestyle=":", label="to reach")
        axes.set_title(case, fontsize=10)
        axes.set_xticks([0, 0.4], ["seeds", "IQM"])
        axes.set_xlim(-0.5, 0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0:
            axes.legend(fontsize=7, frameon=False, loc="center right")
    figure.suptitle("Mean return of 100 episodes after training")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def train(case: str, preset: str | None, seed: int) -> dict[str, Any]:
    """Train a preset once, and let it and the controls play the same 100 episodes."""
    import gymnasium as gym
    import numpy as np

    import agents
    from agents import vecenv
    from agents.evaluation import evaluate
    from agents.presets import find
    from sandbox.train import build

    name, env, own, _ = CASES[case]
    settings = dict(find(env, name)[preset or own].settings)
    n_timesteps, n_envs = settings.pop("n_timesteps"), settings.pop("n_envs", 8)
    env_id, normalize = settings.pop("env_id", env), settings.pop("normalize", False)
    config = {"seed": seed, "settings": settings, "normalize": normalize}
    model = build(getattr(agents, name.upper()), config, vecenv.make(env_id, n_envs))
    start = time.perf_counter()
    model.learn(n_timesteps)
    seconds = time.perf_counter() - start
    result = evaluate(model, env_id, 100, seed=10_000)

    class Policy:
        """Actions that look at nothing."""

        def __init__(self, still: bool):
            self.space = gym.vector.utils.batch_space(model.action_space, 100)
            self.space.seed(0)
            self.still = still

        def predict(self, obs: Any, **kwargs: Any) -> tuple[Any, None]:
            actions = self.space.sample()
            return (np.zeros_like(actions) if self.still else actions), None

    names = {"random": False, "no control": True} if "Bicycle" in env else {"random": False}
    controls = {what: evaluate(Policy(still), env_id, 100, seed=10_000).mean for what, still in names.items()}
    lengths = float(result.lengths.mean())
    return {
        "return": result.mean,
        "returns": result.returns.tolist(),
        "mean_length": lengths,
        "seconds": seconds,
        "steps": model.num_timesteps,
        "fast_path": str(model.fast_path),
        "controls": controls,
    }


if __name__ == "__main__":
    raise SystemExit(main())
