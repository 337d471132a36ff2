"""What all training shares: device, threads and precision, schedules, logs and files that survive a crash."""

from sandbox.training.checkpoint import FileError, atomic, load_tensors, save_tensors, write_text
from sandbox.training.device import light_optimizers, pick_device, precision, private_seed, threads
from sandbox.training.log import MetricsCSV, ProgressLine, read_metrics
from sandbox.training.schedules import Constant, Cosine, Exponential, Linear, Step, Warmup

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "FileError",
    "Linear",
    "MetricsCSV",
    "ProgressLine",
    "Step",
    "Warmup",
    "atomic",
    "light_optimizers",
    "load_tensors",
    "pick_device",
    "precision",
    "private_seed",
    "read_metrics",
    "save_tensors",
    "threads",
    "write_text",
]
