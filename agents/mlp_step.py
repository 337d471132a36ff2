"""A small actor-critic MLP by hand: forward, backward and Adam in numpy.

For two towers of a few thousand weights the arithmetic takes less time than a framework's book-keeping around it.
This is the mathematics of ``ActorCriticPolicy`` with torch's autograd and Adam (a test compares them), written out:
every array is laid out once, every operation writes into memory that is already there.

Activations are features-first, ``[D + 1, N]``: a layer's outputs lie in one piece, above a last row of ones that meets
the bias, which is the last column of the weights ``[D_out, D_in + 1]``. All weights are one flat vector, for Adam and
the gradient's norm. `pull` copies them from the torch policy and `push` copies them back: the policy stays the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

MAX_WEIGHTS = 60_000  # beyond this the matrix products dominate and torch, with its threads, is as good


class Tower:
    """One MLP over weights ``[D_out, D_in + 1]``, a layer each, the last one linear."""

    def __init__(self, weights: list[np.ndarray], grads: list[np.ndarray], relu: bool):
        self.weights, self.grads, self.relu = weights, grads, relu
        self.memory: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def layers(self, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each hidden layer its activations ``[D + 1, n]`` and, ``[D, n]``, their gradient."""
        if n not in self.memory:
            if len(self.memory) > 8:  # sizes seldom vary: rollout, minibatch, its remainder
                self.memory.clear()
            widths = [len(weight) for weight in self.weights[:-1]]
            self.memory[n] = [(np.ones((d + 1, n), np.float32), np.empty((d, n), np.float32)) for d in widths]
        return self.memory[n]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """``x [D + 1, N]``, its last row ones -> outputs ``[D_out, N]``; what `backward` needs is kept."""
        self.x, self.kept = x, self.layers(x.shape[1])
        for weight, (buffer, _) in zip(self.weights, self.kept, strict=False):
            h = buffer[:-1]
            np.matmul(weight, x, out=h)
            np.maximum(h, 0.0, out=h) if self.relu else np.tanh(h, out=h)
            x = buffer
        return self.weights[-1] @ x

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """As `forward`, but nothing is kept: for batches of any size, from any thread."""
        for weight in self.weights[:-1]:
            h = weight @ x
            x = np.concatenate([np.maximum(h, 0.0) if self.relu else np.tanh(h), np.ones_like(x[:1])])
        return self.weights[-1] @ x

    def backward(self, delta: np.ndarray) -> None:
        """From the loss's derivative by the outputs ``[D_out, N]`` to the one by each weight, in `grads`.

        Once for each `forward`: the activations are used up.
        """
        for i in range(len(self.weights) - 1, 0, -1):
            below, gradient = self.kept[i - 1]
            np.matmul(delta, below.T, out=self.grads[i])
            # For one output the product is an outer one, for which BLAS takes six times as long as a multiplication.
            product = np.matmul if len(delta) > 1 else np.multiply
            product(self.weights[i][:, :-1].T, delta, out=gradient)
            h = below[:-1]
            if self.relu:
                np.greater(h, 0.0, out=h)
            else:  # tanh' = 1 - tanh^2
                np.multiply(h, h, out=h)
                np.subtract(1.0, h, out=h)
            delta = np.multiply(gradient, h, out=gradient)
        np.matmul(delta, self.x.T, out=self.grads[0])


class MLPStep:
    """The policy's two towers, its action distribution and its Adam, in numpy.

    Parameters
    ----------
    policy : stable_baselines3 ActorCriticPolicy
        One that `refusal` has no objection to.
    """

    def __init__(self, policy: Any):
        self.policy, self.optimizer = policy, policy.optimizer
        self.action_shape = tuple(policy.action_space.shape)
        self.gaussian = hasattr(policy, "log_std")
        towers = [
            [*(module for module in net if isinstance(module, nn.Linear)), head]
            for net, head in zip(_nets(policy), (policy.action_net, policy.value_net), strict=True)
        ]
        n_weights = sum(parameter.numel() for parameter in policy.parameters())
        self.flat, self.grad, self.m, self.v, self.change, self.scratch = np.zeros((6, n_weights), np.float32)
        layers = [layer for tower in towers for layer in tower]
        weights, grads, m, v = ([*_matrices(flat, layers)] for flat in (self.flat, self.grad, self.m, self.v))
        split, relu = len(towers[0]), any(type(module) is nn.ReLU for net in _nets(policy) for module in net)
        self.pi = Tower(weights[:split], grads[:split], relu)
        self.vf = Tower(weights[split:], grads[split:], relu)

        # Each torch parameter beside its place among the weights and the two moments.
        self.places: list[tuple[nn.Parameter, np.ndarray, np.ndarray, np.ndarray]] = []
        for layer, *matrices in zip(layers, weights, m, v, strict=True):
            self.places.append((layer.weight, *(matrix[:, :-1] for matrix in matrices)))
            self.places.append((layer.bias, *(matrix[:, -1] for matrix in matrices)))
        if self.gaussian:
            n_actions = len(policy.log_std)
            self.log_std, self.log_std_grad = self.flat[-n_actions:], self.grad[-n_actions:]
            self.places.append((policy.log_std, self.log_std, self.m[-n_actions:], self.v[-n_actions:]))

    def __reduce__(self) -> tuple[type[MLPStep], tuple[Any]]:
        return MLPStep, (
            self.policy,
        )  # copied piece by piece, the matrices would no longer be views of the flat vector

    # -- between torch and here ---------------------------------------------------------------------------------------

    def fits(self, policy: Any) -> bool:
        """Whether this is the network of `policy` with its present optimiser."""
        return policy is self.policy and policy.optimizer is self.optimizer

    def begin_rollout(self) -> None:
        """Take the policy's weights."""
        self.pull()

    def begin_update(self) -> None:
        """Take the policy's weights and its optimiser's state."""
        self.pull()
        self.pull_optimizer()

    def end_update(self) -> None:
        """Give both back."""
        self.push()

    def pull(self) -> None:
        """Copy the weights of the torch policy."""
        for parameter, weight, _, _ in self.places:
            weight[...] = parameter.detach().numpy()

    def pull_optimizer(self) -> None:
        """Copy the state of the torch optimiser: moments, step count, settings."""
        group = self.optimizer.param_groups[0]
        self.beta1, self.beta2 = (float(beta) for beta in group["betas"])
        self.lr, self.eps, self.t = float(group["lr"]), float(group["eps"]), 0
        for parameter, _, m, v in self.places:
            state = self.optimizer.state.get(parameter)
            m[...] = state["exp_avg"].numpy() if state else 0.0
            v[...] = state["exp_avg_sq"].numpy() if state else 0.0
            self.t = int(state["step"]) if state else 0

    def push(self) -> None:
        """Copy weights and moments back to the torch policy and its optimiser."""
        with torch.no_grad():
            for parameter, *arrays in self.places:
                state = self.optimizer.state[parameter]
                if not state:  # as Adam itself starts
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                state["step"].fill_(float(self.t))
                for tensor, array in zip((parameter, state["exp_avg"], state["exp_avg_sq"]), arrays, strict=True):
                    tensor.detach().numpy()[...] = array  # half the time of torch's own copy

    # -- the network --------------------------------------------------------------------------------------------------

    @staticmethod
    def inputs(obs: np.ndarray) -> np.ndarray:
        """``obs [N, ...]`` -> ``[N, D + 1]`` float32 with a last column of ones."""
        n = len(obs)
        x = np.ones((n, math.prod(obs.shape[1:]) + 1), np.float32)
        x[:, :-1] = obs.reshape(n, -1)
        return x

    def best_actions(self, obs: np.ndarray) -> np.ndarray:
        """The likeliest actions for observations ``[N, ...]``: integers ``[N]``, or floats ``[N, ...]``."""
        self.pull()
        out = self.pi.outputs(self.inputs(obs).T)
        return out.T.reshape(-1, *self.action_shape) if self.gaussian else out.argmax(axis=0)

    def values(self, obs: np.ndarray) -> np.ndarray:
        """V of observations ``[N, ...]`` -> ``[N]``."""
        return self.vf.outputs(self.inputs(obs).T)[0]

    @staticmethod
    def array(rows: np.ndarray) -> np.ndarray:
        """Any other rows, as they are."""
        return rows

    def act(self, obs: np.ndarray) -> tuple[torch.Tensor, np.ndarray, torch.Tensor, torch.Tensor]:
        """Sample actions.

        Chance comes from torch's global generator by the same draws as in Stable-Baselines3: the same seed gives the
        same actions.

        Parameters
        ----------
        obs : [B, ...] floats

        Returns
        -------
        obs, actions, values, log_probs : [B, ...], [B] integers or [B, ...] floats, [B, 1], [B]
            All but the actions as tensors, as Stable-Baselines3's callbacks see them.
        """
        x = self.inputs(obs).T
        out, values = self.pi.forward(x), self.vf.forward(x)[0]
        if self.gaussian:
            noise = torch.normal(torch.zeros(out.shape[::-1]), 1.0).numpy()  # [B, A]
            actions = (out.T + np.exp(self.log_std) * noise).reshape(-1, *self.action_shape)
            log_probs = self._gaussian_log_probs(noise.T)
        else:
            log_p = _log_softmax(out)  # [A, B]
            # The first of A exponential clocks with these rates: what torch.multinomial does, in a quarter of its time.
            race = torch.empty(out.shape[::-1]).exponential_().numpy()  # [B, A]
            actions = (np.exp(log_p) / race.T).argmax(axis=0)
            log_probs = log_p[actions, np.arange(len(obs))]
        return torch.from_numpy(obs), actions, torch.from_numpy(values)[:, None], torch.from_numpy(log_probs)

    def forward(self, x: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the policy thinks of `actions` now: ``log_probs [N], values [N], entropy [N]``; kept for `backward`."""
        out, values = self.pi.forward(x.T), self.vf.forward(x.T)[0]
        if self.gaussian:
            self.scaled = (actions.T - out) * np.exp(-self.log_std)[:, None]  # [A, N]
            entropy = self.log_std.sum() + 0.5 * len(self.log_std) * (1.0 + math.log(2.0 * math.pi))
            return self._gaussian_log_probs(self.scaled), values, np.full(len(x), entropy, np.float32)
        self.log_p = _log_softmax(out)  # [A, N]
        self.p = np.exp(self.log_p)
        self.entropy = -(self.p * self.log_p).sum(axis=0)
        self.taken = actions, np.arange(len(x))
        return self.log_p[self.taken], values, self.entropy

    def backward(self, by_log_probs: np.ndarray, by_values: np.ndarray, by_entropy: float) -> None:
        """Fill `grad` from the loss's derivative by the three outputs of `forward`.

        Parameters
        ----------
        by_log_probs, by_values : [N]
        by_entropy : float
            One for all samples, as in every actor-critic loss.
        """
        if self.gaussian:  # log p = -z^2 / 2 - log_std + const with z = (a - mean) / std, entropy = log_std + const
            delta = self.scaled * by_log_probs  # [A, N]
            self.log_std_grad[...] = (
                (delta * self.scaled).sum(axis=1) - by_log_probs.sum() + by_entropy * len(by_log_probs)
            )
            delta *= np.exp(-self.log_std)[:, None]
        else:  # by the logits log p_a has the gradient onehot(a) - p, the entropy -p (log p + entropy)
            delta = self.p * -by_log_probs  # [A, N]
            delta[self.taken] += by_log_probs
            if by_entropy:
                delta -= by_entropy * self.p * (self.log_p + self.entropy)
        self.pi.backward(delta)
        self.vf.backward(by_values[None])

    def step(self, max_grad_norm: float) -> float:
        """One step of Adam (1412.6980) on the clipped gradient; returns its norm before clipping."""
        norm = math.sqrt(float(np.dot(self.grad, self.grad)))
        if not math.isfinite(norm):
            return norm
        scale = min(max_grad_norm / (norm + 1e-6), 1.0)
        if scale < 1.0:
            self.grad *= scale
        self.t += 1
        change, scratch = self.change, self.scratch
        # m += (1 - beta1) (g - m);  v += (1 - beta2) (g^2 - v)
        np.subtract(self.grad, self.m, out=scratch)
        scratch *= 1.0 - self.beta1
        self.m += scratch
        np.multiply(self.grad, self.grad, out=scratch)
        scratch -= self.v
        scratch *= 1.0 - self.beta2
        self.v += scratch
        # weights -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
        np.sqrt(self.v, out=scratch)
        scratch *= 1.0 / math.sqrt(1.0 - self.beta2**self.t)
        scratch += self.eps
        np.divide(self.m, scratch, out=change)
        change *= self.lr / (1.0 - self.beta1**self.t)
        self.flat -= change
        return norm

    def _gaussian_log_probs(self, scaled: np.ndarray) -> np.ndarray:
        constant = self.log_std.sum() + np.float32(0.5 * len(self.log_std) * math.log(2.0 * math.pi))
        return -0.5 * (scaled * scaled).sum(axis=0) - constant


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """``[A, N] -> [A, N]``, over the first axis: for few actions that is the fast one."""
    shifted = logits - logits.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))


def _nets(policy: Any) -> tuple[nn.Sequential, nn.Sequential]:
    return policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net


def _matrices(flat: np.ndarray, layers: list[nn.Linear]) -> Iterator[np.ndarray]:
    """Views of a flat vector, one ``[D_out, D_in + 1]`` for each layer."""
    start = 0
    for layer in layers:
        stop = start + layer.out_features * (layer.in_features + 1)
        yield flat[start:stop].reshape(layer.out_features, layer.in_features + 1)
        start = stop


def refusal(policy: Any) -> str | None:
    """Why this policy can't be stepped by hand; None if it can.

    Looks at the modules alone; whether the policy's methods are its own is the caller's question.
    """
    nets, heads = _nets(policy), (policy.action_net, policy.value_net)
    linears: list[Any] = [*list(nets[0])[::2], *list(nets[1])[::2], *heads]
    activations = {type(module) for net in nets for module in list(net)[1::2]}
    if any(len(net) % 2 for net in nets) or any(type(linear) is not nn.Linear for linear in linears):
        return "its towers and heads are not plain Linear layers, each hidden one with an activation"
    if not activations <= {nn.Tanh, nn.ReLU}:
        return "its towers are not plain Linear + Tanh/ReLU layers"
    if len(activations) > 1:
        return "its towers mix activations"
    parameters = list(policy.parameters())
    if sum(p.numel() for p in parameters) > MAX_WEIGHTS:
        return f"it has more than {MAX_WEIGHTS} weights"
    own = [p for linear in linears for p in (linear.weight, linear.bias)]
    if len(parameters) != len(own) + hasattr(policy, "log_std") or any(p is None for p in own):
        return "it has parameters beside its Linear layers', or a layer without bias"
    if any(not p.requires_grad or p.dtype != torch.float32 or p.device.type != "cpu" for p in parameters):
        return "its parameters are not all trainable float32 on the CPU"
    optimizer = policy.optimizer
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return "its optimiser is not a plain Adam"
    group = optimizer.param_groups[0]
    if group["weight_decay"] or group["amsgrad"] or group["maximize"]:
        return "its Adam has weight decay, amsgrad or maximize"
    if {id(p) for p in group["params"]} != {id(p) for p in parameters}:
        return "its optimiser does not hold all parameters"
    modules = (policy, policy.features_extractor, policy.mlp_extractor, *nets, *nets[0], *nets[1], *heads)
    hooks: list[tuple[Any, ...]] = [
        (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks) for m in modules
    ]
    hooks += [(p._backward_hooks, p._post_accumulate_grad_hooks) for p in parameters]
    hooks += [(optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)]
    if any(hook for several in hooks for hook in several):
        return "it has hooks"
    return None
