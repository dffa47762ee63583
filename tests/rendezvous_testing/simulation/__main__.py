"""``python -m rendezvous_testing.simulation``: run seeds; a failing one prints its scenario."""

import argparse
import sys
import time
import traceback
from collections import Counter

from rendezvous_testing.simulation.checkers import check
from rendezvous_testing.simulation.scenario import build, play


def run_seed(seed: int, *, trace: bool = False) -> Counter[str]:
    """One run; its verdicts. Raises what a checker or a read raises."""
    run = build(seed, trace=trace)
    try:
        play(run)
        check(run)
    finally:
        if trace:
            print("\n".join(run.world.lines))
    verdicts: Counter[str] = Counter()
    for application in run.applications:
        verdicts.update(application.verdicts)
        verdicts["reads"] += application.reads
    return verdicts


def main(argv: list[str] | None = None) -> int:
    """Run ``--seeds`` seeds from ``--first`` on; 1 if any fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print every run's course")
    options = parser.parse_args(argv)
    total: Counter[str] = Counter()
    began = time.perf_counter()
    for seed in range(options.first, options.first + options.seeds):
        try:
            total.update(run_seed(seed, trace=options.trace))
        except Exception:
            traceback.print_exc()
            print(f"\nseed {seed} failed; its course:", flush=True)
            try:
                run_seed(seed, trace=True)
            except Exception as exc:
                print(f"  {type(exc).__name__}: {exc}")
            print(
                f"again: python -m rendezvous_testing.simulation --first {seed} --seeds 1 --trace"
            )
            return 1
    seconds = time.perf_counter() - began
    print(f"{options.seeds} seeds in {seconds:.1f} s, no property violated")
    for name, count in sorted(total.items()):
        print(f"  {name:32} {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
