"""Found first on PYTHONPATH: installs Rendezvous, then runs the sitecustomize that it hides."""


def _install() -> None:
    import sys

    try:
        from rendezvous_instrumentation.install import install

        install()
    except Exception as exc:
        print(f"rendezvous: not installed: {type(exc).__name__}: {exc}", file=sys.stderr)


def _run_hidden() -> None:
    """Execute the next sitecustomize on the path, as if we were not there."""
    import sys
    from importlib.machinery import PathFinder
    from os.path import abspath, dirname

    here = abspath(dirname(__file__))
    path = [entry for entry in sys.path if abspath(entry or ".") != here]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_install()
_run_hidden()
