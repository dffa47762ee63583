"""Seeds of the simulation: 2,000 by default, ``make simulate SEEDS=…`` for more."""

import pytest

from rendezvous_testing.simulation.__main__ import run_seed

SEEDS = 2_000
PART = 100


@pytest.mark.parametrize("first", range(1, SEEDS, PART))
def test_no_property_is_violated(first: int) -> None:
    for seed in range(first, first + PART):
        try:
            run_seed(seed)
        except Exception as exc:
            again = f"python -m rendezvous_testing.simulation --first {seed} --seeds 1 --trace"
            raise AssertionError(f"seed {seed}: {exc}\nagain: {again}") from exc
