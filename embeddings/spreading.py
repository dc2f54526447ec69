"""Spreading shards over the actors of a cluster whose workers and nodes come, go and die.

An actor is given a second shard while it works on the first. Where one dies its shards go back to the queue and
another actor takes its place, wherever the cluster has room; a shard is written whole or not at all, so that
one that was finished and is given out again comes to the same bytes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import ray

from stores.errors import EncoderError

AHEAD = 2
"""Shards that an actor holds: the one it computes and the one it reads or writes."""
DEATHS = 4
"""A shard that is there when so many actors die is what kills them; so many that die without one cannot start."""


class Spread:
    """Actors made by `make()`, as many as `wanted()` says at the time, that work off tasks by their method `encode`."""

    def __init__(self, make: Callable[[], Any], wanted: Callable[[], int]) -> None:
        self._make, self._wanted = make, wanted
        self.actors: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[Any, Any]] = {}
        self._asked: tuple[Any, Any] | None = None
        self.lost = self._idle_deaths = 0

    def run(self, tasks: list[Any], *arguments: Any) -> Iterator[Any]:
        """The results of `encode(task, *arguments)` as they come.

        Raises what a task raises, EncoderError where one keeps killing its actors.
        """
        waiting, deaths = deque(tasks), dict.fromkeys(tasks, 0)
        while waiting or self._running:
            self.top_up(len(waiting))
            for actor in self.actors:
                self._give(actor, waiting, arguments)
            ready, _ = ray.wait([*self._starting, *self._running], num_returns=1, timeout=10.0)
            for reference in ready:
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayActorError as error:
                    self._bury(reference, waiting, deaths, error)
                    continue
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                if self._starting.pop(reference, None) is None:
                    del self._running[reference]
                    self._idle_deaths = 0
                    yield result

    def begin(self, method: str, argument: Any, tasks: int) -> None:
        """Start the actors that so many tasks will need and ask one of them; `ask` waits for what it answers."""
        self._asked = self._question(method, argument, tasks)

    def _question(self, method: str, argument: Any, tasks: int) -> tuple[Any, Any]:
        self.top_up(tasks)
        return self.actors[0], getattr(self.actors[0], method).remote(argument)

    def ask(self, method: str, argument: Any, tasks: int) -> Any:
        """What an actor answers; the others that `tasks` will need start meanwhile. One that dies is replaced."""
        while True:
            actor, reference = self._asked or self._question(method, argument, tasks)
            self._asked = None
            try:
                return ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayActorError as error:
                self._remove(actor, error)

    def stop(self) -> None:
        """End every actor."""
        for actor in self.actors:
            ray.kill(actor)
        self.actors.clear()

    def top_up(self, waiting: int) -> None:
        """Start actors while there are fewer than wanted and work is left for them; does not wait for them."""
        busy = {actor for actor, _ in self._running.values()}
        for _ in range(min(self._wanted(), len(busy) + waiting) - len(self.actors)):
            actor = self._make()
            self.actors.append(actor)
            self._starting[actor.ready.remote()] = actor

    def _give(self, actor: Any, waiting: deque[Any], arguments: tuple[Any, ...]) -> None:
        """Shards to an actor that is up, as far as it has room."""
        if actor in self._starting.values():
            return
        held = sum(other == actor for other, _ in self._running.values())
        # Towards the end one shard each, so that none waits behind another.
        room = AHEAD if len(waiting) > len(self.actors) else 1
        for _ in range(min(room - held, len(waiting))):
            task = waiting.popleft()
            self._running[actor.encode.remote(task, *arguments)] = (actor, task)

    def _bury(self, reference: Any, waiting: deque[Any], deaths: dict[Any, int], error: Exception) -> None:
        """Take a dead actor out, and give its shards back."""
        actor = self._starting.get(reference) or self._running.get(reference, (None, None))[0]
        if actor is None:
            return
        for task in self._remove(actor, error):
            deaths[task] += 1
            waiting.appendleft(task)
            if deaths[task] >= DEATHS:
                raise _deadly(error, str(task)) from error

    def _remove(self, actor: Any, error: Exception) -> list[Any]:
        """Forget a dead actor; the shards that it held. Raises EncoderError where one after the other dies idle."""
        self.lost += 1
        self.actors.remove(actor)
        self._starting = {key: other for key, other in self._starting.items() if other != actor}
        held = [key for key, (other, _) in self._running.items() if other == actor]
        self._idle_deaths += not held
        if self._idle_deaths >= DEATHS:
            raise _deadly(error, "") from error
        return [self._running.pop(key)[1] for key in held]


def _deadly(error: Exception, where: str) -> EncoderError:
    return EncoderError(
        f"the encoding workers keep dying: {error}", where=where, fix="look at memory; lower encode.batch_tokens"
    )
