"""How few labels a network needs once it has looked at the digits without any, beside one that starts from scratch."""

import numpy as np

from sandbox.data import load
from sandbox.probe_plots import plot_few_labels
from unsupervised import SimCLR
from unsupervised.evaluate import few_labels

digits = load("digits")
X = (digits.X / 16).astype(np.float32)[:, None]  # [1797, 1, 8, 8] shades
order = np.random.default_rng(0).permutation(len(X))
learned, held_out = order[:1437], order[1437:]  # the last fifth is seen by nobody before the end

# Two views of a digit, shifted and bent, should look alike to the network, and other digits should not: no labels.
eyes = SimCLR(max_iter=60, random_state=0, verbose=1).fit(X[learned])

# Now labels, for a few of them: to fine-tune these eyes, or to train the same network from the start; or a linear layer
# reads features that stay as they are, the pixels among them.
found = few_labels(eyes, X, digits.y, split=(learned, held_out), random_state=0)
print(found)
plot_few_labels("few_labels.png", found, "digits: learned without labels first, or not")
print("few_labels.png")
