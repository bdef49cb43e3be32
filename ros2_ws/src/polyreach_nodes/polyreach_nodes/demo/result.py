"""What a demo measured."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DemoResult:
    """Errors, times and messages of S goal sets of E effectors."""

    robot: str
    effectors: list[str]
    errors_mm: list[list[float]]  # (S, E) at the end of each set
    tolerance_mm: float
    set_seconds: list[float]  # (S,)
    set_status: list[str]  # (S,) the controller's message at the end of each set
    goals: int  # S E, all that were to be reached
    median_error_mm: float
    period_p50_ms: float
    period_p99_ms: float

    @property
    def reached(self) -> int:
        """How many goals were within the tolerance."""
        return sum(error <= self.tolerance_mm for row in self.errors_mm for error in row)

    @property
    def success(self) -> bool:
        """Whether all goals were reached."""
        return self.goals > 0 and self.reached == self.goals

    def missed(self) -> list[str]:
        """A line for each set with a goal that was missed, with the controller's status."""
        return [
            f"set {number}/{len(self.errors_mm)} missed; the controller: {status}"
            for number, (errors, status) in enumerate(
                zip(self.errors_mm, self.set_status, strict=True), start=1
            )
            if max(errors) > self.tolerance_mm
        ]

    def line(self) -> str:
        """The result in one line."""
        return (
            f"reached {self.reached}/{self.goals} goals, "
            f"median error {self.median_error_mm:.1f} mm, "
            f"control period p50/p99 {self.period_p50_ms:.1f}/{self.period_p99_ms:.1f} ms"
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields, `reached` and `success`."""
        return {**asdict(self), "reached": self.reached, "success": self.success}

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "DemoResult":
        """The result in a file of `write`."""
        values = json.loads(path.read_text())
        return cls(**{each.name: values[each.name] for each in fields(cls)})
