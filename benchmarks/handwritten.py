"""Backpropagation through time written by hand in NumPy: the plain way, and the way of an expert.

Each function takes ``(x, W, U, b, d, v)``, that is inputs (T, B, I), input and recurrent weights, both biases and the
weights (B, H) of the loss ``sum(h_T * v)``, and returns the loss and the gradients of W, U, b and d. The step is
``z = x W^T + b + h U^T + d``; gates are in the order i, f, g, o; the initial state is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Result = tuple[Array, tuple[Array, ...]]


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def plain_rnn(x: Array, W: Array, U: Array, b: Array, d: Array, v: Array) -> Result:
    """Elman network, one line per formula."""
    steps, hs = len(x), [np.zeros_like(v)]
    for t in range(steps):
        hs.append(np.tanh(x[t] @ W.T + b + hs[-1] @ U.T + d))
    loss = np.sum(hs[-1] * v)
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    dh = v
    for t in reversed(range(steps)):
        dz = dh * (1 - hs[t + 1] ** 2)
        dW += dz.T @ x[t]
        dU += dz.T @ hs[t]
        db += dz.sum(axis=0)
        dh = dz @ U
    return loss, (dW, dU, db, db.copy())


def plain_lstm(x: Array, W: Array, U: Array, b: Array, d: Array, v: Array) -> Result:
    """Long short-term memory, one line per formula."""
    steps, n = len(x), v.shape[1]
    h, c, saved = np.zeros_like(v), np.zeros_like(v), []
    for t in range(steps):
        z = x[t] @ W.T + b + h @ U.T + d
        i, f, g, o = sigmoid(z[:, :n]), sigmoid(z[:, n : 2 * n]), np.tanh(z[:, 2 * n : 3 * n]), sigmoid(z[:, 3 * n :])
        c_new = f * c + i * g
        tanh_c = np.tanh(c_new)
        saved.append((h, c, i, f, g, o, tanh_c))
        h, c = o * tanh_c, c_new
    loss = np.sum(h * v)
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    dh, dc = v, np.zeros_like(v)
    for t in reversed(range(steps)):
        h, c, i, f, g, o, tanh_c = saved[t]
        do = dh * tanh_c
        dc = dc + dh * o * (1 - tanh_c**2)
        gates = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), do * o * (1 - o)]
        dz = np.concatenate(gates, axis=1)
        dW += dz.T @ x[t]
        dU += dz.T @ h
        db += dz.sum(axis=0)
        dh, dc = dz @ U, dc * f
    return loss, (dW, dU, db, db.copy())


def _weight_gradients(dz: Array, x: Array, h: Array) -> tuple[Array, ...]:
    """One product over all steps for each weight: sums over t and over the batch are the same sum."""
    rows = dz.reshape(-1, dz.shape[-1])
    db = rows.sum(axis=0)
    return rows.T @ x.reshape(len(rows), -1), rows.T @ h.reshape(len(rows), -1), db, db.copy()


def expert_rnn(x: Array, W: Array, U: Array, b: Array, d: Array, v: Array) -> Result:
    """The same Elman network with buffers reused and every product that can wait done once, over all steps."""
    steps, (batch, n) = len(x), v.shape
    z = (x.reshape(steps * batch, -1) @ W.T + (b + d)).reshape(steps, batch, n)
    h = np.zeros((steps + 1, batch, n), v.dtype)
    product, transposed = np.empty_like(v), np.ascontiguousarray(U.T)
    for t in range(steps):
        np.matmul(h[t], transposed, out=product)
        product += z[t]
        np.tanh(product, out=h[t + 1])
    loss = np.sum(h[-1] * v)
    dz = np.multiply(h[1:], h[1:], out=z)
    np.subtract(1, dz, out=dz)
    dh = v.copy()
    for t in reversed(range(steps)):
        dz[t] *= dh
        np.matmul(dz[t], U, out=dh)
    return loss, _weight_gradients(dz, x, h[:-1])


def expert_lstm(x: Array, W: Array, U: Array, b: Array, d: Array, v: Array) -> Result:
    """The same LSTM; one tanh serves all gates, since sigmoid(z) = (1 + tanh(z / 2)) / 2."""
    steps, (batch, n) = len(x), v.shape
    scale = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], v.dtype), n)
    shift = 1 - scale
    shift[2 * n : 3 * n] = 0
    a = (x.reshape(steps * batch, -1) @ (W.T * scale) + (b + d) * scale).reshape(steps, batch, 4 * n)
    h, c = np.zeros((2, steps + 1, batch, n), v.dtype)
    tanh_c, product, recurrent = np.empty((steps, batch, n), v.dtype), np.empty((batch, 4 * n), v.dtype), U.T * scale
    i, f, g, o = np.moveaxis(a.reshape(steps, batch, 4, n), 2, 0)
    buffer = np.empty_like(v)
    for t in range(steps):
        np.matmul(h[t], recurrent, out=product)
        product += a[t]
        np.tanh(product, out=product)
        product *= scale
        np.add(product, shift, out=a[t])
        np.multiply(f[t], c[t], out=c[t + 1])
        np.multiply(i[t], g[t], out=buffer)
        c[t + 1] += buffer
        np.tanh(c[t + 1], out=tanh_c[t])
        np.multiply(o[t], tanh_c[t], out=h[t + 1])
    loss = np.sum(h[-1] * v)
    return loss, _weight_gradients(_expert_lstm_backward(U, v, (i, f, g, o), c, tanh_c, a), x, h[:-1])


def _expert_lstm_backward(U: Array, v: Array, gates: tuple[Array, ...], c: Array, tanh_c: Array, a: Array) -> Array:
    """Gradient of the loss with respect to z at every step, (T, B, 4H)."""
    i, f, g, o = gates
    dz = a * (1 - a)
    di, df, dg, do = np.moveaxis(dz.reshape(*dz.shape[:2], 4, -1), 2, 0)
    np.subtract(1, g * g, out=dg)
    slope = o * (1 - tanh_c * tanh_c)
    dh, dc, buffer = v.copy(), np.zeros_like(v), np.empty_like(v)
    for t in reversed(range(len(a))):
        np.multiply(dh, slope[t], out=buffer)
        dc += buffer
        do[t] *= dh
        do[t] *= tanh_c[t]
        for gate, factor in ((di[t], g[t]), (df[t], c[t]), (dg[t], i[t])):
            np.multiply(dc, factor, out=buffer)
            gate *= buffer
        np.matmul(dz[t], U, out=dh)
        dc *= f[t]
    return dz
