"""Past nights with the live model in the live space, as rows of the point-in-time history.

A model that opens a space has no past in it: whoever trains on its features would have to wait. A backfill runs
histories, encode and the live transform as of each past night, in a workspace of its own below `backfill/`, and
appends what changed from night to night to the views' history, at the time of that night. Nights from
the first release of the space on are in the history already and are never touched, nor is anything online.

An interrupted backfill goes on with the night it was in; another model, lake, list of the erased or other settings
begin anew.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import alignment.job
import embeddings.encode.job
import embeddings.histories.job
from alignment.transform import AlignmentTransform
from embeddings.encode.reuse import ReusableVectors
from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.run_plan import require_same_ids
from pipeline.vector_reuse import AlignMembers
from stores.errors import NotFoundError, UsageError
from stores.feast.checksums import forget_checksum
from stores.feast.feature_views import EMBEDDINGS, history_folder, history_schema
from stores.feast.offline_store import history_path, history_rows, write_history
from stores.feast.release_diff import iter_diffs
from stores.lake.contract import Lake
from stores.publishing.suppression_list import SUPPRESSION_FILE as SUPPRESSED
from stores.publishing.suppression_list import read_suppression_list
from stores.releases.lease import check_token
from stores.releases.release import Plan, Release
from stores.releases.workspace import BACKFILL as FOLDER
from stores.releases.workspace import MODELS, Workspace

PREFIX = "backfill-"
_STAMP = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True)
class Span:
    """The nights from `first` to `last`, both included, every `every_h` hours."""

    first: datetime
    last: datetime
    every_h: float = 24.0

    def nights(self) -> list[datetime]:
        """Their moments. Raises UsageError where there is none."""
        if self.last < self.first or self.every_h <= 0:
            raise UsageError("there is no night to fill", expected="--from before --to, --every above 0")
        count = int((self.last - self.first) / timedelta(hours=self.every_h)) + 1
        return [self.first + number * timedelta(hours=self.every_h) for number in range(count)]


class Backfill:
    """One run, under the workspace's lease."""

    def __init__(self, config: Config, workspace: Workspace, token: int) -> None:
        self.config, self.workspace, self.token = config, workspace, token
        self.live = workspace.current()
        self.transform = AlignmentTransform.from_bytes(
            self.live.storage.read(alignment.job.TRANSFORM), where=repr(self.live)
        )
        self.key = self._key()
        self.scratch = Workspace.open(f"{workspace.uri}/{FOLDER}/{self.key}")

    def run(self, span: Span, tell: ConsoleReporter) -> list[dict[str, object]]:
        """Fill the nights of a span; the rows of history written for each.

        Raises UsageError where the span reaches into what is in the history already.
        """
        nights = span.nights()
        require_same_ids(Lake.open(self.config.lake), self.workspace, self.config.publish)
        self._refuse_known(nights[-1])
        self._prepare(nights)
        filled, before = [], None
        for night in nights:
            try:
                release = self._release(night, before)
            except NotFoundError as error:  # the lake had nothing yet
                tell.line(f"  {night:%Y-%m-%d %H:%M}  skipped: {error.what}")
                continue
            rows = self._write(night, before, release)
            tell.line(f"  {night:%Y-%m-%d %H:%M}  {', '.join(f'{count:,} {name}' for name, count in rows.items())}")
            filled.append({"night": night.isoformat(), **rows})
            before = release
        self.workspace.storage.delete_tree(FOLDER)
        return filled

    def _key(self) -> str:
        erased = read_suppression_list(self.workspace.storage)
        wish = [
            self.live.manifest.model_id,
            self.transform.hash,
            self.config.encode.preprocessing,
            self.config.histories.model_dump(mode="json"),
            Lake.open(self.config.lake).fingerprint(),
            sorted(erased.hashes) if erased else [],
        ]
        return hashlib.sha256(json.dumps(wish, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _refuse_known(self, last: datetime) -> None:
        opened = min(self._moments(), default=None)
        if opened is not None and last >= opened:
            raise UsageError(
                f"the history of space {self.live.space_id} begins at {opened.isoformat()}",
                expected="--to before that: what was live since then is recorded",
                fix="a backfill adds the time before a space was opened",
            )

    def _moments(self) -> Iterator[datetime]:
        """The effective moments of the moves in the history of the space."""
        for path in self.workspace.storage.files(history_folder(EMBEDDINGS[0], self.live.space_id)):
            name = path.rsplit("/", 1)[-1].removesuffix(".parquet")
            if not name.startswith(PREFIX):
                yield datetime.strptime(name.rsplit("-", 1)[-1], _STAMP).replace(tzinfo=UTC)

    def _prepare(self, nights: list[datetime]) -> None:
        """Copy the model and the list of the erased; drop what other backfills left, and rows about to be replaced."""
        for name in self.workspace.storage.folders(FOLDER):
            if name != self.key:
                self.workspace.storage.delete_tree(f"{FOLDER}/{name}")
        model = f"{MODELS}/{self.live.manifest.model_id}"
        for path in [*self.workspace.storage.files(model), SUPPRESSED]:
            if self.workspace.storage.exists(path):
                self.scratch.storage.write(path, self.workspace.storage.read(path))
        first, last, kept = nights[0], nights[-1], {_name(night) for night in nights}
        for view in EMBEDDINGS:
            for path in self.workspace.storage.files(history_folder(view, self.live.space_id)):
                name = path.rsplit("/", 1)[-1].removesuffix(".parquet")
                if name.startswith(PREFIX) and name not in kept and _name(first) <= name <= _name(last):
                    forget_checksum(self.workspace.storage, path)
                    self.workspace.storage.delete(path)

    def _release(self, night: datetime, before: Release | None) -> Release:
        """The vectors as of a night, sealed in the scratch workspace; only histories that changed are encoded."""
        release = Release(self.scratch.uri, f"{night:%Y%m%dT%H%M%SZ}-{self.key[:4]}")
        if release.sealed:
            return release
        self._check()
        if not release.storage.exists("plan.json"):
            self.scratch.stage(self._plan(release.release_id, night, before), self.token)
        carry = ReusableVectors(before, AlignMembers(self.transform)) if before else None
        reports = [
            release.run_stage("histories", lambda: embeddings.histories.job.run(self.config.histories, release)),
            release.run_stage("encode", lambda: embeddings.encode.job.run(self.config.encode, release, carry)),
            release.run_stage("align", lambda: alignment.job.apply(release, self.transform)),
        ]
        release.seal([], reports, {})
        return Release(self.scratch.uri, release.release_id)

    def _plan(self, release_id: str, night: datetime, before: Release | None) -> Plan:
        return Plan(
            release_id=release_id,
            plan_hash=self.key,
            lake=self.config.lake,
            as_of=night,
            created_at=datetime.now(UTC),
            model_id=self.live.manifest.model_id,
            space_id=self.live.space_id,
            reference_release=None,
            previous_release=before.release_id if before else None,
            shards=self.live.plan.shards,
            config={},
        )

    def _write(self, night: datetime, before: Release | None, release: Release) -> dict[str, int]:
        """Append what changed since the night before to the history; the rows of each view."""
        rows = {}
        for view in EMBEDDINGS:
            tables = (history_rows(view, self.live.space_id, night, part) for part in iter_diffs(view, before, release))
            schema = history_schema(view, release.storage.dataset(view.folder).schema)
            path = history_path(view, self.live.space_id, _name(night))
            rows[view.folder] = write_history(self.workspace.storage, path, schema, tables, self._check)
        return rows

    def _check(self) -> None:
        check_token(self.workspace.storage, self.token)


def _name(night: datetime) -> str:
    return f"{PREFIX}{night.astimezone(UTC):{_STAMP}}"
