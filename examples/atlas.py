"""An atlas of vanishing and exploding: 84 small networks, and the line that theory draws between the two.

How strongly the input drives a tanh network decides as much as the scale g of its weights: with hardly any input the
gradient keeps its size at g = 1, with a strong one it still vanishes there. `sweep` measures each network once and
keeps the table (run it again: nothing is measured twice); the dashed line is an estimate by mean field, no fit.
"""

from tinygrad_rnn.atlas import boundaries, draw_atlas, grid, slope_of, sweep

settings = grid(
    nonlinearity="tanh",
    input_scale=[0.01, 0.1, 0.5, 1.0],
    scale=[0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5],
    hidden=48,
    steps=60,
    seed=range(3),
)
table = sweep(settings, slope_of, path="atlas.jsonl")
title = "Whether a tanh network vanishes, its input decides too"
draw_atlas(table, "atlas.png", y="input_scale", title=title)

for row in table.summary("slope", by=["input_scale", "scale"]).where(scale=1.5):
    network = {"nonlinearity": "tanh", "input_scale": row["input_scale"]}
    (theory,) = boundaries(network)
    print(
        f"input × {row['input_scale']:<4g}: {row['median']:+.3f} decades per step",
        end=" ",
    )
    print(f"at g = 1.5; theory puts the boundary at g = {theory.scale:.2f}")
