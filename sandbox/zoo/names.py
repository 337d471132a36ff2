"""The names of the zoo, and `build`. Nothing here imports torch before a model is built."""

import difflib
import importlib
import inspect
import json
from typing import Any

ZOO = {
    "alexnet": "sandbox.zoo.conv:AlexNet",
    "conv": "sandbox.zoo.conv:Conv",
    "conv_decoder": "sandbox.zoo.decoders:ConvDecoder",
    "gru": "sandbox.zoo.recurrent:GRU",
    "impala_cnn": "sandbox.zoo.conv:ImpalaCNN",
    "keypoint_decoder": "sandbox.zoo.keypoints:KeypointDecoder",
    "keypoints": "sandbox.zoo.keypoints:Keypoints",
    "latent_decoder": "sandbox.zoo.latent:LatentDecoder",
    "latent_encoder": "sandbox.zoo.latent:LatentEncoder",
    "lstm": "sandbox.zoo.recurrent:LSTM",
    "mlp": "sandbox.zoo.mlp:MLP",
    "mlp_decoder": "sandbox.zoo.decoders:MLPDecoder",
    "nature_cnn": "sandbox.zoo.conv:NatureCNN",
    "nature_decoder": "sandbox.zoo.decoders:NatureDecoder",
    "recurrent_decoder": "sandbox.zoo.recurrent:RecurrentDecoder",
    "recurrent_encoder": "sandbox.zoo.recurrent:RecurrentEncoder",
    "resnet18": "sandbox.zoo.resnet:ResNet18",
    "rnn": "sandbox.zoo.recurrent:RNN",
    "token_encoder": "sandbox.zoo.tokens:TokenEncoder",
    "transformer": "sandbox.zoo.transformer:Transformer",
    "vit": "sandbox.zoo.transformer:ViT",
}


def resolve(name: str) -> type:
    """Import and return the class behind a name of the zoo.

    Raises
    ------
    ValueError
        If the zoo has no such name; the message gives the nearest ones.

    Examples
    --------
    >>> resolve("lstm").__name__
    'LSTM'
    """
    if name not in ZOO:
        nearest = difflib.get_close_matches(name, ZOO, cutoff=0.4) or sorted(ZOO)
        raise ValueError(f"no model {name!r} in the zoo; nearest: {', '.join(nearest)}")
    module, _, attribute = ZOO[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, /, **kwargs: Any) -> Any:
    """Build a model of the zoo by name.

    The module remembers how it was built in `module.spec`, defaults included, so that `save` can write it down and
    `load` gives the same network even after a default has changed.

    Parameters
    ----------
    name : str
        A key of `ZOO`. A model of your own joins with ``ZOO["mine"] = "my_package.my_file:MyEncoder"``.
    **kwargs
        The keywords of the model's class: anything that JSON can hold, and numpy numbers.

    Returns
    -------
    Encoder, Decoder, Recurrent or Sequence

    Raises
    ------
    ValueError
        If the zoo has no such name, or the model does not take a value.
    TypeError
        If a keyword is unknown or missing, or its value cannot be written as JSON.

    Examples
    --------
    >>> encoder = build("mlp", in_shape=(4,), widths=(64, 64))
    >>> encoder.out_features, encoder.spec["kwargs"]["activation"]
    (64, 'tanh')
    """
    model = resolve(name)
    signature = inspect.signature(model)
    try:
        arguments = signature.bind(**kwargs)
        arguments.apply_defaults()
        kwargs = plain(arguments.arguments)
    except TypeError as error:
        raise TypeError(f"{name}: {error}; it accepts {', '.join(signature.parameters)}") from None
    module = model(**kwargs)
    # A network inside it that was built by name, such as its body, is written down with its own defaults.
    inner = {key: getattr(module, key).spec for key in kwargs if hasattr(getattr(module, key, None), "spec")}
    module.spec = {"name": name, "kwargs": kwargs | plain(inner)}
    return module


def plain(value: Any) -> Any:
    """A copy of `value` as a JSON file gives it back: tuples become lists, numpy numbers Python's.

    Examples
    --------
    >>> plain({"in_shape": (3, 32, 32)})
    {'in_shape': [3, 32, 32]}
    """
    return json.loads(json.dumps(value, default=_from_numpy, allow_nan=False))


def _from_numpy(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")
