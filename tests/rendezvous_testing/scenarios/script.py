"""Reading a scenario's file, playing it, and writing it with the transcript that came of it."""

from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

from rendezvous_testing.scenarios.stage import Stage, Wrong
from rendezvous_testing.scenarios.steps import DECLARATIONS, STEPS, perform

RULER = "----"
EXPECTS = "→"
AT_ONCE = "at once "
"""A step that begins so comes before anything that the one before it set going has arrived."""


@dataclass
class Step:
    """One line, and what is expected of it."""

    line: int
    text: str
    at_once: bool
    expected: list[str] = field(default_factory=list[str])


@dataclass
class Script:
    """One file: the rule it shows (``#`` lines), declarations, steps, and the transcript."""

    path: Path
    source: str
    transcript: list[str]
    rule: str = ""
    declarations: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    steps: list[Step] = field(default_factory=list[Step])


def load(path: Path) -> Script:
    """Read a file. Raises :class:`Wrong` where it does not have the form."""
    text = path.read_text("utf-8")
    source, _, below = text.partition(f"\n{RULER}\n")
    script = Script(path, source.rstrip() + "\n", below.splitlines())
    lines = script.source.splitlines()
    if not lines or not lines[0].startswith("# "):
        raise Wrong(f"{path.name} does not begin with the rule that it shows")
    script.rule = lines[0][2:]
    for number, raw in enumerate(lines, 1):
        line, arrow, expected = raw.partition(EXPECTS)
        line = " ".join(line.split())
        if raw.startswith("#") or not raw.strip():
            continue
        if any(pattern.fullmatch(line) for pattern, _ in DECLARATIONS):
            if script.steps:
                raise Wrong(f"{path.name}:{number}: parts are declared before the first step")
            script.declarations.append((number, line))
            continue
        if line:
            at_once = line.startswith(AT_ONCE)
            script.steps.append(Step(number, line.removeprefix(AT_ONCE), at_once))
        if arrow:
            script.steps[-1].expected.append(" ".join(expected.split()))
    return script


def play(script: Script) -> list[str]:
    """Play a scenario; its transcript. Raises :class:`Wrong` where an expectation is not met, and
    whatever a read or a core raises."""
    stage = Stage()
    number, text = 0, ""
    try:
        for declared in script.declarations:
            number, text = declared
            perform(DECLARATIONS, stage, text)
        stage.settle()
        for at, step in enumerate(script.steps):
            number, text = step.line, step.text
            stage.transcript.lines.append(f"> {AT_ONCE if step.at_once else ''}{step.text}")
            so_far = len(stage.transcript.lines)
            results = perform(STEPS, stage, step.text)
            if len(stage.transcript.lines) == so_far:
                stage.transcript.lines += [f"  = {result}" for result in results]
            for expected in step.expected:
                if expected not in results:
                    raise Wrong(
                        f"expected {expected!r}, but it is {' / '.join(results) or 'nothing'!r}"
                    )
            if at + 1 == len(script.steps) or not script.steps[at + 1].at_once:
                stage.settle()
    except AssertionError as exc:
        shown = "\n".join(stage.transcript.lines)
        raise Wrong(f"{script.path.name}:{number}: {text}: {exc}\nso far:\n{shown}") from exc
    return stage.transcript.lines


def difference(script: Script, transcript: list[str]) -> str:
    """How a transcript differs from the one in the file; empty if it does not."""
    name = script.path.name
    return "\n".join(
        unified_diff(
            script.transcript, transcript, f"{name}: written", f"{name}: played", "", "", 3, ""
        )
    )


def rewrite(script: Script, transcript: list[str]) -> None:
    """Put the transcript into the file. Expectations stay as they are: they are the claim."""
    text = "\n".join([script.source.rstrip(), RULER, *transcript]) + "\n"
    script.path.write_text(text, "utf-8")
