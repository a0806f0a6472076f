"""Exports of real frameworks beside what the frameworks compute: ``python -m tests.frameworks`` (at night, by nox).

Keras runs on PyTorch here, so that only it is installed. Nothing of this is collected by pytest.
"""

import os
import sys

import numpy as np

from tinygrad_rnn import nn

os.environ["KERAS_BACKEND"] = "torch"


def keras_layers():
    """For each layer: its name, by how much our outputs differ, and how large they are."""
    import keras

    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    for kind in ("LSTM", "GRU", "SimpleRNN"):
        for options in ({}, {"use_bias": False}, {"reset_after": False} if kind == "GRU" else {"unroll": True}):
            keras.utils.set_random_seed(1)
            layer = getattr(keras.layers, kind)(5, return_sequences=True, bias_initializer="random_normal", **options)
            want = keras.ops.convert_to_numpy(layer(x))
            try:
                net = nn.from_keras(layer.get_weights(), layer.get_config())
            except ValueError as error:  # such as of a GRU whose reset stands before the product
                yield f"keras {keras.__version__} {kind} {options}: refused, {error}", 0.0
                continue
            got = net(x if net.batch_first else x.transpose(1, 0, 2))[0].numpy()
            got = got if net.batch_first else got.transpose(1, 0, 2)
            yield f"keras {keras.__version__} {kind} {options}", float(np.abs(got - want).max())


def main():
    """Print each comparison; fail if one is off by more than float32 rounds."""
    found = list(keras_layers())
    for name, off in found:
        print(f"{off:.1e}  {name}")
    return int(not found or max(off for _, off in found) > 1e-6)


if __name__ == "__main__":
    sys.exit(main())
