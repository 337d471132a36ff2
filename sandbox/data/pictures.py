"""The pictures that come with scikit-learn."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from sandbox.data.names import Data


def digits() -> Data:
    """1797 handwritten digits, 8x8 and grey, each with its label."""
    found = load_digits()
    names = tuple(map(str, found.target_names))
    return Data(found.images, found.target, names, "scikit-learn's handwritten digits, 0 to 16")


def photos() -> Data:
    """Two photos in colour, 427x640: a temple and a flower."""
    found = load_sample_images()
    names = tuple(Path(name).stem for name in found.filenames)
    return Data(np.stack(found.images), np.arange(len(names)), names, "scikit-learn's two photos")
