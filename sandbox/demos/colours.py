"""A photo in eight colours: k-means on its pixels finds the palette."""

import numpy as np
from matplotlib.figure import Figure

from sandbox.data import load
from unsupervised import KMeans

K = 8
photo = load("photos").X[1]  # [H, W, 3], 0 to 255
pixels = photo.reshape(-1, 3).astype(np.float32)
model = KMeans(K, n_init=1, random_state=1).fit(pixels)


def draw_in(palette):
    """Each pixel in the nearest of the colours."""
    labels = ((pixels[:, None] - palette) ** 2).sum(2).argmin(1)
    return palette.round().astype(np.uint8)[labels].reshape(photo.shape)


def psnr(picture):
    """Peak signal-to-noise ratio in decibels: 10 more is a tenth of the squared error."""
    return 10 * np.log10(255**2 / np.mean((photo - picture.astype(float)) ** 2))


rng = np.random.default_rng(0)
palettes = {
    f"{K} colours by k-means": model.cluster_centers_,
    f"{K} pixels, drawn": pixels[rng.choice(len(pixels), K, replace=False)],
    "dark and light of each primary": np.array(np.meshgrid(*[[64, 191]] * 3)).reshape(3, -1).T,  # 8 as well
}
bits = np.log2(K)
size = (bits * len(pixels) / 8 + 3 * K) / len(pixels)  # the number of a colour for each pixel, and the palette once
print(f"bytes per pixel: 3 before, {size:.3f} in {K} colours")
pictures = {name: draw_in(palette) for name, palette in palettes.items()}
for name, picture in pictures.items():
    print(f"{name:32s}PSNR {psnr(picture):.1f} dB")

after = pictures[f"{K} colours by k-means"]
share = np.bincount(model.labels_) / len(pixels)
figure = Figure(figsize=(11, 4.6), dpi=110)
titles = ("3 bytes per pixel", f"{size:.2f} bytes per pixel, {psnr(after):.1f} dB")
for i, (picture, title) in enumerate(zip((photo, after), titles, strict=True)):
    axes = figure.add_axes((0.005 + 0.4975 * i, 0.13, 0.4925, 0.79))
    axes.imshow(picture)
    axes.set_title(title, fontsize=11)
    axes.axis("off")
axes = figure.add_axes((0.005, 0.02, 0.99, 0.09))  # the palette, each colour as wide as its share of the photo
left = 0.0
for k in np.argsort(model.cluster_centers_.sum(1)):
    axes.barh(0, share[k], left=left, color=model.cluster_centers_[k] / 255)
    left += share[k]
axes.set(xlim=(0, 1), ylim=(-0.4, 0.4))
axes.axis("off")
figure.savefig("colours.jpg", pil_kwargs={"quality": 88})
print("colours.jpg")
