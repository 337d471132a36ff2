"""What each of DQN's switches adds, on a task made for it whose answer is known: with and without, over seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sandbox.bench import arguments, keep, measure, show, spread
from sandbox.flags import count

MODULE = "sandbox.bench.switches"
GAMMA = 0.99
DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 32,
    "buffer_size": 20_000,
    "learning_starts": 100,
    "train_freq": 1,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 1.0,  # at random throughout: what is learned, not what is found, is compared
    "policy_kwargs": {"net_arch": [64]},
    "gamma": GAMMA,
}


class Case(NamedTuple):
    """A switch, the probe made for it, what both agents share, and how long they learn."""

    switch: dict[str, Any]
    probe: str
    settings: dict[str, Any]
    n_timesteps: int
    means: str
    more_is_better: bool = False


CASES = {
    "double": Case(
        {"double": True},
        "Overestimation",
        {"target_update_interval": 500, "buffer_size": 1_000},  # the two networks have learned from other samples
        4_000,
        "overestimation of a value of -0.1",
    ),
    "dueling": Case(
        {"dueling": True}, "ManyActions", {"target_update_interval": 20}, 1_000, "error of the values, root mean square"
    ),
    "n_steps": Case(
        {"n_steps": 5},
        "Delay",
        {"target_update_interval": 200},
        3_000,
        "part of a delayed reward that has come back",
        True,
    ),
    "prioritized": Case(
        {"prioritized": True},
        "Rare",
        {"target_update_interval": 100, "train_freq": 4, "batch_size": 16},
        3_000,
        "error of the values, root mean square",
    ),
    "noisy": Case(
        {"noisy": 1.5, "noise_steps": 25},  # the same noise for an episode
        "Chain",
        {"target_update_interval": 100, "exploration_final_eps": 0.05, "train_freq": 4},
        8_000,
        "of the last 100 episodes, how many reach the end",
        True,
    ),
    "c51": Case(
        {"distributional": "c51", "v_min": -1.5, "v_max": 1.5, "n_atoms": 31},
        "TwoValued",
        {"target_update_interval": 100},
        3_000,
        "distance of the returns' distribution (Wasserstein-1)",
    ),
    "qr": Case(
        {"distributional": "qr", "n_quantiles": 20},
        "TwoValued",
        {"target_update_interval": 100},
        3_000,
        "distance of the returns' distribution (Wasserstein-1)",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    listing = "\n".join(f"  {name}: {case.means}" for name, case in CASES.items())
    parser = arguments("switches", __doc__, epilog=f"cases:\n{listing}")
    parser.add_argument("--seeds", type=count, default=5, metavar="N", help="default 5")
    parser.add_argument("--case", choices=CASES, metavar="CASE", help="only one of those below")
    args = parser.parse(argv)
    if args.job:
        print(json.dumps({"statistic": learn(**args.job)}))
        return 0
    measurements: list[dict[str, Any]] = []
    rows = []
    for name in [args.case] if args.case else CASES:
        sides = [[measure(MODULE, case=name, on=on, seed=seed) for seed in range(args.seeds)] for on in (False, True)]
        measurements += [one for side in sides for one in side]
        keep(args.out, "switches", measurements)
        plain, switched = (spread([one["statistic"] for one in side]) for side in sides)
        rows.append((name, CASES[name].means, plain, switched, "more" if CASES[name].more_is_better else "less"))
        print(f"{name}: {plain} without, {switched} with", flush=True)
    show(
        f"DQN without and with one switch: median [min, max] of {args.seeds} seeds",
        ("", "", "without", "with", "better is"),
        rows,
    )
    return 0


def learn(case: str, on: bool, seed: int) -> float:
    """One training, and what it has learned of what is known."""
    import numpy as np
    import torch

    import envs
    from agents import DQN
    from agents.q_heads import softmax

    torch.set_num_threads(1)
    switch, name, settings, n_timesteps, *_ = CASES[case]
    probe: Any = getattr(envs, f"Probe{name}")
    kwargs: dict[str, Any] = {**DEFAULTS, **settings, **(switch if on else {})}
    model = DQN("MlpPolicy", f"sandbox/Probe{name}-v0", seed=seed, device="cpu", **kwargs).learn(n_timesteps)
    if name == "Chain":  # what was found on the way: the greedy policy of one moment comes and goes
        return float(sum(episode["r"] > 0.5 for episode in model.ep_info_buffer or ()))
    model.predict(np.zeros_like(probe.all_obs()[:1], np.float32), deterministic=True)  # quiet
    net: Any = model.q_net
    with torch.no_grad():
        outputs = net.outputs(torch.as_tensor(probe.all_obs(), dtype=torch.float32)).numpy()  # [P, A, K]
    if name != "TwoValued":
        return float(probe.statistic(net.head.q_values(outputs), GAMMA))
    if case == "c51" and on:
        return float(probe.statistic(net.head.support(outputs), softmax(outputs), GAMMA))
    return float(probe.statistic(outputs, np.full(outputs.shape[-1], 1 / outputs.shape[-1]), GAMMA))


if __name__ == "__main__":
    raise SystemExit(main())
