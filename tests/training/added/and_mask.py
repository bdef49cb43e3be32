"""AND-mask (Parascandolo et al. 2020, arXiv:2009.00329): a weight moves only where the gradients of
the tasks agree in sign. It differs from MTSAC in how the gradients are combined.
"""

from dataclasses import dataclass

from torch import Tensor

from polyreach.errors import check_range
from polyreach.methods.method import Method
from polyreach.methods.mtsac import SACConfig, tuned_sac
from polyreach.methods.surgery import GradientSurgery

PAPER = "Parascandolo et al. 2020, Learning explanations that are hard to vary: AND-mask"


@dataclass(frozen=True)
class AndMaskConfig(SACConfig):
    """Settings of the AND-mask."""

    agreement: float = 1.0
    """Share of agreement, the absolute mean of the signs, from which a weight moves."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("agreement", self.agreement, 0.0, 1.0)


class AndMask(GradientSurgery):
    """The mean gradient, masked."""

    config: AndMaskConfig

    def combine(self, gradients: Tensor) -> Tensor:
        """Mean over tasks (P,) where their signs agree, else 0."""
        agree = gradients.sign().mean(dim=0).abs() >= self.config.agreement
        return gradients.mean(dim=0) * agree


METHOD = Method(
    name="and-mask",
    paper=PAPER,
    learner=AndMask,
    settings=AndMaskConfig(),
    tuned={"robot": tuned_sac(AndMaskConfig())},
)
