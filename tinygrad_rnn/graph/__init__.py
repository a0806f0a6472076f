"""The gradient graph: what flows along each edge, as plain data."""

from ..norms import norm_of
from .build import gradient_graph
from .model import GradientGraph
from .parts import Edge, Node

__all__ = ["Edge", "GradientGraph", "Node", "gradient_graph", "norm_of"]
