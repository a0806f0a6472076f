"""Timings that a stranger can run by ``python -m``: ``unrolled``, ``per_op``, ``scaling``, ``felt`` and ``drawing``.

Every program runs on one thread, so that the figures compare programs and not thread pools. The variables are set here
because BLAS reads them once, when NumPy is first imported, and this file is imported before any of the others.
"""

import os

for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")  # JAX
