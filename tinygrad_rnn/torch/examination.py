"""The doctor, who looks for what is wrong before anybody asks about the gradient through time.

After this file the reader knows which mistakes can be proved from one forward and one backward pass, and that a check
that cannot tell says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import nn

from ..diagnose import GradientFlow, gradient_flow
from ..nn import from_torch
from .case import Case
from .checks import CHECKS
from .unrolled import checked, named_parameters, values_of

UNSEEN = """this does not look at labels, shuffling, zero_grad, or how long a lag the task has;
nor, with an output at every step, at which axis is time, or at targets turned round where both are as long"""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    check : str
        Which check found it, such as "cut".
    what : str
        What is wrong, with the number that shows it.
    line : str
        The line of PyTorch to change.
    """

    check: str
    what: str
    line: str

    def __str__(self) -> str:
        return f"{self.what}\n    try: {self.line}"


@dataclass
class Report:
    """What the doctor found; iterates over the findings, and is false if there are none.

    Attributes
    ----------
    findings : list of Finding
    untold : dict of str to str
        Checks that could not be made, and why.
    untrained : list of str
        Parameters that this loss does not move: frozen, or not used. That may be meant, so it is no finding.
    """

    findings: list[Finding]
    untold: dict[str, str] = field(default_factory=dict)
    untrained: list[str] = field(default_factory=list)
    _case: Case | None = field(default=None, repr=False)

    def __iter__(self) -> Any:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        found = [str(finding) for finding in self.findings]
        told = f"{len(CHECKS) - len(self.untold)} checks, {len(found) or 'nothing'} found; {UNSEEN}"
        more = [f"not checked: {name} ({why})" for name, why in self.untold.items()]
        still = f"not moved by this loss: {', '.join(self.untrained[:3])}"
        if self.untrained:
            more.append(still + (f" and {n} more" if (n := len(self.untrained) - 3) > 0 else ""))
        return "\n".join([*found, told, *more])

    def flow(self, **options: Any) -> GradientFlow:
        """The gradient through time of the first recurrent part, with the inputs that it got: once nothing is wrong.

        Parameters
        ----------
        **options
            As `tinygrad_rnn.diagnose.gradient_flow`, such as ``lag=20``.

        Returns
        -------
        GradientFlow

        Raises
        ------
        ValueError
            If the model called no nn.RNN, LSTM or GRU, and no cell of theirs, on a sequence.
        TypeError
            If it has an option that we do not have, such as proj_size.
        """
        for (module, given, x, *_), *more in self._case.calls.values() if self._case is not None else []:
            if isinstance(module, nn.RNNBase):
                inputs = given._replace(data=x.detach().cpu()) if given is not x else x.detach().cpu()
            else:
                inputs = torch.stack([step.detach().cpu() for step in (x, *[call.x for call in more])])
            return gradient_flow(from_torch(module).eval(), inputs, **options)
        raise ValueError("the model called no nn.RNN, LSTM or GRU, and no cell of theirs, on a sequence")


def doctor(model: Any, loss_fn: Any, inputs: Any, targets: Any, optimizer: Any = None) -> Report:
    """Look for what is wrong with a model, a batch and a loss; nothing of yours is changed.

    Some passes of copies, in the time of some fifteen training steps. At most one healthy network in a
    hundred gets a remark.

    Parameters
    ----------
    model : torch.nn.Module
    loss_fn : callable
        ``loss_fn(model(*inputs), targets)`` is the loss.
    inputs : torch.Tensor, PackedSequence or tuple
        A batch, as the model takes it; a tuple begins with one of the two.
    targets : torch.Tensor
    optimizer : torch.optim.Optimizer, optional
        To see whether it has all parameters, and how large its first update would be.

    Returns
    -------
    Report
        Its findings, each with the number that it rests on and a line of PyTorch to change; prints itself.

    Raises
    ------
    TypeError
        If the inputs do not begin with a tensor, none is in what the model returns, or a part of it is TorchScript;
        besides, whatever the model or the loss raises.

    Examples
    --------
    >>> import torch
    >>> from tinygrad_rnn.torch import doctor
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2), torch.nn.Softmax(-1))
    >>> x, y = torch.randn(16, 3), torch.arange(16) % 2
    >>> print(doctor(model, torch.nn.CrossEntropyLoss(), x, y))
    softmax is applied twice: by the model, and by cross_entropy
        try: return logits  # without softmax
    20 checks, 1 found; this does not look at labels, shuffling, zero_grad, or how long a lag the task has;
    nor, with an output at every step, at which axis is time, or at targets turned round where both are as long
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in checked(model).modules()):
        raise TypeError("TorchScript lets nobody look inside: give the model that was scripted or traced")
    findings, untold = [], {}
    eager = torch.compiler.set_stance("force_eager")  # where a compiled model takes the hooks of each pass
    with torch.random.fork_rng([]), torch.enable_grad(), eager:
        case = Case(model, loss_fn, inputs, targets, optimizer)
        for check in CHECKS:
            try:
                findings += [Finding(check.__name__, *found) for found in islice(check(case), 1)]
            except Exception as error:  # of somebody's model, asked for what it was not made for
                untold[check.__name__] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    named = named_parameters(case.model).items()
    still = [(name, p) for name, p in named if p.grad is None or not bool(values_of(p.grad).any())]
    untrained = [name if p.requires_grad else f"{name} (frozen)" for name, p in still]
    return Report(findings, untold, untrained, case)
