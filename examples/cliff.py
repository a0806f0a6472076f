"""Over the cliff: why the gradient's norm is clipped.

A unit that feeds itself for 50 steps, x' = w σ(x) + b, has a loss with a wall in it (Pascanu, Mikolov and Bengio 2013,
figure 6). One step of gradient descent from the top of the wall throws the parameters far away, to a plain where the
gradient is next to nothing; with the norm clipped to 1 they walk down beside it.
"""

import numpy as np

from tinygrad_rnn.diagnose.experiments import cliff_plane, descend
from tinygrad_rnn.draw.figure import new_figure, save_figure

thrown, held = descend(updates=100), descend(updates=100, clip=1.0)
for name, walk in (("as it is", thrown), ("clipped to 1", held)):
    step = np.linalg.norm(walk.points[1] - walk.points[0])
    end = walk.losses[-10:].mean()
    print(f"gradient {name}: |g| = {walk.norms[0]:.2f}, first step {step:.2f} long, loss after 100 updates {end:.4f}")

w, b = np.linspace(3.0, 9.0, 260), np.linspace(-3.5, 5.0, 260)
loss, norms = cliff_plane(w, b[:, None])
print(f"on this plane the gradient is {norms.max():.3g} at most, {np.median(norms):.2g} in the middle")

figure = new_figure(9.5, 4.6)
whole, near = figure.subplots(1, 2)
for axes in (whole, near):
    if axes is near:
        w, b = np.linspace(4.4, 4.6, 260), np.linspace(-2.38, -2.2, 260)
        loss, _ = cliff_plane(w, b[:, None])
    surface = axes.pcolormesh(w, b, loss, cmap="Greys", shading="nearest", vmin=0.0, vmax=0.3, rasterized=True)
    for walk, colour, label in ((thrown, "#d55e00", "as it is"), (held, "#0072b2", "norm clipped to 1")):
        axes.plot(*walk.points.T, ".-", color=colour, markersize=4, linewidth=1.2, label=label)
    axes.plot(*thrown.points[0], "o", color="black", markersize=7, label="start, on the wall")
    axes.set_xlim(w[0], w[-1])
    axes.set_ylim(b[0], b[-1])
    axes.locator_params("x", nbins=5)
    axes.set_xlabel("w")
    axes.set_ylabel("b")
whole.set_title(f"One step of length {np.linalg.norm(thrown.points[1] - thrown.points[0]):.2f}", fontsize="medium")
near.set_title("The same, from near", fontsize="medium")
whole.legend(loc="upper left", fontsize="small")
figure.colorbar(surface, ax=near, extend="max", label="loss after 50 steps")
figure.suptitle("Gradient descent at the foot of a wall: x' = w σ(x) + b, learning rate 0.05")
save_figure(figure, "cliff.png")
