"""What the interactive page says in words and times is what its graphs have, however many there are."""

import re
from collections import Counter

import numpy as np
import pytest
from test_html import page, table, unrolled

import tinygrad_rnn as tg
from tinygrad_rnn.draw.style import number
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.graph.steps import states
from tinygrad_rnn.norms import norm_of


@pytest.mark.parametrize("norm", ["l2", "max"])
def test_the_description_tells_each_states_gradient_at_its_own_two_ends(norm):
    """For those who do not see the picture: a size stands beside the step that has it, and backwards from the loss."""
    outputs, _ = tg.LSTM(3, 4, bidirectional=True, rng=0)(np.random.default_rng(0).normal(size=(4, 2, 3)))
    for graph in (unrolled("lstm", 9), tg.gradient_graph(tg.sum(outputs[-1]))):
        told = re.findall(r"gradient of ([^.]+?) is (\S+) at t=(\d+) and (\S+) at t=(\d+)\.", page(graph, norm=norm))
        expected = []
        for state, lane in states(graph).items():
            start, *_, end = lane
            sizes = {t: number(norm_of(lane[t].gradient, norm)) for t in (start, end)}
            assert sizes[start] != sizes[end]  # else any place would be the right one
            expected.append((state, sizes[end], str(end), sizes[start], str(start)))
        assert told == expected and expected


@pytest.mark.parametrize("norm", ["l2", "rms", "max"])
def test_the_tooltip_of_a_whole_step_tells_each_of_its_states_by_the_norm_that_was_chosen(norm):
    graph = unrolled("lstm", 2)
    tips = {node[0] for node in table(page(graph, View(level="step"), norm=norm))["levels"]["step"]["nodes"]}
    lanes = states(graph)
    for t in (1, 2):
        (tip,) = [tip for tip in tips if f"\nt={t}\n" in tip]
        told = dict(re.findall(r"^‖∂L/∂(\w+)‖ = (.+)$", tip, re.MULTILINE))
        assert {name: told[name] for name in "hc"} == {
            name: f"{norm_of(lanes[name][t].gradient, norm):.4g}" for name in "hc"
        }


@pytest.mark.parametrize("level", ["op", "gate", "step"])
def test_a_page_of_two_graphs_has_the_times_that_each_has_alone(level):
    """In the row of a reverse direction time runs the other way, and in no other row, whichever graph comes first."""
    x = np.random.default_rng(0).normal(size=(3, 2, 2))
    one, both = tg.RNN(2, 3, rng=0), tg.RNN(2, 3, bidirectional=True, rng=1)
    graphs = {"one": tg.gradient_graph(tg.sum(one(x)[0])), "both": tg.gradient_graph(tg.sum(both(x)[0]))}

    def own(sources):
        found = table(page(sources, View(level=level)))["levels"][level]
        return Counter((tip, time) for tip, _, time in found["nodes"])

    alone = [own({title: graph}) for title, graph in graphs.items()]
    for order in (graphs, dict(reversed(graphs.items()))):
        assert own(order) == alone[0] + alone[1]
