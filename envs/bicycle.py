"""Bicycle: keep it upright with the handlebar, the body, the pedals and the brake; ride it to a goal."""

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box

from envs.checks import bounds
from envs.draw import AMBER, CORAL, INK, PAPER, SAND, SLATE, STEEL, TEAL, Canvas
from envs.dynamics import Dynamics
from envs.vector import DynamicsEnv, DynamicsVectorEnv

# the paper's: m, kg, m/s², s; DC is how far the contact of the front tyre lies before the centre of mass
L, DC, H, D_CM, R, M_BICYCLE, M_TYRE, M_RIDER, G, DT = 1.11, 0.66, 0.94, 0.3, 0.34, 15.0, 1.7, 60.0, 9.82, 0.01
M = M_BICYCLE + M_RIDER
I_TILT = 13 / 3 * M_BICYCLE * H**2 + M_RIDER * (H + D_CM) ** 2  # kg m², about the line between the tyres' contacts
I_DC, I_DV, I_DL = M_TYRE * R**2, 1.5 * M_TYRE * R**2, 0.5 * M_TYRE * R**2  # of a tyre: spin; the paper's two others
TORQUE, LEAN, FALL, STOP = 2.0, 0.02, np.pi / 15, np.radians(80)  # N m, m, rad, rad (as far as the handlebar turns)
# ours: a rider of 100 W and at most 60 N, a brake of 150 N, air 0.3 v² (1.2 kg/m³ · 0.5 m² / 2), tyres 0.005 M g
POWER, PEDAL, BRAKE, AIR, ROLL = 100.0, 60.0, 150.0, 0.3, 0.005 * M * G  # W, N, N, kg/m, N
START, FOOT = 10 / 3.6, 1.0  # m/s: at the start (± 10 %); below it a foot goes down
SUBSTEPS = 2
SCALES = np.array([[0.25], [2.5], [FALL], [0.5], [5.0]])  # [5, 1] rad, rad/s, rad, rad/s, m/s
GOAL, RADIUS, TEN = 60.0, 10.0, 10.0  # m; m, the paper's; m that are worth a reward of 1
FAR, NEAR, SHADE, BLUSH = (222, 228, 226), (196, 211, 204), (204, 195, 178), (240, 196, 176)  # hills, shadow, goal


class Bicycle(Dynamics):
    """The bicycle of Randløv and Alstrøm, with pedals and a brake: stay upright for 30 s.

    Left is positive, for all angles and for the body. With the handlebar at ``θ``, the tilt ``ω``, the tyres spinning
    at ``σ̇ = v / r`` and the centre of mass at ``φ = ω + arctan(d / h)``, two Euler steps of 10 ms for each action:

        ω̈ = (M h g sin φ - cos φ (I_dc σ̇ θ̇ + v² (M_d r (1/r_f + 1/r_b) + M h / r_CM))) / I
        θ̈ = (T - I_dv σ̇ ω̇) / I_dl
        v̇ = (F - 0.3 v² - 0.005 M g) / M

    where ``r_f = l / sin θ``, ``r_b = l / tan θ`` and ``r_CM = √((l - c)² + r_b²)`` are the radii, with the sign of
    ``θ``, on which the front tyre, the back tyre and the centre of mass ride. The actions in [-1, 1] are the torque on
    the handlebar (``T``, ±2 N m), how far the body leans out (``d``, ±2 cm), and the pedals (``F ≤ 60 N`` and 100 W)
    or, if negative, the brake (150 N). Full pedalling settles at 6.35 m/s, where ``0.3 v³ + 3.68 v = 100``.

    The observation is ``θ/0.25, θ̇/2.5, ω/12°, ω̇/0.5, v/5`` (rad, s, m). The state is ``θ, θ̇, ω, ω̇``, the heading
    ``ψ``, the contact ``x, y`` of the back tyre (m; the front one is ``l`` ahead), ``v``, the metres ridden and ``d``.
    The reward is 1 a step, 20 ms: the return is the time upright. It terminates with ``|ω| > 12°``, or below 1 m/s,
    where a foot goes down. ``options["low"]`` and ``["high"]`` bound the first ``θ, θ̇, ω, ω̇`` (±0.02 rad, rad/s).

    Differences from the paper: the speed is a state, not 10 km/h; the rider's noise of 2 cm is left out, as a step
    draws nothing, and the start is random instead; actions are continuous; the heading is kept as an angle.

    Nothing rides by itself here. A real bicycle does, at 4.3 to 6.0 m/s (Meijaard et al. 2007), as trail and gyroscope
    steer it into a fall. Here is no trail, and the paper's gyroscopic torque on the handlebar, ``-I_dv σ̇ ω̇``, steers
    out of it: by mechanics it were ``+I_dc σ̇ ω̇``, opposite to the tilt's. Of the linear model's four eigenvalues one is
    0 and the others are the roots of ``s³ - (M g h + I_dc σ̇ k) s / I - K k / I``, ``k = I_dv σ̇ / I_dl``,
    ``K = v² (2 M_d r + M h) / l``: one of them is positive at any speed (2.5 at 1 m/s, 4.7 at 10 km/h, 9.5 at 6 m/s).
    With the other sign two would be, since the roots of a cubic without a square add up to 0.

    References
    ----------
    Randløv, Alstrøm (1998), *Learning to drive a bicycle using reinforcement learning and shaping*, ICML; Meijaard,
    Papadopoulos, Ruina, Schwab (2007), *Linearized dynamics equations for the balance and steer of a bicycle*,
    Proc. R. Soc. A 463.

    Examples
    --------
    >>> dynamics = Bicycle()
    >>> state = dynamics.initial(np.random.default_rng(0), 1, {"low": 0, "high": 0})  # upright
    >>> for _ in range(10):  # the handlebar turned to the left for 0.2 s: the bicycle tilts to the right
    ...     rewards, terminated = dynamics.step(state, np.array([[1.0, 0.0, 0.0]]))
    >>> state[:4, 0].round(3).tolist()
    [0.433, 4.198, -0.006, -0.109]
    """

    max_episode_steps = 1500
    reward_threshold: ClassVar[float | None] = 1425.0
    render_fps = 50

    def __init__(self) -> None:
        self.observation_space: Any = Box(-np.inf, np.inf, (5,), np.float32)
        self.action_space: Any = Box(-1.0, 1.0, (3,), np.float32)

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> np.ndarray:
        low, high = bounds(options, -0.02, 0.02)
        state = np.zeros((10, num_envs))
        state[:4] = rng.uniform(low, high, (4, num_envs))
        state[7] = rng.uniform(0.9 * START, 1.1 * START, num_envs)
        return state

    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        torque, lean, pedal = np.clip(actions, -1.0, 1.0).T.astype(np.float64)
        theta, theta_dot, omega, omega_dot, psi, x, y, v, ridden, d = state[:10]
        torque *= TORQUE
        np.multiply(lean, LEAN, out=d)
        force = np.where(pedal > 0, pedal * np.minimum(PEDAL, POWER / np.maximum(v, FOOT)), pedal * BRAKE)
        for _ in range(SUBSTEPS):
            phi, spin, tan = omega + np.arctan(d / H), v / R, np.tan(theta)
            r_f, r_b, r_cm = np.sin(theta) / L, tan / L, tan / np.sqrt((L - DC) ** 2 * tan**2 + L**2)  # 1 / radius
            outwards = I_DC * spin * theta_dot + v**2 * (M_TYRE * R * (r_f + r_b) + M * H * r_cm)
            theta_acc = (torque - I_DV * spin * omega_dot) / I_DL
            omega_dot += (M * H * G * np.sin(phi) - np.cos(phi) * outwards) / I_TILT * DT
            omega += omega_dot * DT
            theta_dot += theta_acc * DT
            theta += theta_dot * DT
            theta_dot[np.abs(theta) > STOP] = 0.0
            np.clip(theta, -STOP, STOP, out=theta)
            along = v * DT
            half = np.arcsin(along / 2 * r_b)  # between the chord that the back tyre rides and its tangent
            x += along * np.cos(psi + half)
            y += along * np.sin(psi + half)
            psi += 2 * half
            ridden += along
            v += (force - AIR * v**2 - ROLL) / M * DT
            np.maximum(v, 0.0, out=v)
        return np.ones(len(v)), (np.abs(omega) > FALL) | (v < FOOT)

    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        return (state[[0, 1, 2, 3, 7]] / SCALES).T.astype(np.float32, order="C")  # [B, 5]

    def draw(self, state: np.ndarray) -> np.ndarray:
        return np.concatenate((_from_behind(state), _from_above(state)), axis=1)


class BicycleGoal(Bicycle):
    """Ride the :class:`Bicycle` to a goal 60 m away, in any direction, within 30 s.

    To the observation it adds ``sin α, cos α`` of the direction to the goal from the heading, and the distance / 60 m;
    to the state the goal's ``x, y``. The reward of a step is the metres by which the back tyre came nearer, divided by
    10; besides 1 at arrival, within the paper's 10 m, which ends the episode, and -1 for a fall or a foot on the
    ground: a ride that arrives returns 6. Shaping by the difference of a potential, here minus the distance, keeps the
    best policy (exactly so if undiscounted).

    Parameters
    ----------
    distance : float
        Of the goal at the start, in m.

    References
    ----------
    Ng, Harada, Russell (1999), *Policy invariance under reward transformations*, ICML.

    Examples
    --------
    >>> state = BicycleGoal().initial(np.random.default_rng(0), 1)
    >>> round(float(np.hypot(*(state[10:, 0] - state[5:7, 0]))), 3)
    60.0
    """

    reward_threshold = 5.5

    def __init__(self, distance: float = GOAL) -> None:
        super().__init__()
        self.observation_space = Box(-np.inf, np.inf, (8,), np.float32)
        self.distance = distance

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> np.ndarray:
        state = super().initial(rng, num_envs, options)
        bearing = rng.uniform(-np.pi, np.pi, num_envs)
        return np.concatenate((state, self.distance * np.stack((np.cos(bearing), np.sin(bearing)))))

    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = np.hypot(*(state[10:] - state[5:7]))
        _, terminated = super().step(state, actions)
        distance = np.hypot(*(state[10:] - state[5:7]))
        arrived = distance < RADIUS
        return (before - distance) / TEN + 1.0 * arrived - 1.0 * (terminated & ~arrived), terminated | arrived

    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        ahead, left = _from_the_saddle(state, state[10:])
        distance = np.hypot(ahead, left)
        goal = np.stack((left / distance, ahead / distance, distance / GOAL), axis=1)
        return np.concatenate((super().observe(state), goal.astype(np.float32)), axis=1)  # [B, 8]


def _from_the_saddle(state: np.ndarray, point: np.ndarray) -> Any:
    """How far a point lies ahead of the back tyre, and to the left."""
    (dx, dy), cos, sin = point - state[5:7], np.cos(state[4]), np.sin(state[4])
    return cos * dx + sin * dy, cos * dy - sin * dx


def _from_behind(state: np.ndarray) -> np.ndarray:
    """The rider seen by one who follows 4 m behind, in metres at the bicycle: ``[400, 300, 3]``."""
    theta, omega, psi, ridden, d = state[[0, 2, 4, 8, 9]]
    canvas, eye = Canvas(400, 300, scale=190.0, centre=(0.0, 0.86)), 4.0
    columns, horizon = canvas.columns(), 1.25

    def ground(left: float, ahead: float) -> tuple[float, float]:
        return -left * eye / (eye + ahead), horizon - horizon * eye / (eye + ahead)

    for height, waves, colour in ((0.17, 5, FAR), (0.08, 11, NEAR)):  # hills turn with us
        bearing = waves * (psi - np.arctan(columns / eye))
        hills = horizon + height * (0.55 + 0.3 * np.sin(bearing) + 0.15 * np.sin(2 * bearing + 1))
        canvas.below(hills, np.zeros_like(hills), colour)
    canvas.below(np.full_like(columns, horizon), np.zeros_like(columns), SAND)
    for i in range(8):  # paving stones at both sides
        near = 3 * i - ridden % 3 - 1.5
        for left in (-1.3, 1.1):
            stone = [ground(left, near), ground(left + 0.2, near), ground(left + 0.2, near + 1), ground(left, near + 1)]
            canvas.polygon(stone, PAPER)
    if len(state) > 10:
        ahead, left = _from_the_saddle(state, state[10:])
        if ahead > 0:
            (x, y), size = ground(left, ahead), 12 * eye / (eye + ahead)  # a tall flag, to be seen from afar
            canvas.capsule((x, y), (x, y + 0.3 * size), 0.012, INK)
            canvas.polygon([(x, y + 0.3 * size), (x, y + 0.2 * size), (x + 0.16 * size, y + 0.25 * size)], CORAL)

    def at(x: float, y: float) -> np.ndarray:  # tilted with the bicycle
        return np.array([x * np.cos(omega) - y * np.sin(omega), x * np.sin(omega) + y * np.cos(omega)])

    def limb(*points: tuple[float, float], width: float, colour: tuple[int, int, int]) -> None:
        for start, end in pairwise(points):
            canvas.capsule(at(*start), at(*end), width, colour)

    round_ = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    canvas.polygon([(0.34 * np.cos(a) - 0.3 * np.sin(omega), 0.035 * np.sin(a)) for a in round_], SHADE)
    front = (0.03 + R * abs(np.sin(theta))) * np.cos(round_), R + (R - 0.02) * np.sin(round_)
    canvas.polygon([at(x, y) for x, y in zip(*front, strict=True)], STEEL)
    bar, rise, crank, shift = 0.3 * np.cos(theta), 0.1 * np.sin(theta), ridden * 2 * np.pi / 5, -4 * d
    limb((-bar, 1.06 - rise), (bar, 1.06 + rise), width=0.022, colour=INK)
    for side in (-1, 1):
        grip, pedal = (side * bar, 1.06 + side * rise), 0.3 + 0.17 * np.sin(crank) * side
        limb((shift + side * 0.17, 1.42), (side * 0.36, 1.2), grip, width=0.045, colour=AMBER)
        limb((side * 0.09, 0.93), (side * 0.17, 0.6 + pedal / 3), (side * 0.12, pedal), width=0.062, colour=SLATE)
        limb((side * 0.1, pedal - 0.05), (side * 0.16, pedal - 0.05), width=0.04, colour=INK)
    limb((0.0, 0.04), (0.0, 2 * R - 0.04), width=0.035, colour=INK)
    limb((0.0, 2 * R), (0.0, 0.88), width=0.02, colour=TEAL)
    limb((-0.07, 0.91), (0.07, 0.91), width=0.045, colour=INK)
    limb((-0.04, 1.0), (0.04, 1.0), (shift + 0.11, 1.4), (shift - 0.11, 1.4), (-0.04, 1.0), width=0.09, colour=CORAL)
    limb((shift / 2, 1.05), (shift, 1.38), width=0.12, colour=CORAL)
    limb((shift, 1.45), (shift * 1.1, 1.6), width=0.05, colour=AMBER)
    canvas.disc(at(shift * 1.1, 1.64), 0.1, AMBER)
    limb((shift * 1.1 - 0.035, 1.69), (shift * 1.1 + 0.035, 1.69), width=0.085, colour=TEAL)
    return canvas.picture()


def _from_above(state: np.ndarray) -> np.ndarray:
    """The bicycle on a grid of 2 m that runs below it, where its handlebar leads to, its speed: ``[400, 300, 3]``."""
    theta, omega, psi, v, d = state[[0, 2, 4, 7, 9]]
    here = state[5:7]
    canvas = Canvas(400, 300, scale=42.0, centre=here, paper=SAND)
    if len(state) > 10:
        canvas.disc(state[10:], RADIUS, BLUSH)
        canvas.disc(state[10:], 0.3, CORAL)
    for i in range(-2, 4):
        canvas.box((2 * (here[0] // 2 + i), here[1]), 0.05, 14, PAPER)
        canvas.box((here[0], 2 * (here[1] // 2 + i)), 14, 0.05, PAPER)

    def at(ahead: float, left: float) -> np.ndarray:
        return here + ahead * np.array([np.cos(psi), np.sin(psi)]) + left * np.array([-np.sin(psi), np.cos(psi)])

    bend = np.tan(theta) / L
    for metres in np.arange(2.0, 4.1, 0.4):  # along the circle
        half = metres * bend / 2
        canvas.disc(at(*(metres * np.sinc(half / np.pi) * np.array([np.cos(half), np.sin(half)]))), 0.05, STEEL)
    if len(state) > 10:
        ahead, left = _from_the_saddle(state, state[10:])
        way = np.arctan2(left, ahead)
        if np.hypot(ahead, left) > RADIUS:  # an arrow round the bicycle
            tips = [(3.1, way), (2.5, way + 0.08), (2.5, way - 0.08)]
            canvas.polygon([at(r * np.cos(a), r * np.sin(a)) for r, a in tips], CORAL)
    hub, bar = at(L, 0.0), np.array([-np.sin(psi + theta), np.cos(psi + theta)])
    along, top = np.array([np.cos(psi + theta), np.sin(psi + theta)]), H * np.sin(omega)
    canvas.capsule(at(-R, 0.0), at(R, 0.0), 0.05, INK)
    canvas.capsule(hub - R * along, hub + R * along, 0.05, INK)
    canvas.capsule(at(0.0, 0.0), at(L - 0.15, top / 2), 0.045, TEAL)
    grips = at(L - 0.2, top) + 0.3 * bar, at(L - 0.2, top) - 0.3 * bar
    canvas.capsule(*grips, 0.035, INK)
    body = top + 4 * d
    for side, grip in zip((0.2, -0.2), grips, strict=True):
        canvas.capsule(at(0.45, body + side), grip, 0.06, AMBER)
        canvas.capsule(at(0.45, body), at(0.45, body + side), 0.12, CORAL)
    canvas.capsule(at(0.2, top), at(0.45, body), 0.15, CORAL)
    canvas.disc(at(0.55, 1.2 * body), 0.14, TEAL)
    left, foot = here[0] - 3.3, here[1] - 4.5
    canvas.box((left, foot + 1.0), 0.2, 2.0, PAPER)  # 8 m/s would fill it
    canvas.box((left, foot + v / 8), 0.2, v / 4, TEAL)
    return canvas.picture()


class BicycleEnv(DynamicsEnv):
    """One :class:`Bicycle`."""

    dynamics_type = Bicycle


class BicycleVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`Bicycle`."""

    dynamics_type = Bicycle


class BicycleGoalEnv(DynamicsEnv):
    """One :class:`BicycleGoal`."""

    dynamics_type = BicycleGoal


class BicycleGoalVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`BicycleGoal`."""

    dynamics_type = BicycleGoal
