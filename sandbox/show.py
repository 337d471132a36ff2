"""Pictures of a run: its learning curve, and episodes as a GIF, in a window or in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sandbox.training.checkpoint import atomic
from sandbox.training.log import STEP, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINING, EVALUATION = "rollout/ep_rew_mean", "eval/mean_return"
LABELS = {
    TRAINING: "training: drawn actions, mean of the last 100 episodes",
    EVALUATION: "evaluation beside training",
}


def plot_learning_curves(path: Path, tables: dict[str, Path], title: str) -> None:
    """Draw return against steps: the running mean of training, and the evaluations as dots.

    Parameters
    ----------
    path : Path
        Of the PNG.
    tables : dict of str to Path
        The metrics of each run, by its label.
    title : str
    """
    from matplotlib.lines import Line2D

    with _axes(path, title) as axes:
        for colour, (label, table) in enumerate(tables.items()):
            for column, style in ((TRAINING, "-"), (EVALUATION, "o")):
                steps, values = _curve(table, column)
                if len(steps):
                    name = f"{label} {column}".strip()
                    axes.plot(steps, values, style, color=f"C{colour}", markersize=4, label=name)
        # What a line and a dot are is said once, in grey; a colour is a run.
        grey: dict[str, Any] = {"color": "grey", "markersize": 4}
        handles = [Line2D([], [], label=LABELS[TRAINING], **grey)]
        if any(line.get_linestyle() == "None" for line in axes.lines):
            handles += [Line2D([], [], marker="o", linestyle="", label=LABELS[EVALUATION], **grey)]
        if len(tables) > 1:
            handles += [Line2D([], [], color=f"C{colour}", label=label) for colour, label in enumerate(tables)]
        axes.legend(handles=handles, frameon=False, fontsize=8)


def plot_seeds(path: Path, tables: Sequence[Path], title: str) -> None:
    """Draw what runs that differ in their seed have in common: the interquartile mean, and how sure it is.

    It is the bold line, and the band its 95 % interval by the bootstrap over the seeds; each seed is a faint line.
    Drawn are the evaluations, or, where fewer than three are common to all, the running means of training.

    Parameters
    ----------
    path : Path
        Of the PNG.
    tables : sequence of Path
        The metrics of each run.
    title : str
    """
    from agents.evaluation import interquartile_mean

    for column in (EVALUATION, TRAINING):
        curves = [_curve(table, column) for table in tables]
        grid, values = common_grid(curves)
        if len(grid) >= 3:
            break
    with _axes(path, title) as axes:
        if len(grid):
            mean, low, high = interquartile_mean(values, n_resamples=2_000)
            for i, (steps, single) in enumerate(curves):
                axes.plot(steps, single, color="C0", alpha=0.35, linewidth=0.9, label="" if i else "single seeds")
            axes.fill_between(grid, low, high, color="C0", alpha=0.2, linewidth=0, label="95 % interval")
            marker = "o" if column == EVALUATION else ""
            axes.plot(grid, mean, color="C0", linewidth=2.5, marker=marker, markersize=5, label="interquartile mean")
            axes.legend(title=LABELS[column], title_fontsize=8, alignment="left", frameon=False, fontsize=8)


def common_grid(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several curves on the same steps: those of the shortest curve that lie within all, the others interpolated.

    Parameters
    ----------
    curves : sequence of (steps, values)

    Returns
    -------
    steps : [G] floats
        None at all if a curve is empty.
    values : [S, G] floats

    Examples
    --------
    >>> long, short = (np.array([0, 10, 20]), np.array([0, 1, 2])), (np.array([5, 20]), np.array([5, 8]))
    >>> steps, values = common_grid([long, short])
    >>> steps.tolist(), values.tolist()
    ([5, 20], [[0.5, 2.0], [5.0, 8.0]])
    """
    shortest = min((steps for steps, _ in curves), key=len)
    if not len(shortest):
        return np.empty(0), np.empty((len(curves), 0))
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = shortest[(first <= shortest) & (shortest <= last)]
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in curves])


def _curve(table: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which a table has a number, and the numbers."""
    columns = read_metrics(table)
    steps = np.array(columns[STEP])
    values = np.array(columns.get(column, np.full(len(steps), np.nan)))
    there = np.isfinite(values)
    return steps[there], values[there]


@contextmanager
def _axes(path: Path, title: str) -> Iterator[Axes]:
    """Empty axes for return against steps; after the block they are the picture at `path`."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="steps of the environment", ylabel="return of an episode")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    yield axes
    with atomic(path) as draft:
        figure.savefig(draft)


def write_gif(
    path: Path,
    frames: Sequence[np.ndarray],
    fps: float,
    max_frames: int = 150,
    max_width: int = 320,
    colours: int = 64,
) -> None:
    """Write frames ``[H, W, 3]`` uint8 as a GIF: thinned and shrunk to what a page can carry, at the same pace.

    Its colours, at most 256, are one palette for all frames.

    Raises
    ------
    ValueError
        If there is no frame.
    """
    from PIL import Image

    if not len(frames):
        raise ValueError("no frames to write: the environment draws nothing (render_mode='rgb_array')")
    every = -(-len(frames) // max_frames)
    images = [Image.fromarray(frame) for frame in frames[::every]]
    scale = min(1.0, max_width / images[0].width)
    size = round(images[0].width * scale), round(images[0].height * scale)
    images = [image.resize(size, Image.Resampling.BILINEAR) for image in images]
    some = np.concatenate([np.asarray(image) for image in images[:: -(-len(images) // 6)]])
    palette = Image.fromarray(some).quantize(colours)  # one for all: a tenth of the time, and no flicker
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    with atomic(path) as draft:
        # GIF counts in hundredths of a second, and viewers slow down what is shorter than two of them.
        first.save(draft, save_all=True, append_images=rest, duration=max(20, round(1000 * every / fps)), loop=0)


@contextmanager
def video(path: Path, fps: float, scale: int = 3) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an MP4 frame by frame: give each ``[H, W, 3]`` uint8 to the function that the block gets.

    Parameters
    ----------
    path : Path
    fps : float
    scale : int
        Of small pictures: each pixel becomes a square of so many. One larger than 400 pixels is left as it is.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("a video needs PyAV: pip install 'rl-unsup-sandbox[media]'") from error
    with atomic(path) as draft, av.open(str(draft), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"

        def add(frame: np.ndarray) -> None:
            if max(frame.shape) <= 400:
                frame = frame.repeat(scale, axis=0).repeat(scale, axis=1)
            frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]  # the format wants even sides
            if not stream.codec_context.is_open:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))

        yield add
        container.mux(stream.encode())


def show_in_terminal(frames: Sequence[np.ndarray], fps: float, width: int = 80) -> None:
    """Play frames in a terminal of 24-bit colour: each character is two pixels, one above the other."""
    from PIL import Image

    height = 0
    for frame in frames:
        image = Image.fromarray(frame)
        height = round(width * image.height / image.width) // 2 * 2
        top_bottom = np.asarray(image.resize((width, height))).reshape(height // 2, 2, width, 3)
        lines = []
        for top, bottom in top_bottom.transpose(0, 2, 1, 3).swapaxes(1, 2):
            cells = (
                f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m▀"
                for a, b in zip(top, bottom, strict=True)
            )
            lines.append("".join(cells) + "\x1b[0m")
        sys.stdout.write("\n".join(lines) + f"\x1b[{height // 2 - 1}A\r")
        sys.stdout.flush()
        time.sleep(1.0 / fps)
    sys.stdout.write("\n" * (height // 2))


def show_in_window(frames: Sequence[np.ndarray], fps: float, title: str) -> None:
    """Play frames in a window, until they end or it is closed.

    Raises
    ------
    ImportError
        If pygame is not installed.
    """
    import pygame

    pygame.display.init()
    try:
        screen = pygame.display.set_mode((frames[0].shape[1], frames[0].shape[0]))
        pygame.display.set_caption(title)
        clock = pygame.time.Clock()
        for frame in frames:
            if any(event.type == pygame.QUIT for event in pygame.event.get()):
                break
            screen.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
            pygame.display.flip()
            clock.tick(fps)
    finally:
        pygame.display.quit()
