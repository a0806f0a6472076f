"""`gradient_flow`: one call from a model and its inputs to a report in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import flag, refusal, wholes
from ..graph.model import GradientGraph
from ..tensor import Tensor
from .at_once import measure_at_once
from .chain import Chain, Overflow, chain_of, in_float64
from .changes import changed, checked, in_torch, label_of, lines_of
from .charts import flow_figure
from .compare import Comparison
from .ends import Unrolled
from .experiment import Experiment, Loss, experiment_of, name_of
from .flow import Flow, Setting
from .measure import Measured, measure, measure_graph
from .record import record
from .remedy import Trial
from .shown import Shown
from .words import report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class GradientFlow(Flow, Shown):
    """Where the gradient of one network goes on its way back through time: the numbers of `Flow`, told and drawn.

    It prints itself; ``.save`` writes a chart, a table, or a page.
    """

    def __repr__(self) -> str:
        return f"GradientFlow({self.setting.model}, T={self.setting.steps}, B={self.setting.sequences}: {self.word})"

    def what_if(self, **changes: Any) -> Comparison:
        """Change something and see both.

        Parameters
        ----------
        **changes
            One or more of ``weight_scale=``, ``input_scale=``, ``layer_scale=`` (factors of the recurrent weights, of
            those of the inputs, and of those between layers), ``scale=`` (factors by the parameter's name),
            ``orthogonal=`` (gain), ``nonlinearity=``, ``bias=``, ``chrono=`` (longest lag), ``gate_bias=`` (forget bias
            b, input bias -b), ``forget_bias=``, ``input_bias=``, ``output_bias=``, ``update_bias=``, ``redraw=``
            ("recurrent weights", "input weights" or "biases", at the default initialisation: before all else),
            ``standardise=True`` (the inputs).

        Returns
        -------
        Comparison
            "as it is", and the changed one.

        Raises
        ------
        TypeError, ValueError
            If there is nothing to change, no change is given, or one with a wrong value.
        """
        changes = checked(changes)
        other = _measured(changed(self.experiment, changes), None, self.trained, self.setting.when)
        return Comparison({"as it is": self, label_of(changes): other})

    def text(self) -> str:
        """The report in words and numbers."""
        return "\n".join(report(self))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, with all that is needed to measure it again; what is not finite is a string."""
        return record(self)

    def lines(self, trial: Trial, torch: bool = False) -> str:
        """The changes of a trial as Python to paste, for ``model`` and ``inputs``.

        Parameters
        ----------
        trial : Trial
            One of ``.verdict.trials``.
        torch : bool
            For the same network of PyTorch's.
        """
        return lines_of(self.experiment, trial.changes, flag("torch", torch))

    def _pasted(self) -> dict[str, str]:
        healing = [trial for trial in self.verdict.trials if trial.heals]
        ours = {f"{trial}": self.lines(trial) for trial in healing}
        theirs = healing if in_torch(self.experiment) else []
        return ours | {f"{trial}, in PyTorch": self.lines(trial, torch=True) for trial in theirs}

    def _figure(self) -> Figure:
        return flow_figure(self)


def gradient_flow(
    model: Any,
    inputs: Any = None,
    loss: Loss = "last",
    *,
    lag: int | None = None,
    read: int | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
    direction: ArrayLike | None = None,
    rng: np.random.Generator | int | None = 0,
    trained: bool = False,
    when: str | None = None,
    edges: tuple[int, ...] | None = None,
) -> GradientFlow:
    """Measure where the gradient goes on its way back through time, and say what it means.

    Parameters
    ----------
    model : cell, RNN, LSTM, GRU, Module, or a loss Tensor of a network that is unrolled already
        A cell of your own is one: anything with ``cell(x, state) -> state``, ``parameters()`` and
        ``initial_state(batch)``. It is copied and measured in float64.
    inputs : array_like, shape (T, B, I) or (T, I)
        B sequences; statistics are over them. (B, T, I) for a stack with ``batch_first``; a list of sequences of
        different lengths, or a PackedSequence; nothing with a loss Tensor.
    loss : {"last", "all"} or callable
        "last": v·h_T for each sequence; "all": the sum over all steps; or a function of the outputs, a Tensor of shape
        (T, B, H), to one number. The verdict is about what it reads from one step. Of a `Module` h is its output, and a
        function is of whatever it returns: with three axes or more the last step is [-1] or [:, -1], on the axis with
        as many steps as were run.
    lag : int, optional
        How far back the task needs to look; default: as far as there are steps.
    read : int, optional
        The step, counted from 1, from which the verdict looks back; default: the last one that the loss reads.
    state : optional
        The state before the first step, as the model takes it; default: its own.
    lengths : integers, shape (B,), optional
        Of a cell or a stack: how long each of B padded sequences is.
    direction : array_like, shape (H,), optional
        v; default: a random unit vector from `rng`.
    rng : Generator or int
    trained : bool
        Whether the weights come from training. Then no initialisation is recommended.
    when : str, optional
        What the figures say: "at initialisation", "after 300 updates"; default: "after training" or "as given".
    edges : tuple of int, optional
        The lags at which the bins of ∂L/∂W end; default: 0, 1, 2, 5, 10, 20, 50, ...

    Returns
    -------
    GradientFlow
        Prints itself; ``.word``, ``.verdict``, ``["h"]`` (the gradient of a state), ``.slope``, ``.save(path)``.

    Raises
    ------
    GradientError
        Where a gradient or a parameter is not finite, naming the step or the parameter. A state that overflows is no
        error: the steps before it are measured, and the word is exploding.
    ValueError
        If shapes do not fit, or the model has no steps.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import gradient_flow
    >>> flow = gradient_flow(tg.RNNCell(4, 32, rng=0), np.random.default_rng(0).normal(size=(100, 5, 4)))
    >>> flow.word, flow.verdict.healthy_up_to
    ('vanishing', 6)
    """
    if isinstance(model, GradientGraph):
        raise TypeError("give the loss itself, a Tensor: its GradientGraph no longer knows what was computed")
    edges, trained = None if edges is None else _increasing(edges), flag("trained", trained)
    options = {"state": state, "direction": direction, "rng": rng}
    experiment = experiment_of(model, inputs, loss, lag=lag, read=read, lengths=lengths, **options)
    if edges is not None and isinstance(model, Tensor):
        raise TypeError("edges: only for a network that is still to be unrolled; a loss has been")
    if edges is not None and not experiment.is_chain:
        raise ValueError("edges= is for a cell or a stack in one direction: elsewhere ∂L/∂W is not split by lag")
    when = when if when is not None else "after training" if trained else "as given"
    return _measured(experiment, edges, trained, when)


def _measured(experiment: Experiment, edges: tuple[int, ...] | None, trained: bool, when: str) -> GradientFlow:
    """The report of an experiment: of a chain of steps by the walk, of anything else from its whole graph."""
    name = "an unrolled graph" if isinstance(experiment.model, Tensor) else name_of(experiment.model)
    chain, walked = None, experiment
    if experiment.is_chain:
        chain, walked, walk = _chain(experiment, edges)
        steps, batch = walked.inputs.shape[:2] if chain is not None else (0, 0)
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # the verdict says it
            graph = Unrolled(experiment.value())
        steps, batch, walk = len(graph.steps), graph.batch, partial(measure_graph, graph)
    setting = Setting(name, steps, batch, walked.describe(), when)
    return GradientFlow(setting, experiment, walk, chain, trained)


def _chain(experiment: Experiment, edges: Any) -> tuple[Chain | None, Experiment, Callable[[], Measured]]:
    """The chain of steps, what it is of (where the state overflows, the steps before that), and what measures it."""
    model = in_float64(experiment.model)
    model.batch_first = False
    try:
        chain = chain_of(model, experiment.inputs, experiment.state)
        seeds = experiment.seeds(chain)
        found = measure_at_once(chain, seeds, edges=edges)
        _ = chain.states  # computed here at the latest, so that an overflow is found
        return chain, experiment, partial(measure, chain, seeds, edges=edges) if found is None else lambda: found
    except Overflow as error:
        nothing = None, experiment, partial(Measured, {}, {}, {})
        return nothing if error.step == 1 else _chain(experiment.cut(error.step - 1), edges)


def _increasing(edges: Any) -> tuple[int, ...]:
    """The lags at which bins end."""
    found = wholes("edges", edges)
    if not found or list(found) != sorted(set(found)):
        raise refusal("edges", edges, "lags from 0 on, each larger than the one before")
    return found


def compare(models: Mapping[str, Any], inputs: Any = None, loss: Any = "last", **options: Any) -> Comparison:
    """Measure several networks on the same inputs, with the same loss and the same v.

    Parameters
    ----------
    models : mapping of str to whatever `gradient_flow` takes, or GradientFlow
    inputs, loss, **options
        As `gradient_flow`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If there is no network, or `models` is no mapping; and as `gradient_flow`.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import compare
    >>> x = np.random.default_rng(0).normal(size=(60, 2, 4))
    >>> compare({"lstm": tg.LSTMCell(4, 16, rng=0), "chrono": tg.LSTMCell(4, 16, init="chrono", rng=0)}, x)
    Comparison(lstm: vanishing, chrono: healthy)
    """
    if not isinstance(models, Mapping):
        raise refusal("models", models, "a mapping of names to networks")

    def measured(model: Any) -> GradientFlow:
        if isinstance(model, GradientFlow):
            return model
        if isinstance(model, Tensor):  # unrolled already, on inputs of its own
            return gradient_flow(model, when=options.get("when"))
        return gradient_flow(model, inputs, loss, **options)

    return Comparison({str(name): measured(model) for name, model in models.items()})
