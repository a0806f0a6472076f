"""The chapters: each runs and measures what is known from elsewhere; nothing in them is pasted.

What is expected was measured with a program of its own (plain NumPy and PyTorch) or is exact; tolerances are for a
mean over other seeds.
"""

from pathlib import Path

import pytest
from pages import chart_style, predictions, run

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "chapters"
CHAPTERS = sorted(set(FOLDER.glob("[0-9ab]*.md")) - {FOLDER / "00-build-it.md"})  # which has tests of its own

# What a page quotes (the expression as it stands there): the expected value, and how far it may be off.
EXPECTED = {
    "01-one-number": {"right:.0f": (4, 0), "wrong:.0f": (8, 0), "three:.0f": (48, 0)},
    "02-unrolled": {"float(w.grad):.3f": (0.108, 0), "parts[0]:.3f": (0.036, 0), "len(parts)": (3, 0)},
    "03-vanish": {
        'slopes["sigmoid"]:.3f': (-0.686, 0.02),
        "np.log10(0.25):.3f": (-0.602, 0),
        'slopes["tanh"]:.3f': (-0.198, 0.02),
        'slopes["relu"]:.3f': (-0.144, 0.04),
        "loud:+.3f": (-0.062, 0.02),
        "quiet:+.3f": (0.025, 0.02),
    },
    "04-explode": {
        "max(r[:, 1].max() for r in relu.values()):.3f": (1.0, 0),
        "max(s[:, 1].max() for s in sigmoid.values()):.3f": (0.25, 0),
        "relu[1.5].mean(axis=0)[0]:+.3f": (0.050, 0.04),
        "sigmoid[6.0].mean(axis=0)[0]:+.3f": (0.0249, 0.01),
        "saturated:+.3f": (-0.139, 0.06),
    },
    "05-eigenvalues": {
        "max(norms):.2f": (38.746, 0.01),
        "peak": (9, 0),
        "below": (63, 0),
        "norms[-1]:.2f": (10 / 0.9 * 80 * 0.9**80, 0.01),
        'rank["identity"]': (64, 0),
        'rank["tanh"]': (36, 4),
    },
    "06-what-you-measure": {
        "total:.2f": (0.90, 0.1),
        "far / total:.0e": (1e-14, 9e-15),
        "every[50]:.2f": (1.27, 0.3),
        "last[50]:.0e": (9e-11, 8e-11),
        "one:.0e": (1e-4, 8e-5),
        "two:.3f": (0.998, 0.01),
    },
    "07-lstm": {
        'cells["forget bias 0"][0]:.3f': (-0.203, 0.01),
        'cells["forget bias 1"][0]:.4f': (-0.0685, 0.01),
        'cells["forget bias 5"][0]:+.4f': (0.0128, 0.01),
        'cells["chrono"][0]:.4f': (-0.0064, 0.002),
        'abs(100 * cells["forget bias 1"][1][50]):.0f': (0, 5),
        "first:+.4f": (0.0207, 0.01),
    },
    "08-two-biases": {
        "runs[0, 0][1].metrics[-1][1]:.3f": (1 / 6, 0.03),  # the baseline, on a sample of 500
        "runs[0, -3][1].metrics[-1][1]:.3f": (1 / 6, 0.03),
        "runs[5, 0][1].metrics[-1][1]:.3f": (1 / 6, 0.03),
        "runs[5, -3][1].metrics[-1][1]:.3f": (0.005, 0.005),  # solved
        "horizon(runs[5, -3][0]):.4f": (0.0, 0.02),
        'seen[0]["ratio"]:+.1f': (-2.6, 1.0),
        'seen[-1]["ratio"]:+.1f': (0.0, 0.4),
        'seen[-1]["largest gate f"]:.2f': (0.94, 0.06),
        "lost[0]:.0f": (19, 2),
        "lost[-1]:.0f": (1.5, 2),
        "loss_1997:.4f": (1 / 24, 2e-4),
    },
    "09-cliffs": {
        "plain[0, 3]:.1f": (156.77, 0.1),
        "np.linalg.norm(plain[1, :2] - plain[0, :2]):.2f": (7.84, 0.01),
        "plain[1, 2]:.4f": (0.09, 1e-4),
        "plain[-1, 2]:.4f": (0.09, 1e-4),
        "clipped[-10:, 2].mean():.4f": (0.0015, 2e-4),
        "curves[0.9][2]:.3f": (0.651, 1e-3),
        "curves[0.99][2]:.3f": (1 - 0.99**10, 1e-3),
        "found(0.99, half):.3f": (0.5, 1e-3),
        "cosines[1.0][2]:.2f": (0.90, 0.08),
        "cosines[1.2][2]:.2f": (0.36, 0.08),
        "cosines[1.2][0]:.2f": (0.15, 0.08),
    },
    "10-numbers": {
        "subnormal": (64, 0),
        "zero": (75, 0),
        "norm_zero": (38, 0),
        "first(chain(550, np.float64), lambda g: g == 0)": (538, 0),
        "best:.0e": (1e-5, 9.1e-6),
        "half_zero": (13, 0),
    },
}
EXPECTED["b-min-char-rnn"] = {
    'before["slope"]:.2f': (-0.98, 0.03),
    'before["radius"]:.2f': (0.11, 0.02),
    'seen[-1]["slope"]:.2f': (-0.25, 0.2),
    'seen[-1]["radius"]:.1f': (8.0, 2.5),
    "orthogonal:+.3f": (0.0, 0.01),
}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_measures_what_is_known(path, tmp_path):
    compare(path, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_holds_for_other_seeds(path, k, tmp_path):
    """Signs and sizes do; one seed, or three, may lie further off than the mean."""
    compare(path, tmp_path, {"seeds": f"range({10 * k}, {10 * k + 3})", "seed": str(k)}, wider=2)


def compare(path, folder, other=None, wider=1):
    """Run a chapter, and compare what it quotes with what is expected."""
    pytest.importorskip("matplotlib", reason="the charts of a chapter need tinygrad-rnn[plot]")
    with chart_style():
        text = path.read_text(encoding="utf-8")
        page = run(text, str(path), folder, other)
    quoted = page.quoted
    for prediction in predictions(text):
        assert eval(prediction["holds"], page.namespace), prediction["holds"]
    for expression, (expected, tolerance) in EXPECTED[path.stem].items():
        assert float(quoted[expression]) == pytest.approx(expected, abs=wider * tolerance, rel=1e-9), expression
