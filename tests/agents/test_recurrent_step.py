"""The memory by hand against the same policy with torch's autograd, and whole agents with either."""

import copy
import pickle
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from agents import A2C, PPO, REINFORCE
from agents.by_hand import MAX_RECURRENT, network, refusal
from agents.recurrent import Recollection, RecurrentActorCriticPolicy
from agents.recurrent_step import RecurrentStep
from agents.rollout import Samples, pack

MEMORIES = ("lstm", "gru", "rnn")
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "gsde": spaces.Box(-1, 1, (2,), np.float32),
    "multi": spaces.MultiDiscrete([2, 3]),
}
LENGTHS = (5, 1, 7, 2, 2, 9, 1, 3)  # of the sequences in a minibatch: they need columns with several of them
H = 8


def policy_of(memory="lstm", actions="discrete", share=True, layers=1, out_features=H, **kwargs):
    """The same weights at each call; a policy with gSDE can't be copied."""
    torch.manual_seed(0)
    policy = RecurrentActorCriticPolicy(
        spaces.Box(-1, 1, (4,), np.float32),
        ACTIONS[actions],
        lambda _: 3e-3,
        memory={"name": memory, "kwargs": {"out_features": out_features, "layers": layers}},
        share_features_extractor=share,
        use_sde=actions == "gsde",
        **kwargs,
    )
    with torch.no_grad():
        for parameter in policy.memories.parameters():
            parameter.mul_(2.0)  # so that a step remembers much of the one before
    return policy


def data(policy, lengths=LENGTHS, seed=0, masks=False):
    """A minibatch in numpy, and the loss's derivatives by log-probabilities and values."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    first = np.zeros(n, bool)
    first[np.cumsum([0, *lengths[:-1]])] = True
    states = rng.normal(size=(n, *policy.initial_state(1).shape[::2])).astype(np.float32)
    space = policy.action_space
    if isinstance(space, spaces.Discrete):
        actions, n_masks = rng.integers(3, size=n), 3
    elif isinstance(space, spaces.MultiDiscrete):
        actions, n_masks = np.stack([rng.integers(2, size=n), rng.integers(3, size=n)], axis=1), 5
    else:
        actions, n_masks = rng.normal(size=(n, 2)).astype(np.float32), 0
    allowed = None
    if masks:
        allowed = rng.random((n, n_masks)) < 0.6
        taken = actions[:, None] if actions.ndim == 1 else actions + np.array([0, 2])
        np.put_along_axis(allowed, taken, True, axis=1)
    obs = rng.normal(size=(n, 4)).astype(np.float32)
    samples = Samples(obs, actions, None, None, None, None, allowed, states, first)
    return samples, rng.normal(size=(2, n)).astype(np.float32) / n


def forward(driver, samples):
    rows = {name: getattr(samples, name) for name in ("actions", "masks", "states")}
    arrays = {name: driver.array(array) for name, array in rows.items() if array is not None}
    outputs = driver.forward(replace(samples, obs=driver.inputs(samples.obs), **arrays))
    return [np.array(output.tolist()) for output in outputs]


def backward(driver, derivatives, by_entropy):
    driver.backward(*(driver.array(rows) for rows in derivatives), by_entropy)


def gradients(step):
    """By hand, in the shapes of torch's parameters."""
    start = step.flat.__array_interface__["data"][0]
    for _, place, *_ in step.places:
        offset = (place.__array_interface__["data"][0] - start) // 4
        yield np.lib.stride_tricks.as_strided(step.grad[offset:], place.shape, place.strides)


def both(*args, **kwargs):
    ours, theirs = policy_of(*args, **kwargs), policy_of(*args, **kwargs)
    assert refusal(ours) is None
    step, torchs = network(ours), Recollection(theirs, "fp32")
    step.begin_update()
    torchs.begin_update()
    return step, torchs


def names(step):
    of = {id(parameter): name for name, parameter in step.policy.named_parameters()}
    return [of[id(parameter)] for parameter, *_ in step.places]


def assert_same_step(step, torchs, samples, derivatives):
    for ours, theirs in zip(forward(step, samples), forward(torchs, samples), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    backward(step, derivatives, -0.02)
    backward(torchs, derivatives, -0.02)
    theirs = dict(torchs.policy.named_parameters())
    assert len(theirs) == len(step.places)
    for name, gradient in zip(names(step), gradients(step), strict=True):
        np.testing.assert_allclose(gradient, theirs[name].grad, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("net_arch", [[], {"pi": [8], "vf": [16]}])
@pytest.mark.parametrize("actions", ACTIONS)
def test_outputs_and_every_gradient_are_those_of_autograd(memory, share, net_arch, actions):
    step, torchs = both(memory, actions, share, net_arch=net_arch)
    assert_same_step(step, torchs, *data(step.policy))


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("share", [True, False])
def test_stacked_layers_too(memory, share):
    step, torchs = both(memory, "discrete", share, layers=3)
    assert_same_step(step, torchs, *data(step.policy))


@pytest.mark.parametrize("actions", ["discrete", "multi"])
def test_masks_too(actions):
    step, torchs = both("lstm", actions)
    assert_same_step(step, torchs, *data(step.policy, masks=True))


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_thirty_updates_equal_those_of_torch(memory, optimizer):
    step, torchs = both(memory, share=False, net_arch=[8], optimizer_class=optimizer, optimizer_kwargs={"eps": 1e-5})
    for i in range(30):
        # Sizes in turn: memory of one must not be read by another.
        lengths = (LENGTHS, (4, 4, 4, 4), (1,), (20, 3))[i % 4]
        samples, derivatives = data(step.policy, lengths, seed=i)
        for ours, theirs in zip(forward(step, samples), forward(torchs, samples), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
        backward(step, derivatives, -0.01)
        backward(torchs, derivatives, -0.01)
        assert step.step((0.5, 0.05)[i % 2]) == pytest.approx(torchs.step((0.5, 0.05)[i % 2]), rel=5e-3)
    step.end_update()
    mine, theirs = step.policy.state_dict(), torchs.policy.state_dict()
    for name, weights in theirs.items():  # a small gradient's rounding is worth a share of the learning rate
        np.testing.assert_allclose(mine[name], weights, atol=1e-3, err_msg=name)
    mine, theirs = step.optimizer.state_dict()["state"], torchs.policy.optimizer.state_dict()["state"]
    assert mine.keys() == theirs.keys()
    for index, state in theirs.items():
        for name, moment in state.items():
            np.testing.assert_allclose(mine[index][name], moment, atol=1e-3, err_msg=name)


def test_pull_and_push_change_nothing():
    step, torchs = both("gru", share=False)
    samples, derivatives = data(step.policy)
    forward(torchs, samples)
    backward(torchs, derivatives, 0.0)
    torchs.step(0.5)
    weights = copy.deepcopy(torchs.policy.state_dict())
    moments = copy.deepcopy(torchs.policy.optimizer.state_dict()["state"])
    again = network(torchs.policy)
    again.begin_update()
    again.end_update()
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), torchs.policy.state_dict().values(), strict=True))
    for index, state in torchs.policy.optimizer.state_dict()["state"].items():
        assert all(torch.equal(state[key], moments[index][key]) for key in state)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("actions", ["discrete", "box", "gsde"])
def test_acting_draws_what_torch_draws_and_remembers_the_same(memory, share, actions):
    drivers, outputs = both(memory, actions, share, layers=2), []
    rng, B = np.random.default_rng(1), 5
    starts = rng.random((2, 12, B)) < 0.2
    starts[0, 0] = True  # the second rollout goes on where the first one was
    obs, cut = rng.normal(size=(2, 12, B, 4)).astype(np.float32), [3, 0]
    for driver in drivers:
        torch.manual_seed(5)
        mine = []
        for rollout in range(2):
            if actions == "gsde":
                driver.policy.reset_noise(B)
            driver.begin_rollout(12, B)
            for t in range(12):
                mine += driver.act(obs[rollout, t], starts[rollout, t], None)[1:]
            mine += [driver.states, driver.state, driver.values(obs[rollout, 3])]
            mine += [driver.values(obs[rollout, 4, :2], driver.state[:, cut])]
        outputs.append(mine)
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_state_that_was_handed_out_is_not_overwritten():
    step, _ = both()
    step.begin_rollout(3, 2)
    step.act(np.ones((2, 4), np.float32))
    held, then = step.state[:, 1], step.state[:, 1].copy()
    step.act(np.zeros((2, 4), np.float32))
    np.testing.assert_array_equal(held, then)


def test_sequences_stand_in_as_few_steps_as_the_longest_has():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(1, 30, size=rng.integers(1, 40))
        samples, _ = data(policy_of("rnn"), tuple(map(int, lengths)))
        columns = pack(samples.first)
        T, B = columns.samples.shape
        assert max(lengths) == T
        # No two columns could be poured together: all but one are more than half full.
        assert sum(lengths) > (B - 1) * T / 2
        np.testing.assert_array_equal(columns.samples[columns.t, columns.b], np.arange(sum(lengths)))
        inner = ~samples.first
        before = np.flatnonzero(inner) - 1
        np.testing.assert_array_equal(columns.b[inner], columns.b[before])
        np.testing.assert_array_equal(columns.t[inner], columns.t[before] + 1)
        for t, goes_on in enumerate(columns.goes_on):
            begin = columns.b[samples.first & (columns.t == t)]
            assert (goes_on is None) == (not len(begin))
            assert goes_on is None or sorted(np.flatnonzero(~goes_on)) == sorted(begin)


# -- agents ------------------------------------------------------------------------------------------------------------


def agent(cls=PPO, encoder="lstm", env="CartPole-v1", **kwargs):
    sizes = {"n_steps": 100 if cls is REINFORCE else 16}
    if cls is PPO:
        sizes.update(batch_size=32, n_epochs=2)
    return cls(
        "MlpPolicy",
        env,
        encoder={"name": encoder, "kwargs": {"out_features": 16}},
        seed=3,
        device="cpu",
        **{"n_envs": 4, **sizes, **kwargs},
    )


def learned(steps, hook, *args, **kwargs):
    """An agent after some steps, by hand or, if it has a hook, by autograd; alone, for chance is global."""
    model = agent(*args, **kwargs)
    if hook:
        model.policy.register_forward_hook(lambda *_: None)
    assert model.fast_path.kind == ("autograd" if hook else "by hand")
    model.learn(steps)
    assert isinstance(model._network, Recollection if hook else RecurrentStep)
    return model


@pytest.mark.parametrize("encoder", MEMORIES)
@pytest.mark.parametrize("cls", [PPO, A2C, REINFORCE])
def test_an_agent_learns_by_hand_what_autograd_learns(cls, encoder):
    sharing = {"policy_kwargs": {"share_features_extractor": False, "net_arch": [8]}} if encoder == "lstm" else {}
    by_hand, by_torch = (learned(200, hook, cls, encoder, **sharing) for hook in (False, True))
    mine, theirs = by_hand.rollout_buffer, by_torch.rollout_buffer
    np.testing.assert_array_equal(mine.actions, theirs.actions)
    np.testing.assert_allclose(mine.values, theirs.values, atol=1e-3)
    np.testing.assert_allclose(mine.advantages, theirs.advantages, atol=1e-2)
    for (name, a), b in zip(by_hand.policy.named_parameters(), by_torch.policy.parameters(), strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), atol=2e-3, err_msg=name)


def test_what_is_remembered_goes_on_in_the_next_rollout_and_ends_with_the_episode():
    model = agent()
    model.learn(4 * 16)
    kept = model._network.state.copy()
    model.learn(4 * 16, reset_num_timesteps=False)
    started = model.rollout_buffer.episode_starts.reshape(16, 4) != 0
    states = model._network.states  # [T, B, S, H]
    assert started.any()
    assert kept.any()
    assert not states[started].any()
    assert states[~started].any(axis=(1, 2)).all()
    np.testing.assert_array_equal(states[0][~started[0]], kept.swapaxes(0, 1)[~started[0]])


class Short(gym.Wrapper):
    """CartPole that nothing but the clock ends."""

    def step(self, action):
        obs, reward, _, truncated, info = self.env.step(action)
        return obs, reward, False, truncated, info


def test_an_episode_cut_by_time_is_worth_what_its_memory_expects():
    envs = make_vec_env(lambda: Short(gym.make("CartPole-v1", max_episode_steps=10)), 3)
    models = [learned(3 * 16, hook, env=envs, n_envs=None, learning_rate=0.0) for hook in (False, True)]
    assert (models[0].rollout_buffer.episode_starts.reshape(16, 3)[1:] != 0).sum() == 3
    np.testing.assert_allclose(*(model.rollout_buffer.advantages for model in models), atol=1e-4)


def test_an_agent_can_be_copied_and_pickled():
    model = learned(4 * 16, False)
    for twin in (copy.deepcopy(model.policy), pickle.loads(pickle.dumps(model.policy))):
        assert refusal(twin) is None
        step, obs = network(twin), np.full((4, 4), 0.1, np.float32)
        step.begin_rollout(1, 4)
        np.testing.assert_array_equal(step.values(obs), network_of(model).values(obs, step.state))
    step = copy.deepcopy({"policy": model.policy, "network": model._network})["network"]
    assert step.policy is not model.policy
    np.testing.assert_array_equal(step.state, model._network.state)
    step.begin_update()
    before = step.cells[0].recurrent.copy()
    samples, derivatives = data(policy_of(out_features=16))
    forward(step, replace(samples, actions=samples.actions % 2))
    backward(step, derivatives, 0.0)
    step.step(0.5)
    assert not np.array_equal(step.cells[0].recurrent, before)


def network_of(model):
    model._network.pull()
    return model._network


def test_a_deterministic_prediction_uses_the_memory():
    model, state = agent(), None
    for _ in range(3):
        actions, state = model.predict(np.full((2, 4), 0.1, np.float32), state, deterministic=True)
    assert actions.shape == (2,)
    assert state[0].any()


class OtherMemory(RecurrentActorCriticPolicy):
    def remember(self, features, state, n_steps):
        return super().remember(features, state, n_steps)


def other():
    torch.manual_seed(0)
    spaces_ = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3)
    return OtherMemory(*spaces_, lambda _: 1e-3, memory="rnn")


def with_relu():
    policy = policy_of("rnn")
    policy.memories[0].core = torch.nn.RNN(4, H, nonlinearity="relu")
    policy.optimizer = torch.optim.Adam(policy.parameters())
    return policy


def hooked():
    policy = policy_of()
    policy.memories[0].core.register_forward_hook(lambda *_: None)
    return policy


def transformer():
    memory = {"name": "transformer", "kwargs": {"dim": 8, "heads": 2, "max_length": 4}}
    box = spaces.Box(-1, 1, (4,), np.float32)
    return RecurrentActorCriticPolicy(box, spaces.Discrete(3), lambda _: 1e-3, memory=memory)


REFUSED = {
    "neither LSTM nor GRU": transformer,
    "trainable": lambda: policy_of(freeze_memory=True),
    f"more than {MAX_RECURRENT}": lambda: policy_of(out_features=1024),
    "as it was built": with_relu,
    "hooks": hooked,
    "remember is overridden": other,
    "not a plain Adam": lambda: policy_of(optimizer_class=torch.optim.AdamW, optimizer_kwargs={}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_hand_cannot_do_is_refused_with_the_reason(reason):
    assert reason in refusal(REFUSED[reason]())


def test_bf16_keeps_to_autograd():
    model = agent()
    model.precision = "bf16"
    assert model.fast_path.kind == "autograd"
    assert isinstance(model._choose_network(), Recollection)
