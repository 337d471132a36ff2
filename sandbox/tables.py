"""The table of a tabular agent as a picture: what each place is worth, and where the agent would go from it.

Where the states are places (FrozenLake, CliffWalking, Taxi) it is a map; else a heat map of states and actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from sandbox.training.checkpoint import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

Cell = tuple[int, int]  # row, column
INK, DEEP, PAPER, TRAIL, GOLD = "#22313f", "#0f1820", "#f4f1ea", "#e4572e", "#f0a500"
COLOURS = ["#2b3a67", "#33658a", "#3f9a9a", "#8fc98b", "#f2e394"]  # from little to much
LETTERS = {"R": "#d1495b", "G": "#3a7d44", "Y": "#d99b00", "B": "#2e6fbb"}
WAYS = {"left": (-1, 0), "down": (0, 1), "right": (1, 0), "up": (0, -1)}  # in columns and rows


@dataclass(frozen=True)
class Places:
    """Where the states of a task are.

    Attributes
    ----------
    states : [H, W] integers
        The state of each cell.
    ways : sequence of str
        What each action does: one of `WAYS`, or ``"pick up"`` and ``"set down"``.
    marks : dict of Cell to str
        ``"hole"``, ``"cliff"``, ``"goal"`` and ``"start"``; a letter stands for itself.
    walls : list of (Cell, Cell)
        Neighbours without a way between them.
    note : str
        What else is to be said.
    passenger, destination : Cell, optional
        Where one waits, and where one wants to go.
    """

    states: np.ndarray
    ways: tuple[str, ...]
    marks: dict[Cell, str]
    walls: list[tuple[Cell, Cell]] = field(default_factory=list)
    note: str = ""
    passenger: Cell | None = None
    destination: Cell | None = None


def places_of(env: gym.Env, passenger: int = 0, destination: int = 1) -> Places | None:
    """Where the states of FrozenLake, CliffWalking or Taxi are; None for any other task.

    Parameters
    ----------
    env : gymnasium.Env
    passenger, destination : int
        Of Taxi, whose map is one for each of both: 0 to 3 for R, G, Y and B, and 4 for a passenger in the taxi.

    Raises
    ------
    ValueError
        If there is no such passenger or destination.

    Examples
    --------
    >>> lake = places_of(gym.make("FrozenLake-v1"))
    >>> lake.states.shape, [cell for cell, mark in lake.marks.items() if mark == "hole"]
    ((4, 4), [(1, 1), (1, 3), (2, 3), (3, 0)])
    >>> places_of(gym.make("Blackjack-v1"))
    """
    task: Any = env.unwrapped
    kind = type(task).__name__
    if kind == "FrozenLakeEnv":
        words = {b"H": "hole", b"G": "goal", b"S": "start"}
        marks = {cell: words[letter] for cell, letter in np.ndenumerate(task.desc) if letter in words}
        return Places(np.arange(task.desc.size).reshape(task.desc.shape), ("left", "down", "right", "up"), marks)
    if kind == "CliffWalkingEnv":
        states = np.arange(np.prod(task.shape)).reshape(task.shape)
        marks = {cell: "cliff" for cell, over in np.ndenumerate(task._cliff) if over}
        marks |= {(task.shape[0] - 1, task.shape[1] - 1): "goal", (task.shape[0] - 1, 0): "start"}
        return Places(states, ("up", "right", "down", "left"), marks)
    if kind == "TaxiEnv":
        if not (0 <= passenger <= 4 and 0 <= destination <= 3):
            raise ValueError(f"passenger is 0 to 4 and destination 0 to 3, got {passenger} and {destination}")
        states = np.array(
            [[task.encode(row, column, passenger, destination) for column in range(5)] for row in range(5)]
        )
        walls = [  # of the drawing, ':' lets through and '|' does not
            ((row, column), (row, column + 1))
            for row in range(5)
            for column in range(4)
            if task.desc[row + 1, 2 * column + 2] == b"|"
        ]
        where = "in the taxi" if passenger == 4 else f"at {'RGYB'[passenger]}"
        marks = dict(zip(task.locs, "RGYB", strict=True))
        note = f"passenger {where}, to {'RGYB'[destination]}"
        ways = ("down", "up", "right", "left", "pick up", "set down")
        waits = None if passenger == 4 else task.locs[passenger]
        return Places(states, ways, marks, walls, note, waits, task.locs[destination])
    return None


def trail(table: np.ndarray, env: gym.Env, places: Places) -> list[Cell]:
    """The cells that the best actions lead through from the start, where chance has no say; else none.

    Examples
    --------
    >>> walk, table = gym.make("CliffWalking-v1"), np.zeros((48, 4))
    >>> table[36, 0] = table[24:35, 1] = table[35, 2] = 1.0  # up, right along the cliff, down
    >>> len(trail(table, walk, places_of(walk)))
    14
    """
    cells = {int(state): cell for cell, state in np.ndenumerate(places.states)}
    outcomes: Any = getattr(env.unwrapped, "P", {})
    path = [cell for cell, mark in places.marks.items() if mark == "start"][:1]
    ended = not path
    while not ended:
        state = int(places.states[path[-1]])
        possible = outcomes[state][int(table[state].argmax())]
        if len(possible) > 1:
            return []
        _, following, _, ended = possible[0]
        ended = ended or cells[int(following)] in path  # a loop has no end to show
        path.append(cells[int(following)])
    return path


def plot_tables(
    path: str | Path,
    tables: Mapping[str, np.ndarray],
    env: str | gym.Env,
    title: str = "",
    passenger: int = 0,
    destination: int = 1,
) -> None:
    """Draw the tables of agents for one task, side by side or one above the other, in the same colours.

    Parameters
    ----------
    path : str or Path
        Of the picture, such as a PNG.
    tables : mapping of str to [S, A] floats
        ``model.policy.table`` of each agent, by what to call it.
    env : str or gymnasium.Env
        The task; an id of Gymnasium.
    title : str
    passenger, destination : int
        Of Taxi, see `places_of`.

    Raises
    ------
    ValueError
        If there is no table, or one is not of this task's states and actions.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_tables(f"{folder}/lake.png", {"nothing learned": np.zeros((16, 4))}, "FrozenLake-v1")
    ...     [file.name for file in Path(folder).iterdir()]
    ['lake.png']
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    env = gym.make(env) if isinstance(env, str) else env
    shape = int(env.observation_space.n), int(env.action_space.n)  # type: ignore[attr-defined]
    if not tables or any(table.shape != shape for table in tables.values()):
        shapes = ", ".join(f"{name} {list(table.shape)}" for name, table in tables.items()) or "none"
        raise ValueError(f"expected tables [S, A] = {list(shape)}, got {shapes}")
    places = places_of(env, passenger, destination)
    scale = Normalize(*_range(tables, places))
    colours = LinearSegmentedColormap.from_list("worth", COLOURS)
    rows, columns = places.states.shape if places else (4, 10)
    stacked = columns > 1.5 * rows
    n, unit = len(tables), 0.8 if rows > 4 or stacked else 1.0
    down, across = (n, 1) if stacked else (1, n)
    size = (across * columns * unit + 1.4, down * (rows * unit + 0.4) + (0.4 if title else 0.1))
    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor="white")
    panels = np.ravel(figure.subplots(down, across))
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        if places is None:
            _draw_heat(axes, table, colours, scale)
        else:
            _draw_map(axes, table, places, trail(table, env, places), colours, scale)
        axes.set_title(
            f"{name} ({places.note})" if places and places.note else name, color=INK, fontsize=11, loc="left"
        )
    if title:
        figure.suptitle(title, color=INK, fontsize=13, fontweight="bold")
    what = "value of the best action" if places else "value of an action"
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=list(panels), shrink=0.75, aspect=25, pad=0.02)
    bar.set_label(what, color=INK, fontsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=8, color=INK, labelcolor=INK)
    with atomic(path) as draft:
        figure.savefig(draft)


def _range(tables: Mapping[str, np.ndarray], places: Places | None) -> tuple[float, float]:
    """The smallest and the largest value that is drawn."""
    if places is None:
        values = np.concatenate([table.ravel() for table in tables.values()])
    else:
        values = np.concatenate([_worth(table, places).ravel() for table in tables.values()])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _worth(table: np.ndarray, places: Places) -> np.ndarray:
    """The value of each cell ``[H, W]``; NaN where nobody ever acts, and where nothing has been learned."""
    rows = table[places.states]  # [H, W, A]
    worth = np.where(rows.max(axis=-1) > rows.min(axis=-1), rows.max(axis=-1), np.nan)
    for cell, mark in places.marks.items():
        if mark in ("hole", "cliff", "goal"):
            worth[cell] = np.nan
    return worth


def _draw_map(axes: Axes, table: np.ndarray, places: Places, path: list[Cell], colours: Any, scale: Normalize) -> None:
    worth, (height, width) = _worth(table, places), places.states.shape
    axes.imshow(np.ma.masked_invalid(worth), cmap=colours, norm=scale)
    axes.set_facecolor(PAPER)
    for y in range(height + 1):
        axes.axhline(y - 0.5, color="white", linewidth=2)
    for x in range(width + 1):
        axes.axvline(x - 0.5, color="white", linewidth=2)
    _draw_marks(axes, places)
    digits = 2 if scale.vmax - scale.vmin < 5 else 1 if scale.vmax - scale.vmin < 200 else 0  # type: ignore[operator]
    for (row, column), value in np.ndenumerate(worth):
        if np.isnan(value):
            continue
        ink, centred = _readable_on(colours(scale(value))), {"ha": "center", "va": "center"}
        number = f"{value:.{digits}f}".replace("-", "−")
        axes.text(column + 0.45, row + 0.38, number, color=ink, fontsize=6.5, ha="right", va="center")
        way = places.ways[int(table[places.states[row, column]].argmax())]
        if way not in WAYS:
            face = ink if way == "set down" else "none"
            axes.plot(column, row - 0.05, marker="o", markersize=13, markerfacecolor=face, markeredgecolor=ink)
            axes.text(column, row + 0.19, way, color=ink, fontsize=6.5, **centred)  # type: ignore[arg-type]
        elif (row, column) not in path:
            x, y = WAYS[way]
            tip = {"arrowstyle": "-|>,head_width=0.28,head_length=0.45", "color": ink, "linewidth": 1.8}
            ends = (column + 0.24 * x, row + 0.24 * y), (column - 0.24 * x, row - 0.24 * y)
            axes.annotate("", *ends, arrowprops={**tip, "shrinkA": 0, "shrinkB": 0})
    if path:
        points = np.array(path)[:, ::-1]  # x, y
        for colour, thickness in (("white", 9), (TRAIL, 6)):
            line: dict[str, Any] = {
                "color": colour,
                "linewidth": thickness,
                "solid_capstyle": "round",
                "solid_joinstyle": "round",
            }
            axes.plot(*points.T, **line)
        for (x, y), (dx, dy) in zip((points[1:] + points[:-1]) / 2, np.diff(points, axis=0), strict=True):
            triangle = (3, 0, np.degrees(np.arctan2(-dy, dx)) - 90)  # towards the next cell
            axes.plot(x, y, marker=triangle, markersize=6, color="white", markeredgewidth=0)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_marks(axes: Axes, places: Places) -> None:
    from matplotlib.patches import Circle, Rectangle, Wedge

    for (row, column), mark in places.marks.items():
        if mark == "hole":
            axes.add_patch(Circle((column, row), 0.36, color=INK))
            axes.add_patch(Circle((column, row + 0.05), 0.28, color=DEEP))
        elif mark == "goal":
            axes.plot(column, row, marker="*", markersize=22, color=GOLD, markeredgecolor="white", zorder=5)
        elif mark != "cliff":
            letter = "S" if mark == "start" else mark
            box = {"boxstyle": "round,pad=0.2", "facecolor": LETTERS.get(letter, INK), "edgecolor": "white"}
            axes.text(column - 0.34, row - 0.32, letter, color="white", fontsize=8, ha="center", va="center", bbox=box)
    cliff = [cell for cell, mark in places.marks.items() if mark == "cliff"]
    if cliff:  # one block, over the lines of the grid
        (top, left), (bottom, right) = np.min(cliff, axis=0), np.max(cliff, axis=0)
        corner, size = (left - 0.48, top - 0.48), (right - left + 0.96, bottom - top + 0.98)
        axes.add_patch(Rectangle(corner, *size, color=INK, linewidth=0, zorder=3))
        middle = (left + right) / 2, (top + bottom) / 2
        axes.text(*middle, "T H E   C L I F F", color="#9fb0bf", fontsize=9, ha="center", va="center", zorder=4)
    for (row, column), _ in places.walls:
        axes.plot([column + 0.5] * 2, [row - 0.5, row + 0.5], color=INK, linewidth=6, solid_capstyle="round")
    if places.destination is not None:
        row, column = places.destination
        axes.plot(column + 0.32, row - 0.3, marker="*", markersize=15, color=GOLD, markeredgecolor="white")
    if places.passenger is not None:
        row, column = places.passenger
        for part in (Circle((column + 0.3, row - 0.37), 0.07), Wedge((column + 0.3, row - 0.14), 0.13, 180, 360)):
            part.set(facecolor=TRAIL, edgecolor="white", linewidth=0.8)
            axes.add_patch(part)


def _draw_heat(axes: Axes, table: np.ndarray, colours: Any, scale: Normalize) -> None:
    axes.imshow(table.T, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
    best, told = table.argmax(axis=1), table.max(axis=1) > table.min(axis=1)
    axes.plot(np.flatnonzero(told), best[told], ".", color=TRAIL, markersize=4)
    axes.set_xlabel("state", color=INK, fontsize=9)
    axes.set_ylabel("action (a dot: the best)", color=INK, fontsize=9)
    axes.set_yticks(range(table.shape[1]))
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK)
    axes.spines[:].set_visible(False)


def _readable_on(colour: tuple[float, float, float, float]) -> str:
    """Dark ink on light colours, white on dark ones, by their luminance."""
    return INK if np.dot(colour[:3], (0.2126, 0.7152, 0.0722)) > 0.57 else "white"
