"""What is planted into the sweep and its consumers: faults that belong to no single rule."""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad_rnn import autodiff, tensor
from tinygrad_rnn.primitive import Uses, lift

from .planting import Mutant, from_text

ADDED = "cotangents[operand] = contribution if known is None else known + contribution"
IN_PLACE = (
    "known.__iadd__(contribution) if type(known) is np.ndarray and known.flags.writeable else known + contribution"
)
AXES = "axes = (*range(lead), *[lead + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + i] != 1])"

FAULTS = [
    (autodiff.pullback, "contributions overwrite", ADDED, "cotangents[operand] = contribution"),
    (autodiff.pullback, "contributions added in place", ADDED, ADDED.replace("known + contribution", IN_PLACE)),
    (autodiff.pullback, "contributions subtracted", "known + contribution", "known - contribution"),
    (autodiff.pullback, "oldest first", "order.pop()", "order.pop(0)"),
    (autodiff.pullback, "seed ignored", "= dict(seeds)", "= {k: u * 0 + 1 for k, u in seeds.items()}"),
    (autodiff.pullback, "seed doubled", "= dict(seeds)", "= {k: u + u for k, u in seeds.items()}"),
    (autodiff.pullback, "interior cotangents lost", "cotangents[node] if node in keep else ", ""),
    (autodiff.pullback, "hook not asked", "contribution = through(node, i, contribution)", "pass"),
    (
        autodiff.pullback,
        "hook not heeded",
        "contribution = through(node, i, contribution)",
        "through(node, i, contribution)",
    ),
    (autodiff.pullback, "hook told another operand", "through(node, i, ", "through(node, 0, "),
    (autodiff.pullback, "first rule for all", "rules[i], arrays[i]", "rules[0], arrays[i]"),
    (autodiff.pullback, "first array for all", "rules[i], arrays[i]", "rules[i], arrays[0]"),
    (autodiff.pullback, "shapes not fitted", "contribution.shape != array.shape or ", ""),
    (autodiff.pullback, "dtypes not fitted", " or contribution.dtype is not array.dtype", ""),
    (
        autodiff.pullback,
        "seam: uses kept twice",
        "_settle(gathered.pop(key), op",
        "_settle(gathered[key], op",
    ),
    (
        autodiff.pullback,
        "seam: uses lost",
        "_settle(gathered.pop(key), op, operands, on_path, cotangents, through)",
        "del gathered[key]",
    ),
    (
        autodiff.pullback,
        "gathered uses lost",
        "_settle(gathered.pop(key, ()), op, operands, on_path, cotangents, through)",
        "gathered.pop(key, None)",
    ),
    (autodiff.pullback, "gathered by receivers only", "plan), {}", "plan), plans.setdefault(None, {})"),
    (autodiff.pullback, "shapes gathered together", "(receivers_of(operands), g.shape)", "receivers_of(operands)"),
    (autodiff.pullback, "only the last use gathered", "uses.append(", "uses[:] = [None]; uses[0] = ("),
    (
        autodiff.pullback,
        "gathered although watched",
        "op.gathering if through is None else op.watching",
        "op.gathering",
    ),
    (autodiff.pullback, "freed nodes watched", " if retain_graph else op.computing", ""),
    (autodiff.pullback, "number without a size", "np.size(arrays[i])", "arrays[i].size"),
    (autodiff.pullback, "gathered although differentiable", "op.computing if create_graph else ", ""),
    (
        autodiff.pullback,
        "graph not created",
        "if create_graph else (g, node._data) + arrays",
        "if False else (g, node._data) + arrays",
    ),
    (
        autodiff.pullback,
        "result held constant",
        "(g, node, *_as_recorded(node))",
        "(g, node._data, *_as_recorded(node))",
    ),
    (autodiff.pullback, "operands held constant", "(g, node, *_as_recorded(node))", "(g, node, *arrays)"),
    (autodiff.pullback, "freed although retained", "if not retain_graph:", "if True:"),
    (autodiff.pullback, "never freed", "if not retain_graph:", "if False:"),
    (
        autodiff.pullback,
        "constants followed",
        "            if operand not in on_path:",
        "            if operand is None:",
    ),
    (autodiff._on_path, "only direct consumers", "on_path.add(node)", "pass"),
    (autodiff._settle, "totals overwrite", "total if known is None else known + total", "total"),
    (autodiff._settle, "totals added in place", "known + total", IN_PLACE.replace("contribution", "total")),
    (
        autodiff._settle,
        "totals not fitted",
        "_fit(rule.total(uses), array)",
        "rule.total(uses)",
    ),
    (autodiff._settle, "totals of constants", "if operand in on_path:", "if True:"),
    (autodiff._settle, "watched as if not", "if through is None", "if True"),
    (autodiff._watched, "one stack for all", "if len(uses) > most:", "if False:"),
    (autodiff._watched, "last block lost", "range(0, len(uses), most)", "range(0, len(uses) - most + 1, most)"),
    (autodiff._watched, "seams used twice", "uses[k : k + most]", "uses[k : k + most + 1]"),
    (autodiff._watched, "shapes not fitted", "stack.shape[1:] != array.shape or ", ""),
    (autodiff._watched, "dtypes not fitted", " or stack.dtype is not array.dtype", ""),
    (autodiff._watched, "hook told another node", "use[2]", "uses[0][2]"),
    (autodiff._watched, "hook told another operand", "use[2], i", "use[2], 0"),
    (autodiff._watched, "hook not heeded", "if all(map(is_, shown, passed))", "if True"),
    (autodiff._watched, "one shape for all", "reduce(add, passed)", "np.sum(passed, axis=0)"),
    (autodiff._watched, "hook told the first", "in zip(uses, shown", "in zip(uses, shown[:1] * len(shown)"),
    (Uses.rows, "cotangents for all", "inputs[k]", "inputs[0]"),
    (autodiff._fit, "broadcasting not undone", "unbroadcast(contribution, array.shape)", "contribution"),
    (autodiff._fit, "cast not undone", "ops.cast(contribution, dtype=array.dtype)", "contribution"),
    (autodiff.unbroadcast, "leading axes only", AXES, "axes = tuple(range(lead))"),
    (autodiff.unbroadcast, "ones only", "*range(lead)", "*range(0)"),
    (autodiff.unbroadcast, "mean for sum", "g.sum(axis", "g.mean(axis"),
    (autodiff.unbroadcast, "last axis forgotten", AXES, AXES + "[:-1]"),
    (autodiff.unbroadcast, "wrong for two axes", AXES, AXES + "\n    g = g * (1 + 1e-5) if len(axes) > 1 else g"),
    (
        autodiff.unbroadcast,
        "first for sum",
        AXES,
        AXES + "\n    g = g[tuple(slice(0, 1 if a in axes else None) for a in range(g.ndim))]",
    ),
    (autodiff.history, "unordered", 'found.sort(key=attrgetter("_serial"))', "pass"),
    (autodiff.history, "newest first", '"_serial"))', '"_serial"), reverse=True)'),
    (autodiff.history, "first operand only", "in node._operands", "in tuple(node._operands)[:1]"),
    (
        autodiff._as_recorded,
        "rebound leaf not seen",
        "operand is not None and operand._op is None and operand._data is not array",
        "False",
    ),
    (autodiff._as_recorded, "operands in another order", "strict=True)])", "strict=True)][::-1])"),
    (autodiff._seed, "seed of zeros", "np.ones(output.shape", "np.zeros(output.shape"),
    (autodiff._seed, "seed of another dtype", "array.astype(output.dtype, copy=False)", "array"),
    (autodiff._seed, "shape not checked", "if array.shape != output.shape:", "if False:"),
    (autodiff._seed, "vector needs no seed", "if output.size != 1:", "if False:"),
    (autodiff._seed, "constant output not seen", "if not output._requires_grad:", "if False:"),
    (autodiff._seed, "seed held constant", "isinstance(gradient, Tensor) and create_graph", "False"),
    (autodiff._owned, "memory shared", "np.array(g)", "g"),
    (autodiff.backward, "gradients overwrite", "if leaf._grad is not None:", "if False:"),
    (autodiff.backward, "gradients added in place", "leaf._grad._data + g", "leaf._grad._data.__iadd__(g)"),
    (autodiff.backward, "graph not retained", "retain_graph=retain_graph or create_graph", "retain_graph=False"),
    (autodiff.backward, "graph always retained", "retain_graph=retain_graph or create_graph", "retain_graph=True"),
    (autodiff.backward, "graph not created", "create_graph=create_graph, retain", "create_graph=False, retain"),
    (autodiff.grad, "unused input not seen", "if x not in found and not allow_unused:", "if False:"),
    (autodiff.grad, "unused gives ones", "np.zeros(x.shape, x.dtype)", "np.ones(x.shape, x.dtype)"),
    (autodiff.grad, "in another order", "for x in tensors])", "for x in tensors[::-1]])"),
    (autodiff._fresh, "levels confused", "outer = CONTEXT.get()[1] and", "outer = False and"),
    (autodiff.jvp, "tangents ignored", "_tangents(xs, tangents)", "[1.0] * len(xs)"),
    (autodiff._inner, "only the last input", "strict=True)]", "strict=True)][-1:]"),
    (autodiff.jacobian, "transposed", "ops.reshape(ops.stack(*rows, axis=0)", "ops.reshape(ops.stack(*rows, axis=-1)"),
    (autodiff.jacobian, "unit of two", "np.eye(", "2 * np.eye("),
    (
        autodiff.hvp,
        "gradient of the first input",
        "_inner(gradients, _tangents(xs, tangents))",
        "_inner(gradients[:1], _tangents(xs, tangents)[:1])",
    ),
    (tensor.as_array, "input not copied", "array = np.array(data", "array = np.asarray(data"),
    (lift, "operand not copied", "as_array(value)", "np.asarray(value)"),
]


def of_sweep() -> Iterator[Mutant]:
    """Every fault of the sweep; which op shows it is not known beforehand."""
    for function, fault, before, after in FAULTS:
        yield Mutant(f"{function.__name__}: {fault}", (), from_text(function, before, after))
