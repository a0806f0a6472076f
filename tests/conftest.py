"""How long the property tests look. HYPOTHESIS_PROFILE: dev, ci (where CI is set), thorough, smoke, mutation."""

import os
import signal
from pathlib import Path

# Before NumPy is imported: on small matrices more BLAS threads only cost time, and sums in another order differ.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# A shell without job control has its background commands ignore Ctrl-C, and what they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
from hypothesis import HealthCheck, Phase, settings  # noqa: E402

import tinygrad_rnn as tg  # noqa: E402

EXAMPLES = 25  # as many as the mutation run has, in which every mutant dies
# The same examples on every run, none remembered, so that a build is a function of the commit.
settings.register_profile("ci", max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("dev", max_examples=EXAMPLES, deadline=None)
# For another NumPy or Python: whether everything runs there, not once more whether it is right.
settings.register_profile("smoke", max_examples=3, deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile(
    "thorough", max_examples=500, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# Whether a mutant dies is all that counts: shrinking what killed it, or looking for more, would only take time.
settings.register_profile(
    "mutation",
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
_default = "mutation" if os.getenv("MUTANT_UNDER_TEST") else "ci"  # "dev" searches at random, on request
settings.load_profile(os.getenv("HYPOTHESIS_PROFILE", _default))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With ``-n`` a file stays with one worker, which makes its fixtures once; who is done takes from the other."""
    if config.getvalue("dist") == "load":
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)
    return None


@pytest.fixture
def plant():
    """Build a primitive with a wrong rule, and forget it afterwards."""
    planted = []

    def build(forward, *rules, **options):
        planted.append(f"planted {len(planted)}")
        return tg.primitive(planted[-1], forward, *rules, **options)

    yield build
    for name in planted:
        tg.OPS.pop(name, None)


def pytest_report_header(config):
    """Which package is tested: a copy that was installed earlier passes whatever the checkout says."""
    tested, checkout = Path(tg.__file__).resolve().parent, config.rootpath / "tinygrad_rnn"
    return f"tinygrad_rnn: {tested} ({'the checkout itself' if tested == checkout else 'an installed copy'})"


@pytest.fixture
def declared():
    """Declares primitives that are gone afterwards."""
    before = set(tg.OPS)
    yield tg.primitive
    for name in set(tg.OPS) - before:
        del tg.OPS[name]
