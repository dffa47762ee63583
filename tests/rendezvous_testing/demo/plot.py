"""A picture of the consistency windows: one panel a run, on one time axis."""

# matplotlib leaves its **kwargs untyped.
# pyright: reportUnknownMemberType=false

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rendezvous_testing.demo.options import Options
from rendezvous_testing.demo.result import Run, quantile

_FOUND, _MISSED, _LINK, _INK = "#2b7a78", "#d1495b", "#dfe3e6", "#333333"
_BINS = 60


def draw(runs: list[Run], options: Options, path: Path) -> None:
    """Write the picture; the name's ending decides the format (png, svg, pdf)."""
    figure = Figure(figsize=(9, 1.4 + 1.9 * len(runs)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    every = [sample.window_ms for run in runs for sample in run.samples]
    link_end = options.delay_ms + options.jitter_ms
    right = max(1.0, 1.25 * link_end, 1.1 * quantile(every, 0.999) if every else 0.0)
    axes: Axes | None = None
    for row, run in enumerate(runs):
        axes = figure.add_subplot(len(runs), 1, row + 1, sharex=axes)
        _panel(axes, run, options, right)
        axes.tick_params(labelbottom=row == len(runs) - 1)
    if axes is not None:
        axes.set_xlim(0, right)
        axes.set_xlabel("consistency window: from the post's write in eu to its read in us (ms)")
    figure.suptitle("How long after the write does the notified reader read?", color=_INK)
    handles = [
        Patch(color=_MISSED, label="post missing"),
        Patch(color=_FOUND, label="post found"),
        Patch(color=_LINK, label=f"link: {options.delay_ms:g} ± {options.jitter_ms:g} ms"),
        Line2D([], [], color=_INK, linewidth=1, linestyle="--", label="median"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


def _panel(axes: Axes, run: Run, options: Options, right: float) -> None:
    low, high = options.delay_ms - options.jitter_ms, options.delay_ms + options.jitter_ms
    axes.axvspan(low, high, color=_LINK, zorder=0)
    edges = [right * i / _BINS for i in range(_BINS + 1)]
    # What lies beyond the axis is counted in its last bin, not left out.
    shown = [(min(sample.window_ms, right * 0.999), sample.found) for sample in run.samples]
    missed = [window for window, found in shown if not found]
    found = [window for window, found in shown if found]
    axes.hist([missed, found], bins=edges, stacked=True, color=[_MISSED, _FOUND])
    if run.samples:
        middle = quantile((sample.window_ms for sample in run.samples), 0.5)
        axes.axvline(middle, color=_INK, linewidth=1, linestyle="--")
        axes.annotate(
            f"{middle:.1f} ms",
            (middle, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=_INK,
        )
    total = len(run.samples)
    axes.set_title(
        f"{run.name}: {len(missed):,} of {total:,} reads inconsistent", loc="left", fontsize=10
    )
    axes.margins(y=0.25)  # room for the median above the bars
    axes.set_ylabel("reads")
    axes.spines[["top", "right"]].set_visible(False)
