"""The five-minute path: a gradient graph as the simplest picture there is, to start one of your own from.

After this file the reader knows how little a picture needs: a node for each tensor, an edge for each use, and on it
what comes back along it. ``draw`` adds layout, colours and a legend.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .parts import Graph

if TYPE_CHECKING:
    import graphviz


def digraph(graph: Graph) -> graphviz.Digraph:
    """The graph for the ``graphviz`` package: heads point back, the thicker the larger the gradient.

    Parameters
    ----------
    graph : Graph
        Also a collapsed one.

    Returns
    -------
    graphviz.Digraph
        ``.source`` is its DOT text; ``.render()`` needs a Graphviz program.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(3.0, requires_grad=True, name="x")
    >>> print(digraph(tg.gradient_graph(x * x)).body[-1].strip())
    0 -> 1 [label=3 dir=back penwidth=2.2]
    """
    import graphviz

    source = graphviz.Digraph(graph_attr={"rankdir": "LR"}, node_attr={"shape": "box"})
    for node in graph.nodes:
        source.node(str(node.id), graphviz.escape(node.label))
    for edge in graph.edges:
        if not edge.internal:
            size, number = edge.norm, edge.norm if edge.signed is None else edge.signed
            look = {"dir": "forward", "style": "dashed"}  # needs no gradient: only data flow
            if size is not None:
                decades = math.log10(size) if 0.0 < size < math.inf else -4.0
                look = {"dir": "back", "penwidth": f"{min(5.0, max(0.5, 2.0 + decades / 2)):.1f}"}
            label = "" if number is None else f"{number:.2g}"
            source.edge(str(edge.source), str(edge.target), label, **look)
    return source
