"""The folder of a run."""

import json
import multiprocessing

import numpy as np
import pytest
import yaml

from sandbox.runs import Run, write_evaluation, write_seeds
from sandbox.training.checkpoint import FileError

CONFIG = {
    "algorithm": "ppo", "env": "sandbox/Catch-v0", "env_id": "sandbox/Catch-v0", "preset": "none", "seed": 0,
    "n_timesteps": 64, "n_envs": 2, "eval_every": 0, "eval_episodes": 1, "settings": {"learning_rate": "lin_1e-3"},
}  # fmt: skip


def create(root):
    return Run.create(root, dict(CONFIG), ["sandbox", "train", "it"])


def test_a_new_run_takes_the_next_free_number_and_opens_as_it_was_made(tmp_path):
    runs = [create(tmp_path) for _ in range(3)]
    assert [run.folder for run in runs] == [tmp_path / "ppo" / f"sandbox-Catch-v0_{n}" for n in (1, 2, 3)]
    assert Run.open(runs[0].folder).config == CONFIG
    assert Run.open(str(runs[0].folder)).folder == runs[0].folder
    assert (runs[0].folder / "command.txt").read_text() == "sandbox train it\n"
    assert json.loads((runs[0].folder / "versions.json").read_text())["numpy"] == np.__version__


def test_a_gap_is_filled_and_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "ppo").mkdir()
    (tmp_path / "ppo" / "sandbox-Catch-v0_1").write_text("mine")
    assert create(tmp_path).folder.name == "sandbox-Catch-v0_2"
    assert (tmp_path / "ppo" / "sandbox-Catch-v0_1").read_text() == "mine"


def test_runs_that_begin_at_once_get_folders_of_their_own(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        folders = [run.folder for run in pool.map(create, [tmp_path] * 12)]
    assert len(set(folders)) == 12


@pytest.mark.parametrize("env", ["sandbox/A-v0", "my_module:sandbox/A-v0", "A-v0"])
def test_an_ids_slashes_and_colons_make_one_folder_name(tmp_path, env):
    run = Run.create(tmp_path, {**CONFIG, "env": env}, [])
    assert run.folder.parent == tmp_path / "ppo"
    assert ":" not in run.folder.name


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(FileError, match="not a run") as caught:
            Run.open(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", sorted({*CONFIG} - {"preset"}))
@pytest.mark.parametrize("value", [None, "missing", [1]], ids=repr)
def test_a_config_with_a_wrong_or_missing_entry_is_damaged(tmp_path, key, value):
    run = create(tmp_path)
    config = {name: entry for name, entry in CONFIG.items() if name != key}
    if value != "missing":
        config[key] = value
    (run.folder / "config.yml").write_text(yaml.safe_dump(config))
    with pytest.raises(FileError) as caught:
        Run.open(run.folder)
    assert "config.yml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_would_run_code_is_refused_and_not_run(tmp_path):
    run = create(tmp_path)
    (run.folder / "config.yml").write_text(f"seed: !!python/object/apply:os.mkdir ['{tmp_path}/ran']\n")
    with pytest.raises(FileError):
        Run.open(run.folder)
    assert not (tmp_path / "ran").exists()


def save_checkpoint(run, step):
    path = run.checkpoint(step)
    path.parent.mkdir(exist_ok=True)
    path.write_text(str(step))


def test_only_the_last_checkpoints_stay_the_latest_first(tmp_path):
    run = create(tmp_path)
    assert run.checkpoints() == []
    for step in (5, 50, 500, 1_000_000_000, 2_000_000_000):
        save_checkpoint(run, step)
        run.prune()
    assert [path.read_text() for path in run.checkpoints()] == ["2000000000", "1000000000"]


def test_asking_where_a_checkpoint_goes_removes_none(tmp_path):
    run = create(tmp_path)
    save_checkpoint(run, 1)
    save_checkpoint(run, 2)
    run.checkpoint(3)  # and then the machine dies
    assert [path.read_text() for path in run.checkpoints()] == ["2", "1"]


def test_drafts_and_other_files_are_no_checkpoints(tmp_path):
    run = create(tmp_path)
    save_checkpoint(run, 1)
    for name in (".step_000000000002.abcd.safetensors", "step_3.txt", "notes.safetensors"):
        (run.folder / "checkpoints" / name).write_text("x")
    assert [path.name for path in run.checkpoints()] == ["step_000000000001.safetensors"]


@pytest.mark.parametrize("normalize", ["missing", True, False, {"norm_obs": True}], ids=str)
def test_a_run_may_normalise_and_the_first_ones_do_not_say(tmp_path, normalize):
    config = {**CONFIG, "normalize": normalize} if normalize != "missing" else CONFIG
    run = Run.create(tmp_path, config, [])
    assert Run.open(run.folder).config == config


@pytest.mark.parametrize("normalize", [3, "yes", None, [1]], ids=str)
def test_a_config_with_another_word_for_it_is_damaged(tmp_path, normalize):
    run = Run.create(tmp_path, {**CONFIG, "normalize": normalize}, [])
    with pytest.raises(FileError, match=r"config\.yml: damaged: normalize"):
        Run.open(run.folder)


def test_seeds_are_kept_with_every_return(tmp_path):
    runs = {seed: create(tmp_path) for seed in (3, 4)}
    write_seeds(tmp_path / "s.json", runs, {3: np.array([1.0, 2.0]), 4: np.array([5.0])}, (3.25, 1.5, 5.0))
    assert json.loads((tmp_path / "s.json").read_text()) == {
        "algorithm": "ppo", "env": "sandbox/Catch-v0", "env_id": "sandbox/Catch-v0", "preset": "none",
        "n_timesteps": 64, "interquartile_mean": 3.25, "interval": [1.5, 5.0],
        "seeds": [
            {"seed": 3, "folder": "sandbox-Catch-v0_1", "mean_return": 1.5, "returns": [1.0, 2.0]},
            {"seed": 4, "folder": "sandbox-Catch-v0_2", "mean_return": 5.0, "returns": [5.0]},
        ],
    }  # fmt: skip


def test_an_evaluation_keeps_every_return(tmp_path):
    write_evaluation(tmp_path / "e.json", np.array([1.0, 2.5]), np.array([3, 4]))
    expected = {"mean_return": 1.75, "returns": [1.0, 2.5], "lengths": [3, 4]}
    assert json.loads((tmp_path / "e.json").read_text()) == expected
