"""A photo in a compressed file, and in a JPEG of the same bytes: side by side, and a part of each enlarged."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from sandbox.data import load
from sandbox.rate_distortion import peers, psnr
from unsupervised import compression

QUALITY = 2
_, flower = load("photos").X
photo = np.array(Image.fromarray(flower).reduce(2))  # [214, 320, 3]; the codec has not learned from this one

codec = compression.default("photo")
data = codec.compress(photo, QUALITY)
Path("compress_photo.sbx").write_bytes(data)  # a file, as `sandbox compress` would write it
restored = compression.decompress(Path("compress_photo.sbx").read_bytes())
(jpeg, by_jpeg), (webp, by_webp) = peers(photo, len(data))  # each in the quality whose file is nearest in size

shown = {
    f"original: {photo.size:,} bytes": photo,
    f"ours, quality {QUALITY}: {len(data):,} bytes": restored,
    f"{jpeg.name}: {jpeg.bytes:,} bytes": by_jpeg,
    f"{webp.name}: {webp.bytes:,} bytes": by_webp,
}
top, left, side = 60, 150, 64  # of the part
figure = Figure(figsize=(14, 6.2), dpi=110, layout="constrained")
for (above, below), (name, picture) in zip(figure.subplots(2, 4).T, shown.items(), strict=True):
    above.imshow(picture)
    above.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="white", linewidth=1.5))
    below.imshow(picture[top : top + side, left : left + side], interpolation="nearest")
    words = name if picture is photo else f"{name}\n{psnr(photo, picture):.2f} dB"
    above.set(xticks=[], yticks=[], title=words)
    below.set(xticks=[], yticks=[])
    print(words.replace("\n", ", "))
figure.savefig("compress_photo.png")
print("compress_photo.png, compress_photo.sbx")
