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
    angles_deg: list[list[float]]  # (S, E), 0 for effectors whose goals have no orientation
    tolerance_mm: float
    tolerance_deg: float
    set_seconds: list[float]  # (S,)
    set_status: list[str]  # (S,) the controller's message at the end of each set
    goals: int  # S E, all that were to be reached
    median_error_mm: float
    median_angle_deg: float | None  # of goals with an orientation; None if there are none
    period_p50_ms: float
    period_p99_ms: float

    @property
    def reached(self) -> int:
        """How many goals were within the tolerances."""
        return sum(map(sum, self._within()))

    def _within(self) -> list[list[bool]]:
        """(S, E)."""
        return [
            [
                error <= self.tolerance_mm and angle <= self.tolerance_deg
                for error, angle in zip(errors, angles, strict=True)
            ]
            for errors, angles in zip(self.errors_mm, self.angles_deg, strict=True)
        ]

    @property
    def success(self) -> bool:
        """Whether all goals were reached."""
        return self.goals > 0 and self.reached == self.goals

    def missed(self) -> list[str]:
        """A line for each set with a goal that was missed, with the controller's status."""
        return [
            f"set {number}/{len(self.errors_mm)} missed; the controller: {status}"
            for number, (within, status) in enumerate(
                zip(self._within(), self.set_status, strict=True), start=1
            )
            if not all(within)
        ]

    def line(self) -> str:
        """The result in one line."""
        angle = "" if self.median_angle_deg is None else f", {self.median_angle_deg:.1f} deg"
        return (
            f"reached {self.reached}/{self.goals} goals, "
            f"median error {self.median_error_mm:.1f} mm{angle}, "
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
