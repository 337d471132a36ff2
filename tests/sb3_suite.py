"""Run Stable-Baselines3's own tests with the classes of this project in the place of its own, and without.

    python tests/sb3_suite.py PATH [PYTEST ARGUMENTS]      (make test-sb3 SB3=PATH)

PATH is a checkout of Stable-Baselines3; nothing in it is changed, and nothing of it is part of this project. Its tests
run twice, with its own classes and with ours; what fails only with ours is listed and makes the exit code 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

OURS = ("A2C", "DQN", "PPO")


def pytest_configure() -> None:
    """As a plugin of pytest: put ours where Stable-Baselines3 has its own, before a test imports them."""
    import stable_baselines3

    import agents

    for name in OURS:
        home = getattr(stable_baselines3, name.lower())
        for module in (stable_baselines3, home, getattr(home, name.lower())):
            setattr(module, name, getattr(agents, name))


def outcomes(tests: Path, ours: bool, arguments: list[str]) -> dict[str, str]:
    """Run the suite; each test's outcome by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        plugin = ["-p", Path(__file__).stem] if ours else []
        command = [sys.executable, "-m", "pytest", *plugin, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        # Its tests write beside themselves: they run in a copy.
        shutil.copytree(tests, Path(folder) / "tests")
        for file in ("pyproject.toml", "setup.cfg"):
            if (tests.parent / file).is_file():
                shutil.copy(tests.parent / file, folder)
        here = Path(__file__).resolve().parent
        path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        subprocess.run([*command, *arguments, "tests"], cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=False)
        cases = ElementTree.parse(report).iter("testcase") if report.is_file() else ()
        return {f"{case.get('classname')}::{case.get('name')}": _outcome(case) for case in cases}


def _outcome(case: ElementTree.Element) -> str:
    kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return kinds[0] if kinds else "passed"


def main(arguments: list[str]) -> int:
    """Compare the two runs."""
    tests = Path(arguments[0] if arguments else "", "tests").resolve()
    if not arguments or not (tests / "test_run.py").is_file():
        print(
            f"{tests.parent} is no checkout of Stable-Baselines3: make test-sb3 SB3=PATH, after\n"
            "  git clone https://github.com/DLR-RM/stable-baselines3 PATH",
            file=sys.stderr,
        )
        return 2
    theirs, ours = (outcomes(tests, replaced, arguments[1:]) for replaced in (False, True))
    for name, results in (("Stable-Baselines3's own", theirs), (f"ours ({', '.join(OURS)})", ours)):
        counts = {kind: list(results.values()).count(kind) for kind in ("passed", "failure", "error", "skipped")}
        print(f"{name}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    worse = [name for name, outcome in ours.items() if outcome in ("failure", "error") and theirs.get(name) == "passed"]
    missing = sorted(theirs.keys() - ours.keys())
    print("\n".join([f"fails only with ours: {name}" for name in worse] + [f"did not run: {name}" for name in missing]))
    print(f"failures beyond those of unmodified Stable-Baselines3: {len(worse) + len(missing)}")
    return 1 if worse or missing or not theirs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
