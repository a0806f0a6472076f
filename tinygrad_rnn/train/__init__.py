"""Training: tasks that need memory, optimisers, clipping, and a loop that can be read, killed and resumed."""

from .fit import Interrupted, every, fit
from .history import History
from .model import SequenceModel
from .optimisers import SGD, Adagrad, Adam, Optimiser, RMSprop, clip_grad_norm, clip_grad_value, grad_norm
from .origin import Diverged
from .run import Run
from .series import Series, Text, zen_of_python
from .tasks import Adding, Copying, Task, TemporalOrder

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "Adding",
    "Copying",
    "Diverged",
    "History",
    "Interrupted",
    "Optimiser",
    "RMSprop",
    "Run",
    "SequenceModel",
    "Series",
    "Task",
    "TemporalOrder",
    "Text",
    "clip_grad_norm",
    "clip_grad_value",
    "every",
    "fit",
    "grad_norm",
    "zen_of_python",
]
