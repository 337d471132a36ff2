"""Training runs of agents: from a configuration to a folder with a trained agent, its curve and its episode.

The command line is one caller; a configuration is a plain dictionary, and so are the presets it is made from.
"""

from __future__ import annotations

import copy
import inspect
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from agents import vecenv
from agents.checkpoint import KIND, NORMALIZER, load_agent, save_agent, statistics
from agents.evaluation import MAX_STEPS, Evaluation, evaluate, normalized
from agents.eyes import encoder_of
from agents.loop import Loop
from agents.masks import mask_of
from agents.offpolicy import OffPolicyLoop
from sandbox import show, zoo
from sandbox.flags import nearest
from sandbox.runs import Run, write_evaluation
from sandbox.training import schedules
from sandbox.training.checkpoint import FileError, atomic, load_tensors
from sandbox.training.device import pick_device
from sandbox.training.log import MetricsCSV, ProgressLine
from sandbox.zoo.files import IN_RUN

ROWS = 200  # of metrics tell a curve
EVAL_SEED = 10_000  # evaluations see the same episodes, and none that training has seen
SCHEDULES = {"learning_rate", "encoder_learning_rate", "clip_range", "clip_range_vf", "ent_coef"}


def build(algorithm: type, config: dict[str, Any], envs: VecEnv) -> Any:
    """The agent that a configuration describes, untrained.

    Parameters
    ----------
    algorithm : type
        The class that ``config["algorithm"]`` names.
    config : dict
        ``seed``, and ``settings``: constructor arguments, schedules in their short text form. If a setting names the
        file of an encoder, what rebuilds the encoder takes its place: the run shall not depend on that file. With
        ``normalize`` observations and rewards go through SB3's ``VecNormalize``; a mapping has that one's arguments, of
        which ``gamma`` is by default the algorithm's.
    envs : VecEnv
        To train in.

    Raises
    ------
    ValueError, TypeError or AssertionError
        If the settings, or the environments' spaces, are not for this algorithm.
    """
    settings = {"policy": policy_for(envs.observation_space), **config["settings"]}
    for name in SCHEDULES & settings.keys():
        settings[name] = schedules.parse(settings[name]) if isinstance(settings[name], str) else settings[name]
    # A small network is faster on the processor, also where there is a GPU; SB3 says so, too.
    settings["device"] = pick_device(settings.get("device", "cpu" if settings["policy"] == "MlpPolicy" else "auto"))
    if config.get("normalize", False) is not False:  # the first runs have no such entry, and an empty mapping is one
        gamma = settings.get("gamma", inspect.signature(algorithm).parameters["gamma"].default)
        given = config["normalize"] if isinstance(config["normalize"], dict) else {}
        envs = _normalizing(envs, {"gamma": gamma, **given})
    model = algorithm(env=envs, seed=config["seed"], **settings)
    if (
        getattr(model, "mask_actions", False) and "env_id" in config
    ):  # what gives no masks is found out now, not in training
        with gym.make(vecenv.qualified(config["env_id"])) as one:
            mask_of(one, one.reset(seed=0)[1])
    if config["settings"].get("encoder") is not None:
        kwargs = model.policy_kwargs  # a recurrent one is the policy's memory
        spec = kwargs["memory"] if "memory" in kwargs else kwargs["features_extractor_kwargs"]["encoder"]
        config["settings"]["encoder"] = spec
    return model


def _normalizing(envs: VecEnv, settings: dict[str, Any]) -> VecNormalize:
    """`envs` under ``VecNormalize``, which itself checks little of what it is given."""
    for name, value in settings.items():
        if name not in NORMALIZER:
            raise ValueError(f"normalize: VecNormalize has no {name!r}{nearest(name, NORMALIZER)}")
        if type(value) not in (NORMALIZER[name], int if NORMALIZER[name] is float else NORMALIZER[name]):
            raise ValueError(f"normalize: {name} should be of type {NORMALIZER[name].__name__}, not {value!r}")
    try:
        return VecNormalize(envs, **settings)
    except KeyError as error:
        raise ValueError(f"normalize: norm_obs_keys names {error}, which the observations do not have") from error


def policy_for(space: gym.Space) -> str:
    """The name of the policy that suits the observations."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    large = isinstance(space, spaces.Box) and is_image_space(space) and sorted(space.shape)[1] >= 36
    return "CnnPolicy" if large else "MlpPolicy"


class Metrics(MetricsCSV, KVWriter):
    """The run's table, as an output of SB3's logger."""


class TrainingProgress(BaseCallback):
    """A progress line beside any training: ``model.learn(100_000, TrainingProgress())``.

    Examples
    --------
    >>> from agents import PPO
    >>> _ = PPO("MlpPolicy", "sandbox/Catch-v0", n_steps=16, batch_size=16).learn(16, TrainingProgress())
    """

    def _on_training_start(self) -> None:
        self.line = ProgressLine("training", self.model._total_timesteps, "steps", self.num_timesteps)
        self.line.__enter__()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.line.update(self.num_timesteps, recent_return(self.model))

    def _on_training_end(self) -> None:
        self.line.__exit__(None, None, None)


def recent_return(model: Any) -> str:
    """The mean return of an agent's last training episodes, in words."""
    episodes = model.ep_info_buffer
    return f"return {np.mean([episode['r'] for episode in episodes]):.1f}" if episodes else ""


class RunCallback(BaseCallback):
    """Beside training: the progress line, evaluations, the best agent so far, and checkpoints.

    Parameters
    ----------
    run : Run
    progress : ProgressLine
    envs : VecEnv
        To evaluate in, every ``eval_every`` steps of the run's configuration.
    best_return : float
        What the best agent so far has reached.
    checkpoint_seconds : float
        Time between two checkpoints, what a crash can lose; more where writing one takes over a fiftieth of it. At 0
        there is one after each rollout.
    """

    model: Loop

    def __init__(
        self, run: Run, progress: ProgressLine, envs: VecEnv, best_return: float, checkpoint_seconds: float = 15.0
    ):
        super().__init__()
        self.run, self.progress, self.envs, self.best_return = run, progress, envs, best_return
        self.eval_every, self.eval_episodes = run.config["eval_every"], run.config["eval_episodes"]
        self.checkpoint_seconds = checkpoint_seconds
        self.interrupted = False

    def keep_statistics(self, model: Loop) -> None:
        """Of the normaliser: one value that is not finite spoils them, and the last good agent needs its own."""
        self.statistics = copy.deepcopy(statistics(model.get_vec_normalize_env()))

    def _on_training_start(self) -> None:
        self.next_eval = self.num_timesteps + self.eval_every if self.eval_every else math.inf
        self.row_every = self.run.config["n_timesteps"] // ROWS if isinstance(self.model, OffPolicyLoop) else math.inf
        self.next_row = self.num_timesteps + self.row_every
        self.next_checkpoint = time.monotonic() + self.checkpoint_seconds

    def _on_rollout_start(self) -> None:
        self.keep_statistics(self.model)

    def _on_step(self) -> bool:
        return not self.interrupted

    def _on_rollout_end(self) -> None:
        step = self.num_timesteps
        if step >= self.next_eval:
            self.next_eval += self.eval_every
            greedy = self.run.config.get("greedy", True)
            self.progress.update(step, "evaluating")
            result = evaluate(self.model, self.envs, self.eval_episodes, seed=EVAL_SEED, deterministic=greedy)
            self.logger.record(show.EVALUATION, result.mean)
            self.logger.dump(step)  # a row of its own: the next one may come much later
            if result.mean >= self.best_return:
                self.best_return = result.mean
                self._save(self.run.best)
        if step >= self.next_row:
            self.next_row = step + self.row_every
            self.model.dump_logs()
        began = time.monotonic()
        if began >= self.next_checkpoint:
            if self._save(self.run.checkpoint(step)):
                self.run.prune()
            now = time.monotonic()
            self.next_checkpoint = now + max(
                self.checkpoint_seconds, 50 * (now - began) * bool(self.checkpoint_seconds)
            )
        self.logger.record("time/memory_mb", resident_mb(), exclude="stdout")
        self.progress.update(step, recent_return(self.model))

    def _save(self, path: Path) -> bool:
        """Whether the agent could be saved. A disk that is full now may not be later: training goes on."""
        try:
            save_agent(self.model, path)
        except OSError as error:
            print(f"{path} could not be saved ({error}): training goes on, and tries again", file=sys.stderr)
            return False
        return True


def resident_mb() -> float:
    """What this process has in memory, in MB of a million bytes; NaN where the system does not tell.

    Examples
    --------
    >>> resident_mb() > 10 or not Path("/proc/self/statm").exists()
    True
    """
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if pages.exists() else math.nan


@contextmanager
def _ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls `stop`; a second one interrupts as usual."""

    def handler(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def train(model: Any, run: Run, resume: bool = False, tensorboard: bool = False) -> Evaluation | None:
    """Train the agent of a run, evaluate it, and leave everything in its folder.

    Parameters
    ----------
    model : BaseAlgorithm
        As `build` makes it from the run's configuration.
    run : Run
    resume : bool
        Go on from the latest agent in the folder instead of a new one.
    tensorboard : bool
        Write TensorBoard's events as well.

    Returns
    -------
    Evaluation or None
        100 full episodes of the trained agent; None if Ctrl-C ended the training.
    """
    config = run.config
    print(f"trained {model.fast_path}, on {model.device}", flush=True)
    if resume:
        print(f"going on from {load_latest(model, run)}, step {model.num_timesteps:,}")
    done, total = model.num_timesteps, config["n_timesteps"]
    table = Metrics(run.metrics, from_step=done)
    best_return = max((row.get(show.EVALUATION, -math.inf) for row in table.rows), default=-math.inf)
    if resume:
        run.write_config()  # how long it shall be may have changed
    model.set_logger(Logger(str(run.folder), [table, *_tensorboard(run, tensorboard)]))
    log_interval, whole = None, ""  # an off-policy algorithm would log every so many episodes: `RunCallback` does
    if not isinstance(model, OffPolicyLoop):
        per_rollout = model.n_steps * model.n_envs
        log_interval = max(1, (total - done) // per_rollout // ROWS)
        whole = f" (whole {'episodes' if model.whole_episodes else f'rollouts of {per_rollout:,}'})"
    elif resume:
        print("its replay is not kept: it is filled again before learning goes on")
    envs = vecenv.make(config["env_id"], config["eval_episodes"])
    began = time.monotonic()
    with ProgressLine("training", total, "steps", done) as progress, closing(envs):
        callback = RunCallback(run, progress, envs, best_return)
        callback.keep_statistics(model)
        with _ctrl_c(lambda: setattr(callback, "interrupted", True)):
            try:
                model.learn(max(total - done, 0), callback, log_interval=log_interval, reset_num_timesteps=not resume)
            except Exception:
                if all(bool(torch.isfinite(weights).all()) for weights in model.policy.parameters()):
                    for name, seen in statistics(model.get_vec_normalize_env()).items():
                        vars(seen).update(vars(callback.statistics[name]))
                    save_agent(model, run.checkpoint(model.num_timesteps))
                raise
            finally:
                model.logger.close()
    try:
        save_agent(model, run.model)
    except OSError as error:
        raise FileError(
            f"the trained agent could not be saved ({error}); make room, and go on from the last checkpoint with "
            f"sandbox train --resume {run.folder}"
        ) from error
    with suppress(ValueError):  # it sees by something that is not of the zoo
        zoo.save(encoder_of(model), run.folder / IN_RUN)
    if callback.interrupted:
        print(f"stopped at step {model.num_timesteps:,} and saved; go on with\n  sandbox train --resume {run.folder}")
        return None
    steps, seconds = model.num_timesteps - done, time.monotonic() - began
    print(f"{steps:,} steps{whole} in {seconds:.1f} s")
    greedy, n_episodes = config.get("greedy", True), config.get("final_episodes", 100)  # the first runs have neither
    with ProgressLine("evaluating", n_episodes, "episodes", patience=2.0) as progress:
        result = evaluate(model, config["env_id"], n_episodes, EVAL_SEED, greedy, progress=progress.update)
    how = "greedy" if greedy else "drawn"
    print(f"{n_episodes} episodes: return {result} (mean and 95 % interval; {how} actions, full episodes)", flush=True)
    write_evaluation(run.folder / "evaluation.json", result.returns, result.lengths)
    show.plot_learning_curves(
        run.folder / "learning_curve.png", {"": run.metrics}, f"{type(model).__name__} on {config['env']}"
    )
    made = ["learning_curve.png"]
    try:
        frames, fps = record(model, config["env_id"], max_frames=150, greedy=greedy)
        if frames:
            show.write_gif(run.folder / "episode.gif", frames, fps)
            made.append("episode.gif")
    except gym.error.DependencyNotInstalled as error:
        print(f"no episode.gif: {error}; or pip install 'rl-unsup-sandbox[render]'")
    if config.get("film"):
        try:
            best = film(model, config["env_id"], run.folder / "best_game.mp4", config["film"], greedy=greedy)
            made += [f"best_game.mp4 ({best:.0f})"] if best is not None else []
        except ImportError as error:
            print(f"no best_game.mp4: {error}")
    print(f"{run.folder}: {', '.join(made)}, metrics.csv, model/\n  sandbox watch {run.folder}")
    return result


def load_latest(model: Any, run: Run) -> Path:
    """Fill `model` with the latest agent in the run's folder; a damaged file is passed over for the one before it.

    Raises
    ------
    FileError
        If there is none that can be read.
    """
    candidates = sorted((path for path in (run.model, *run.checkpoints()) if path.is_file()), key=_step, reverse=True)
    for path in candidates:
        try:
            load_agent(model, path)
            return path
        except FileError as error:
            print(f"passed over {error}", file=sys.stderr)
    raise FileError(f"{run.folder}: no agent to go on from: neither model/ nor checkpoints/ holds one that can be read")


def _step(path: Path) -> float:
    """The step of an agent's file; beyond all others if it can't be read, so that it is tried, and named, first."""
    try:
        return float(load_tensors(path, KIND)[0]["counters"]["num_timesteps"])
    except (FileError, KeyError, TypeError):
        return math.inf


def trained(algorithm: type, run: Run, best: bool = False) -> Any:
    """The agent of a run: the best one by its evaluations beside training, or the last one."""
    model = build(algorithm, run.config, vecenv.make(run.config["env_id"], run.config["n_envs"]))
    load_agent(model, run.best if best else run.model)
    return model


def episode(model: Any, env: gym.Env, seed: int, greedy: bool = True) -> Iterator[tuple[np.ndarray, float]]:
    """One whole episode as an agent plays it: each picture ``[H, W, 3]``, and the return up to it.

    Of an Atari game that is the whole game, over the loss of lives; its raw score comes with the last picture.
    """
    see, whole_games = normalized(model), env.metadata.get("counts_episodes", False)
    state, start, total = None, np.ones(1, bool), 0.0
    obs, info = env.reset(seed=seed)
    yield np.asarray(env.render()), total
    for _ in range(MAX_STEPS):
        masks = {"action_masks": mask_of(env, info)} if getattr(model, "mask_actions", False) else {}
        action, state = model.predict(see(obs), state, start, deterministic=greedy, **masks)
        obs, reward, terminated, truncated, info = env.step(action[()])  # a number, not an array of no dimension
        total = info["episode"]["r"] if "episode" in info else total + float(reward)
        yield np.asarray(env.render()), total
        start[:] = terminated or truncated
        if start and (not whole_games or "episode" in info):
            break
        if start:
            obs, info = env.reset()


def _draws(env_id: str) -> bool:
    probe = gym.make(env_id)
    with closing(probe):
        return "rgb_array" in probe.metadata.get("render_modes", [])


def record(
    model: Any, env_id: str, seed: int = EVAL_SEED, max_frames: int = 300, greedy: bool = True
) -> tuple[list[np.ndarray], float]:
    """One episode as frames ``[H, W, 3]``, and how many of them a second has; none if the environment draws nothing.

    Never more than `max_frames`: of a long episode every second frame is kept, or every fourth, and so on; where that
    would be fewer than five a second, only its end.
    """
    env_id = vecenv.qualified(env_id)
    if not _draws(env_id):
        return [], 1.0
    frames: list[np.ndarray] = []
    every = 1
    with gym.make(env_id, render_mode="rgb_array") as env:
        fps = float(env.metadata.get("render_fps", 30))
        for step, (frame, _) in enumerate(episode(model, env, seed, greedy)):
            if len(frames) >= max_frames and fps / (2 * every) >= 5.0:
                frames, every = frames[::2], 2 * every
            if step % every == 0:
                frames = [*frames[-(max_frames - 1) :], frame]
    if step % every:
        frames.append(frame)  # the last one always
    return frames, fps / every


def film(model: Any, env_id: str, path: Path, n_games: int, seed: int = EVAL_SEED, greedy: bool = True) -> float | None:
    """Play some episodes and keep the best of them, whole, as a video.

    Parameters
    ----------
    model : BaseAlgorithm
    env_id : str
    path : Path
        Of the MP4.
    n_games, seed : int
    greedy : bool

    Returns
    -------
    float or None
        The return of the best; None if the environment draws nothing.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    """
    env_id, best = vecenv.qualified(env_id), -math.inf
    if not _draws(env_id):
        return None
    with (
        ProgressLine("filming", n_games, "games") as progress,
        TemporaryDirectory() as folder,
        gym.make(env_id, render_mode="rgb_array") as env,
    ):
        for game in range(n_games):
            draft = Path(folder, "game.mp4")
            with show.video(draft, float(env.metadata.get("render_fps", 30))) as add:
                for frame, total in episode(model, env, seed + game, greedy):
                    add(frame)
                    score = total
            if score > best:
                best = score
                with atomic(path) as place:
                    shutil.copyfile(draft, place)
            progress.update(game + 1, f"best {best:.0f}")
    return best


def _tensorboard(run: Run, wanted: bool) -> list[KVWriter]:
    if not wanted:
        return []
    from stable_baselines3.common.logger import TensorBoardOutputFormat

    return [TensorBoardOutputFormat(str(run.folder / "tensorboard"))]
