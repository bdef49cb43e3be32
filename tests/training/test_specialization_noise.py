"""benchmarks/specialization_noise.py against gradients whose noise is known."""

from pathlib import Path

import pytest
import torch

from benchmarks.specialization_noise import estimate, main, noise_share, rows_of


def drawn(rollouts: int, noise: float) -> torch.Tensor:
    """(K, 3, 4000): gradients (1, -1, 0) of the first half of the weights, 0 of the rest, noisy."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(3, 4000)
    truth[:, :2000] = torch.tensor([1.0, -1.0, 0.0])[:, None]
    return truth + noise * torch.randn(rollouts, 3, 4000, generator=generator)


def test_the_share_of_noise() -> None:
    g = drawn(200, noise=0.5)
    # variance between tasks: 2/3 of half of the weights; of the noise: 2/3 of a quarter, of all
    share = 0.25 / (0.5 + 0.25)
    assert noise_share(g, "disagreement", 10) == pytest.approx(share, abs=0.01)
    assert float(estimate(g, "disagreement").mean()) == pytest.approx(2 / 3 * 0.75, rel=0.02)
    tenth = 0.025 / (0.5 + 0.025)
    assert noise_share(g, "gradients", 10) == pytest.approx(tenth, abs=0.01)
    assert float(estimate(g[:10], "gradients").mean()) == pytest.approx(2 / 3 * 0.525, rel=0.02)
    assert noise_share(g - g.mean(dim=0), "disagreement", 1) == pytest.approx(1.0, abs=0.01)


def test_estimates_agree_by_chance_where_there_is_no_disagreement() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = list(rows_of("hoppers3", [torch.randn(20, 3, 4000, generator=generator)]))
    assert {(row.estimate, row.rollouts) for row in rows} == {
        (kind, count) for kind in ("disagreement", "gradients") for count in (1, 2, 5, 10)
    }
    assert all(row.agreement == pytest.approx(0.25, abs=0.02) for row in rows)
    clear = list(rows_of("hoppers3", [drawn(20, noise=0.1)]))
    assert all(row.agreement > 0.45 for row in clear)  # half of the weights are alike: 50 %


def test_the_page_of_a_short_training(tmp_path: Path) -> None:
    main(["hoppers3", "--steps", "4000", "--rollouts", "2", "--seeds", "2", "--out", str(tmp_path)])
    text = (tmp_path / "specialization-noise.md").read_text()
    assert "(2 seeds) are held after 4,000 steps" in text and text.count("| hoppers3 |") == 2
    assert (tmp_path / "specialization-noise.png").stat().st_size > 10_000
