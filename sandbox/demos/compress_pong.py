"""A clip of Pong in a compressed file, played beside the original, with the sizes of both and of x264's."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from envs.recording import record
from sandbox.rate_distortion import peers, psnr
from sandbox.show import write_gif
from unsupervised import compression

n = int((sys.argv[1:] or ["300"])[0])  # frames, 15 a second
clip = record("Pong", n, seed=100).frames  # [n, 210, 160, 3]
data = compression.default("clip").compress(clip, quality=5)
Path("compress_pong.sbx").write_bytes(data)
restored = compression.decompress(Path("compress_pong.sbx").read_bytes())


def near(played):
    return "exact" if (played == clip).all() else f"{psnr(clip, played):.1f} dB"


columns = {
    f"original\n{clip.size:,} bytes": clip,
    f"ours, {near(restored)}\n{len(data):,} bytes": restored,
}
for point, played in peers(clip, len(data), similarity=False):  # none, if PyAV is not installed
    columns[f"{point.name},\n{near(played)}, {point.bytes:,} bytes"] = played
for words in columns:
    print(words.replace("\n", " "))


def captioned(words, frame):
    """A frame with words above it, twice as large."""
    picture = Image.new("RGB", (330, 460), "white")
    picture.paste(Image.fromarray(frame).resize((320, 420), Image.Resampling.NEAREST), (5, 38))
    ImageDraw.Draw(picture).text((8, 2), words, fill="black", font_size=14)
    return np.asarray(picture)


films = [[captioned(words, frame) for frame in played] for words, played in columns.items()]
side_by_side = [np.hstack(frames) for frames in zip(*films, strict=True)]
write_gif(Path("compress_pong.gif"), side_by_side, fps=15, max_width=side_by_side[0].shape[1], colours=128)
print("compress_pong.gif, compress_pong.sbx")
