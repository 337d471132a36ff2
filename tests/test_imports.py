"""The one-way rule of CONTRIBUTING.md, read from the syntax trees, and what each door loads."""

import ast
import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("agents", "envs", "sandbox", "unsupervised")
FRAMEWORKS = ("gymnasium", "sklearn", "stable_baselines3")
LEAVES = tuple(
    f"sandbox.{name}"
    for name in (
        *("cli", "flags", "train", "runs", "show", "sight", "tables", "data", "bench", "demos"),
        *("cluster", "cluster_model", "cluster_plots", "figures", "fit", "latent_plots"),
        *("compress", "fit_codec", "fit_text", "rate_distortion", "probe", "probe_plots", "clock"),
    )
)
KERNEL = (
    "agents.cells",
    "agents.distributions",
    "agents.flat_weights",
    "agents.losses",
    "agents.mlp_step",
    "agents.optimizers",
    "agents.q_heads",
    "agents.q_step",
    "agents.recurrent_step",
    "agents.replay",
    "agents.returns",
    "agents.rollout",
)
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source, module, is_package=False):
    """Every module that a source names in an import, wherever it stands; relative ones resolved."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*up, *([base] if base else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def within(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offences(module, source, is_package=False):
    """What `module` imports against the rule."""
    names = imported(source, module, is_package)
    if within(module, *LEAVES):
        return set()
    bad = {name for name in names if within(name, *LEAVES)}
    if within(module, "sandbox"):
        bad |= {name for name in names if within(name, *FRAMEWORKS, "agents", "envs", "unsupervised")}
    if within(module, "envs"):
        may = {"envs", "gymnasium", "numpy", "ale_py", "PIL", "rich"}  # the last three: Atari, and recording it
        outside = {name.split(".")[0] for name in names} - may - set(sys.stdlib_module_names)
        bad |= {name for name in names if name.split(".")[0] in outside}
    if within(module, "agents", "unsupervised"):
        others = {"agents", "unsupervised", "envs"} - {module.split(".")[0]}
        bad |= {name for name in names if within(name, *others)}
        allowed = ("sandbox.zoo", "sandbox.training", "sandbox.lazy")
        bad |= {name for name in names if name.startswith("sandbox.") and not within(name, *allowed)}
    if module in KERNEL:
        bad |= {
            name for name in names if name.split(".")[0] not in {"torch", "numpy", "agents", *sys.stdlib_module_names}
        }
        bad |= {name for name in names if within(name, "agents") and not within(name, *KERNEL)}
    return bad


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_module_imports_only_what_the_one_way_rule_lets_in(path):
    assert not offences(module_of(path), path.read_text(encoding="utf-8"), path.name == "__init__.py")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sandbox.zoo.mlp", "import gymnasium"),
        ("sandbox.zoo.mlp", "from gymnasium.spaces import Box"),
        ("sandbox.training.log", "def f():\n    import stable_baselines3.common"),
        ("sandbox.training.log", "from sklearn import base"),
        ("sandbox.zoo.conv", "from agents.ppo import PPO"),
        ("sandbox.zoo.conv", "from ..cli import main"),
        ("sandbox.lazy", "if TYPE_CHECKING:\n    import envs"),
        ("envs.cartpole", "from sandbox.training import threads"),
        ("envs.cartpole", "import torch"),
        ("envs.cartpole", "from agents import PPO"),
        ("agents.ppo", "import unsupervised"),
        ("agents.ppo", "from envs import CartPole"),
        ("agents.ppo", "from sandbox import show"),
        ("agents.ppo", "from sandbox.runs import Run"),
        ("agents.ppo", "from sandbox.bench import measure"),
        ("unsupervised.kmeans", "import agents.losses"),
        ("agents.returns", "import stable_baselines3"),
        ("agents.losses", "from agents.policies import ZooFeatures"),
        ("agents.losses", "from . import policies"),
        ("agents.rollout", "from sandbox.training import threads"),
    ],
)
def test_the_proof_sees_an_offence(module, source):
    assert offences(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sandbox.cli", "from agents.ppo import PPO\nimport envs"),
        ("sandbox.zoo.conv", "from ..training import threads"),
        ("agents.ppo", "from sandbox import zoo\nfrom sandbox.training.device import threads"),
        ("agents.losses", "import math\nimport torch\nfrom agents.returns import gae"),
        ("envs.cartpole", "import numpy as np\nfrom gymnasium import spaces\nfrom envs.vector import Env"),
    ],
)
def test_the_proof_lets_through_what_the_rule_allows(module, source):
    assert not offences(module, source)


def test_there_are_files_to_prove_it_of():
    assert {module_of(path).split(".")[0] for path in FILES} == set(ROOMS)
    assert {*KERNEL, "sandbox.cli", "sandbox.training.log"} <= {module_of(path) for path in FILES}


def test_no_module_is_called_utils():
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "common", "misc")]


# -- what each door loads ----------------------------------------------------------------------------------------------


def loaded(code, modules):
    """Which of `modules` a fresh interpreter has loaded after `code`."""
    report = f"\nimport sys\nprint('LOADED', *[m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "code",
    [
        "import sandbox",
        "import sandbox.zoo",
        "from sandbox.cli import main; main(['--help'])",
        "import agents; dir(agents)",
        "import sandbox.data",
        "import unsupervised",
    ],
)
def test_a_door_loads_no_torch_and_no_framework(code):
    assert not loaded(code, ("torch", *FRAMEWORKS, "ale_py", "matplotlib", "rich"))


def test_the_list_loads_no_torch():
    assert not loaded("from sandbox.cli import main; main(['list'])", ("torch", "stable_baselines3", "sklearn"))


def test_importing_envs_loads_no_torch_and_nothing_of_ours():
    assert not loaded("import envs", ("torch", "stable_baselines3", "sklearn", "sandbox", "agents"))


def test_importing_everything_leaves_torchs_settings_alone():
    code = """if True:
        import torch, numpy as np
        def settings():
            return (torch.get_num_threads(), torch.get_default_dtype(), torch.get_float32_matmul_precision(),
                    torch.initial_seed(), torch.get_rng_state().sum().item(), np.random.get_state()[1].sum(),
                    torch.distributions.Distribution._validate_args, torch.is_grad_enabled())
        before = settings()
        import agents.ppo, agents.evaluation, envs, sandbox.train, sandbox.cli, sandbox.show, sandbox.bench.ppo_cartpole
        from sandbox import zoo
        zoo.MLP, zoo.ViT, zoo.load, zoo.EMA
        assert settings() == before, (before, settings())"""
    loaded(code, ())


# -- lazy names --------------------------------------------------------------------------------------------------------


def lazy_strings():
    from envs.names import ENTRY_POINTS
    from sandbox import cli
    from sandbox.data import SOURCES
    from sandbox.zoo import ZOO

    faces = [f"{path}{face}" for path in ENTRY_POINTS.values() for face in ("", "Env", "VectorEnv")]
    benches = [f"{module}:main" for module, _ in cli.BENCHES.values()]
    clusterers = [path for path, _ in cli.CLUSTERERS.values()]
    return [*cli.ALGORITHMS.values(), *clusterers, *benches, *ZOO.values(), *SOURCES.values(), *faces]


@pytest.mark.parametrize("text", lazy_strings())
def test_a_lazy_string_resolves(text):
    module, attribute = text.split(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_every_demo_and_bench_there_is_has_its_name_and_the_other_way_round():
    from sandbox import cli

    demos = {path.stem for path in (ROOT / "sandbox/demos").glob("*.py")} - {"__init__"}
    benches = {f"sandbox.bench.{path.stem}" for path in (ROOT / "sandbox/bench").glob("*.py")} - {
        "sandbox.bench.__init__"
    }
    assert demos == set(cli.DEMOS)
    assert benches == {module for module, _ in cli.BENCHES.values()}


# -- packages ----------------------------------------------------------------------------------------------------------


def test_setuptools_lists_every_package_and_no_other():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {module_of(path) for path in FILES if path.name == "__init__.py"}
    folders = {module_of(path.parent / "__init__.py") for path in FILES}  # a folder without __init__ would be left out
    assert sorted(listed) == sorted(there) == sorted(folders)


def test_every_data_file_in_a_package_is_shipped():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {path for room, patterns in data.items() for one in patterns for path in (ROOT / room).glob(one)}
    there = {
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".so")
    }
    assert there == shipped


def ruff_order(name):
    """RUF022: SCREAMING_CASE, then CamelCase, then the rest."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


@pytest.mark.parametrize("package", ["agents", "envs", "sandbox.data", "sandbox.training", "sandbox.zoo"])
def test_a_packages_contents_are_sorted_complete_and_there(package):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__, key=ruff_order)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    flat = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.")
        for alias in node.names
    }
    assert flat - {"ENTRY_POINTS", "PROTOCOLS", "atari_games"} <= set(
        module.__all__
    )  # what the table of contents imports, it offers


@pytest.mark.parametrize("package", ["agents", "sandbox.zoo"])
def test_a_lazy_package_offers_what_it_lists_and_says_what_it_lacks(package):
    module = importlib.import_module(package)
    assert sorted(dir(module)) == sorted(module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nonsense'"):
        _ = module.Nonsense


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_can_be_imported_first(room):
    """No import order is needed: a cycle would show in one of them."""
    names = [room] + [
        info.name
        for info in pkgutil.walk_packages([str(ROOT / room)], f"{room}.")
        if not within(info.name, "sandbox.demos", "sandbox.bench")
    ]
    code = f"""if True:
        import importlib, sys
        import gymnasium, stable_baselines3, torch
        for name in {names!r}:
            for loaded in [m for m in sys.modules if m.split(".")[0] in {ROOMS!r}]:
                del sys.modules[loaded]
            importlib.import_module(name)"""
    loaded(code, ())
