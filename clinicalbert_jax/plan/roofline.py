"""The least time of a compiled step: the slowest of its FLOPs, its memory traffic and its links.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009). A bound, not a forecast:
nothing waits, and all three overlap.
"""

from dataclasses import dataclass

from clinicalbert_jax.plan.hlo import Summary
from clinicalbert_jax.training.mfu import Chip


@dataclass(frozen=True)
class Roofline:
    """Least seconds of a step by each limit; None where the data sheet has no figure."""

    arithmetic_s: float
    memory_s: float
    links_s: float | None
    model_flops: float
    peak_flops: float

    @property
    def step_s(self) -> float:
        """Seconds a step, at least."""
        return max(self.arithmetic_s, self.memory_s, self.links_s or 0.0)

    @property
    def mfu(self) -> float:
        """Model FLOP/s over the peak, at most."""
        return self.model_flops / self.step_s / self.peak_flops


def roofline(summary: Summary, compiled_flops: float, model_flops: float, chip: Chip, num_links: int) -> Roofline:
    """The bound for one device; FLOPs per device per step, as the compiler counts them and of the model."""
    sent = sum(summary.sent_bytes().values())
    return Roofline(
        # The compiler counts the body of a loop once, and kernels of other languages not at all.
        arithmetic_s=max(compiled_flops, model_flops) / chip.peak_flops,
        memory_s=summary.memory_bytes / chip.memory_bandwidth,
        links_s=sent / (chip.link_bytes * num_links) if chip.link_bytes and num_links else (None if sent else 0.0),
        model_flops=model_flops,
        peak_flops=chip.peak_flops,
    )
