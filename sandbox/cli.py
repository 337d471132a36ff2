"""The command line. What a command needs is imported when it runs: help and `list` load no torch."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.flags import Parser, UsageError, add_signature, count, join_dotted, nearest, read_yaml, whole

if TYPE_CHECKING:
    from sandbox.runs import Run

ALGORITHMS = {
    "ppo": "agents.ppo:PPO",
    "a2c": "agents.a2c:A2C",
    "reinforce": "agents.reinforce:REINFORCE",
    "dqn": "agents.dqn:DQN",
    "pqn": "agents.pqn:PQN",
    "q_learning": "agents.tabular:QLearning",
    "sarsa": "agents.tabular:SARSA",
}
CLUSTERERS = {
    "kmeans": ("unsupervised:KMeans", "k-means: as many centres as asked for, each the mean of the rows nearest to it"),
    "minibatch": ("unsupervised:MiniBatchKMeans", "k-means on some rows at a time: sooner done, a little worse"),
    "spherical": ("unsupervised:SphericalKMeans", "k-means of directions: rows are alike that point the same way"),
    "bisecting": ("unsupervised:BisectingKMeans", "k-means in two, again and again: a tree of clusters"),
}
FITTERS = {
    "autoencoder": ("unsupervised:Autoencoder", "compress samples to a few numbers, starting from PCA"),
    "denoising": ("unsupervised:DenoisingAutoencoder", "restore samples from noisy ones"),
    "sparse": ("unsupervised:SparseAutoencoder", "a code of many units, few of them active"),
    "contractive": ("unsupervised:ContractiveAutoencoder", "a code that changes little when a sample does"),
    "variational": ("unsupervised:VariationalAutoencoder", "a code to draw new samples from"),
    "vq": ("unsupervised:VQAutoencoder", "a code of words out of a book"),
    "keypoints": ("unsupervised:KeypointAutoencoder", "a few points for each picture: what changes, and where"),
    "masked": ("unsupervised:MaskedAutoencoder", "draw the patches of pictures that are hidden"),
    "sequence": ("unsupervised:SequenceAutoencoder", "compress series and sound by recurrent networks"),
    "gan": ("unsupervised:GAN", "make samples that can't be told from real ones"),
    "simclr": ("unsupervised:SimCLR", "tell two views of a sample from views of others"),
    "moco": ("unsupervised:MoCo", "the same, against a queue of what a slow copy saw"),
    "byol": ("unsupervised:BYOL", "predict what a slow copy sees in another view"),
    "simsiam": ("unsupervised:SimSiam", "the same, without the copy"),
    "barlow_twins": ("unsupervised:BarlowTwins", "dimensions alike in two views, and no two the same"),
    "vicreg": ("unsupervised:VICReg", "two views alike, dimensions that vary, and not together"),
    "temporal": ("unsupervised:TemporalContrast", "tell what comes a few frames later, in a recording"),
    "stdim": ("unsupervised:STDIM", "the same at every place of the picture, for small things"),
    "rotation": ("unsupervised:RotationPrediction", "say by how much a picture was turned"),
    "jigsaw": ("unsupervised:Jigsaw", "say in which order the tiles of a picture were laid"),
    "inverse": ("unsupervised:InverseDynamics", "tell which action led from one frame to the next, in a recording"),
    "next_token": ("unsupervised:NextToken", "say what comes next in a text, and write on from there (GPT)"),
    "masked_token": ("unsupervised:MaskedToken", "say what is hidden in a text, from both sides (BERT)"),
    "classifier": ("unsupervised:Classifier", "learn labels, or fine-tune an encoder that learned without"),
    "codec": ("unsupervised:ImageCodec", "a file format of your own, for pictures like those it learns from"),
}
NOT_PRETRAINING = ("gan", "classifier", "codec")  # what learns something else than features without labels
BENCHES = {
    "atari": ("sandbox.bench.atari", "PPO and A2C on an Atari game against Stable-Baselines3's"),
    "autoencoder": (
        "sandbox.bench.autoencoder",
        "autoencoders against a plain PyTorch loop, PCA, and a random encoder: speed, error, probes",
    ),
    "bridge": (
        "sandbox.bench.bridge",
        "agents whose eyes learned without a reward, beside every control: seconds to a return, steps/s",
    ),
    "codec": (
        "sandbox.bench.codec",
        "compressed files against JPEG, WebP and x264: size at equal PSNR, speed, overhead",
    ),
    "kmeans": ("sandbox.bench.kmeans", "k-means against scikit-learn's: seeding, Lloyd, whole fits, memory, inertia"),
    "learning": ("sandbox.bench.learning", "what the presets reach, over seeds, beside random actions"),
    "off-policy": ("sandbox.bench.off_policy", "DQN on CartPole and Pong against Stable-Baselines3's"),
    "on-policy": ("sandbox.bench.on_policy", "PPO, A2C and a memory against Stable-Baselines3's and sb3-contrib's"),
    "env-steps": ("sandbox.bench.env_steps", "steps/s of our environments against Gymnasium's"),
    "ssl": (
        "sandbox.bench.ssl",
        "features without labels: samples/s against plain PyTorch, and what they know beside a random encoder",
    ),
    "switches": ("sandbox.bench.switches", "what each of DQN's switches adds, on a task made for it"),
    "ppo-cartpole": (
        "sandbox.bench.ppo_cartpole",
        "PPO on CartPole against Stable-Baselines3: speed, return, time to solve",
    ),
}
DEMOS = {
    "autoencoder_digits": "digits as two numbers each: the map, and what a walk across it looks like",
    "bicycle": "learning to ride a bicycle, and a GIF of the ride",
    "cartpole_ppo": "the library in a page: train PPO, evaluate it, draw an episode",
    "cluster_digits": "digits in ten clusters, found without a label: centres, typical members, odd ones",
    "colours": "a photo in eight colours, before and after, with the palette",
    "compress_photo": "a photo in a file of ours beside a JPEG of the same bytes, with a part of it enlarged",
    "compress_pong": "a clip of Pong in a compressed file, beside the original and what x264 makes of it",
    "denoise_photo": "a photo with noise over it, cleaned by a network that learned from another photo",
    "dial": "one picture at nine qualities, with the bytes under each",
    "eyes_for_pong": "an encoder learns Pong without a reward, an agent gets it in one argument (minutes)",
    "few_labels": "digits learned without labels first: how few of them are needed then, beside starting from scratch",
    "gan_digits": "digits that nobody wrote: a generator and a discriminator, and how it learned",
    "hidden_velocities": "what a memory is for: an LSTM solves a CartPole without velocities, an MLP does not",
    "kmeans_step_by_step": "the textbook's loop as a GIF: assign, re-centre, repeat",
    "masked_actions": "a taxi learns faster when it knows which actions are pointless",
    "pole_from_pixels": "a pole balanced from pixels (minutes)",
    "pong_latents": "a walk through what an autoencoder has learned of Pong, and what it knows of the ball",
    "pong_ppo": "PPO learns Pong from the screen (over an hour, or as many steps as you say)",
    "pong_dqn": "deep Q-learning on Pong, with a replay that keeps each frame once (hours, or as many steps as you say)",  # noqa: E501
    "rainbow_switches": "what each idea of Rainbow adds to deep Q-learning, as a bar chart (minutes)",
    "record_and_look": "a game of Pong as data: its pictures, its memory and its sound on one page",
    "see_in_3d": "digits in three dimensions, turning: an autoencoder's beside PCA's",
    "states": "the states that an agent visits in clusters, and a typical moment of each",
    "text_from_bytes": "a text learned byte by byte: bits beside bz2's, what is written then, and filled in",
    "value_map": "the value of every position and speed of MountainCar, learned and drawn",
    "value_table": "Q-learning walks along the cliff, SARSA keeps away: their tables, drawn side by side",
    "what_the_agent_sees": "where an agent looks, and its filters (of a run; without one, an agent learns first)",
    "your_own_env": "an environment as four numpy verbs, and an agent that learns it",
    "your_own_encoder": "a network of your own as an agent's eyes",
}
EXTRAS = {"ale_py": "atari", "Box2D": "box2d", "constriction": "compression"}  # what a missing module comes with
NOT_FLAGS = (
    "verbose",
    "seed",
    "n_envs",
    "tensorboard_log",
    "_init_setup_model",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
)

TRAIN_EXAMPLES = """\
examples:
  sandbox train CartPole-v1                         the default preset, in seconds
  sandbox train CartPole-v1 --preset rl-zoo         RL Baselines3 Zoo's settings
  sandbox train ppo CartPole-v1 --seeds 5           five runs, and how far they differ
  sandbox train CartPole-v1 --n-steps 32 --learning-rate lin_1e-3
  sandbox train Acrobot-v1 --n-envs 16 --n-timesteps 1e5 --policy-kwargs.net_arch '[128, 128]'
  sandbox train BipedalWalker-v3 --normalize true   observations and rewards to a common scale
  sandbox train --resume runs/ppo/CartPole-v1_1     go on after Ctrl-C, a crash, or for longer (--n-timesteps)

A SCHEDULE is a number, or lin_1e-3 (to 0 in a line), cos_1e-3 or step_1e-3. null means None.
"""

CLUSTER_EXAMPLES = """\
DATA is one of
  digits, photos, atari:Pong ...    a data set by its name, see `sandbox list`
  rows.npy                          an array [N, D], or [N, ...] with a sample each; opened as a memory map
  rows.npz, rows.npz:name           the array of an archive, or one of its arrays
  rows.csv                          rows of numbers, with a header or without
  pictures/                         a folder of pictures; in subfolders, which are then their labels
  photo.jpg                         one picture: its colours are clustered
  shards/                           a folder of .npy files: rows larger than memory (kmeans)

examples:
  sandbox cluster digits -k 10                      pictures of digits in ten clusters
  sandbox cluster rows.csv -k auto --standardize true
                                                    find out how many; features to a common scale
  sandbox cluster photos -k 8                       the eight colours that a photo is best painted with
  sandbox cluster pictures/ -k 20 --size 32x32 --method spherical
  sandbox cluster rows.npy -k 500 --method minibatch --batch-size 4096

A run folder has the labels (labels.npy), the centres (model/), a summary and pictures. In Python,
  from sandbox.cluster import load
  load("runs/kmeans/digits_1").predict(rows)
"""


FIT_EXAMPLES = """\
DATA is one of
  digits, patches, atari:Pong, mnist ...   a data set by its name, see `sandbox list`
  env:CartPole-v1, env:sandbox/Catch-v0    what an environment shows in random play
  rows.npy, rows.npz:name, rows.csv        rows of numbers, or pictures [N, H, W] or [N, H, W, 3]
  pictures/                                a folder of pictures; in subfolders, which are then their labels
  music.wav, sounds/                       sound, cut into windows
  book.txt                                 text, its bytes cut into windows (next_token, masked_token)

examples:
  sandbox fit autoencoder digits                    each digit as two numbers: a map of them
  sandbox fit autoencoder digits --n-components 3   and as three, turning
  sandbox fit variational digits --n-components 8   new digits
  sandbox fit autoencoder atari:Pong --n-components 32 --max-iter 20
  sandbox fit keypoints atari:Pong --max-iter 10    ten points for each frame: what changes, and where
  sandbox fit denoising patches --noise mask --n 5000
  sandbox fit simclr digits --max-iter 60           features without labels; temporal, for the frames of a game
  sandbox fit sequence music.wav --cell lstm
  sandbox fit next_token book.txt --max-iter 5      how well it foresees a text, and what it writes
  sandbox fit codec pictures/ --max-iter 50         then: sandbox compress IN OUT --model runs/codec/pictures_1

A run folder has the estimator and its encoder (model/), the codes, a judgement on samples held out, and pictures.
  sandbox.fit.load("runs/autoencoder/digits_1").transform(X)                          in Python
  PPO("MlpPolicy", env, encoder="runs/autoencoder/rows_1/model/encoder.safetensors")  an agent that sees such rows
"""

PRETRAIN_EXAMPLES = """\
DATA is one of
  digits, patches, atari:Pong, mnist ...   a data set by its name, see `sandbox list`
  env:CartPole-v1, env:sandbox/Catch-v0    what an environment shows in random play
  rows.npy, rows.npz:name, rows.csv        rows of numbers, or pictures [N, H, W] or [N, H, W, 3]
  pictures/                                a folder of pictures; in subfolders, which are then their labels

examples:
  sandbox pretrain simclr digits --max-iter 60      labels have no part in this; they judge it in the next line
  sandbox probe runs/simclr/digits_1                what its features are worth, beside pixels, PCA, a random network
  sandbox pretrain byol pictures/ --size 32 --views cifar
  sandbox pretrain temporal atari:Pong --stack 4 --max-iter 10
                                                    eyes for an agent, which sees four frames at a time
  sandbox probe runs/temporal/atari-Pong_1          how much they know of ball and paddles
  sandbox train ppo baselines/Pong-v0 --encoder runs/temporal/atari-Pong_1 --freeze-encoder
  sandbox pretrain inverse atari:Pong --stack 4     from frames, and the actions between them

While it learns, the loss is shown and, of a method that could collapse, two numbers that would tell it: the effective
rank of the embeddings (how many dimensions they use; 1 is collapse) and their spread (0 is collapse).
"""

PROBE_EXAMPLES = """\
examples:
  sandbox probe runs/simclr/digits_1                on the run's own data: samples that it did not learn from
  sandbox probe runs/temporal/atari-Pong_1          of a game: what a linear layer reads of the console's memory
  sandbox probe runs/simclr/drawn_1 --data pictures/ --n 2000
                                                    on other data with labels: digits, mnist, subfolders of pictures

The encoder is compared with what costs nothing: the pixels as they are, PCA of as many numbers, and the same network
left at random; and with the same network trained from labels. probe.json has the numbers, probe.png draws them.
In Python: unsupervised.evaluate.judge, few_labels and judge_ram.
"""

COMPRESS_EXAMPLES = """\
IN is
  photo.png .jpg .webp .bmp      a picture, grey or in colour; transparent ones are refused
  clip.gif, clip.npy             a clip: an array [T, H, W], [T, H, W, 3] or [T, 3, H, W] of bytes
                                 ([H, W] and [H, W, 3] are pictures)

examples:
  sandbox compress photo.png photo.sbx              quality 5; and what JPEG and WebP make of it at that size
  sandbox compress photo.png photo.sbx --quality 9  the largest file, the smallest error
  sandbox compress screen.png screen.sbx --model atari
                                                    a model for screens of Atari games
  sandbox compress game.gif game.sbx                a clip, beside x264 (if PyAV is installed)
  sandbox compress x.png x.sbx --model runs/codec/pictures_1
                                                    a model of your own, from `sandbox fit codec pictures/`
  sandbox decompress photo.sbx again.png            and back
  sandbox inspect photo.sbx                         what a file says of itself

In Python: unsupervised.compression.default("photo").compress(x) gives the bytes of the file.
"""

DECOMPRESS_EXAMPLES = """\
OUT is a picture .png .jpg .webp .bmp, a clip .gif (256 colours), or .npy for either. Only .jpg and .gif lose anything.

examples:
  sandbox decompress photo.sbx photo.png
  sandbox decompress game.sbx game.gif --fps 15
  sandbox decompress game.sbx part.npy --frames 100:200
                                                    a part of a clip; no more of it is decoded than needed
  sandbox decompress x.sbx x.png --model runs/codec/pictures_1
                                                    a file that a model of your own wrote
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    commands: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "train": (train, "train an agent, evaluate it, keep everything in a run folder"),
        "eval": (evaluate, "play full episodes with a trained agent"),
        "watch": (watch, "see a trained agent play: in a window, as a GIF, in the terminal"),
        "cluster": (cluster, "group rows, pictures or colours by k-means, and draw what was found"),
        "fit": (fit, "learn codes without labels: autoencoders of all kinds, GANs; look at them, hand them on"),
        "pretrain": (pretrain, "learn features without labels: an encoder to fine-tune, or an agent's eyes"),
        "probe": (probe, "what an encoder's features are worth, beside pixels, PCA and a random network"),
        "compress": (compress, "a picture or a clip to a small file by a learned codec, beside JPEG, WebP or x264"),
        "decompress": (decompress, "such a file back to a picture or a clip"),
        "inspect": (inspect, "what such a file says of itself"),
        "list": (list_all, "algorithms, clusterers, estimators, encoders, environments, presets, benches, demos"),
        "bench": (bench, "measure ours against the peer, on the same work"),
        "demo": (demo, "run a short program that is meant to be read and copied"),
    }
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv[:1] == ["--version"]:
            from importlib.metadata import version

            print(version("rl-unsup-sandbox"))
            return 0
        if not argv or argv[0] in ("-h", "--help"):
            print("usage: sandbox COMMAND [...]\n\nReinforcement and unsupervised learning, to run and to import.")
            print("\ncommands:\n" + "\n".join(f"  {name:11s}{text}" for name, (_, text) in commands.items()))
            print("\nBegin with `sandbox train CartPole-v1`; `sandbox COMMAND --help` says more about each.")
            return 0
        if argv[0] not in commands:
            raise UsageError(f"unknown command {argv[0]!r}{nearest(argv[0], commands)}")
        return commands[argv[0]][0](argv[1:])
    except UsageError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# -- train -------------------------------------------------------------------------------------------------------------


def train(typed: list[str]) -> int:
    argv = join_dotted(typed)
    parser = Parser(
        prog="sandbox train",
        usage="sandbox train [ALGORITHM] ENV [flags]",
        description="Train an agent, evaluate it over 100 full episodes, and keep everything in a run folder.",
        epilog=TRAIN_EXAMPLES,
    )
    words = "any Gymnasium id; the algorithm is the preset's by default"
    parser.add_argument("words", nargs="*", metavar="[ALGORITHM] ENV", help=words)
    for flag, kind, metavar, text in (
        ("--preset", str, "NAME", "named settings, see `sandbox list`; none: the algorithm's own defaults"),
        ("--seed", whole, "INT", "of everything random; default 0"),
        ("--seeds", count, "N", "N runs, with seeds counted up from --seed"),
        ("--n-timesteps", count, "N", "steps of all environments together; default the preset's, or 100000"),
        ("--n-envs", count, "N", "environments side by side; default the preset's, or 8"),
        (
            "--normalize",
            _switch,
            "true|false|MAPPING",
            "observations and rewards by VecNormalize; default the preset's",
        ),
        ("--eval-every", whole, "N", "steps between evaluations, 0 for none; default a fifth of all"),
        ("--eval-episodes", count, "N", "episodes of each evaluation; default 20"),
        ("--film", whole, "N", "games to film at the end, of which the best is kept; default the preset's, or none"),
        ("--out", Path, "FOLDER", "where run folders go; default runs"),
        ("--resume", Path, "RUN", "go on with a run; with --n-timesteps, for longer"),
    ):
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's events, too")

    resumed = _resumed(argv)
    name = resumed.config["algorithm"] if resumed else _algorithm_among(argv)
    algorithm = _imported(ALGORITHMS[name])
    add_signature(parser, algorithm.__init__, f"settings of {name}", skip=NOT_FLAGS)
    args = vars(parser.parse(argv))
    if args["tensorboard"] and importlib.util.find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs TensorBoard: pip install 'rl-unsup-sandbox[tensorboard]'")
    own = {action.dest for action in parser._action_groups[1]._group_actions} | {"words"}
    settings = {key: value for key, value in args.items() if key not in own}

    if resumed:
        given = settings.keys() | {
            name
            for name in own - {"help", "n_timesteps", "resume", "tensorboard"}
            if args[name] not in (None, [])  # 0 and false are given, too
        }
        if given:
            raise UsageError(f"--resume takes {_flag(min(given))} from the run; for other settings begin a new one")
        _known_env(resumed.config["env_id"])
        model = _build(algorithm, resumed.config, f"{resumed.folder / 'config.yml'}: ")
        resumed.config["n_timesteps"] = args["n_timesteps"] or resumed.config["n_timesteps"]
        return 0 if _train(model, resumed, args["tensorboard"], resume=True) else 130
    root, first = args["out"] or Path("runs"), args["seed"] or 0
    results: list[tuple[int, Run, Any]] = []
    for seed in range(first, first + (args["seeds"] or 1)):
        config = _configuration(name, seed, args, settings)
        _say_what(config)
        model = _build(algorithm, config)  # what can't be built leaves no folder
        run = _new_run(config, root, ["train", *typed])
        result = _train(model, run, args["tensorboard"])
        if result is None:
            return 130
        results.append((seed, run, result))
    if len(results) > 1:
        _compare(results, root)
    return 0


def _switch(text: str) -> bool | dict[str, Any]:
    """``true``, ``false``, or a mapping of what is to be otherwise."""
    try:
        value = read_yaml(text)
    except ValueError:
        value = None
    if not isinstance(value, bool | dict):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false nor a mapping: {{norm_reward: false}}")
    return value


def _flag(name: str) -> str:
    return "an environment" if name == "words" else f"--{name.replace('_', '-')}"


def _resumed(argv: list[str]) -> Run | None:
    parser = Parser(prog="sandbox train", add_help=False)
    parser.add_argument("--resume", type=Path)
    folder = parser.parse_known_args(argv)[0].resume
    return _open(folder) if folder else None


def _algorithm_among(argv: list[str]) -> str:
    """The algorithm that is named, or the one whose preset the environment has, or PPO."""
    from agents.presets import find

    words = [word for word in argv if not word.startswith("-")]
    named = [word.lower() for word in words if word.lower() in ALGORITHMS]
    preset = [preset.algorithm for word in words for preset in find(word).values()]
    return (named or preset or ["ppo"])[0]


def _configuration(name: str, seed: int, args: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The whole configuration: preset, then flags."""
    from agents.presets import find

    words = [word for word in args["words"] if word.lower() != name]
    if len(words) != 1:
        known = (
            f"{words[0]!r} is not an algorithm{nearest(words[0], ALGORITHMS)}"
            if len(words) > 1
            else "which environment? For example CartPole-v1"
        )
        raise UsageError(f"{known} (see `sandbox list`)")
    env = _known_env(words[0])
    overlays = find(env, name)
    if args["preset"] not in (None, "none", *overlays):
        raise UsageError(
            f"unknown preset {args['preset']!r} of {name} for {env}{nearest(args['preset'], [*overlays, 'none'])}"
        )
    chosen = None if args["preset"] == "none" else overlays.get(args["preset"] or next(iter(overlays), ""))
    preset = dict(chosen.settings) if chosen else {}
    n_timesteps = args["n_timesteps"] or preset.pop("n_timesteps", 100_000)
    n_envs = args["n_envs"] or preset.pop("n_envs", 8)
    env_id = preset.pop("env_id", env)
    for key in ("n_timesteps", "n_envs"):
        preset.pop(key, None)
    usual = {
        "eval_every": max(n_timesteps // 5, 1),
        "eval_episodes": 20,
        "final_episodes": 100,
        "greedy": True,
        "film": 0,
    }
    evaluation = {key: preset.pop(key, value) for key, value in usual.items()}
    if args["normalize"] is not None:
        settings = {**settings, "normalize": args["normalize"]}
    for key, value in settings.items():
        both = isinstance(value, dict) and isinstance(preset.get(key), dict)
        preset[key] = {**preset[key], **value} if both else value
    return {
        "algorithm": name,
        "env": env,
        "env_id": env_id,
        "preset": chosen.name if chosen else "none",
        "seed": seed,
        "n_timesteps": n_timesteps,
        "n_envs": n_envs,
        "normalize": preset.pop("normalize", False),
        "eval_every": evaluation["eval_every"] if args["eval_every"] is None else args["eval_every"],
        "eval_episodes": args["eval_episodes"] or evaluation["eval_episodes"],
        "final_episodes": evaluation["final_episodes"],
        "greedy": evaluation["greedy"],
        "film": evaluation["film"] if args["film"] is None else args["film"],
        "settings": preset,
    }


def _known_env(env: str) -> str:
    import gymnasium as gym

    from agents.vecenv import spec

    try:
        spec(env)
    except ModuleNotFoundError as error:
        raise UsageError(_needs(env, error)) from None
    except gym.error.Error as error:
        from envs import IDS

        plain = isinstance(error, gym.error.UnregisteredEnv | gym.error.NamespaceNotFound | gym.error.NameNotFound)
        reason = "" if plain else f" ({' '.join(str(error).split())})"
        raise UsageError(
            f"unknown environment {env!r}{nearest(env, [*IDS, *gym.registry])}{reason} (see `sandbox list`)"
        ) from None
    return env


def _needs(env: str, error: BaseException) -> str:
    """The line on an environment whose module, or whose own dependency, is not installed."""
    missing = getattr(error.__cause__ or error, "name", None)
    extra = f": pip install 'rl-unsup-sandbox[{EXTRAS[missing]}]'" if missing in EXTRAS else ""
    return f"{env!r} needs {missing}{extra}" if missing else " ".join(str(error).split())


def _say_what(config: dict[str, Any]) -> None:
    faster = (
        "" if config["env_id"] == config["env"] else f" as {config['env_id']} (steps equal, all environments at once)"
    )
    print(
        f"{config['algorithm']} on {config['env']}{faster}, preset {config['preset']}, seed {config['seed']}",
        flush=True,
    )


def _build(algorithm: type, config: dict[str, Any], source: str = "") -> Any:
    import gymnasium as gym

    from agents import vecenv
    from sandbox.train import build

    try:
        envs = vecenv.make(config["env_id"], config["n_envs"])  # what an environment raises is its own: not caught here
    except gym.error.Error as error:
        raise UsageError(_needs(config["env_id"], error)) from error
    try:
        return build(algorithm, config, envs)
    except (AssertionError, ValueError, TypeError) as error:
        raise UsageError(source + " ".join(str(error).split())) from error


def _new_run(config: dict[str, Any], root: Path, command: Sequence[str]) -> Run:
    from sandbox.runs import Run

    try:
        return Run.create(root, config, ["sandbox", *command])
    except OSError as error:
        raise UsageError(f"{root}: no run folder can be made there ({error.strerror})") from error


def _train(model: Any, run: Run, tensorboard: bool, resume: bool = False) -> Any:
    from agents.loop import NonFiniteError
    from agents.vecenv import UnfitEnvironment
    from sandbox.train import train as train_run
    from sandbox.training.checkpoint import FileError

    try:
        return train_run(model, run, resume=resume, tensorboard=tensorboard)
    except FileError as error:
        raise UsageError(str(error)) from error
    except (NonFiniteError, UnfitEnvironment) as error:
        raise UsageError(f"{error}; {run.folder} keeps the last good agent") from error


def _compare(results: list[tuple[int, Run, Any]], root: Path) -> None:
    import numpy as np

    from agents.evaluation import interquartile_mean
    from sandbox.runs import write_seeds
    from sandbox.show import plot_seeds

    runs = {seed: run for seed, run, _ in results}
    first, *_, last = runs.values()
    iqm = interquartile_mean(np.array([result.mean for _, _, result in results]))
    said = "interquartile mean {:.1f} [{:.1f}, {:.1f}]".format(*iqm)
    print(f"\n{len(results)} seeds: {said} (95 % interval by the bootstrap)")
    print("\n".join(f"  seed {seed}: {result}  {run.folder}" for seed, run, result in results))
    stem = f"{first.folder.name}_to_{last.folder.name.rsplit('_', 1)[1]}_seeds"
    picture, record = (root / first.config["algorithm"] / f"{stem}.{ending}" for ending in ("png", "json"))
    write_seeds(record, runs, {seed: result.returns for seed, _, result in results}, iqm)
    name = ALGORITHMS[first.config["algorithm"]].partition(":")[2]
    title = f"{name} on {first.config['env']}: {said}, {len(results)} seeds"
    plot_seeds(picture, [run.metrics for run in runs.values()], title)
    print(f"  {picture}\n  {record}")


# -- eval, watch -------------------------------------------------------------------------------------------------------


def _open(folder: Path) -> Run:
    from sandbox.runs import Run
    from sandbox.training.checkpoint import FileError

    try:
        run = Run.open(folder)
    except FileError as error:
        raise UsageError(str(error)) from error
    if run.config["algorithm"] not in ALGORITHMS:
        raise UsageError(f"{folder}: made by {run.config['algorithm']!r}, which this version does not know")
    return run


def _trained(folder: Path, best: bool) -> tuple[Run, Any]:
    import gymnasium as gym

    from sandbox.train import trained
    from sandbox.training.checkpoint import FileError

    run = _open(folder)
    _known_env(run.config["env_id"])
    try:
        return run, trained(_imported(ALGORITHMS[run.config["algorithm"]]), run, best)
    except FileError as error:
        raise UsageError(str(error)) from error
    except gym.error.DependencyNotInstalled as error:
        raise UsageError(_needs(run.config["env_id"], error)) from error
    except (AssertionError, ValueError, TypeError) as error:
        raise UsageError(f"{run.folder / 'config.yml'}: {' '.join(str(error).split())}") from error


def evaluate(argv: list[str]) -> int:
    parser = Parser(
        prog="sandbox eval", description="Play full episodes with the agent of a run, and say how good it is."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/ppo/CartPole-v1_1")
    parser.add_argument("--episodes", type=count, default=100, metavar="N", help="default 100")
    parser.add_argument("--seed", type=int, default=20_000, metavar="INT", help="of the environments; default 20000")
    parser.add_argument("--best", action="store_true", help="the agent at its best evaluation, not the last one")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--stochastic", action="store_true", help="draw actions from the policy; default the preset's way")
    how.add_argument("--greedy", action="store_true", help="take the policy's likeliest actions; default likewise")
    args = parser.parse(argv)
    from agents.evaluation import evaluate as play
    from sandbox.training.log import ProgressLine

    run, model = _trained(args.run, args.best)
    greedy = args.greedy or (run.config.get("greedy", True) and not args.stochastic)
    with ProgressLine("evaluating", args.episodes, "episodes", patience=2.0) as progress:
        result = play(model, run.config["env_id"], args.episodes, args.seed, greedy, progress=progress.update)
    low, high, length = result.returns.min(), result.returns.max(), result.lengths.mean()
    print(f"{args.episodes} episodes: return {result}, from {low:.1f} to {high:.1f}; {length:.1f} steps")
    return 0


def watch(argv: list[str]) -> int:
    parser = Parser(prog="sandbox watch", description="See the agent of a run play an episode.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/ppo/CartPole-v1_1")
    parser.add_argument(
        "--in",
        dest="where",
        choices=["window", "gif", "terminal"],
        help="default: a window, or a GIF without a display",
    )
    parser.add_argument("--seed", type=int, default=10_000, metavar="INT", help="of the environment; default 10000")
    parser.add_argument("--best", action="store_true", help="the agent at its best evaluation, not the last one")
    args = parser.parse(argv)
    display = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    where = args.where or ("window" if display and importlib.util.find_spec("pygame") else "gif")
    if where == "window" and not importlib.util.find_spec("pygame"):
        raise UsageError("a window needs pygame: pip install 'rl-unsup-sandbox[render]'; or watch --in gif")
    if where == "window" and not display:
        raise UsageError("there is no display here: watch --in gif or --in terminal")
    import gymnasium as gym

    from sandbox import show
    from sandbox.train import record

    run, model = _trained(args.run, args.best)
    try:
        longest = 150 if where == "gif" else 10_000
        frames, fps = record(model, run.config["env_id"], args.seed, longest, greedy=run.config.get("greedy", True))
    except gym.error.DependencyNotInstalled as error:
        raise UsageError(f"{' '.join(str(error).split())}; or pip install 'rl-unsup-sandbox[render]'") from error
    if not frames:
        raise UsageError(f"{run.config['env_id']} draws nothing: it has no render mode rgb_array")
    if where == "window":
        show.show_in_window(frames, fps, f"{run.config['algorithm']} on {run.config['env']}")
    elif where == "terminal":
        show.show_in_terminal(frames, fps)
    else:
        show.write_gif(run.folder / "episode.gif", frames, fps)
        print(f"{run.folder / 'episode.gif'} ({len(frames)} frames; --in terminal plays it here)")
    return 0


# -- cluster -----------------------------------------------------------------------------------------------------------


def cluster(typed: list[str]) -> int:
    parser = Parser(
        prog="sandbox cluster",
        usage="sandbox cluster DATA -k N|auto [flags]",
        description="Group rows, pictures or colours by k-means; keep and draw what was found in a run folder.",
        epilog=CLUSTER_EXAMPLES,
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="a data set by name, a file or a folder, see below")
    for flag, kind, metavar, text in (
        ("-k", _clusters, "N|auto", "how many clusters; auto: the best by silhouette, stability and a null model"),
        ("--method", _method, "NAME", f"{', '.join(CLUSTERERS)}; default kmeans. Its own settings are below"),
        ("--seed", whole, "INT", "of everything random; default 0"),
        ("--standardize", _true_or_false, "true|false", "each feature to mean 0 and deviation 1; default false"),
        (
            "--size",
            _size,
            "HxW",
            "of pictures: 48x64, or 32 for a square; default 64 pixels at most on the longer side",
        ),
        ("--grey", _true_or_false, "true|false", "pictures in grey; default only if all of them are"),
        ("--pixels", _true_or_false, "true|false", "cluster the colours of pixels; default for photos and one picture"),
        ("--out", Path, "FOLDER", "where run folders go; default runs"),
    ):
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    first = Parser(prog="sandbox cluster", add_help=False)
    first.add_argument("--method", type=_method, default="kmeans")
    name = first.parse_known_args(typed)[0].method
    estimator = _imported(CLUSTERERS[name][0])
    skip = ("n_clusters", "random_state", "verbose", "copy_x", "compute_labels")
    add_signature(parser, estimator.__init__, f"settings of {name}", skip=skip)
    args = vars(parser.parse(typed))
    own = {action.dest for action in parser._action_groups[1]._group_actions} | {"data"}
    if args["data"] is None:
        raise UsageError("which data? For example: sandbox cluster digits -k 10; see `sandbox cluster --help`")
    if args["k"] is None:
        raise UsageError("how many clusters? For example -k 10, or -k auto")
    config = {
        "algorithm": name,
        "data": args["data"],
        "k": args["k"],
        "seed": args["seed"] or 0,
        "standardize": bool(args["standardize"]),
        **{key: args[key] for key in ("size", "grey", "pixels")},
        "settings": {key: value for key, value in args.items() if key not in own},
    }
    return _cluster(estimator, config, args["out"] or Path("runs"), ["sandbox", "cluster", *typed])


def _cluster(estimator: Any, config: dict[str, Any], root: Path, command: Sequence[str]) -> int:
    from sandbox import cluster as runs

    def open_data() -> Any:
        size = config["size"] and tuple(config["size"])
        return runs.open_rows(config["data"], size, config["grey"], config["pixels"], config["algorithm"] == "kmeans")

    settings = {**config["settings"], **({} if config["k"] == "auto" else {"n_clusters": config["k"]})}
    _fitted(runs, open_data, estimator, config, settings, root, command)
    return 0


def _fitted(
    runs: Any,
    open_data: Callable[[], Any],
    estimator: Any,
    config: dict[str, Any],
    settings: dict[str, Any],
    root: Path,
    command: Sequence[str],
) -> Run:
    """Open the data, fit, and keep what was found: whatever goes wrong is one line, and leaves nothing behind."""
    from sandbox.training.device import pick_device

    place = next(place for place in (root, *root.parents) if place.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"{root}: no run folder can be made there ({place} is no folder to write in)")
    try:
        pick_device(config["settings"].get("device", "auto"))
        rows = open_data()
    except (ValueError, ImportError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    print(f"{config['algorithm']} on {config['data']}: {rows}, seed {config['seed']}", flush=True)
    try:
        found = runs.fit(estimator(**settings, random_state=config["seed"]), config, rows)
    except (ValueError, TypeError, MemoryError, FloatingPointError) as error:
        raise UsageError(_first_words(error)) from error
    try:
        run = runs.keep(found, config, rows, root, command)
    except OSError as error:
        raise UsageError(f"the run could not be written ({error}); nothing of it is left behind") from error
    made = sorted(path.name + "/" * path.is_dir() for path in run.folder.iterdir())
    print(f"{run.folder}: {', '.join(made)}")
    return run


def fit(typed: list[str]) -> int:
    about = "Learn codes of data by a network, judge them on samples held out, and draw them in a run folder."
    _fit(typed, "fit", about, "KIND", FITTERS, FIT_EXAMPLES)
    return 0


def pretrain(typed: list[str]) -> int:
    about = "Learn features of data without labels, and leave the encoder that gives them in a run folder."
    methods = {name: one for name, one in FITTERS.items() if name not in NOT_PRETRAINING}
    run = _fit(typed, "pretrain", about, "METHOD", methods, PRETRAIN_EXAMPLES)
    from sandbox.probe import next_steps

    print("\n  ".join(["next:", *next_steps(run)]))
    return 0


def _fit(
    typed: list[str], command: str, about: str, what: str, kinds: dict[str, tuple[str, str]], examples: str
) -> Run:
    """Learn by one of some kinds of estimators, and keep everything in a run folder."""
    argv, usual = join_dotted(typed), "simclr" if command == "pretrain" else "autoencoder"
    listing = "\n".join(f"  {name:13s}{text}" for name, (_, text) in kinds.items())
    parser = Parser(
        prog=f"sandbox {command}",
        usage=f"sandbox {command} {what} DATA [flags]",
        description=about,
        epilog=f"{what} is one of\n{listing}\n\n{examples}",
    )
    parser.add_argument("words", nargs="*", metavar=f"{what} DATA", help="what to learn, and from what; see below")
    word = next((word for word in argv if not word.startswith("-")), None)
    few, size, grey = (
        ("1000", "default what they have", "default where they are")
        if word == "codec"  # which takes pictures as they come
        else ("4000", "of games 84x84 by default", "default of games, and where all of them are")
    )
    stack = ("--stack", count, "N", "frames to a sample of a game, as an agent sees it: 4; default 1")
    for flag, kind, metavar, text in (
        ("--n", count, "N", f"samples; of games {few} by default, of patches 20000, else all there are"),
        ("--size", _size, "HxW", f"of pictures: 48x64, or 32 for a square; {size}"),
        ("--grey", _true_or_false, "true|false", f"pictures in grey; {grey}"),
        *([] if word == "codec" else [stack]),
        ("--seed", whole, "INT", "of everything random; default 0"),
        ("--out", Path, "FOLDER", "where run folders go; default runs"),
    ):
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    if word is not None and word not in kinds:
        raise UsageError(f"unknown {what.lower()} {word!r}{nearest(word, kinds)}; see `{parser.prog} --help`")
    estimator = _imported(kinds[word or usual][0])
    skip = ("random_state", "verbose", "image_shape")
    add_signature(parser, estimator.__init__, f"settings of {word or usual}", skip=skip)
    args = vars(parser.parse(argv))
    if len(args["words"]) != 2:
        raise UsageError(f"what, and from which data? For example: {parser.prog} {usual} digits")
    own = {action.dest for action in parser._action_groups[1]._group_actions} | {"words"}
    config: dict[str, Any] = {
        "algorithm": args["words"][0],
        "data": args["words"][1],
        "seed": args["seed"] or 0,
        **{key: args[key] for key in ("n", "size", "grey", "stack") if key in args},
        "settings": {key: value for key, value in args.items() if key not in own},
    }
    runs = importlib.import_module("sandbox.fit_codec" if config["algorithm"] == "codec" else "sandbox.fit")

    def open_data() -> Any:
        size = config["size"] and tuple(config["size"])
        more = {"stack": config["stack"]} if config.get("stack") else {}
        if "context" in config["settings"]:  # of what learns from text
            more["window"] = config["settings"]["context"]
        return runs.open_samples(config["data"], config["n"], size, config["grey"], **more)

    settings = {**config["settings"], "verbose": 1}
    root = args["out"] or Path("runs")
    return _fitted(runs, open_data, estimator, config, settings, root, ["sandbox", command, *typed])


# -- probe -------------------------------------------------------------------------------------------------------------


def probe(argv: list[str]) -> int:
    parser = Parser(
        prog="sandbox probe",
        usage="sandbox probe RUN [flags]",
        description="Judge the features of a run's encoder beside controls: on labels, or on the memory of a game.",
        epilog=PROBE_EXAMPLES,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run folder with an encoder, such as runs/simclr/digits_1"
    )
    text = (
        "what to judge on, as for `sandbox fit`: data with labels, or atari:<Game>; default what the run learned from"
    )
    parser.add_argument("--data", metavar="DATA", help=text)
    text = "samples to learn from, default up to 10000; or frames of a game to play, default 4000"
    parser.add_argument("--n", type=count, metavar="N", help=text)
    args = parser.parse(argv)
    with _one_line():
        from sandbox.probe import probe as judge

        print("\n\n".join(map(str, judge(args.run, args.data, args.n))))
    print(f"\n{args.run / 'probe.png'}\n{args.run / 'probe.json'}")
    return 0


def _first_words(error: BaseException) -> str:
    """What scikit-learn says first: of NaN, for one, it goes on for six lines."""
    line, *more = str(error).strip().splitlines() or [type(error).__name__]
    if line.endswith(".") and more:
        line += f" {more[0].partition('. ')[0].rstrip('.')}."
    return line


def _imported(path: str) -> Any:
    module, attribute = path.split(":")
    return getattr(importlib.import_module(module), attribute)


def _clusters(text: str) -> int | str:
    try:
        return text if text == "auto" else count(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a positive whole number nor auto") from None


def _method(text: str) -> str:
    if text not in CLUSTERERS:
        raise argparse.ArgumentTypeError(f"unknown {text!r}{nearest(text, CLUSTERERS)}")
    return text


def _true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _size(text: str) -> list[int]:
    """Height and width."""
    try:
        height, x, width = text.partition("x")
        return [count(height), count(width if x else height)]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 32 is a square, 48x64 height and width") from None


# -- compress, decompress, inspect -------------------------------------------------------------------------------------


def compress(argv: list[str]) -> int:
    parser = Parser(
        prog="sandbox compress",
        usage="sandbox compress IN OUT [flags]",
        description="Write a picture or a clip as a small file, and say how small and how near, beside other formats.",
        epilog=COMPRESS_EXAMPLES,
    )
    parser.add_argument("source", metavar="IN", help="a picture or a clip, see below")
    parser.add_argument("target", metavar="OUT", help="the file to write, such as photo.sbx")
    parser.add_argument(
        "--quality",
        type=_quality,
        default=5,
        metavar="1-9",
        help="1: the smallest file, 9: the best picture; default 5",
    )
    _add_model(parser)
    text = "measure JPEG and WebP, or x264, at that size, too; default true"
    parser.add_argument("--compare", type=_true_or_false, default=True, metavar="true|false", help=text)
    args = parser.parse(argv)
    with _one_line():
        from sandbox import compress as files

        done = files.compress(args.source, args.target, args.quality, args.model, args.compare)
    print("\n".join(done.lines()))
    return 0


def decompress(argv: list[str]) -> int:
    parser = Parser(
        prog="sandbox decompress",
        usage="sandbox decompress IN OUT [flags]",
        description="Write what a compressed file holds as a picture or a clip.",
        epilog=DECOMPRESS_EXAMPLES,
    )
    parser.add_argument("source", metavar="IN", help="a file that `sandbox compress` wrote")
    parser.add_argument("target", metavar="OUT", help="the picture or clip to write")
    _add_model(parser)
    text = "of a clip, from START to before STOP; either may be left out"
    parser.add_argument("--frames", type=_frames, metavar="START:STOP", help=text)
    parser.add_argument("--fps", type=count, default=15, metavar="N", help="frames a second of a GIF; default 15")
    args = parser.parse(argv)
    with _one_line():
        from sandbox import compress as files

        x = files.decompress(args.source, args.target, args.model, args.frames, args.fps)
    print(f"{args.target}: {x.dtype} {list(x.shape)}, {Path(args.target).stat().st_size:,} bytes")
    return 0


def inspect(argv: list[str]) -> int:
    text = "Say what a compressed file holds, and test its checksum; nothing is decoded."
    parser = Parser(prog="sandbox inspect", description=text, epilog="example:\n  sandbox inspect photo.sbx")
    parser.add_argument("file", metavar="FILE", help="a file that `sandbox compress` wrote")
    path = parser.parse(argv).file
    with _one_line():
        from sandbox import compress as files

        about = files.inspect(path)
    pixels = about["width"] * about["height"] * about.get("frames", 1)
    own = "none of the package's: give it to decompress with --model"
    told = {**about, "model": about["model"] or own, "bits per pixel": f"{8 * about['bytes'] / pixels:.3f}"}
    print("\n".join(f"{name.replace('_', ' '):16s}{value}" for name, value in told.items()))
    return 0


def _add_model(parser: Parser) -> None:
    text = "photo, atari or clip, a run of `sandbox fit codec`, or a file; default photo, and clip for clips"
    if parser.prog.endswith("decompress"):
        text = "only for a file of a model of your own: a run of `sandbox fit codec`, or a file"
    parser.add_argument("--model", metavar="RUN", help=text)


@contextmanager
def _one_line() -> Iterator[None]:
    """What is wrong with a file, a model or a place to write to, as one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(error.name or "")
        how = f": pip install 'rl-unsup-sandbox[{extra}]'" if extra and "pip install" not in str(error) else ""
        raise UsageError(f"{' '.join(str(error).split())}{how}") from error
    except (ValueError, MemoryError) as error:
        raise UsageError(" ".join(str(error).split()) or "not enough memory") from error
    except OSError as error:
        raise UsageError(f"{error.filename or 'nothing was written'}: {error.strerror or error}") from error


def _quality(text: str) -> int:
    if text not in tuple("123456789"):
        raise argparse.ArgumentTypeError(f"{text!r} is no quality: a whole number from 1 to 9")
    return int(text)


def _frames(text: str) -> tuple[int, int | None]:
    try:
        start, colon, stop = text.partition(":")
        if not colon:
            raise argparse.ArgumentTypeError
        return whole(start or "0"), whole(stop) if stop else None
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} are no frames: 100:200 are those from 100 to 199") from None


# -- list, bench, demo -------------------------------------------------------------------------------------------------


def list_all(argv: list[str]) -> int:
    Parser(prog="sandbox list", description="What there is, by name.").parse(argv)
    from agents.presets import presets
    from envs.names import ENTRY_POINTS, PROTOCOLS, atari_games
    from sandbox.data import SOURCES
    from sandbox.zoo import ZOO

    def section(title: str, rows: Sequence[tuple[str, str]]) -> None:
        width = max(len(name) for name, _ in rows) + 2
        print(f"\n{title}")
        print("\n".join(f"  {name:{width}s}{text}".rstrip() for name, text in rows))

    print(
        "Names for `sandbox train`, `fit`, `cluster`, `bench` and `demo`, for `zoo.build`, `encoder=` and `data.load`."
    )
    section("algorithms", [(name, _summary(path)) for name, path in ALGORITHMS.items()])
    section("clusterers (--method)", [(name, text) for name, (_, text) in CLUSTERERS.items()])
    section("estimators (sandbox fit)", [(name, text) for name, (_, text) in FITTERS.items()])
    section("encoders, decoders and other networks", [(name, _summary(path)) for name, path in ZOO.items()])
    games = [
        (f"{protocol}/<Game>-v0", f"{len(atari_games())} games of the Atari 2600, such as {protocol}/Pong-v0")
        for protocol in PROTOCOLS
        if atari_games()
    ]
    environments = [(name, _summary(path)) for name, path in ENTRY_POINTS.items()]
    section("environments (and every id of Gymnasium)", [*environments, *games])
    section("data sets", [(name, _summary(path)) for name, path in SOURCES.items()])
    section("presets", [(f"{p.algorithm} {p.env} --preset {p.name}", p.about) for p in presets()])
    section("benches", [(name, text) for name, (_, text) in BENCHES.items()])
    section("demos", list(DEMOS.items()))
    return 0


def _summary(path: str) -> str:
    """The first sentence of a docstring, read from the source: importing it could mean importing torch."""
    module, name = path.split(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    there = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    text = ast.get_docstring(there[name]) if name in there else None
    first = " ".join((text or "").split("\n\n")[0].split()).replace("``", "").replace("`", "")
    return first.split(". ")[0].rstrip(".").replace(":class:", "")


def bench(argv: list[str]) -> int:
    text = "Measure ours against the peer, on the same work, with quality beside speed."
    listing = "\n".join(f"  {name:14s}{about}" for name, (_, about) in BENCHES.items())
    parser = Parser(prog="sandbox bench", description=text, epilog=f"benches:\n{listing}")
    parser.add_argument("name", metavar="NAME", help="one of those below; NAME --help says more")
    name = parser.parse(argv[:1]).name
    if name not in BENCHES:
        raise UsageError(f"unknown bench {name!r}{nearest(name, BENCHES)}")
    return importlib.import_module(BENCHES[name][0]).main(argv[1:])


def demo(argv: list[str]) -> int:
    width = max(map(len, DEMOS)) + 2
    listing = "\n".join(f"  {name:{width}s}{about}" for name, about in DEMOS.items())
    text = "Run a short program that is meant to be read and copied."
    parser = Parser(prog="sandbox demo", description=text, epilog=f"demos:\n{listing}")
    parser.add_argument("name", metavar="NAME", help="one of those below")
    parser.add_argument("words", nargs="*", metavar="WORD", help="for the program, if it takes any")
    parser.add_argument("--source", action="store_true", help="print the program instead")
    args = parser.parse(argv)
    if args.name not in DEMOS:
        raise UsageError(f"unknown demo {args.name!r}{nearest(args.name, DEMOS)}")
    program = Path(__file__).parent / "demos" / f"{args.name}.py"
    source = program.read_text(encoding="utf-8")
    if args.words and "sys.argv" not in source:
        raise UsageError(f"the demo {args.name} takes no words after its name, but got {args.words[0]!r}")
    if args.source:
        print(source, end="")
        return 0
    typed, sys.argv = sys.argv, [str(program), *args.words]
    try:
        runpy.run_module(f"sandbox.demos.{args.name}", run_name="__main__")
    finally:
        sys.argv = typed
    return 0
