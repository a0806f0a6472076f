"""Losses as people write them, and as they should not: functions of outputs of shape (T, 2, 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg

B, H = 2, 4


def slices() -> dict[str, Any]:
    """Parts of the sequence: of more steps, of fewer, and of as many as two lengths at which a loss could be traced."""
    made: dict[str, Any] = {}
    for k in (1, 2, 3, 5, 8, 13, 14, 20, 30):
        made[f"mean o[-{k}:]"] = lambda outputs, k=k: tg.mean(outputs[-k:] ** 2)
        made[f"mean o[:{k}]"] = lambda outputs, k=k: tg.mean(outputs[:k] ** 2)
        made[f"mean o[{k}:]"] = lambda outputs, k=k: tg.mean(outputs[k:] ** 2)
        made[f"sum o[:-{k}]"] = lambda outputs, k=k: tg.sum(outputs[:-k] ** 3)
    for k in (0, 1, 7, 19, -2, -9, -20):
        made[f"o[{k}]"] = lambda outputs, k=k: tg.sum(outputs[k] ** 2)
    for text in ("2:10", "-10:-2", "5:-5", "::2", "1::2", "::3", "::-2", "::8", "-1:-8:-1", "-1:-20:-3"):
        part = slice(*(int(n) if n else None for n in text.split(":")))
        made[f"o[{text}]"] = lambda outputs, part=part: tg.mean(outputs[part] ** 2)
    return made


def of_the_length() -> dict[str, Any]:
    """What a loss may do with T: an index, a condition, a factor, a weight for each step."""
    count = len
    return {
        "middle": lambda outputs: tg.sum(outputs[count(outputs) // 2] ** 2),
        "second half": lambda outputs: tg.mean(outputs[count(outputs) // 2 :] ** 2),
        "eighth": lambda outputs: tg.sum(outputs[count(outputs) // 8] ** 2),
        "T - 3": lambda outputs: tg.sum(outputs[count(outputs) - 3 :] ** 2),
        "T - 15 or 0": lambda outputs: tg.mean(outputs[max(0, count(outputs) - 15) :] ** 2),
        "at most 20": lambda outputs: tg.sum(outputs[: min(count(outputs), 20)] ** 2) / min(count(outputs), 20),
        "if > 10": lambda outputs: tg.sum(outputs[-1] ** 2) if count(outputs) > 10 else tg.sum(outputs**2),
        "if > 20": lambda outputs: tg.sum(outputs[-1] ** 2) if count(outputs) > 20 else tg.sum(outputs**2),
        "if > 60": lambda outputs: tg.sum(outputs[-1] ** 2) if count(outputs) > 60 else tg.sum(outputs**2),
        "if odd": lambda outputs: tg.sum(outputs[-1] ** 2) if count(outputs) % 2 else tg.sum(outputs**2),
        "if 1": lambda outputs: tg.sum(outputs) if count(outputs) == 1 else tg.sum(outputs**2),
        "a little if > 30": lambda outputs: tg.sum(outputs) + 1e-4 * tg.sum(outputs[0]) * (count(outputs) > 30),
        "/ T": lambda outputs: tg.sum(outputs**2) / count(outputs),
        "/ T²": lambda outputs: tg.sum(outputs**2) / count(outputs) ** 2,
        "/ √T": lambda outputs: tg.sum(outputs**2) / np.sqrt(count(outputs)),
        "/ (T - 1)": lambda outputs: tg.sum(outputs**2) / max(1, count(outputs) - 1),
        "/ (T or 20)": lambda outputs: tg.sum(outputs**2) / max(20, count(outputs)),
        "× T": lambda outputs: tg.sum(outputs**2) * count(outputs),
        "× gcd(T, 6)": lambda outputs: tg.sum(outputs**2) * np.gcd(count(outputs), 6),
        "× T mod 8": lambda outputs: tg.sum(outputs) * (1 + (count(outputs) - 5) % 8),
        "T mod 8 steps": lambda outputs: tg.sum(outputs[: 5 + (count(outputs) - 5) % 8] ** 2),
        "power of 1 / T": lambda outputs: tg.sum(abs(outputs) ** (1 + 1 / count(outputs))),
        "γᵗ": lambda outputs: tg.sum(outputs * 0.9 ** np.arange(count(outputs))[:, None, None]),
        "γᵀ": lambda outputs: tg.sum(outputs**2) * 0.9 ** count(outputs),
        "a ramp": lambda outputs: tg.sum(outputs * np.linspace(0, 1, count(outputs))[:, None, None]),
        "even steps": lambda outputs: tg.mean(outputs[np.arange(count(outputs)) % 2 == 0] ** 2),
        "steps > 10": lambda outputs: tg.sum(outputs[np.arange(count(outputs)) > 10] ** 2),
        "picked steps": lambda outputs: tg.sum(outputs[[-1, -3, -3]] ** 2),
        "where t > 4": lambda outputs: tg.sum(
            tg.where(np.arange(count(outputs))[:, None, None] > 4, outputs, 0.1 * outputs)
        ),
        "halves": lambda outputs: tg.sum(tg.split(outputs, 2)[0] ** 2) if not count(outputs) % 2 else tg.sum(outputs),
        "pairs": lambda outputs: tg.sum(tg.reshape(outputs[: count(outputs) // 2 * 2], (-1, 2, B, H))[:, 0] ** 2),
    }


def over_time() -> dict[str, Any]:
    """Functions of all steps at once."""
    mean, total = tg.mean, tg.sum
    return {
        "sum": lambda outputs: total(outputs),
        "variance": lambda outputs: tg.var(outputs),
        "variance o[-20:]": lambda outputs: tg.var(outputs[-20:]),
        "centred": lambda outputs: total((outputs - mean(outputs, axis=0, keepdims=True)) ** 2 * outputs),
        "norm": lambda outputs: tg.sqrt(total(outputs**2)),
        "cumsum": lambda outputs: mean(tg.cumsum(outputs, 0) ** 2),
        "max": lambda outputs: total(tg.max(outputs, axis=0) ** 2),
        "softmax": lambda outputs: total(tg.softmax(outputs, axis=0) ** 2),
        "softmax sums to 1": lambda outputs: total(tg.softmax(outputs, axis=0)),
        "logsumexp": lambda outputs: tg.logsumexp(outputs),
        "attention": lambda outputs: total(
            total(tg.softmax(total(outputs * outputs[-1], axis=-1, keepdims=True), axis=0) * outputs, axis=0) ** 2
        ),
        "T × T": lambda outputs: total(tg.einsum("tbh,sbh->bts", outputs, outputs) ** 2),
        "differences": lambda outputs: mean((outputs[1:] - outputs[:-1]) ** 2),
        "lag 20": lambda outputs: mean(outputs[20:] * outputs[:-20]),
        "o[-20:] twice": lambda outputs: total(outputs[-20:] * outputs[-20:]),
        "o[-20:] and state": lambda outputs, state: mean(outputs[-20:]) + total(state),
        "reversed": lambda outputs: total(outputs[::-1] * outputs),
        "reversed [:20]": lambda outputs: mean(outputs[::-1][:20] ** 2),
        "concatenated": lambda outputs: mean(tg.concatenate([outputs[:20], outputs[-5:]], 0) ** 2),
        "padded": lambda outputs: mean(tg.concatenate([np.zeros((3, B, H)), outputs], 0) ** 2),
        "a loop": lambda outputs: sum(0.9**t * total(h**2) for t, h in enumerate(outputs)),
        "last three": lambda outputs: sum(total(outputs[-k - 1] ** 2) for k in range(3)),
        "rows": lambda outputs: total(tg.reshape(outputs, (-1, H)) ** 3),
        "features": lambda outputs: total(outputs[..., :2] * outputs[..., 2:]),
        "state": lambda state: total(state**2),
        "last and state": lambda outputs, state: total(outputs[-1] * state) + total((outputs - state) ** 2),
        "an offset": lambda outputs: 1e6 + mean(outputs[-20:] ** 2),
        "tiny": lambda outputs: 1e-9 * mean(outputs[-20:] ** 2),
        "huge": lambda outputs: 1e9 * mean(outputs[-20:] ** 2),
        "a branch on elements": lambda outputs: total(tg.where(outputs > 0, outputs, 0.1 * outputs)),
    }


def held(steps: int) -> dict[str, Any]:
    """Losses that hold what is made for an example of so many steps."""
    rng = np.random.default_rng(7)
    weights, mask, labels = rng.normal(size=steps), rng.random(steps) > 0.5, rng.integers(0, H, (steps, B))
    return {
        "weights": lambda outputs: tg.sum(outputs * weights[:, None, None]),
        "mask": lambda outputs: tg.sum(outputs[mask] ** 2),
        "labels": lambda outputs: tg.cross_entropy(outputs, labels),
        "labels of the last": lambda outputs: tg.cross_entropy(outputs[-1], labels[-1]),
        "weights if they fit": lambda outputs: (
            tg.sum(outputs * weights[:, None, None]) if len(outputs) == steps else tg.sum(outputs)
        ),
    }


GIVEN: dict[str, Any] = {
    "target": (lambda outputs, y: tg.mse_loss(outputs, y), lambda T: (T, B, H)),
    "target of the last 20": (lambda outputs, y: tg.mse_loss(outputs[-20:], y[-20:]), lambda T: (T, B, H)),
    "target of the last": (lambda outputs, y: tg.mse_loss(outputs[-1], y), lambda T: (B, H)),
    "weights": (lambda outputs, w: tg.mean(outputs * w), lambda T: (T, 1, 1)),
    "a number": (lambda outputs, w: tg.mean(outputs) * w, lambda T: ()),
    "as many as the example has steps": (lambda outputs, w: tg.sum(outputs) * tg.mean(w), lambda T: (20,)),
}
"""Losses that take something at each call, and its shape."""
