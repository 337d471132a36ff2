"""Masks: a forbidden action is never drawn, has no gradient, and what forbids everything is an error."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents import A2C, PPO, REINFORCE, evaluate
from agents.masks import checked, mask_of, masks_from, n_choices

CHOICES = {"discrete": spaces.Discrete(4), "multi-discrete": spaces.MultiDiscrete([3, 2])}


class Forbidding(gym.Env):
    """Each step allows other actions, and ends the world if a forbidden one is taken; pays for the last allowed one."""

    def __init__(
        self, action_space=CHOICES["discrete"], tells="method", image=False, length=5, nothing_at_the_end=False
    ):
        self.action_space, self.tells, self.length = action_space, tells, length
        self.nothing_at_the_end = nothing_at_the_end
        self.observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8) if image else spaces.Box(-1, 1, (2,))
        if tells == "method":
            self.action_masks = self._masks

    def _masks(self):
        return self.mask

    def _next(self):
        sizes = n_choices(self.action_space)
        self.mask = np.concatenate([self.np_random.permutation(np.arange(n) < max(1, n // 2)) for n in sizes])
        if self.t == self.length and self.nothing_at_the_end:  # as in a game that is over
            self.mask = np.zeros_like(self.mask)
        info = {"action_mask": self.mask.astype(np.int8)} if self.tells == "info" else {}
        if self.observation_space.dtype == np.uint8:
            return np.full((1, 36, 36), self.np_random.integers(256), np.uint8), info
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._next()

    def step(self, action):
        parts = np.split(self.mask, np.cumsum(n_choices(self.action_space))[:-1])
        for part, one in zip(parts, np.ravel(action), strict=True):
            assert part[one], f"{action} is forbidden by {self.mask}"
        reward, self.t = float(np.flatnonzero(parts[0])[-1] == np.ravel(action)[0]), self.t + 1
        obs, info = self._next()
        return obs, reward, self.t == self.length, False, info


def dummy(n=3, **kwargs):
    return DummyVecEnv([lambda: Forbidding(**kwargs) for _ in range(n)])


WORLDS = {
    "a method": lambda: dummy(),
    "an entry of info": lambda: dummy(tells="info"),
    "normalised": lambda: VecNormalize(dummy(tells="info")),
    "several choices": lambda: dummy(action_space=CHOICES["multi-discrete"]),
    "a vector environment": lambda: SyncVectorEnv(
        [lambda: Forbidding(tells="info"), lambda: Forbidding(tells="info", length=3)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    ),
    "one that resets in a step of its own": lambda: SyncVectorEnv(
        [lambda: Forbidding(tells="info"), lambda: Forbidding(tells="info", length=3)],
        autoreset_mode=AutoresetMode.NEXT_STEP,
    ),
}
WORLDS |= {
    f"{tells} of the environments in a vector, {mode.name}": lambda tells=tells, mode=mode: SyncVectorEnv(
        [lambda: Forbidding(tells=tells), lambda: Forbidding(tells=tells, length=3, nothing_at_the_end=True)],
        autoreset_mode=mode,
    )
    for tells in ("method", "info")
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
}
NETWORKS = {
    "by hand": {},
    "autograd": {"policy_kwargs": {"activation_fn": torch.nn.ELU}},
    "memory": {"encoder": {"name": "gru", "kwargs": {"out_features": 4}}},
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("world", WORLDS)
def test_a_forbidden_action_is_never_taken_and_the_update_knows(world, network):
    """The environments assert that what they forbid is not done."""
    env = WORLDS[world]()
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=64, mask_actions=True, seed=0, **NETWORKS[network])
    _, callback = model._setup_learn(100, None)
    for _ in range(2):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
        with model._update(model._choose_network()) as samples:
            log_probs, _, entropy = model._choose_network().forward(samples)
        assert not np.asarray(samples.masks).all()
        np.testing.assert_allclose(np.asarray(log_probs), np.asarray(samples.log_probs), atol=1e-5)
        most = np.log(2) if world != "several choices" else 0  # halves of 4 are 2; of 3 and of 2 they are 1
        assert np.asarray(entropy).max() <= most + 1e-5
    model.learn(100)


@pytest.mark.parametrize("cls", [A2C, REINFORCE], ids=lambda cls: cls.__name__)
def test_the_other_algorithms_mask_as_well(cls):
    assert cls("MlpPolicy", dummy(), n_steps=8, mask_actions=True).learn(60).num_timesteps >= 60


def test_pictures_are_masked():
    PPO("CnnPolicy", dummy(image=True), n_steps=8, batch_size=8, mask_actions=True).learn(24)


def test_without_masks_the_forbidden_is_done():
    with pytest.raises(AssertionError, match="is forbidden by"):
        PPO("MlpPolicy", dummy(), n_steps=16, batch_size=16, seed=0).learn(100)


@pytest.mark.parametrize("space", CHOICES)
def test_one_rollout_gives_the_weights_of_sb3_contrib(space):
    settings = {"n_steps": 16, "batch_size": 48, "n_epochs": 3, "seed": 0, "device": "cpu", "ent_coef": 0.1}
    theirs = MaskablePPO("MlpPolicy", dummy(action_space=CHOICES[space]), **settings)
    ours = PPO("MlpPolicy", dummy(action_space=CHOICES[space]), mask_actions=True, **settings)
    _, callback = theirs._setup_learn(100, None)
    theirs.collect_rollouts(theirs.env, callback, theirs.rollout_buffer, 16, use_masking=True)
    ours._setup_learn(100, None)
    buffer, mine = theirs.rollout_buffer, ours.rollout_buffer
    for name in (
        "observations",
        "actions",
        "rewards",
        "advantages",
        "returns",
        "episode_starts",
        "log_probs",
        "values",
    ):
        getattr(mine, name)[...] = getattr(buffer, name)
    mine.pos, mine.full = 16, True
    ours._masks = buffer.action_masks.astype(bool).reshape(16, 3, -1)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    for model in (theirs, ours):
        np.random.seed(1)  # noqa: NPY002 (what Stable-Baselines3 draws from)
        model._update_current_progress_remaining(0, 100)
        model.train()
    both = zip(theirs.policy.named_parameters(), ours.policy.parameters(), strict=True)
    for (name, a), b in both:
        np.testing.assert_allclose(b.detach(), a.detach(), atol=2e-5, err_msg=name)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_predict_takes_masks(network, deterministic):
    model = PPO("MlpPolicy", dummy(), n_steps=8, batch_size=24, seed=0, **NETWORKS[network])
    obs = np.zeros((50, 2), np.float32)
    for allowed in range(4):
        masks = np.tile(np.arange(4) == allowed, (50, 1))
        actions, _ = model.predict(obs, deterministic=deterministic, action_masks=masks)
        assert (actions == allowed).all()
        one, _ = model.predict(obs[0], deterministic=deterministic, action_masks=masks[0])
        assert one == allowed
        assert np.shape(one) == ()


def test_the_masks_are_sb3_contribs():
    env = dummy()
    env.seed(0)
    env.reset()
    np.testing.assert_array_equal(masks_from(env, None, np.ones(3, bool)), get_action_masks(env))


@pytest.mark.parametrize("tells", ["method", "info"])
@pytest.mark.parametrize("stop", [3, 5, 7])
def test_after_a_callbacks_stop_the_masks_are_those_of_where_it_stopped(tells, stop):
    """The environments assert that what they forbid is not done."""
    model = PPO("MlpPolicy", dummy(tells=tells), n_steps=8, batch_size=24, mask_actions=True, seed=0)
    for _ in range(3):
        seen = iter(range(stop))
        model.learn(1000, lambda *_, seen=seen: next(seen, None) is not None, reset_num_timesteps=False)
        model.learn(24, reset_num_timesteps=False)


def test_the_evaluation_of_sb3_contrib_beside_training_masks():
    callback = MaskableEvalCallback(dummy(n=1), eval_freq=8, n_eval_episodes=2, verbose=0, warn=False)
    PPO("MlpPolicy", dummy(), n_steps=8, batch_size=24, mask_actions=True).learn(48, callback)
    assert callback.last_mean_reward >= 0


@pytest.mark.parametrize("tells", ["method", "info"])
def test_an_evaluation_asks_for_masks(tells):
    """The environments assert that what they forbid is not done."""
    model = PPO("MlpPolicy", dummy(tells=tells), n_steps=8, batch_size=24, mask_actions=True, seed=0)
    assert evaluate(model, dummy(tells=tells), 10).lengths.tolist() == [5] * 10
    env = Forbidding(tells=tells)
    _, info = env.reset(seed=0)
    np.testing.assert_array_equal(mask_of(env, info), env.mask)


def test_what_cannot_be_is_one_clear_error():
    with pytest.raises(ValueError, match=r"environment 1 forbids every action of Discrete\(2\)"):
        checked([[1, 0], [0, 0]], spaces.Discrete(2), 2)
    with pytest.raises(ValueError, match=r"environment 0 forbids every action"):
        checked([[0, 0, 1, 1]], spaces.MultiDiscrete([2, 2]), 1)
    with pytest.raises(ValueError, match=r"shape \(1, 3\), for 1 of Discrete\(2\) it is \(1, 2\)"):
        checked([[1, 0, 1]], spaces.Discrete(2), 1)
    with pytest.raises(ValueError, match=r"Discrete and MultiDiscrete actions, not Box"):
        PPO("MlpPolicy", "Pendulum-v1", mask_actions=True)
    with pytest.raises(ValueError, match=r"environment 0 gives no mask: let it have a method action_masks\(\)"):
        PPO("MlpPolicy", "CartPole-v1", mask_actions=True, n_steps=8, batch_size=8).learn(8)
    model = PPO("MlpPolicy", dummy(), mask_actions=True, n_steps=8, batch_size=8)
    model.policy.forward = model.policy.forward
    with pytest.raises(ValueError, match="needs a loop of this project"):
        model.learn(8)
