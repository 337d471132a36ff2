"""An agent in one file of tensors and JSON: what training needs to go on, and nothing that could run.

Beside Stable-Baselines3's own zip (``model.save``), which pickles, this is what run folders keep. The file holds the
policy's weights, the optimiser's state, the counters, the random generators, and what ``VecNormalize`` has seen if the
agent trains under one; the agent itself is rebuilt from the run's configuration before it is filled.
"""

from __future__ import annotations

import inspect
import io
import json
import warnings
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from agents.loop import Loop
from sandbox.training.checkpoint import FileError, load_tensors, save_tensors

KIND = "sandbox.agent"
COUNTERS = ("num_timesteps", "_total_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
OWN_COUNTERS = ("_n_calls",)  # of some algorithms: DQN's steps, by which its target network follows
NORMALIZER: dict[str, type] = {  # the settings of VecNormalize
    "norm_obs": bool,
    "norm_reward": bool,
    "clip_obs": float,
    "clip_reward": float,
    "gamma": float,
    "epsilon": float,
    "norm_obs_keys": list,
}
MOMENTS = ("mean", "var", "count")


def save_agent(model: Loop, path: str | Path) -> None:
    """Write an agent's state, atomically.

    Parameters
    ----------
    model : PPO
    path : str or Path

    Examples
    --------
    >>> import tempfile
    >>> from agents import PPO
    >>> first, second = (PPO("MlpPolicy", "sandbox/Catch-v0", seed=seed) for seed in (1, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_agent(first, f"{folder}/agent.safetensors")
    ...     load_agent(second, f"{folder}/agent.safetensors")
    >>> all(torch.equal(a, b) for a, b in zip(first.policy.parameters(), second.policy.parameters()))
    True
    """
    tensors = {f"policy.{name}": tensor for name, tensor in model.policy.state_dict().items()}
    for index, parameter in enumerate(_optimized(model)):
        state = _optimizer(model).state.get(parameter, {})
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["random.torch"] = torch.get_rng_state()
    if model.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(model.device)
    normalizer = model.get_vec_normalize_env()
    for name, seen in statistics(normalizer).items():
        moments = {moment: torch.as_tensor(getattr(seen, moment), dtype=torch.float64) for moment in MOMENTS}
        tensors |= {f"normalizer.{name}.{moment}": tensor for moment, tensor in moments.items()}
    record = {
        "algorithm": type(model).__name__,
        "optimizer": type(_optimizer(model)).__name__,
        "normalizer": normalizer and {name: getattr(normalizer, name) for name in NORMALIZER},
        "counters": {name: getattr(model, name) for name in _counters(model)},
        "episodes": [{key: float(episode[key]) for key in ("r", "l", "t")} for episode in model.ep_info_buffer or ()],
        "random": [value.tolist() if isinstance(value, np.ndarray) else value for value in np.random.get_state()],  # noqa: NPY002
    }
    save_tensors(path, KIND, record, tensors)


def load_agent(model: Loop, path: str | Path) -> None:
    """Fill an agent with the state that `save_agent` wrote; nothing in the file is run.

    The global generators of torch and numpy, from which Stable-Baselines3 draws, go on where they were, too.

    Parameters
    ----------
    model : PPO
        Of the same algorithm, with a policy of the same shape; under ``VecNormalize`` if the saved agent was, whose
        statistics and settings then take the place of its own.
    path : str or Path

    Raises
    ------
    FileError
        If there is no such file, it is damaged, or it is another agent's. The agent is then as it was.
    """
    record, tensors = load_tensors(path, KIND)
    weights = {name.removeprefix("policy."): tensor for name, tensor in tensors.items() if name.startswith("policy.")}
    expected = {name: tuple(tensor.shape) for name, tensor in model.policy.state_dict().items()}
    for key, own in (("algorithm", model), ("optimizer", _optimizer(model))):
        if record.get(key) != type(own).__name__:
            raise FileError(f"{path}: as its {key} it holds {record.get(key)}, not {type(own).__name__}")
    missing = {"counters", "episodes", "random"} - record.keys()
    if missing or set(_counters(model)) - record["counters"].keys():
        raise FileError(f"{path}: of another version: its record lacks {', '.join(sorted(missing)) or 'counters'}")
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != expected:
        raise FileError(f"{path}: holds another policy; its weights do not fit the one that the configuration builds")
    normalizer = model.get_vec_normalize_env()
    settings, seen = _normalizer_in(record, tensors, normalizer, path)
    parameters = _optimized(model)
    states: dict[torch.Tensor, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            index, _, key = name.removeprefix("optimizer.").partition(".")
            if not index.isdigit() or int(index) >= len(parameters):
                raise FileError(f"{path}: holds another optimiser's state")
            parameter = parameters[int(index)]
            # A fused optimiser counts its steps where the weights are, any other one on the processor.
            stays = key == "step" and not _optimizer(model).param_groups[0].get("fused")
            states.setdefault(parameter, {})[key] = tensor if stays else tensor.to(parameter.device)
    for name, value in settings.items():
        setattr(normalizer, name, value)
    for name, moments in statistics(normalizer).items():
        vars(moments).update(seen[name])
    model.policy.load_state_dict(weights)
    if parameters:
        _optimizer(model).state.clear()
        _optimizer(model).state.update(states)
    for name in _counters(model):
        setattr(model, name, record["counters"][name])
    model.ep_info_buffer = deque(record["episodes"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    np.random.set_state(tuple(record["random"]))  # noqa: NPY002
    torch.set_rng_state(tensors["random.torch"])
    if model.device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], model.device)


def statistics(normalizer: VecNormalize | None) -> dict[str, RunningMeanStd]:
    """What ``VecNormalize`` keeps count of: the returns, and the observations or each of their keys.

    Examples
    --------
    >>> from agents import vecenv
    >>> seen = statistics(VecNormalize(vecenv.make("sandbox/CartPole-v1", 2)))
    >>> {name: rms.mean.shape for name, rms in seen.items()}
    {'returns': (), 'obs': (4,)}
    """
    if normalizer is None:
        return {}
    obs: Any = normalizer.obs_rms if normalizer.norm_obs else {}
    by_key = {f"obs.{key}": rms for key, rms in obs.items()} if isinstance(obs, dict) else {"obs": obs}
    return {"returns": normalizer.ret_rms, **by_key}


def _normalizer_in(
    record: dict[str, Any], tensors: dict[str, torch.Tensor], own: VecNormalize | None, path: str | Path
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings, and the moments by name, that the file holds for the model's own ``VecNormalize``."""
    settings = record.get("normalizer")  # files from before it was kept have none
    if settings is None and own is None:
        return {}, {}
    if own is None:
        raise FileError(f"{path}: trained under VecNormalize; the environments of this model are not (normalize: true)")
    if settings is None:
        raise FileError(f"{path}: trained without VecNormalize; the environments of this model are under one")
    arrays = {
        name.removeprefix("normalizer."): tensor.numpy()
        for name, tensor in tensors.items()
        if name.startswith("normalizer.")
    }
    shapes = {
        f"{name}.{moment}": np.shape(getattr(seen, moment))
        for name, seen in statistics(own).items()
        for moment in MOMENTS
    }
    if settings.keys() != set(NORMALIZER) or {name: array.shape for name, array in arrays.items()} != shapes:
        raise FileError(f"{path}: holds the statistics of another VecNormalize; they do not fit that of this model")
    # As numpy made them: arrays, and the count a number.
    seen = {
        name: {"mean": arrays[f"{name}.mean"], "var": arrays[f"{name}.var"], "count": float(arrays[f"{name}.count"])}
        for name in statistics(own)
    }
    return settings, seen


def load_zip(algorithm: type[Loop], path: str | Path, env: Any, **kwargs: Any) -> Loop:
    """The agent in a zip file of Stable-Baselines3, without unpickling anything in it.

    Read are the weights, the optimiser's state, the counters and the settings that are plain JSON. What SB3 pickles is
    not: the spaces (they come from `env`), the policy's class, and schedules such as `clip_range`.

    Parameters
    ----------
    algorithm : type
    path : str or Path
    env : as for the constructor
    **kwargs
        Constructor arguments that take the place of what the file says, or does not say; `policy` if it is another
        than ``"MlpPolicy"``.

    Returns
    -------
    Loop

    Raises
    ------
    FileError
        If it is no such file, or a damaged one.
    ValueError
        Without `env`.
    """
    if env is None:
        raise ValueError("load(..., trust=False) needs env=: the spaces in the file are pickled, and not read")
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
            states = {
                name: torch.load(io.BytesIO(archive.read(f"{name}.pth")), map_location="cpu", weights_only=True)
                for name in ("policy", "policy.optimizer")
                if name == "policy" or f"{name}.pth" in archive.namelist()  # a table has no optimiser
            }
    except Exception as error:  # a file can be wrong in every way: all of them are one error, the cause chained to it
        raise FileError(f"{path}: not an agent that Stable-Baselines3 saved, or damaged: {error}") from error
    pickled = {name for name, value in data.items() if isinstance(value, dict) and ":serialized:" in value}
    accepted = inspect.signature(algorithm).parameters.keys() - kwargs.keys() - {"policy", "env", "device", "n_envs"}
    unread = sorted(pickled & (accepted - {"rollout_buffer_class"}))
    if unread:
        words = f"{path}: {', '.join(unread)} would run code and keep their defaults; give them to load"
        warnings.warn(words, stacklevel=3)
    settings = {name: data[name] for name in (accepted & data.keys()) - pickled}
    group = states["policy.optimizer"]["param_groups"][0].keys() if "policy.optimizer" in states else None
    if "use_rms_prop" in accepted:  # which the file does not say
        settings["use_rms_prop"] = "alpha" in (group or ())
    if "memory" in (settings.get("policy_kwargs") or {}):
        own = dict(settings["policy_kwargs"])
        settings |= {"encoder": own.pop("memory"), "freeze_encoder": own.pop("freeze_memory"), "policy_kwargs": own}
    model = algorithm(kwargs.pop("policy", "MlpPolicy"), env, **{**settings, **kwargs})
    optimizer = _optimizer(model)
    if group != (optimizer and optimizer.param_groups[0].keys()):
        raise FileError(f"{path}: holds another optimiser's state than {type(optimizer).__name__}'s")
    try:
        model.set_parameters(states, exact_match=True)
    except (ValueError, RuntimeError, KeyError) as error:
        words = (
            "its weights are not those of such a policy; if it had an encoder or other policy_kwargs, give them to load"
        )
        raise FileError(f"{path}: {words} ({str(error).splitlines()[0]})") from error
    for name in set(_counters(model)) & data.keys() - pickled:
        setattr(model, name, data[name])
    return model


def _counters(model: Loop) -> list[str]:
    return [*COUNTERS, *(name for name in OWN_COUNTERS if hasattr(model, name))]


def _optimized(model: Loop) -> list[torch.nn.Parameter]:
    """The optimiser's parameters, in its order."""
    optimizer = _optimizer(model)
    return [parameter for group in optimizer.param_groups for parameter in group["params"]] if optimizer else []


def _optimizer(model: Loop) -> Any:
    """The policy's optimiser; None of a table, which is learned without one."""
    return getattr(model.policy, "optimizer", None)
