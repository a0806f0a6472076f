"""Timings that a stranger can run: ``python -m benchmarks.unrolled`` and ``python -m benchmarks.per_op``.

Every program runs on one thread, so that the figures compare programs and not thread pools. The variables are set here
because BLAS reads them once, when NumPy is first imported, and this file is imported before any of the others.
"""

import os

for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = "1"
