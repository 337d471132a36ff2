"""A zoo encoder in the algorithms of others: Stable-Baselines3's and sb3-contrib's, its weights kept."""

import pytest
import sb3_contrib
import stable_baselines3
import torch

from agents import ZooFeatures
from sandbox import zoo

OFF_POLICY = {"learning_starts": 8, "buffer_size": 100, "batch_size": 8}
ALGORITHMS = {
    "A2C": (stable_baselines3, "CartPole-v1", "MlpPolicy", {}),
    "PPO": (stable_baselines3, "CartPole-v1", "MlpPolicy", {"n_steps": 16, "batch_size": 16}),
    "DQN": (stable_baselines3, "CartPole-v1", "MlpPolicy", OFF_POLICY),
    "SAC": (stable_baselines3, "Pendulum-v1", "MlpPolicy", OFF_POLICY),
    "TD3": (stable_baselines3, "Pendulum-v1", "MlpPolicy", OFF_POLICY),
    "DDPG": (stable_baselines3, "Pendulum-v1", "MlpPolicy", OFF_POLICY),
    "QRDQN": (sb3_contrib, "CartPole-v1", "MlpPolicy", OFF_POLICY),
    "TQC": (sb3_contrib, "Pendulum-v1", "MlpPolicy", OFF_POLICY),
    "TRPO": (sb3_contrib, "CartPole-v1", "MlpPolicy", {"n_steps": 16, "batch_size": 16}),
    "RecurrentPPO": (sb3_contrib, "CartPole-v1", "MlpLstmPolicy", {"n_steps": 16, "batch_size": 16}),
    "CrossQ": (sb3_contrib, "Pendulum-v1", "MlpPolicy", OFF_POLICY),
}


@pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "fine-tuned"])
@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.filterwarnings("ignore")
def test_pretrained_weights_come_in_and_stay_if_frozen(name, freeze, tmp_path):
    home, env, policy, settings = ALGORITHMS[name]
    encoder = zoo.build("mlp", in_shape=(4,) if env == "CartPole-v1" else (3,), widths=(8,))
    zoo.save(encoder, tmp_path / "eyes.safetensors")
    features = {"encoder": tmp_path / "eyes.safetensors", "freeze": freeze}
    policy_kwargs = {"features_extractor_class": ZooFeatures, "features_extractor_kwargs": features}
    model = getattr(home, name)(policy, env, policy_kwargs=policy_kwargs, seed=0, device="cpu", **settings)

    def eyes():
        return [module.encoder for module in model.policy.modules() if isinstance(module, ZooFeatures)]

    def same():  # but for the rounding of moving averages
        pairs = (zip(one.parameters(), encoder.parameters(), strict=True) for one in eyes())
        return [all(torch.allclose(a, b, atol=1e-6) for a, b in pair) for pair in pairs]

    assert same()
    assert all(same())  # Stable-Baselines3 would have initialised them anew
    if name == "TRPO" and freeze:  # which differentiates by every weight of the policy, trainable or not
        with pytest.raises(RuntimeError, match="does not require grad"):
            model.learn(32)
        return
    model.learn(32)
    assert all(same()) == freeze
    assert all(not one.training for one in eyes()) or not freeze
