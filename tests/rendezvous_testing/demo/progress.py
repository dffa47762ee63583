"""Live progress of the load: a bar on a terminal, a line per tenth elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from rendezvous_testing.demo.load import Outcome


class Progress:
    """Shows one run's load. ``console`` decides which way."""

    def __init__(self, console: Console, name: str, posts: int) -> None:
        self._console = console
        self._name = name
        self._posts = posts
        self._tenth = 0
        self._missed = 0
        self._counted = 0
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._task = self._bar.add_task(name, total=posts, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, outcome: Outcome) -> None:
        """The load has come this far."""
        for sample in outcome.samples[self._counted :]:
            self._missed += not sample.found
        self._counted = len(outcome.samples)
        note = f"{self._missed} inconsistent reads"
        note += f", {outcome.lost} calls lost to kills" if outcome.lost else ""
        note += f", {len(outcome.errors)} errors" if outcome.errors else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=outcome.done, note=note)
        elif (tenth := outcome.done * 10 // self._posts) > self._tenth:
            self._tenth = tenth
            self._console.print(f"  {self._name}: {outcome.done} of {self._posts} posts, {note}")
