"""A text learned byte by byte: how well the next byte is foreseen, what is written then, and what is filled in."""

import bz2
import sys
from pydoc_data.topics import topics  # Python's manual, which comes with Python

import numpy as np

from unsupervised import MaskedToken, NextToken

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 2
text = "\n".join(topics.values()).encode()
X = np.frombuffer(text[: len(text) // 64 * 64], np.uint8).reshape(-1, 64)  # windows of 64 bytes
learned, unseen = X[np.arange(len(X)) % 10 > 0], X[::10]
print(f"{len(text):,} bytes of text: {len(learned):,} windows of 64 to learn from, {len(unseen)} to judge by")

small = {"dim": 96, "depth": 2, "heads": 3, "max_iter": epochs, "random_state": 0, "verbose": 1}
model = NextToken(batch_size=16, learning_rate="cos_3e-3", **small).fit(learned)

# Three ways to foresee a byte: how often each is there, a compressor that has read the same text, and the network.
counts = np.bincount(learned.ravel(), minlength=256) + 1
single = -np.log2(counts / counts.sum())[unseen].mean()
before, after = (8 * len(bz2.compress(part.tobytes())) for part in (learned, np.concatenate([learned, unseen])))
print("\nbits per byte of unseen text")
print(f"  by how often each byte is there  {single:.2f}")
print(f"  bz2                              {(after - before) / unseen.size:.2f}")
print(f"  the network                      {-model.score(unseen) / np.log(2):.2f}")

for how in ({"temperature": 0.5}, {"temperature": 1.0}, {"top_k": 5}, {"top_p": 0.9}):
    print(f"\n{how}\n{model.write('The value of ', 240, random_state=0, **how)}")

# The same body, but it sees both sides: what stands behind the blanks? In half a window that is learned sooner.
filler = MaskedToken(masked=0.3, learning_rate="cos_3e-3", **small).fit(learned.reshape(-1, 32))
print(f"\nbits per hidden byte of unseen text: {-filler.score(unseen.reshape(-1, 32)) / np.log(2):.2f}")
for sentence in (
    "If the obje_t has no attr_bute",
    "The argu_ents of a functi_n are",
    "is eval_ated befo_e the state_e",
):
    print(f"  {sentence}\n  {filler.fill_text(sentence)}")
