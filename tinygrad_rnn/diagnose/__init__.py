"""Diagnosis: where the gradient of one network goes on its way back through time, in numbers and in words."""

from .changes import change
from .compare import Comparison
from .cure import Cure, cure
from .probe import FlowProbe, probe_chart
from .remedy import Verdict
from .report import GradientFlow, compare, gradient_flow
from .spectrum import Spectrum, jacobian_spectrum, lyapunov

__all__ = [
    "Comparison",
    "Cure",
    "FlowProbe",
    "GradientFlow",
    "Spectrum",
    "Verdict",
    "change",
    "compare",
    "cure",
    "gradient_flow",
    "jacobian_spectrum",
    "lyapunov",
    "probe_chart",
]
