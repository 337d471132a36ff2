"""A photo with noise over it, cleaned by a network that learned from parts of another photo."""

import numpy as np
from matplotlib.figure import Figure

from sandbox.data import load
from unsupervised import DenoisingAutoencoder

NOISE, SIDE = 0.15, 8
temple, flower = (photo / np.float32(255) for photo in load("photos").X)  # [427, 640, 3], from 0 to 1


def parts(photo, stride):
    """All parts of 8x8 pixels, some pixels apart: [rows, columns, 192]."""
    windows = np.lib.stride_tricks.sliding_window_view(photo, (SIDE, SIDE), axis=(0, 1))[::stride, ::stride]
    return windows.reshape(*windows.shape[:2], -1)


def together(pieces, shape, stride):
    """A photo of its parts; where they overlap, their mean."""
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for i, row in enumerate(pieces.reshape(*pieces.shape[:2], 3, SIDE, SIDE)):
        for j, piece in enumerate(row):
            place = np.s_[i * stride : i * stride + SIDE, j * stride : j * stride + SIDE]
            total[place] += np.moveaxis(piece, 0, -1)
            count[place] += 1
    return total / np.maximum(count, 1)


learned = parts(flower, 3).reshape(-1, 3 * SIDE**2)  # the flower is seen clean; of the temple nothing is known
model = DenoisingAutoencoder(48, noise_level=NOISE / learned.std(), max_iter=15, learning_rate="cos_1e-3", verbose=1)
model.set_params(random_state=0, batch_size=256).fit(learned)

rng = np.random.default_rng(0)
noisy = (temple + rng.normal(scale=NOISE, size=temple.shape)).astype(np.float32)
pieces = parts(noisy, 2)
restored = model.reconstruct(pieces.reshape(-1, pieces.shape[2])).reshape(pieces.shape)
cleaned = together(restored, temple.shape, 2).clip(0, 1)
seen = np.s_[: pieces.shape[0] * 2, : pieces.shape[1] * 2]  # what all parts together cover


def decibels(photo):
    return 10 * np.log10(1 / np.square(photo[seen] - temple[seen]).mean())


shown = {"the photo": temple, "with noise": noisy, "cleaned": cleaned}
figure = Figure(figsize=(13, 3.5), dpi=120, layout="constrained")
for axes, (name, photo) in zip(figure.subplots(1, 3), shown.items(), strict=True):
    words = name if photo is temple else f"{name}: {decibels(photo):.1f} dB"
    axes.imshow(photo[seen].clip(0, 1))
    axes.set(xticks=[], yticks=[], title=words)
    print(words)
figure.savefig("denoise_photo.png")
print("denoise_photo.png")
