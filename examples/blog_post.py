"""A blog post as a test-suite: what it says about gradients, measured, and judged by the number.

After this file the reader knows which sentences about vanishing and exploding gradients hold, which are imprecise, and
by how much. The post is "8. Problems in Simple RNNs", an introduction that many begin with; it is quoted a sentence at
a time, and corrected where a measurement says so. A verdict is a function of what was measured, and another
measurement would turn it.

    python examples/blog_post.py            all claims, some 10 s
    python examples/blog_post.py 6 14       only these
    python examples/blog_post.py --out docs/claims.md --json claims.json

Ends with 1 if a verdict is not the one that was expected when this was written.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blog_post_evidence as evidence
from blog_post_evidence import Numbers
from tqdm import tqdm

from tinygrad_rnn.files import write_whole

WORDS = ("right", "imprecise", "half wrong", "wrong", "missing")
SOURCE = '"8. Problems in Simple RNNs", a blog post'


@dataclass(frozen=True)
class Claim:
    """One sentence of the post, how it is measured, and how it is judged.

    Attributes
    ----------
    number : int
    quote : str
        The post's own words, a sentence at most; "" for what it leaves out.
    measure : callable
        Gives numbers by name.
    judge : callable
        From these numbers to one of `WORDS`.
    says : str
        What is true, with places for the numbers.
    expected : str
        The verdict when this was written: another one means that something has changed.
    """

    number: int
    quote: str
    measure: Callable[[], Numbers]
    judge: Callable[[Mapping[str, float]], str]
    says: str
    expected: str


@dataclass(frozen=True)
class Finding:
    """A claim, measured.

    Attributes
    ----------
    claim : Claim
    numbers : dict
    verdict : str
    """

    claim: Claim
    numbers: Numbers
    verdict: str

    @property
    def says(self) -> str:
        """What is true, with the numbers of this run."""
        return self.claim.says.format(**self.numbers)

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the documentation states."""
        return self.verdict == self.claim.expected

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        numbers = {name: float(value) for name, value in self.numbers.items()}
        return {
            "number": self.claim.number,
            "quote": self.claim.quote,
            "verdict": self.verdict,
            "expected": self.claim.expected,
            "measured": numbers,
            "says": self.says,
        }


def _one_of(right: bool, imprecise: bool) -> str:
    """The three usual words: it holds as it stands, it holds in part, it does not hold."""
    return "right" if right else "imprecise" if imprecise else "wrong"


CLAIMS: tuple[Claim, ...] = (
    Claim(
        1,
        "the process starts with forward propagation, followed by backward propagation (Backpropagation Through Time, "
        "or BPTT)",
        evidence.forward_then_back,
        lambda m: _one_of(m["uses"] == m["steps"] and m["error"] < 1e-6, m["error"] < 1e-6),
        "The unrolled graph of {steps} steps uses one W {uses} times, and the sweep back through it gives ∂L/∂W: it "
        "differs from finite differences by {error:.0e} of its size.",
        "right",
    ),
    Claim(
        2,
        "During backward propagation, the network’s weights are updated over time",
        evidence.backward_updates,
        lambda m: _one_of(m["changed"] > 0, m["error"] < 1e-12),
        "Going backward changes W by {changed:.0f}: it only computes, and an optimiser updates once, afterwards. "
        "There is one W; its gradient is the sum over its {copies} uses (to {error:.0e}).",
        "imprecise",
    ),
    Claim(
        3,
        "the gradients used to update the weights in the network become extremely small as they are propagated back "
        "through time",
        evidence.weight_gradient_by_lag,
        lambda m: _one_of(m["total"] < 1e-6, m["share"] < 1e-6),
        "The terms from far back vanish, not the gradient that updates the weights: in a sigmoid RNN over 100 steps "
        "‖∂L/∂W‖ is {total:.2f}, and the share of it from more than 20 steps back is {share:.0e}.",
        "imprecise",
    ),
    Claim(
        4,
        "This issue is especially pronounced in deep networks with many layers or long sequences",
        evidence.longer_is_worse,
        lambda m: _one_of(
            m["at_100"] > 2 * m["at_25"] > 0 and m["r2"] > 0.95 and m["per_layer"] < 0,
            m["at_100"] > m["at_25"] > 0,
        ),
        "The loss is exponential: {at_25:.0f} decades over 25 steps, {at_100:.0f} over 100, on a straight line of "
        "{per_step:.3f} a step (R² = {r2:.4f}); {per_layer:.2f} for each layer of a deep sigmoid network.",
        "right",
    ),
    Claim(
        5,
        "each weight update involves calculating derivatives using the chain rule",
        evidence.product_of_jacobians,
        lambda m: _one_of(m["error"] < 1e-12, m["error"] < 1e-3),
        "Over {steps} steps the gradient is the product of the steps' Jacobians, φ′ and W in turn, to {error:.0e}.",
        "right",
    ),
    Claim(
        6,
        "If the activation function used is the sigmoid function, its derivative lies between 0 and 1",
        evidence.sigmoid_slopes,
        lambda m: _one_of(
            0 < m["least"] and 0.9 < m["most"] <= 1,
            0 < m["least"] and m["most"] <= 1,
        ),
        "It lies between 0 and a quarter: its maximum is {most:.4f}, at {at:.0f}, and in a run of 100 steps "
        "{in_a_run:.4f}.",
        "imprecise",
    ),
    Claim(
        7,
        "the derivative values are continuously multiplied",
        evidence.product_of_slopes,
        lambda m: _one_of(
            abs(m["ratio_5"] - m["ratio_1"]) < 1e-9,
            abs(m["ratio_5"] / m["ratio_1"] / 5**3 - 1) < 1e-9,
        ),
        "So are the weights: ∂L/∂w₁ over the product of the four slopes is {ratio_1:.0f} where all weights are 1 and "
        "{ratio_5:.0f} = 5³ where they are 5. (With weights of 1, ∂L/∂w₄ ... ∂L/∂w₁ are {w4:.6f}, {w3:.6f}, {w2:.6f}, "
        "{w1:.6f}; an RNN has one W, not four.)",
        "imprecise",
    ),
    Claim(
        8,
        "this repeated multiplication results in a very small gradient value",
        evidence.sigmoid_that_grows,
        lambda m: _one_of(
            max(m["slope_1"], m["slope_4"], m["slope_6"]) < -0.001,
            m["slope_1"] < -0.001 and m["slope_6"] > 0.001,
        ),
        "Always so while the largest singular value of W is below 4. With operands kept around 0, W orthogonal times "
        "1 gives {slope_1:+.3f} decades a step, times 4 {slope_4:+.3f}, times 6 {slope_6:+.3f}: a sigmoid network "
        "that explodes.",
        "imprecise",
    ),
    Claim(
        9,
        "the network fails to learn effectively because the weights are not significantly adjusted",
        evidence.plateau,
        lambda m: _one_of(
            m["moved"] < 0.01 and m["last"] > 0.5 * m["baseline"],
            m["moved"] > 0.1 and m["last"] > 0.5 * m["baseline"],
        ),
        "It fails at the long lag, but its weights move: by {moved:.0%} of their size in 200 updates. It learns what "
        "short lags can teach ({first:.2f} falls to {last:.3f}) and sits at the loss of the best answer without "
        "memory, {baseline:.4f}.",
        "imprecise",
    ),
    Claim(
        10,
        "This prevents the model from converging to the global minimum in the gradient descent process",
        evidence.vanishing_yet_solved,
        lambda m: "cannot tell" if m["lost"] < 6 else "wrong" if m["end"] < 0.1 * m["baseline"] else "right",
        "Gradient descent promises no global minimum to any network, and vanishing does not forbid a good one: a GRU "
        "that loses {lost:.1f} decades over 36 steps at initialisation solves the adding task in {updates:.0f} "
        "updates (error {end:.4f}, without memory {baseline:.4f}). Training opened its gates: it loses "
        "{lost_after:.1f} decades then.",
        "wrong",
    ),
    Claim(
        11,
        "makes it difficult for the network to learn long-range dependencies in sequential data",
        evidence.short_against_long,
        lambda m: _one_of(
            m["short"] < 0.1 * m["baseline"] and m["long"] > 0.5 * m["baseline"],
            m["long"] > 2 * m["short"],
        ),
        "The same tanh RNN, 200 updates: the adding task ends at {short:.4f} over 6 steps and at {long:.4f} over 50, "
        "where {baseline:.4f} needs no memory at all.",
        "right",
    ),
    Claim(
        12,
        "the earlier layers (those closer to the input) receive very little gradient information during training",
        evidence.layers_and_steps,
        lambda m: _one_of(m["depth"] > m["time"], m["time"] > 5 and m["depth"] < 0.2 * m["time"]),
        "Earlier time steps do: every step has an input. In two layers over {steps:.0f} steps {time:.0f} decades are "
        "lost along time, and {depth:.1f} from the upper layer to the one closer to the input.",
        "imprecise",
    ),
    Claim(
        13,
        "The exploding gradient problem is the opposite of the vanishing gradient problem",
        evidence.large_weight_that_vanishes,
        lambda m: _one_of(m["w_3"] > 1 and m["w_5"] > 1, m["w_3"] < 1),
        "Not symmetric: small weights are enough for vanishing, large ones not for exploding. A tanh unit that has "
        "latched multiplies the gradient by {w_1_5:.3f} a step for w = 1.5, {w_3:.4f} for 3 and {w_5:.5f} for 5.",
        "imprecise",
    ),
    Claim(
        14,
        "If you use the ReLU (Rectified Linear Unit) activation function, the derivative can be greater than 1",
        evidence.relu_slopes,
        lambda m: "right" if m["most"] > 1 else "wrong",
        "It is 0 or 1: the largest in nine runs is {most:.3f}. Growth comes from W alone: with W orthogonal times 1.5 "
        "the gradient grows {growth:.2f}-fold a step.",
        "wrong",
    ),
    Claim(
        15,
        "if the gradient value is greater than 1 and is multiplied across several layers, it can grow exponentially",
        evidence.value_or_singular_values,
        lambda m: _one_of(m["lost"] < 0 and m["ratio"] < 1, m["lost"] > 0 and m["ratio"] > 1),
        "What counts is not the gradient's value but the singular values of a step's Jacobian. A gradient of 1000 "
        "loses {lost:.0f} decades over 100 steps with W = 0.5 Q; one of 0.001 grows {ratio:.4g}-fold = 1.5¹⁰⁰ with "
        "1.5 Q. Nor do eigenvalues tell: [[0.9, 10], [0, 0.9]] makes it {peak:.1f} times larger at lag {peak_at:.0f}.",
        "imprecise",
    ),
    Claim(
        16,
        "These large updates can cause the network to overshoot the optimal solution",
        evidence.over_the_cliff,
        lambda m: _one_of(m["end"] > 10 * m["clipped"], m["after"] > m["clipped"]),
        "From the top of Pascanu's cliff (gradient {gradient:.1f}) one update is {step:.2f} long, and the loss stays "
        "at {end:.4f} for good; with the gradient's norm clipped to 1 it reaches {clipped:.4f}.",
        "right",
    ),
    Claim(
        17,
        "The exploding gradient problem can lead to numerical instability",
        evidence.overflow,
        lambda m: _one_of(m["gradient"] > 0, m["squares"] > 0),
        "A gradient that grows 1.5-fold a step is infinite in float32 at lag {gradient:.0f}, and its sum of squares, "
        "which a naive norm takes, at lag {squares:.0f}.",
        "right",
    ),
    Claim(
        18,
        "To address the vanishing and exploding gradient problems, a more sophisticated architecture called Long "
        "Short-Term Memory (LSTM) is often used",
        evidence.lstm_cures,
        lambda m: ("wrong", "half wrong", "right")[(m["chrono"] > -0.01) + (m["large"] < 0.01)],
        "It was made against vanishing, and can be opened: from {default:+.3f} decades a step as PyTorch initialises "
        "it to {chrono:+.4f} with chrono biases. Against exploding it does nothing: {large:+.3f} with weights up to "
        "±2. That takes clipping.",
        "half wrong",
    ),
    Claim(
        19,
        "introducing a memory cell that selectively updates and forgets information",
        evidence.forgetting,
        lambda m: _one_of(m["lost_1997"] > 1, abs(m["lost_1997"]) < 1e-9 and m["lost_2000"] > 1),
        "The LSTM of 1997 forgets nothing: along its cell state a gradient loses {lost_1997:.0f} decades over 100 "
        "steps (and the whole grows {growth:.0f}-fold). The forget gate came in 2000 (Gers et al.); with it "
        "{lost_2000:.0f} are lost.",
        "imprecise",
    ),
    Claim(
        20,
        "This helps in preserving important gradients, preventing them from vanishing or exploding",
        evidence.gates_preserve,
        lambda m: _one_of(abs(m["default"]) < 1, abs(m["chrono"]) < 1),
        "Only if the forget gate is near 1 and, on noisy input, the input gate near 0. Over 100 steps an LSTM as it "
        "comes loses {default:.0f} decades, a tanh RNN {rnn:.0f}, forget bias 1 {forget_1:.1f} (the gate alone: "
        "{gate_alone:.1e}), chrono {chrono:.1f}.",
        "imprecise",
    ),
    Claim(
        21,
        "",
        evidence.what_helps,
        lambda m: ("right", "missing")[
            m["clipped"] < 0.1 * m["thrown"]
            and abs(m["orthogonal"] - 1) < 1e-6
            and abs(m["forget_1"]) < 0.6 * abs(m["forget_0"])
        ],
        "What is left out is what helps: clipping (loss {clipped:.4f} instead of {thrown:.4f} on the cliff), "
        "initialisation (an orthogonal W keeps a linear network's gradient at {orthogonal:.3f} over 100 steps), "
        "biases ({forget_0:.0f} decades with forget bias 0, {forget_1:.1f} with 1); and truncated BPTT, "
        "regularisation, the range of floats.",
        "missing",
    ),
    Claim(
        22,
        "causing the weights to be updated by excessively large amounts",
        evidence.size_of_an_update,
        lambda m: _one_of(min(m["plain"], m["clipped"], m["adam"]) > 1, m["plain"] > 1),
        "True of plain descent: a gradient of {gradient:.1f} moves the weights by {plain:.2f} at a learning rate of "
        "0.05. Clipped to norm 1 it moves them by {clipped:.3f}; Adam, which divides by its size, by {adam:.3f}.",
        "imprecise",
    ),
    Claim(
        23,
        "The network may either fail to converge or diverge altogether",
        evidence.no_convergence,
        lambda m: ("wrong", "imprecise", "right")[(m["stuck"] > 10 * m["clipped"]) + (m["diverged"] >= 0)],
        "Both: from the cliff the loss stays at {stuck:.4f} for good, where clipping reaches {clipped:.4f}; and a "
        "linear unit with w = 1.5 over 30 steps has a loss above 10¹² at update {diverged:.0f}.",
        "right",
    ),
    Claim(
        24,
        "input gates, forget gates, and output gates, which control the flow of information",
        evidence.three_gates,
        lambda m: _one_of(max(m["input_level"], m["output_level"]) < -4 and m["forget_lost"] > 6, m["forget_lost"] > 6),
        "Shut, the input gate lets 10^{input_level:.1f} of an input's size through to the output, the output gate "
        "10^{output_level:.1f}; the forget gate loses {forget_lost:.0f} decades over 39 steps (open: {open_lost:.1f}).",
        "right",
    ),
)


def check_claims(numbers: Iterable[int] | None = None, progress: bool | None = None) -> list[Finding]:
    """Measure the claims and judge each.

    Parameters
    ----------
    numbers : iterable of int, optional
        Only these, from 1 to 21 (which is what the post leaves out).
    progress : bool, optional
        Show a bar. Default: on a terminal.

    Returns
    -------
    list of Finding
        With the verdict, and the numbers that led to it.

    Raises
    ------
    ValueError
        If there is no claim of some number.

    """
    known = {claim.number: claim for claim in CLAIMS}
    wanted = list(known) if numbers is None else sorted(set(numbers))
    if unknown := [n for n in wanted if n not in known]:
        raise ValueError(f"no claim {', '.join(map(str, unknown))}: they are numbered 1 to {len(known)}")
    findings = []
    for number in tqdm(
        wanted,
        disable=None if progress is None else not progress,
        unit="claim",
        desc="claims",
    ):
        measured = known[number].measure()
        findings.append(Finding(known[number], measured, known[number].judge(measured)))
    return findings


def tally(findings: Sequence[Finding]) -> str:
    """How many claims got which verdict: "8 right, 12 imprecise, 1 half wrong, 2 wrong, 1 missing"."""
    counts = {
        word: [f.verdict for f in findings].count(word)
        for word in dict.fromkeys((*WORDS, *(f.verdict for f in findings)))
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


PREFACE = f"""# The blog post as a test-suite

<!-- Written by `python examples/blog_post.py --out docs/claims.md`; a test compares it with a new run. -->

Many meet vanishing and exploding gradients first in a short introduction. This page takes one, {SOURCE},
sentence by sentence, measures what each says, and prints the verdict that the number gives. It is a helpful post, and
most of what is imprecise in it is so in most others. Quotes are the author's words, a sentence at most. The verdicts
are computed, by rules that other numbers would turn (`examples/blog_post.py`), and `python examples/blog_post.py`
measures them all again.

"right": holds as it stands. "imprecise": holds in part, or of something else. "wrong": the measurement says otherwise.
Everything is measured at initialisation unless it says so, with the loss at the last step only, in float64.
"""


def page(findings: Sequence[Finding]) -> str:
    """The findings as a page of the documentation, in Markdown."""
    lines = [PREFACE, f"Of {len(findings)}: {tally(findings)}.", ""]
    for finding in findings:
        claim = finding.claim
        title = f"“{claim.quote}”" if claim.quote else "What the post does not mention"
        lines += [
            f"## {claim.number}. {finding.verdict}",
            "",
            f"> {title}",
            "",
            finding.says,
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a verdict is not the expected one."""
    parser = argparse.ArgumentParser(
        prog="blog_post",
        description=f"Measure what {SOURCE}, says about gradients.",
    )
    parser.add_argument(
        "claims",
        nargs="*",
        type=int,
        metavar="N",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write what was measured, as JSON",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.md",
        help="also write the page of the documentation",
    )
    given = parser.parse_args(argv)
    if not set(given.claims) <= set(range(1, len(CLAIMS) + 1)):
        parser.error(f"claims are numbered from 1 to {len(CLAIMS)}")
    findings = check_claims(given.claims or None)
    print(f"{SOURCE}, claim by claim; at initialisation unless it says so\n")
    width = min(shutil.get_terminal_size().columns, 110)
    for finding in findings:
        quote = f"“{finding.claim.quote}”" if finding.claim.quote else "(what the post leaves out)"
        head = f"{finding.claim.number:>2}  {finding.verdict:<10}  "
        print(textwrap.fill(quote, width, initial_indent=head, subsequent_indent=" " * len(head)))
        print(
            textwrap.fill(
                finding.says,
                width,
                initial_indent=" " * len(head),
                subsequent_indent=" " * len(head),
            )
        )
        if not finding.as_expected:
            print(f"{' ' * len(head)}The documentation says: {finding.claim.expected}.")
    print(f"\n{tally(findings)}")
    if given.json is not None:
        found = {
            "source": SOURCE,
            "claims": [finding.to_dict() for finding in findings],
        }
        write_whole(
            given.json,
            json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        )
    if given.out is not None:
        write_whole(given.out, page(findings))
    return 0 if all(finding.as_expected for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
