"""What a picture writes for an operation of PyTorch's, and the rule of each edge in words.

After this file the reader knows that these few formulas are typed, since PyTorch's rules are compiled: a test evaluates
each of them on numbers. Whatever is not in the table is written ∂op/∂operand. In a formula g is the gradient that
arrives, y the result, and the other names are PyTorch's for the operands; what was broadcast is summed.
"""

from __future__ import annotations

SYMBOLS = {
    **{"mul": "×", "add": "+", "sub": "−", "div": "/", "mm": "@", "bmm": "@", "t": "ᵀ", "pow": "^"},
    **{"sigmoid": "σ", "sum": "Σ"},
}

FORMULAS = {
    "add": {"self": "g", "other": "g"},
    "sub": {"self": "g", "other": "−g"},
    "mul": {"self": "g × other", "other": "g × self"},
    "div": {"self": "g / other", "other": "−g × y / other"},
    "neg": {"self": "−g"},
    "exp": {"self": "g × y"},
    "log": {"self": "g / self"},
    "sqrt": {"self": "g / (2 × y)"},
    "tanh": {"self": "g × (1 − y²)"},
    "sigmoid": {"self": "g × y × (1 − y)"},
    "relu": {"self": "g where y > 0, else 0"},
    "t": {"self": "gᵀ"},
    "mm": {"self": "g @ mat2ᵀ", "mat2": "selfᵀ @ g"},
    "linear": {"bias": "g", "input": "g @ weight", "weight": "gᵀ @ input"},
    "addmm": {"self": "g", "mat1": "g @ mat2ᵀ", "mat2": "mat1ᵀ @ g"},
}
"""By operation and operand, both as PyTorch calls them; the operands of a product x Wᵀ + b in PyTorch's order."""
