"""Run scikit-learn's own tests of k-means with the classes and functions of this project in the place of its own.

    python tests/sklearn_suite.py [PYTEST ARGUMENTS]      (make test-sklearn)

The tests are those of the installed scikit-learn, read where they lie. They run twice, with its own k-means and with
ours; what fails only with ours is listed and makes the exit code 1. Only the public names that the tests import are
replaced: the private helpers among them stay scikit-learn's. With SKLEARN_RUN_FLOAT32_TESTS=1 it skips none of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

OURS = ("BisectingKMeans", "KMeans", "MiniBatchKMeans", "k_means", "kmeans_plusplus")
FILES = ("test_k_means.py", "test_bisect_k_means.py")
OUTCOMES: dict[str, str] = {}  # of the tests of this process


# -- as a plugin of pytest ---------------------------------------------------------------------------------------------


def pytest_addoption(parser) -> None:
    parser.addoption("--ours", action="store_true", help="put ours where scikit-learn has its own")
    parser.addoption("--outcomes", help="the file for each test's outcome, in JSON")


def pytest_configure(config) -> None:
    """Before a test is imported, which takes what it tests from ``sklearn.cluster``."""
    if config.getoption("ours"):
        import sklearn.cluster

        import unsupervised

        mine = {name: getattr(unsupervised, name) for name in OURS}  # all are loaded before one is replaced
        for name, replacement in mine.items():
            setattr(sklearn.cluster, name, replacement)


def pytest_runtest_logreport(report) -> None:
    if report.when == "call" or not report.passed:
        OUTCOMES[report.nodeid] = report.outcome


def pytest_sessionfinish(session) -> None:
    Path(session.config.getoption("outcomes")).write_text(json.dumps(OUTCOMES))


# -- as a program ------------------------------------------------------------------------------------------------------


def run(ours: bool, arguments: list[str]) -> dict[str, str]:
    """Run the tests, the settings of this project's own ones left out; each one's outcome by name."""
    import sklearn.cluster

    home = Path(sklearn.cluster.__file__).parent / "tests"
    here = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as folder:
        settings, outcomes = Path(folder, "pytest.ini"), Path(folder, "outcomes.json")
        settings.write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-p", here.stem, "-p", "no:cacheprovider", "-c", str(settings), "-q"]
        command += [f"--rootdir={home}", f"--outcomes={outcomes}", *(["--ours"] if ours else [])]
        command += [*arguments, *(str(home / file) for file in FILES)]
        path = os.pathsep.join([str(here.parent), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=False)
        return json.loads(outcomes.read_text()) if outcomes.is_file() else {}


def main(arguments: list[str]) -> int:
    """Compare the two runs."""
    theirs, ours = (run(replaced, arguments) for replaced in (False, True))
    for name, results in (("scikit-learn's own", theirs), ("ours", ours)):
        for file in FILES:
            counts = Counter(outcome for test, outcome in results.items() if test.startswith(file))
            print(f"{name}, {file}: " + ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "skipped")))
    worse = [test for test, outcome in theirs.items() if outcome == "passed" and ours.get(test) != "passed"]
    for test in worse:
        print(f"only with ours {ours.get(test, 'not run')}: {test}")
    print(f"passing with scikit-learn's own and not with ours: {len(worse)} of {list(theirs.values()).count('passed')}")
    return 1 if worse or not theirs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
