"""A game as data: Pong, played at random, as arrays of pictures, memory and sound, and a page to look at them."""

import wave

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from envs.atari import record

N = 300  # steps of four frames: 20 seconds
played = record("Pong", N, seed=0)
print(f"{played}; it ends at {(played.rewards > 0).sum()} : {(played.rewards < 0).sum()}")

with wave.open("record_and_look.wav", "wb") as file:
    file.setparams((1, 1, played.sound_rate, 0, "NONE", ""))  # mono, a byte a sample, as the console makes it
    file.writeframes(played.sound.tobytes())
print(f"record_and_look.wav ({played.sound.size / played.sound_rate:.0f} s)")

# Where Pong keeps what, as published with AtariARI (1906.08226), in the colours of the screen.
WHERE = {50: ("enemy y", "#d5824a"), 51: ("player y", "#5cba5c"), 54: ("ball y", "#8fb8de"), 49: ("ball x", "#ececec")}
changes = (played.ram[1:] != played.ram[:-1]).mean(axis=0)  # [128], how often each byte differs from a step ago
busiest = np.argsort(-changes, kind="stable")[:16]
in_play = played.ram[:, 54] > 0  # a ball at height 0 is none
shown = np.flatnonzero(in_play)[8 :: in_play.sum() // 6][:6]

with style.context("dark_background"):
    figure = Figure(figsize=(11, 10), dpi=110, layout="constrained")
    pictures, memory, values, sound, pitch = figure.subplots(5, height_ratios=[17, 20, 14, 5, 9])

    pictures.imshow(np.hstack(np.pad(played.frames[shown], ((0, 0), (0, 0), (0, 8), (0, 0)))))
    left = 168 * np.arange(6)
    ball = left + played.ram[shown, 49] - 48.5, played.ram[shown, 54] - 12.5  # from memory to screen
    pictures.plot(*ball, "o", markersize=16, markerfacecolor="none", markeredgecolor="white")
    pictures.set_xticks(left + 80, [f"step {step}" for step in shown])
    pictures.set_title("what is seen; the rings are where the memory says the ball is")
    pictures.set(yticks=[], frame_on=False)

    memory.imshow(played.ram[:, busiest].T, cmap="magma", aspect="auto", interpolation="nearest")
    memory.hlines(np.arange(15) + 0.5, 0, N, color="black", linewidth=2)
    memory.set_yticks(range(16), [f"{WHERE.get(byte, [''])[0]}  {byte}" for byte in busiest], fontsize=8)
    memory.set_title("the 16 bytes of memory that change most, and four of them as curves")
    for byte, (name, colour) in WHERE.items():
        there = in_play | (byte in (50, 51))
        values.plot(np.where(there, played.ram[:, byte], np.nan), color=colour, label=name)
        memory.get_yticklabels()[list(busiest).index(byte)].set_color(colour)
    values.set(ylim=(-5, 260), yticks=(0, 100, 200))
    values.legend(ncols=4, loc="upper left", frameon=False, borderpad=0)

    frames = played.sound.reshape(4 * N, 512)  # of each frame's samples, the lowest and the highest are drawn
    sound.fill_between(np.arange(4 * N) / 4, frames.min(axis=1), frames.max(axis=1), step="post", color="#ececec")
    sound.set(yticks=[], title="what is heard, and its pitch")
    how = {"NFFT": 1024, "noverlap": 512, "mode": "magnitude", "scale": "linear", "cmap": "magma", "vmax": 3}
    pitch.specgram(played.sound.ravel() - 128.0, Fs=played.sound_rate / 1000, xextent=(0, N), **how)
    pitch.set(ylim=(0, 5), ylabel="kHz", xlabel="step")
    for panel in (memory, values, sound, pitch):
        panel.set(xlim=(0, N), **({} if panel is pitch else {"xticklabels": []}))
    figure.savefig("record_and_look.png")
print("record_and_look.png")
