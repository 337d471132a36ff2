"""Two walks beside a cliff: Q-learning learns the shortest one, along the edge, and SARSA one that keeps away from it.

Both explore: one step in ten goes anywhere. Q-learning learns what the best policy would earn, without such missteps.
SARSA learns what its own policy earns, and that one falls. So while they train, the safer walk brings more.
"""

import numpy as np

from agents import SARSA, QLearning, evaluate
from sandbox.tables import plot_tables
from sandbox.training.schedules import parse

STEPS = 20_000
exploring = {"exploration_initial_eps": 0.1, "exploration_final_eps": 0.1}

print(f"CliffWalking-v1, {STEPS:,} steps each; each step costs 1, a fall 100, and the shortest walk has 13 steps")
tables = {}
for algorithm in (QLearning, SARSA):
    model = algorithm("TablePolicy", "CliffWalking-v1", learning_rate=parse("lin_0.5"), gamma=1.0, seed=0, **exploring)
    model.learn(STEPS)
    training = np.mean([episode["r"] for episode in model.ep_info_buffer])
    best = evaluate(model, "CliffWalking-v1", 1).mean
    words = f"{algorithm.__name__}: {-best:.0f} steps to the goal; while exploring, {training:.0f} an episode"
    print(words, flush=True)
    tables[words] = model.policy.table

plot_tables("value_table.png", tables, "CliffWalking-v1", "What each place is worth beside a cliff")
print("value_table.png")
