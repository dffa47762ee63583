"""Found first on PYTHONPATH: installs Rendezvous, then runs the sitecustomize that it hides."""


def _install() -> None:
    import sys

    try:
        from rendezvous_instrumentation.install import install

        install()
    except Exception as exc:
        print(f"rendezvous: not installed: {type(exc).__name__}: {exc}", file=sys.stderr)


def _run_hidden() -> None:
    """Execute the next sitecustomize on the path, as if we were not there. Other tools chain in the
    same way: while the next one runs we are not on the path, so that nobody comes back to us."""
    import sys
    from importlib.machinery import PathFinder
    from os.path import abspath, dirname

    here = abspath(dirname(__file__))
    ours = [entry for entry in sys.path if entry and abspath(entry) == here]
    at = sys.path.index(ours[0]) if ours else 0
    path = [entry for entry in sys.path if entry not in ours]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    sys.path[:] = path
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[at:at] = ours[:1]


_install()
_run_hidden()
