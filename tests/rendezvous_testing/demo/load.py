"""The load generator: posts, a number at a time, and what became of each."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from rendezvous_testing.demo.result import Sample
from rendezvous_testing.limits import CALL_S


class Gate:
    """When the service that the load calls was down because we had killed it."""

    def __init__(self) -> None:
        self._up = asyncio.Event()
        self._up.set()
        self._down: list[tuple[float, float]] = []
        self._down_since = 0.0

    def close(self) -> None:
        """It is about to be killed."""
        self._down_since = time.monotonic()
        self._up.clear()

    def open(self) -> None:
        """It has answered that it is ready."""
        self._down.append((self._down_since, time.monotonic()))
        self._up.set()

    async def wait(self) -> None:
        """Wait until it is up."""
        await self._up.wait()

    def excuses(self, since: float, until: float) -> bool:
        """Whether a call that ran from ``since`` to ``until`` may have failed through a kill."""
        if not self._up.is_set() and until >= self._down_since:
            return True
        return any(since <= end and until >= begin for begin, end in self._down)


@dataclass(slots=True)
class Outcome:
    """What became of the posts."""

    samples: list[Sample] = field(default_factory=list[Sample])
    errors: list[str] = field(default_factory=list[str])
    lost: int = 0

    @property
    def done(self) -> int:
        """Posts that have ended, whichever way."""
        return len(self.samples) + len(self.errors) + self.lost


class Load:
    """One client of the writer, with its connections. Use it as an asynchronous context."""

    def __init__(self, url: str, name: str) -> None:
        self.gate = Gate()
        self._url = url
        self._name = name
        self._number = 0
        self._session = ClientSession(
            connector=TCPConnector(limit=0), timeout=ClientTimeout(total=CALL_S)
        )

    async def __aenter__(self) -> "Load":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def run(
        self,
        posts: int,
        *,
        concurrency: int,
        pause_s: float = 0.0,
        outcome: Outcome | None = None,
        progress: Callable[[Outcome], None] = lambda outcome: None,
    ) -> Outcome:
        """Send ``posts`` posts, ``concurrency`` at a time; return when the last has ended. Each
        client pauses for ``pause_s`` after each of its posts."""
        outcome = Outcome() if outcome is None else outcome
        left = iter(range(posts))

        async def client() -> None:
            for _ in left:
                await self._post(outcome)
                progress(outcome)
                await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as clients:
            for _ in range(min(concurrency, posts)):
                clients.create_task(client())
        return outcome

    async def _post(self, outcome: Outcome) -> None:
        self._number += 1
        post = {"id": f"{self._name}-{self._number}", "text": f"Post number {self._number}."}
        sent_at = time.monotonic()
        try:
            async with self._session.post(f"{self._url}/posts", json=post) as response:
                if response.status != 200:
                    text = (await response.text())[:200]
                    outcome.errors.append(f"post {post['id']}: HTTP {response.status}: {text}")
                    return
                answer = await response.json()
            outcome.samples.append(_sample(answer, sent_at, time.monotonic()))
        except (ClientError, OSError, TimeoutError) as exc:
            if self.gate.excuses(sent_at, time.monotonic()):
                outcome.lost += 1
                await self.gate.wait()
            else:
                outcome.errors.append(f"post {post['id']}: {exc!r}")
        except (KeyError, TypeError, ValueError) as exc:
            outcome.errors.append(f"post {post['id']}: not the answer of a writer: {exc!r}")


def _sample(answer: Any, sent_at: float, answered_at: float) -> Sample:
    notified = answer["notified"]
    return Sample(
        sent_at=sent_at,
        answered_at=answered_at,
        written_at=answer["written_at"],
        asked_at=notified["asked_at"],
        read_at=notified["read_at"],
        found=notified["found"],
    )
