"""``python -m rendezvous_testing.demo``."""

from rendezvous_testing.demo.driver import main

if __name__ == "__main__":
    raise SystemExit(main())
