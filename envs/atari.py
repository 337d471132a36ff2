"""Atari 2600 games by the two protocols of the literature: ``baselines/<Game>-v0`` and ``machado/<Game>-v0``.

The stepping is ale-py's C++; needs the extra ``atari``. Both show the last four pictures, 84x84 and grey, and act every
fourth frame:

- ``baselines`` (Mnih et al., Nature 518, 2015, as OpenAI's baselines made it common): up to 29 no-ops at the start, no
  sticky actions; for training the loss of a life ends an episode.
- ``machado`` (Machado et al., 1709.06009): an action is ignored, and the last one repeated, with probability 0.25; an
  episode is a whole game.

Rewards are clipped to their sign, for training. What a game really brought is in the infos of its last step, as
Gymnasium's ``RecordEpisodeStatistics`` has it: ``episode = {"r": the raw score, "l": steps of the whole game}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py.vector_env import AtariVectorEnv as ALEVectorEnv
from gymnasium.vector import AutoresetMode

from envs.checks import check_actions
from envs.console import SEEDS, begin, console, load, rom_of
from envs.recording import Recording, record  # noqa: F401 - part of what this module offers

FRAME_SKIP = 4


class AtariVectorEnv(ALEVectorEnv):
    """``B`` games at once, stepped by C++ threads.

    Observations are ``[B, 4, size, size]`` uint8, oldest picture first. Autoreset is SAME_STEP. With the loss of a life
    as an end, the game goes on: the observation is the last of one episode and the first of the next.

    Parameters
    ----------
    game : str
        Such as ``"Pong"``, ``"MsPacman"``.
    num_envs : int
    sticky : float
        Probability that the console repeats the last action instead of the new one, at each frame.
    noop_max : int
        Before a game, fewer than this many frames without an action are played, as the seed draws.
    episodic_life : bool
        The loss of a life terminates an episode.
    clip_rewards : bool
        Give the sign of the reward.
    full_action_space : bool
        All 18 actions of the console, not only those that the game knows.
    max_frames : int
        Of a whole game, after which it is truncated; 108,000 are half an hour.
    num_threads : int
        That step the games; 0 is one for each core.
    size : int
        Height and width of the pictures in pixels.

    Raises
    ------
    ValueError
        If there is no such game; the message has the nearest ones.

    Examples
    --------
    >>> envs = AtariVectorEnv("Pong", num_envs=2)
    >>> obs, infos = envs.reset(seed=0)
    >>> obs.shape, obs.dtype, infos["lives"].tolist()
    ((2, 4, 84, 84), dtype('uint8'), [0, 0])
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's type)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "counts_episodes": True,  # infos["episode"] tells where a game ended, and what it brought
        "frame_channels": 1,  # an observation is a stack of the last few frames, of so many channels each
    }

    def __init__(
        self,
        game: str,
        num_envs: int = 1,
        *,
        sticky: float = 0.0,
        noop_max: int = 30,
        episodic_life: bool = True,
        clip_rewards: bool = True,
        full_action_space: bool = False,
        max_frames: int = 108_000,
        num_threads: int = 0,
        size: int = 84,
        render_mode: None = None,
    ) -> None:
        self.metadata = dict(self.metadata)  # ale-py writes into it
        super().__init__(
            rom_of(game),
            num_envs,
            num_threads=num_threads,
            img_height=size,
            img_width=size,
            max_num_frames_per_episode=max_frames,
            repeat_action_probability=sticky,
            full_action_space=full_action_space,
            autoreset_mode=AutoresetMode.SAME_STEP,
            frameskip=FRAME_SKIP,
            noop_max=noop_max,
            use_fire_reset=noop_max > 0,
            reward_clipping=False,  # here below, where the score is counted first
        )
        self.render_mode = render_mode
        self.game, self.sticky, self.max_frames = game, sticky, max_frames
        self.episodic_life, self.clip_rewards = episodic_life, clip_rewards
        self.fires = noop_max > 0 and ale_py.Action.FIRE in self.ale.get_action_set()
        self._scores, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._lives = np.zeros(num_envs, np.int32)
        self._started = False

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int | None] | np.ndarray | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game in every environment; the same seed gives the same games.

        Parameters
        ----------
        seed : int or sequence of int, optional
            Environment ``i`` is seeded with ``seed + i``, or ``seed[i]``.
        options : dict, optional
            ``{"reset_mask": [B] booleans}`` starts a game only there.
        """
        new = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        obs, infos = super().reset(seed=self._seeds(seed)[new], options=options)
        self._scores[new], self._lengths[new] = 0.0, 0
        self._lives[:], self._started = infos["lives"], True
        return obs, _infos(infos)

    def _seeds(self, seed: int | Sequence[int | None] | np.ndarray | None) -> np.ndarray:
        """Each environment's own; -1 where its generators go on."""
        if isinstance(seed, int | np.integer):
            return (int(seed) % SEEDS + np.arange(self.num_envs)) % SEEDS
        seeds = [None] * self.num_envs if seed is None else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected one seed for each of {self.num_envs} envs, got {len(seeds)}")
        # By themselves ale-py's generators begin with the second of the day: all games would be the same.
        unseeded = np.full(self.num_envs, -1) if self._started else self.np_random.integers(SEEDS, size=self.num_envs)
        return np.array([none if one is None else int(one) % SEEDS for one, none in zip(seeds, unseeded, strict=True)])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one step in every game, and start a new one where it is over."""
        self.send(actions)
        return self.recv()

    def send(self, actions: np.ndarray) -> None:
        """Begin a step; `recv` waits for it. Between the two the games are played in threads of their own."""
        if not self._started:
            raise gym.error.ResetNeeded("call reset() first")
        actions = check_actions(actions, self.single_action_space, self.num_envs)  # ale-py would wait for ever
        super().send(actions.astype(np.int64))

    def recv(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """What the step that was begun last has brought."""
        obs, rewards, terminated, truncated, more = super().recv()
        over, rewards = terminated | truncated, rewards.astype(np.float64)  # over: whole games
        self._scores += rewards
        self._lengths += 1
        lives, infos = more["lives"], _infos(more)
        final_lives = np.where(over, np.where(truncated, self._lives, 0), lives)
        if self.episodic_life:  # with no life left some games go on for a while: their end is the one that counts
            terminated = terminated | ((lives > 0) & (lives < self._lives) & ~over)
        self._lives[:] = lives
        ended = terminated | truncated
        if ended.any():
            final_obs = obs
            last = {**infos, "lives": final_lives, "_lives": ended, "_episode_frame_number": ended & ~over}
            if over.any():
                final_obs = np.where(over[:, None, None, None], more["final_obs"], obs)
                last["episode"] = {"r": self._scores.copy(), "_r": over, "l": self._lengths.copy(), "_l": over}
                last["_episode"] = over
                self._scores[over], self._lengths[over] = 0.0, 0
            infos |= {"final_obs": final_obs, "_final_obs": ended, "final_info": last, "_final_info": ended}
        return obs, np.sign(rewards) if self.clip_rewards else rewards, terminated, truncated, infos


class AtariEnv(gym.Env[np.ndarray, int]):
    """One game; its observations are those of the vector face with the same seed, picture by picture.

    Parameters
    ----------
    game : str
    render_mode : {None, "rgb_array"}
        Pictures in colour, as a player saw them: ``[210, 160, 3]``. A second console is then played beside the first.
    **kwargs
        As for `AtariVectorEnv`.

    Examples
    --------
    >>> env = AtariEnv("Breakout", render_mode="rgb_array")
    >>> obs, info = env.reset(seed=0)
    >>> obs.shape, info["lives"], env.render().shape
    ((4, 84, 84), 5, (210, 160, 3))
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's type)
        "render_modes": ["rgb_array"],
        "render_fps": 15,
        "counts_episodes": True,
        "frame_channels": 1,
    }

    def __init__(self, game: str, render_mode: str | None = None, **kwargs: Any) -> None:
        self.games = AtariVectorEnv(game, num_envs=1, **{"num_threads": 1, **kwargs})
        self.observation_space = self.games.single_observation_space
        self.action_space = self.games.single_action_space
        self.render_mode = render_mode
        self._screen = None if render_mode is None else _Screen(self.games)
        self._seeded = self._over = False
        self._goes_on: tuple[np.ndarray, dict[str, Any]] | None = None  # after an episode's end, what a reset gives

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game; after the loss of a life go on with the one that runs, unless a seed asks for a new one."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(SEEDS))
        new = self._over or seed is not None or self._goes_on is None
        if seed is None and self._goes_on is not None:
            obs, info = self._goes_on
        else:
            all_obs, infos = self.games.reset(seed=seed)
            obs, info = all_obs[0], _first(infos)
        if new and self._screen is not None:
            self._screen.reset(seed, info["episode_frame_number"])
        self._seeded, self._over, self._goes_on = True, False, None
        return obs, info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one step: four frames, or as many as the game still has."""
        if not self._seeded:
            raise gym.error.ResetNeeded("call reset() first")
        all_obs, rewards, terminated, truncated, infos = self.games.step(np.array([action]))
        obs, info, self._goes_on = all_obs[0], _first(infos), None
        if self._screen is not None:
            self._screen.step(int(action))
        if terminated[0] or truncated[0]:
            self._goes_on = obs, info
            obs, info = infos["final_obs"][0], _first(infos["final_info"])
            self._over = "episode" in info
        return obs, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray | None:
        """The picture on the screen, ``[210, 160, 3]``, or None without a render mode."""
        if self._screen is None:
            gym.logger.warn('render() does nothing: make the env with render_mode="rgb_array"')
            return None
        return self._screen.ale.getScreenRGB()


class _Screen:
    """A console that plays the same game for its pictures: the C++ environments keep theirs to themselves."""

    def __init__(self, games: AtariVectorEnv) -> None:
        self.games, self.actions = games, games.ale.get_action_set()
        self.ale = console(games.game, sticky=games.sticky)
        self.left = 0  # frames until the game is truncated

    def reset(self, seed: int | None, frames: int) -> None:
        """Start a game, and play as many frames as the other console already has."""
        if seed is not None:
            load(self.ale, self.games.game, seed)
        begin(self.ale, frames, self.games.fires)
        self.left = self.games.max_frames

    def step(self, action: int) -> None:
        for _ in range(min(FRAME_SKIP, self.left)):
            self.ale.act(self.actions[action])
            self.left -= 1
            if self.ale.game_over():
                break


def _infos(more: dict[str, Any]) -> dict[str, Any]:
    """Of what ale-py tells, what an agent or a reader can use, with Gymnasium's masks."""
    there = np.ones(len(more["lives"]), bool)
    return {
        "lives": more["lives"],
        "_lives": there,
        "episode_frame_number": more["episode_frame_number"],
        "_episode_frame_number": there,
    }


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    """The infos of the first environment, as a single one has them."""
    return {
        key: _first(values) if isinstance(values, dict) else values[0].item()
        for key, values in infos.items()
        if f"_{key}" in infos and infos[f"_{key}"][0] and key not in ("final_obs", "final_info")
    }
