"""K-means as every textbook tells it: assign, re-centre, repeat. From a bad start, as a GIF."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sandbox.show import write_gif
from unsupervised import KMeans

K, N, INK = 5, 400, "#2d3440"
COLOURS = np.array([[66, 146, 151], [224, 122, 95], [129, 110, 178], [226, 172, 63], [87, 117, 69]]) / 255
rng = np.random.default_rng(27)
heaps = np.array([[2.0, 2.2], [2.6, 7.0], [7.4, 7.6], [8.0, 2.6], [5.1, 4.9]])
of_heap = rng.integers(K, size=N)
points = heaps[of_heap] + rng.normal(0, 0.75, size=(N, 2))
start = points[of_heap == 1][:K]  # all centres in one heap

figure = Figure(figsize=(4.8, 5.1), dpi=100)
canvas, axes = FigureCanvasAgg(figure), figure.add_axes((0.02, 0.02, 0.96, 0.91))
plane = np.stack(np.meshgrid(*[np.linspace(-0.5, 10.5, 300)] * 2), axis=-1)  # [300, 300, 2]


def nearest(places, centres):
    return ((places[..., None, :] - centres) ** 2).sum(-1).argmin(-1)


def picture(words, labels, centres, before):
    axes.clear()
    regions = 1 - 0.22 * (1 - COLOURS[nearest(plane, centres)])  # whose each place is, softly
    axes.imshow(regions, extent=(-0.5, 10.5, -0.5, 10.5), origin="lower", interpolation="bilinear")
    axes.scatter(*points.T, s=14, c=COLOURS[labels], linewidths=0)
    for way in np.stack([before, centres], axis=1):  # how far each centre has come
        axes.plot(*way.T, color=INK, linewidth=1.5)
    axes.scatter(*centres.T, s=150, c=COLOURS, edgecolors=INK, linewidths=1.8, zorder=3)
    axes.set_title(words, loc="left", fontsize=12, color=INK)
    axes.set_title(f"inertia {((points - centres[labels]) ** 2).sum():,.0f}", loc="right", fontsize=12, color=INK)
    axes.set(xticks=[], yticks=[], frame_on=False, xlim=(-0.5, 10.5), ylim=(-0.5, 10.5))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


centres, steps, frames = start, 0, []
while True:
    labels = nearest(points, centres)  # assign
    moved = np.array([points[labels == k].mean(axis=0) for k in range(K)])  # re-centre
    steps += 1
    frames.append(picture(f"{steps}: assign", labels, centres, centres))
    frames.append(picture(f"{steps}: re-centre", labels, moved, centres))
    if (moved == centres).all():
        break
    centres = moved  # repeat

write_gif(Path("kmeans_steps.gif"), frames[:1] * 2 + frames + frames[-1:] * 4, fps=1.6, max_width=400)
model = KMeans(K, init=start, n_init=1, tol=0).fit(points)
print(f"this loop: {steps} steps, inertia {((points - centres[labels]) ** 2).sum():.3f}")
print(f"KMeans:    {model.n_iter_} steps, inertia {model.inertia_:.3f}, same labels: {(model.labels_ == labels).all()}")
print("kmeans_steps.gif")
