"""The gradient graph: what flows along each edge, as plain data."""

from .build import gradient_graph
from .model import Edge, GradientGraph, Node, norm_of

__all__ = ["Edge", "GradientGraph", "Node", "gradient_graph", "norm_of"]
