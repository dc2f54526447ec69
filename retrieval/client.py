"""Serving in Python: what the HTTP service answers, without HTTP, for a process that embeds it.

A `RetrievalClient` follows the workspace's pointer. A call takes the release that is open at that moment and answers
from it alone; a new one is opened beside it and then takes its place, so no call waits, fails or mixes two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from retrieval.arguments import as_country, as_flag, as_k, as_maturity
from retrieval.service.loaded_release import LoadedRelease, RowScores, TitleFilter
from retrieval.service.release_watcher import ReleaseWatcher
from stores.errors import NotFoundError
from stores.releases.workspace import Workspace


@dataclass(frozen=True)
class SearchAnswer:
    """Titles with scores, best first, and the one release that they come from."""

    release_id: str
    space_id: str
    title_ids: list[Any]
    scores: list[float]
    names: list[str | None]


class RetrievalClient:
    """Candidates and similar titles of the live release; safe to call from many threads."""

    def __init__(self, live: ReleaseWatcher) -> None:
        self.live = live

    @classmethod
    def open(cls, workspace: str, refresh_s: float | None = None) -> "RetrievalClient":
        """Open the live release of a workspace, files mapped where they are on local disk.

        With `refresh_s` a thread looks at the pointer so often; without, `refresh` does. Raises CorruptError and
        MismatchError, naming both values, where files are not those of the release or of its space.
        """
        server = cls(ReleaseWatcher(Workspace.open(workspace), refresh_s or 1.0))
        if refresh_s:
            server.live.start()
        else:
            server.live.refresh()
        return server

    @property
    def current(self) -> LoadedRelease:
        """The release that answers now. Raises NotFoundError before the first one is live."""
        opened = self.live.current
        if opened is None:
            raise NotFoundError("nothing is live yet", where=self.live.workspace.uri, fix="samespace nightly")
        return opened

    def candidates(
        self,
        member_id: Any,
        k: int = 10,
        exclude_seen: bool = True,
        country: str | None = None,
        max_maturity: int | None = None,
    ) -> SearchAnswer:
        """The k best titles for a member, as `retrieval.candidates`.

        Raises NotFoundError for one who is not there, UsageError for arguments that cannot be used.
        """
        limits, seen = (
            TitleFilter(as_country(country), as_maturity(max_maturity)),
            as_flag(exclude_seen, "exclude_seen"),
        )
        return self._answer(
            lambda opened: opened.candidates(opened.members.row(member_id), as_k(k, len(opened.ids)), seen, limits)
        )

    def similar(self, title: Any, k: int = 10) -> SearchAnswer:
        """The k titles most like one, by id or by a name that matches one; raises as `names.find_title` does."""
        return self._answer(lambda opened: opened.similar(opened.title(title), as_k(k, len(opened.ids))))

    def refresh(self) -> bool:
        """Look at the pointer now; whether another release was opened. The old one serves on where that raises."""
        return self.live.refresh()

    def close(self) -> None:
        """Stop following the pointer."""
        self.live.stop()

    def __enter__(self) -> "RetrievalClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, ask: Callable[[LoadedRelease], RowScores]) -> SearchAnswer:
        opened = self.current  # taken once, so that everything in the answer is of one release
        found = ask(opened)
        rows, scores = [row for row, _ in found], [score for _, score in found]
        return SearchAnswer(
            release_id=opened.release_id,
            space_id=opened.space_id,
            title_ids=[opened.ids[row] for row in rows],
            scores=scores,
            names=[opened.names[row] for row in rows],
        )
