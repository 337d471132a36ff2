"""Our on-policy agents against Stable-Baselines3's and sb3-contrib's, at equal settings on their own environments."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from sandbox.bench import arguments, keep, measure, show, spread
from sandbox.training import schedules

MODULE = "sandbox.bench.on_policy"
CARTPOLE: dict[str, Any] = {  # RL-Zoo's
    "n_envs": 8,
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 20,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "learning_rate": "lin_1e-3",
    "clip_range": "lin_0.2",
}
PENDULUM = {"n_envs": 4, "n_steps": 1024, "gamma": 0.9, "learning_rate": 1e-3}
GSDE = {"use_sde": True, "sde_sample_freq": 4}
CASES: dict[str, tuple[str, str, dict[str, Any], int]] = {  # algorithm, environment, settings, steps
    "A2C": ("A2C", "CartPole", {"n_envs": 8}, 50_000),
    "A2C, sandbox/CartPole-v1": ("A2C", "sandbox", {"n_envs": 8}, 50_000),
    "PPO Pendulum, Gaussian": ("PPO", "Pendulum", PENDULUM, 16_384),
    "PPO Pendulum, gSDE": ("PPO", "Pendulum", {**PENDULUM, **GSDE}, 16_384),
    "PPO, VecNormalize": ("PPO", "normalized", CARTPOLE, 20_480),
    "PPO, dictionary of vectors": ("PPO", "dictionary", CARTPOLE, 20_480),
    "PPO, dictionary with a picture": ("PPO", "picture", {"n_envs": 8, "n_steps": 64, "n_epochs": 4}, 2_048),
    "PPO, EvalCallback and Monitor": ("PPO", "evaluated", CARTPOLE, 20_480),
    "PPO, LSTM, without velocities": ("RecurrentPPO", "no velocities", CARTPOLE, 5_120),
}


def main(argv: Sequence[str] | None = None) -> int:
    listing = "\n".join(f"  {case}" for case in CASES)
    parser = arguments("on-policy", __doc__, repeats=5, epilog=f"cases:\n{listing}")
    parser.add_argument("--case", choices=CASES, metavar="CASE", help="only one of those below")
    args = parser.parse(argv)
    if args.job:
        print(json.dumps(train(**args.job)))
        return 0
    measurements: list[dict[str, Any]] = []
    rows = []
    for case in [args.case] if args.case else CASES:
        pairs = [
            [measure(MODULE, case=case, ours=ours, seed=seed) for ours in (False, True)] for seed in range(args.repeats)
        ]
        measurements += [one for pair in pairs for one in pair]
        rates = [[pair[i]["steps"] / pair[i]["seconds"] for pair in pairs] for i in (0, 1)]
        ratio = [ours / theirs for theirs, ours in zip(*rates, strict=True)]
        returns = [[pair[i]["return"] for pair in pairs] for i in (0, 1)]
        rows.append((case, spread(rates[0], 0), spread(rates[1], 0), spread(ratio), *(spread(r, 0) for r in returns)))
        print(f"{case}: {spread(ratio)}", flush=True)
        keep(args.out, "on-policy", measurements)
    show(
        f"Steps/s on one thread, and the mean return of the last episodes: median [min, max] of {args.repeats} seeds",
        ("", "theirs", "ours", "ratio", "return, theirs", "ours"),
        rows,
    )
    return 0


def train(case: str, ours: bool, seed: int) -> dict[str, Any]:
    """One training of a case, construction off the clock."""
    import numpy as np
    import torch
    import torch._dynamo  # which the first optimiser does, in Stable-Baselines3 with the construction: off the clock

    torch.set_num_threads(1)
    algorithm, world, settings, n_timesteps = CASES[case]
    settings = {**settings, "seed": seed, "device": "cpu"}
    for name in {"learning_rate", "clip_range"} & settings.keys():
        settings[name] = schedules.parse(settings[name]) if isinstance(settings[name], str) else settings[name]
    envs = environments(world, settings.pop("n_envs"), seed)
    model = agent(algorithm, ours, envs, settings)
    callback = None
    if world == "evaluated":
        from stable_baselines3.common.callbacks import EvalCallback

        callback = EvalCallback(environments("CartPole", 1, seed + 100), n_eval_episodes=5, eval_freq=250, verbose=0)
    start = time.perf_counter()
    model.learn(n_timesteps, callback)
    seconds = time.perf_counter() - start
    returns = [episode["r"] for episode in model.ep_info_buffer]
    path = str(model.fast_path) if ours else ""
    return {"seconds": seconds, "steps": model.num_timesteps, "return": float(np.mean(returns)), "fast_path": path}


def agent(algorithm: str, ours: bool, envs: Any, settings: dict[str, Any]) -> Any:
    """The same agent of either side: for the memory, two LSTMs of 64 and two towers of 64, as RL-Zoo has them."""
    import stable_baselines3
    from stable_baselines3.common.vec_env import VecEnv
    from torch import nn

    import agents

    spaces = envs.observation_space if isinstance(envs, VecEnv) else envs.single_observation_space
    policy = "MultiInputPolicy" if type(spaces).__name__ == "Dict" else "MlpPolicy"
    if algorithm != "RecurrentPPO":
        return getattr(agents if ours else stable_baselines3, algorithm)(policy, envs, **settings)
    heads: dict[str, Any] = {"net_arch": {"pi": [64], "vf": [64]}, "activation_fn": nn.ReLU, "ortho_init": False}
    if ours:
        encoder = {"name": "lstm", "kwargs": {"out_features": 64}}
        kwargs = {**heads, "share_features_extractor": False}
        return agents.PPO(policy, envs, encoder=encoder, policy_kwargs=kwargs, **settings)
    from sb3_contrib import RecurrentPPO

    return RecurrentPPO("MlpLstmPolicy", envs, policy_kwargs={**heads, "lstm_hidden_size": 64}, **settings)


def environments(world: str, n_envs: int, seed: int) -> Any:
    """Stable-Baselines3's own vector of Gymnasium's environments, except where the case says otherwise."""
    import gymnasium as gym
    import numpy as np
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.envs import SimpleMultiObsEnv
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    from agents import vecenv

    def without_velocities() -> gym.Env:
        env, space = gym.make("CartPole-v1"), gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
        return gym.wrappers.TransformObservation(env, lambda obs: obs[[0, 2]], space)

    def in_two_parts() -> gym.Env:
        env, part = gym.make("CartPole-v1"), gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        space = gym.spaces.Dict(cart=part, pole=part)
        return gym.wrappers.TransformObservation(env, lambda obs: {"cart": obs[:2], "pole": obs[2:]}, space)

    if world == "sandbox":
        # Stable-Baselines3 can't take ours: a DummyVecEnv of Gymnasium's for it would be the row above. The same object
        # for both, so that the row says what the agent alone gains.
        return vecenv.make("sandbox/CartPole-v1", n_envs)
    if world == "picture":
        np.random.seed(seed)  # noqa: NPY002 (what its constructor draws from)
        return make_vec_env(lambda: SimpleMultiObsEnv(random_start=False), n_envs, seed=seed, vec_env_cls=DummyVecEnv)
    makers = {
        "CartPole": "CartPole-v1",
        "evaluated": "CartPole-v1",
        "normalized": "CartPole-v1",
        "Pendulum": "Pendulum-v1",
        "no velocities": without_velocities,
        "dictionary": in_two_parts,
    }
    envs = make_vec_env(makers[world], n_envs, seed=seed)  # type: ignore[arg-type]
    return VecNormalize(envs, gamma=CARTPOLE["gamma"]) if world == "normalized" else envs


if __name__ == "__main__":
    raise SystemExit(main())
