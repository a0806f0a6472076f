"""Derived BPTT: what a program reads like: names of values, the equations beside its lines, its products."""

import re

import numpy as np
import pytest
from test_derived_costs import COSTS, FEW, OURS, derived, program_of, squares
from test_derived_strangers import Cell

import tinygrad_rnn as tg

LONG = "a_name_of_sixteen"
NOUNS = {
    "total": lambda v, w: v + w,
    "difference": lambda v, w: v - w,
    "product": lambda v, w: v * w,
    "ratio": lambda v, w: v / (w + 3),
    "chosen": lambda v, w: tg.where(v > w, v, w),
    "maximum": lambda v, w: tg.maximum(v, w),
    "minus_v": lambda v, w: -v,
    "v_squared": lambda v, w: tg.square(v),
    "one_plus_v": lambda v, w: 1 + v,
    "v_minus_two": lambda v, w: v - 2,
    "vw": lambda v, w: v * w,
    "v_over_w": lambda v, w: v / w,
    "cumsum_v": lambda v, w: tg.cumsum(v, -1),
    "mask": lambda v, w: v > w,
}


@pytest.mark.parametrize("word", NOUNS)
def test_a_nameless_value_is_called_by_what_it_is_made_of_or_in_one_word(word):
    """In words if these are few, else by the kind of value that it is."""

    def step(cell, x, h):
        values = [tg.tanh(h @ cell.U + x @ cell.W), tg.sigmoid(h @ cell.U - x @ cell.W)]
        short = "_" in word or word == "vw"
        values[0].name, values[1].name = ("v", "w") if short else (LONG, LONG + "_2")
        values.append(NOUNS[word](*values))
        if word == "mask":
            return tg.where(values[2], values[0], values[1]) + tg.where(values[2], values[1], 0.0)
        return tg.sin(values[2]) + values[2] * values[1]

    source = derived(Cell(step, {"U": "HH", "W": "IH"}), rewrites=()).source
    named = re.findall(r"^ +(\w+)(?:\[t\])? = ", source, re.M)
    assert word in named, source


WORDS = {
    "update gate": "W_dh W_part total delta one_minus_g_2",
    "quasi": "joined_x gates difference product c_x dc_part",
    "memory": "joined joined_T hU exp_over_sum_exp max_queryM queryM M_T",
    "layer norm": "gain_scaled two_times_sqrt ratio mean_c U_T gates",
    "three states": "one_minus_keep abs_c one_plus_m mask_abs_c mask_m d_keep_part d_decay",
    "attention": "U_T M_T V_T q_x sum_exp weights max_2 slope d_weights",
    "indexed": "R_0 R_0_T R_1 R_1_T b_1 dR_part_2 db_part",
    "mixture": "joined xW maximum p_part reshape_z max_reshape_z mask_h",
    "powers": "xW h_x power h_over_power mask_h",
    "GRU": "xW z_rz_x xW_n rz U_n_T slope_n",
    "ours: LSTM": "weight_hh_scaled z_x ifgo slope_i",
    "ours: GRU": "weight_hh_T from_x_rz from_h_part d_from_h",
}


@pytest.mark.parametrize("name", WORDS)
def test_names_are_made_of_the_names_of_the_cell(name):
    """A weight after what it is multiplied with, a part after the whole, what comes from the input with an x."""
    program = program_of(name)
    assert {*WORDS[name].split()} <= {*re.findall(r"\w+", program.source)}, program.source


EQUATIONS = {
    "ours: RNN": "z h' dh dz d_weight_ih d_bias_ih d_weight_hh",
    "ours: LSTM": "z i f g o c' tanh_c h' dh dc dz_o dz_g dz_f dz_i d_weight_ih d_bias_ih d_weight_hh",
    "ours: GRU": "from_h z_r z_z r z z_n n h' dh dz_n dz_z dz_r d_from_h d_weight_hh d_bias_hh d_weight_ih d_bias_ih",
    "highway": "z s t_2 h_2 z_2 s_2 t_3 h' dh dz_t_3 dz_s_2 dh_2 dz_t_2 dz_s db dS dW dR",
    "three states": "c' m' abs_c z h' dh dz dm d_abs_c dc dc_next d_keep dU dW",
    "peephole": "z sigmoid_z z_2 sigmoid_z_2 tanh_g c' z_3 sigmoid_z_3 tanh_c h' dh dz_3 dc dg dz_2 dz dp db dU dW",
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_each_value_of_the_cell_and_each_gradient_has_its_equation(name):
    program = program_of(name)
    comments = [line.partition("# ")[2] for line in program.source.splitlines()]
    said = [equation.partition(" = ")[0] for text in comments for equation in text.split("; ") if " = " in equation]
    assert {*said} - {"σ(z)"} == {*EQUATIONS[name].split()}, program.source
    assert len({*comments}) == len([c for c in comments if c]) + ("" in comments)  # each is said once


def code_of(source):
    """The lines of a program without what is said of them."""
    return [line.partition("#")[0] for line in source.splitlines()]


@pytest.mark.parametrize("name", COSTS)
def test_an_equation_stands_at_the_first_of_the_lines_that_compute_it(name):
    loop = re.split(r"\n(?=    \S)", program_of(name).source.partition("for t in range(T):")[2])[0].splitlines()
    seen = 0
    for k, line in enumerate(loop):
        for equation in line.partition("# ")[2].split("; "):
            value, is_one, _ = equation.partition(" = ")
            place = re.escape(value.rstrip("'"))
            writes = rf"out={place}(\[t[^]]*\])?\)|^ +{place}(\[t[^]]*\])? [-+*/@]*="
            before = [line for line in loop[:k] if is_one and re.search(writes, line.partition("#")[0])]
            seen += bool(is_one)
            assert not before, (equation, before)
    assert seen or name == "scalars"


@pytest.mark.parametrize("name", [*COSTS, *(f"{name}, alone" for name in OURS)])
def test_the_gradient_of_a_weight_is_one_product_of_matrices(name):
    """No products of single steps are added up, nothing is brought into rows twice; parts are cut as by people."""
    whole = name.partition(", alone")[0]
    if whole != name:
        cell = OURS[whole]()
        source = tg.derive_bptt(cell, squares, (FEW[:, 0], cell.initial_state())).source
    else:
        source = program_of(name).source
    for line in code_of(source):
        assert not re.search(r"np\.sum\(.*@|reshape\([^@]*reshape\(|\[:, :, ", line), line


@pytest.mark.parametrize("name", COSTS)
def test_a_program_is_numpys_where_numpy_has_it_and_has_no_parentheses_twice(name):
    source = program_of(name).source
    imported = re.findall(r"^from tinygrad_rnn\S* import (.*)$", source, re.M)
    assert not [word for words in imported for word in words.split(", ") if hasattr(np, word)]
    assert not [line for line in code_of(source) if re.search(r"\(\([^()]*\)\)", line)]


@pytest.mark.parametrize("name", OURS)
def test_the_gradient_of_a_parameter_is_said_to_be_a_sum_over_the_steps(name):
    equations = re.findall(r"(d_\w+_[ih]h) = (\S+)", "".join(re.findall("#(.*)", program_of(name).source)))
    assert {"d_weight_ih", "d_weight_hh", "d_bias_ih"} <= {name for name, _ in equations}
    assert {first for _, first in equations} == {"Σₜ"}
    assert "  # dh = dh + dL/dh\n" in program_of(name).source  # what the loss sends at each step


def test_products_on_the_way_back_that_are_added_up_are_one_wherever_their_sum_goes():
    def step(cell, x, h):
        s = tg.tanh(h @ cell.U + x @ cell.W)
        return tg.tanh(s @ cell.B) * tg.sin(s @ cell.C)

    source = derived(Cell(step, {"U": "HH", "W": "IH", "B": "HH", "C": "HH"})).source
    back = source.partition("# Backward")[2].partition("# Gradients")[0]
    assert len(re.findall(r"np\.dot\(|@ ", "".join(code_of(back)))) == 2, source


def test_a_name_that_cannot_be_written_is_none():
    def source(name):
        def step(cell, x, h):
            z = h @ cell.U + x @ cell.W
            z.name = name
            return tg.tanh(z)

        return derived(Cell(step, {"U": "HH", "W": "IH"})).source

    assert source("") == source('"; evil()') == source("a" * 80) != source("z_1")


def test_a_gradient_that_has_the_name_of_a_value_has_a_line_of_its_own():
    def step(cell, x, h):
        keep = tg.sigmoid(cell.k)
        keep.name = "keep"
        return keep * h + (1 - keep) * tg.tanh(x @ cell.W)

    source = derived(Cell(step, {"W": "IH", "k": "H"})).source
    assert "    d_keep = " in source and "    dk = d_keep * " in source, source
