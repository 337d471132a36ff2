"""One picture at nine qualities: one model has them all, and a file says which it is."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from skimage.data import chelsea

from sandbox.rate_distortion import psnr
from unsupervised import compression

photo = np.array(Image.fromarray(chelsea()).reduce(2))  # [150, 226, 3]; the codec has not learned from this one

codec = compression.default("photo")
figure = Figure(figsize=(11, 9), dpi=110, layout="constrained")
print(f"{'quality':>8s}{'bytes':>8s}{'bits/pixel':>12s}{'PSNR, dB':>10s}")
for quality, axes in enumerate(figure.subplots(3, 3).flat, start=1):
    data = codec.compress(photo, quality)
    restored = codec.decompress(data)
    bits, decibels = 8 * len(data) / photo[..., 0].size, psnr(photo, restored)
    print(f"{quality:8d}{len(data):8,d}{bits:12.3f}{decibels:10.2f}")
    axes.imshow(restored)
    axes.set(xticks=[], yticks=[], title=f"quality {quality}")
    axes.set_xlabel(f"{len(data):,} bytes, {decibels:.1f} dB")
figure.suptitle(f"{photo.size:,} bytes of pixels, at nine qualities")
figure.savefig("dial.png")
print("dial.png")
