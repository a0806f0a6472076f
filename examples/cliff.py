"""Over the cliff: why the gradient's norm is clipped.

A unit that feeds itself for 50 steps, x' = w σ(x) + b, has a loss with a wall in it (Pascanu, Mikolov and Bengio 2013,
figure 6). One step of gradient descent from the top of the wall throws the parameters far away, to a plain where the
gradient is next to nothing; with the norm clipped to 1 they walk down beside it.
"""

from types import SimpleNamespace as Descent

import numpy as np

from tinygrad_rnn import Tensor, grad, sigmoid, sum
from tinygrad_rnn.figure import new_figure, save_figure


def cliff(w, b, steps=50):
    """(σ(x) - 0.7)² after so many steps from x = 0.5, elementwise."""
    x = 0.5
    for _ in range(steps):
        x = w * sigmoid(x) + b
    return (sigmoid(x) - 0.7) ** 2


def cliff_plane(w, b, steps=50):
    """The loss and the norm of its gradient at every point (w, b)."""
    axes = np.broadcast_arrays(np.asarray(w, float), np.asarray(b, float))
    grid = [Tensor(axis, requires_grad=True) for axis in axes]
    loss = cliff(*grid, steps)
    return loss.data, np.hypot(*(g.data for g in grad(sum(loss), grid)))


def descend(updates=100, lr=0.05, clip=np.inf, steps=50):
    """Walk down from the top of the wall; longer gradients are shortened."""
    at, rows = np.array([4.5, -2.303]), []
    for _ in range(updates + 1):
        here = Tensor(at, requires_grad=True, name="(w, b)")
        loss = cliff(here[0], here[1], steps)
        g = grad(loss, here).data
        norm = np.linalg.norm(g)
        rows.append((*at, loss.item(), norm))
        at = at - lr * g * min(1.0, clip / norm)
    w, b, losses, norms = np.array(rows).T
    return Descent(points=np.stack([w, b], 1), losses=losses, norms=norms)


if __name__ == "__main__":
    thrown, held = descend(), descend(clip=1.0)
    step = np.linalg.norm(thrown.points[1] - thrown.points[0])
    for name, walk in (("as it is", thrown), ("clipped to 1", held)):
        first = np.linalg.norm(walk.points[1] - walk.points[0])
        print(f"{name}: |g| = {walk.norms[0]:.2f}, first step {first:.2f} long,")
        print(f"    loss after 100 updates {walk.losses[-10:].mean():.4f}")
    w, b = np.linspace(3.0, 9.0, 260), np.linspace(-3.5, 5.0, 260)
    loss, norms = cliff_plane(w, b[:, None])
    print(f"|g| is {norms.max():.3g} at most, {np.median(norms):.2g} in the middle")

    figure = new_figure(9.5, 4.6)
    whole, near = figure.subplots(1, 2)
    colours = {"cmap": "Greys", "shading": "nearest", "rasterized": True}
    for axes in (whole, near):
        if axes is near:
            w, b = np.linspace(4.4, 4.6, 260), np.linspace(-2.38, -2.2, 260)
            loss, _ = cliff_plane(w, b[:, None])
        surface = axes.pcolormesh(w, b, loss, vmin=0.0, vmax=0.3, **colours)
        for walk, colour, label in (
            (thrown, "#d55e00", "as it is"),
            (held, "#0072b2", "norm clipped to 1"),
        ):
            axes.plot(*walk.points.T, ".-", ms=4, lw=1.2, color=colour, label=label)
        axes.plot(*thrown.points[0], "ko", ms=7, label="start, on the wall")
        axes.set(xlabel="w", ylabel="b", xlim=(w[0], w[-1]), ylim=(b[0], b[-1]))
        axes.locator_params("x", nbins=5)
    whole.set_title(f"One step of length {step:.2f}", fontsize="medium")
    near.set_title("The same, from near", fontsize="medium")
    whole.legend(loc="upper left", fontsize="small")
    figure.colorbar(surface, ax=near, extend="max", label="loss after 50 steps")
    what = "Gradient descent at the foot of a wall: x' = w σ(x) + b"
    figure.suptitle(f"{what}, learning rate 0.05")
    save_figure(figure, "cliff.png")
