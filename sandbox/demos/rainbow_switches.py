"""What each idea of Rainbow adds to deep Q-learning, as a bar chart: on a task made for it, without and with."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sandbox.bench.switches import CASES, learn

SEEDS = range(3)

figure = Figure(figsize=(14, 4), layout="constrained")
for axes, (name, case) in zip(figure.subplots(1, len(CASES)), CASES.items(), strict=True):
    sides = [[learn(name, on, seed) for seed in SEEDS] for on in (False, True)]
    plain, switched = (float(np.mean(side)) for side in sides)
    print(f"{name}: {case.means}: {plain:.2f} without, {switched:.2f} with", flush=True)
    axes.bar(["without", "with"], [plain, switched], color=["#9aa5b1", "#429297"])
    for x, side in enumerate(sides):
        axes.plot(np.full(len(side), x), side, "o", color="#3e4e63", markersize=4)
    axes.axhline(0, color="#3e4e63", linewidth=0.8)
    better = "more is better" if case.more_is_better else "less is better"
    axes.set_title(f"{name}\n", fontweight="bold")
    axes.text(0.5, 1.02, better, transform=axes.transAxes, ha="center", fontsize=8)
    axes.set_xlabel(case.means.replace(" of ", "\nof ").replace(", ", ",\n"), fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
figure.suptitle(f"DQN on seven tasks whose answer is known: without and with one switch ({len(SEEDS)} seeds)")
figure.savefig(Path("rainbow_switches.png"), dpi=110)
print("rainbow_switches.png")
