"""How the exits of one network are trained together: whose gradient reaches which layer, and what
every exit is asked to say.

joint        all losses reach all layers below their exits
limited      an exit trains its own layer and hardly those below: a gradient that comes down from a
             layer counts `reach` times (0: SWEET's rule, Amos et al. 2023, arXiv 2306.02307)
equilibrium  of L exits above a layer each has an equal share in its gradient, so that deep exits do
             not outvote shallow ones (Li et al. 2019, arXiv 1908.06294)
two-stage    for half of the time the last exit trains all layers, alone; then every exit trains its own
             weights, and the layers stay (DeeBERT, Xin et al. 2020, arXiv 2004.12993)

With each of them exits before the last may follow its probabilities in part (self-distillation,
Phuong and Lampert 2019), or all of them those of another model (Hinton et al. 2015), and weights of the losses may grow with depth. Measured results are in
models/README.md.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

KINDS = ("joint", "limited", "equilibrium", "two-stage")


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(context, x, scale):
        context.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        return gradient * context.scale, None


@dataclass
class Recipe:
    kind: str = "joint"
    reach: float = 0.0  # of "limited"
    distill: float = 0.0  # share of the last exit's, or a teacher's, probabilities in the targets
    first_exit_weight: float = 1.0  # of the losses; the last exit has 1
    label_smoothing: float = 0.0
    stage: int = 0  # of two-stage: 1 or 2

    def enter(self, progress):
        """Told before every step how much of training is over, 0 to 1."""
        if self.kind == "two-stage":
            self.stage = 1 if progress < 0.5 else 2

    def branch(self, state, above):
        """A layer's output as (its exit, the next layer) see it; `above` layers follow."""
        if self.kind == "limited" and above:
            return state, ScaledGradient.apply(state, self.reach)
        if self.kind == "equilibrium" and above:
            share = 1 / (above + 1)
            return ScaledGradient.apply(state, share), ScaledGradient.apply(state, 1 - share)
        if self.stage == 2:
            return state.detach(), state.detach()
        return state, state

    def loss(self, logits, labels, class_weights=None, teacher=None):
        """Mean of the exits' losses; logits are [exits, rows, classes]. All exits follow the teacher's
        probabilities, [rows, classes], where there are any; else those before the last follow the last."""
        count = len(logits)
        weights = torch.linspace(self.first_exit_weight, 1.0, count) if count > 1 else torch.ones(1)
        if self.stage == 1:
            weights[:-1] = 0.0
        target = logits[-1].detach().softmax(-1) if teacher is None else teacher
        total = 0.0
        for i, own in enumerate(logits):
            loss = F.cross_entropy(own, labels, class_weights,
                                   label_smoothing=self.label_smoothing)
            if self.distill and (teacher is not None or i < count - 1):
                follow = -(target * F.log_softmax(own, -1)).sum(-1).mean()
                loss = (1 - self.distill) * loss + self.distill * follow
            total = total + weights[i] * loss
        return total / weights.sum()
