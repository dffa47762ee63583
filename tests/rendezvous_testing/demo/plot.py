"""A picture of the consistency windows: one panel a run, on one time axis."""

# matplotlib leaves its **kwargs untyped.
# pyright: reportUnknownMemberType=false

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rendezvous_testing.demo.options import Options
from rendezvous_testing.demo.result import Run, quantile

_FOUND, _MISSED, _LINK, _INK = "#2b7a78", "#d1495b", "#dfe3e6", "#333333"
_BINS = 60


def draw(runs: list[Run], options: Options, path: Path) -> None:
    """Write the picture; the name's ending decides the format (png, svg, pdf)."""
    figure = Figure(figsize=(9, 1.3 + 2.1 * len(runs)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    every = [sample.window_ms for run in runs for sample in run.samples]
    link_end = options.delay_ms + options.jitter_ms
    right = max(1.0, 1.15 * link_end, 1.1 * quantile(every, 0.995) if every else 0.0)
    axes: Axes | None = None
    for row, run in enumerate(runs):
        axes = figure.add_subplot(len(runs), 1, row + 1, sharex=axes)
        _panel(axes, run, options, right)
        axes.tick_params(labelbottom=row == len(runs) - 1)
    if axes is not None:
        axes.set_xlim(0, right)
        axes.set_xlabel("consistency window: from the post's write in eu to its read in us (ms)")
    figure.suptitle(
        f"When the notified reader looks for the post (link {options.delay_ms:g} "
        f"± {options.jitter_ms:g} ms)",
        fontsize=12,
        color=_INK,
    )
    figure.savefig(path)


def _panel(axes: Axes, run: Run, options: Options, right: float) -> None:
    low, high = options.delay_ms - options.jitter_ms, options.delay_ms + options.jitter_ms
    axes.axvspan(low, high, color=_LINK, zorder=0, label="the post is on its way: delay ± jitter")
    edges = [right * i / _BINS for i in range(_BINS + 1)]
    # What lies beyond the axis is counted in its last bin, not left out.
    shown = [(min(s.window_ms, right * 0.999), s.found) for s in run.samples]
    missed = [window for window, found in shown if not found]
    found = [window for window, ok in shown if ok]
    axes.hist(
        [missed, found],
        bins=edges,
        stacked=True,
        color=[_MISSED, _FOUND],
        label=[f"post missing ({len(missed):,})", f"post found ({len(found):,})"],
    )
    middle = quantile((s.window_ms for s in run.samples), 0.5)
    axes.axvline(middle, color=_INK, linewidth=1, linestyle="--", label=f"median {middle:.1f} ms")
    share = 100 * run.inconsistent / max(1, len(run.samples))
    axes.set_title(f"{run.name}: {share:.1f} % inconsistent reads", loc="left", fontsize=10)
    axes.set_ylabel("reads")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
