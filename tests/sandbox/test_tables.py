"""Pictures of tables: what they show is what the tables and the tasks say."""

import gymnasium as gym
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sandbox.tables import places_of, plot_tables, trail


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw, and look at the figure: its maps, and the words and the arrows in them."""

    def draw(tables, env, **kwargs):
        figures, save = [], Figure.savefig
        monkeypatch.setattr(
            Figure, "savefig", lambda self, *args, **kw: (figures.append(self), save(self, *args, **kw))
        )
        plot_tables(tmp_path / "table.png", tables, env, **kwargs)
        with Image.open(tmp_path / "table.png") as picture:
            assert min(picture.size) > 300
        return figures[0].axes[: len(tables)]

    return draw


def words(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def ways(axes):
    """Where the arrows are, and where they point: (row, column) to a step in columns and rows."""
    arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    ends = [(np.array(arrow.xy), np.array(arrow.xyann)) for arrow in arrows]
    return {
        tuple(np.round((tip + tail) / 2).astype(int)[::-1]): tuple(np.sign(np.round(tip - tail, 6)))
        for tip, tail in ends
    }


def along_the_cliff():
    """A table whose best actions lead up, right along the edge, and down; it counts the steps to go."""
    table = np.full((48, 4), -100.0)
    table[36, 0] = -13
    table[24:35, 1] = -np.arange(12, 1, -1)
    table[35, 2] = -1
    table[:24] = -7.0
    return table


def test_the_lake_shows_the_values_the_ways_and_the_holes(drawn):
    table = np.zeros((16, 4))
    table[0] = 0.25, 0.5, 0.75, 0.5  # right
    table[14] = 0.1, 0.2, 0.3, 0.4  # up
    table[1, 0] = table[8, 1] = 1.0  # left, down
    table[5] = 0.0, 9.0, 0.0, 0.0  # a hole: nobody ever acts there
    (axes,) = drawn({"by hand": table}, "FrozenLake-v1")
    assert sorted(words(axes)) == ["0.40", "0.75", "1.00", "1.00", "S"]
    assert ways(axes) == {(0, 0): (1, 0), (0, 1): (-1, 0), (2, 0): (0, 1), (3, 2): (0, -1)}
    values = axes.images[0].get_array()
    assert (values[0, 0], values[3, 2]) == (0.75, 0.4)
    assert values.mask.sum() == 12  # holes, the goal, and what is not learned
    assert len(axes.patches) == 2 * 4  # two circles a hole
    assert axes.get_title(loc="left") == "by hand"


def test_the_ways_are_those_of_the_task():
    """In each task an action moves its state as its arrow points."""
    steps = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
    for env in (gym.make("FrozenLake-v1", is_slippery=False), gym.make("CliffWalking-v1"), gym.make("Taxi-v4")):
        places = places_of(env)
        middle = {(4, 4): (2, 2), (4, 12): (1, 5), (5, 5): (2, 3)}[places.states.shape]  # no wall or cliff beside it
        cells = {int(state): cell for cell, state in np.ndenumerate(places.states)}
        for action, way in enumerate(places.ways[:4]):
            ((_, after, _, _),) = env.unwrapped.P[int(places.states[middle])][action]
            assert cells[after] == (middle[0] + steps[way][0], middle[1] + steps[way][1]), (env, way)


def test_beside_a_cliff_the_walk_is_a_line_and_the_cliff_is_named(drawn):
    (axes,) = drawn({"edge": along_the_cliff()}, "CliffWalking-v1")
    assert words(axes)[:2] == ["S", "T H E   C L I F F"]
    assert {"−13.0", "−1.0"} <= set(words(axes))
    assert ways(axes) == {}  # the walk needs no arrows, and where all actions are equal nothing is told
    line = max((line for line in axes.lines if line.get_marker() == "None"), key=lambda line: len(line.get_xdata()))
    assert list(zip(*line.get_data(), strict=True)) == [(0, 3), *[(x, 2) for x in range(12)], (11, 3)]


def test_a_walk_in_a_circle_and_one_by_chance_have_no_way_to_show():
    walk, table = gym.make("CliffWalking-v1"), along_the_cliff()
    table[30] = 0.0, -9.0, -9.0, -9.0
    table[18] = -9.0, -9.0, 0.0, -9.0  # up, and down again
    assert len(trail(table, walk, places_of(walk))) == 1 + 7 + 2
    lake = gym.make("FrozenLake-v1")
    assert trail(np.eye(4)[np.ones(16, int)], lake, places_of(lake)) == []
    assert len(trail(np.eye(4)[np.ones(16, int)], gym.make("FrozenLake-v1", is_slippery=False), places_of(lake))) == 4


def test_the_taxi_shows_one_passenger_and_one_destination(drawn):
    taxi = gym.make("Taxi-v4")
    table, state = np.zeros((500, 6)), taxi.unwrapped.encode(4, 3, 3, 0)
    table[state, 4] = 12.0
    table[taxi.unwrapped.encode(4, 3, 4, 0), 0] = 99.0  # with the passenger in the taxi: another map
    (axes,) = drawn({"a": table}, taxi, passenger=3, destination=0)
    assert {"R", "G", "Y", "B", "pick up", "12.00"} <= set(words(axes))
    assert axes.get_title(loc="left") == "a (passenger at B, to R)"
    assert np.nanmax(axes.images[0].get_array()) == 12
    places = places_of(taxi, passenger=3)
    assert places.walls == [
        ((row, column), (row, column + 1)) for row, column in [(0, 1), (1, 1), (3, 0), (3, 2), (4, 0), (4, 2)]
    ]
    assert places.passenger == (4, 3)
    for passenger, destination in ((5, 0), (0, 4), (-1, 0)):
        with pytest.raises(ValueError, match="passenger is 0 to 4"):
            places_of(taxi, passenger, destination)


def test_any_other_task_gives_a_heat_map_of_states_and_actions(drawn):
    class Other(gym.Env):
        observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)

    table = np.array([[1.0, 2.0], [4.0, 3.0], [0.0, 0.0]])
    (axes,) = drawn({"other": table}, Other())
    np.testing.assert_array_equal(axes.images[0].get_array(), table.T)
    assert [list(data) for data in axes.lines[0].get_data()] == [[0, 1], [1, 0]]


def test_tables_side_by_side_have_the_same_colours(drawn):
    one, two = drawn({"one": along_the_cliff(), "two": 2 * along_the_cliff()}, "CliffWalking-v1", title="both")
    assert one.images[0].get_clim() == two.images[0].get_clim() == (-26, -1)


@pytest.mark.parametrize("tables", [{}, {"wrong": np.zeros((4, 16))}])
def test_what_is_no_table_of_the_task_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match=r"expected tables \[S, A\] = \[16, 4\], got"):
        plot_tables(tmp_path / "x.png", tables, "FrozenLake-v1")
    assert not list(tmp_path.iterdir())
