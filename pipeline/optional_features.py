"""Optional features of a release: vectors of genres, semantic ids of titles, what members prefer. Each on by choice.

They are made after the gates, from what the release holds and from the model, and published like the embeddings.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignment.transform import AlignmentTransform
from embeddings.encode.class_loading import import_from, working_folder
from embeddings.encode.config import EncodeConfig
from embeddings.encode.encoder import PREFERENCES as PREFERENCE_COLUMNS
from embeddings.encode.encoder import PreferenceEncoder, ValueEncoder, to_float32
from embeddings.encode.job import load_model
from embeddings.foundation.semantic_ids import SemanticIds
from pipeline.config import FeaturesConfig
from stores.errors import ConfigError, EncoderError
from stores.feast.feature_views import GENRES, PREFERENCES, SEMANTIC_IDS
from stores.feast.release_diff import vectors, with_versions
from stores.ray_pool import ElasticActorPool, WorkerSpec
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace
from stores.schema import EMBEDDING, GENRE, MEMBER_ID, TITLE_ID

CODEBOOKS = "semantic_ids/codebooks.safetensors"
SEMANTIC_ID = SEMANTIC_IDS.columns[0]


def run(config: FeaturesConfig, encode: EncodeConfig, release: Release) -> StageReport:
    """Write the features that are on; `rows` counts all of them.

    Raises ConfigError where the encoder does not offer what is on, EncoderError where what it returns cannot be used.
    """
    chosen: list[tuple[bool, str, Callable[[], int]]] = [
        (config.genres, "genres", lambda: _genres(encode, release)),
        (config.semantic_ids, "semantic_ids", lambda: _semantic_ids(release)),
        (config.preferences, "preferences", lambda: _preferences(encode, release)),
    ]
    rows = {name: make() for wanted, name, make in chosen if wanted}
    return StageReport(name="features", rows=sum(rows.values()), metrics=rows)


def _genres(encode: EncodeConfig, release: Release) -> int:
    """Vectors of genres go through the transform of the titles: they are points that titles lie around."""
    encoder = _encoder(encode, release, ValueEncoder, "encode_genres")
    names, found = encoder.encode_genres()
    native = to_float32(found)
    if native.shape != (len(names), encoder.dim) or not np.isfinite(native).all():
        raise EncoderError(
            f"{len(names)} genres have vectors of shape {native.shape}, or some are not finite",
            where="encode_genres",
            expected=f"shape {(len(names), encoder.dim)}, finite",
        )
    transform = AlignmentTransform.from_bytes(release.storage.read("transform.safetensors"))
    matrix = np.ascontiguousarray(transform.titles(native), np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
    path = "genres/part-00000.parquet"
    table = pa.table({GENRE: pa.array(names, pa.string()), EMBEDDING: column})
    return release.write_table(path, with_versions(GENRES, release, path, table)).rows


def _semantic_ids(release: Release) -> int:
    """Ids of all titles by codebooks that are fitted once per space; a title whose codes stay keeps its id."""
    titles = release.table("titles", [TITLE_ID, EMBEDDING])
    matrix, kept = vectors(titles), _live_ids(release)
    books = _codebooks(release, matrix)
    codes = books.codes(matrix)
    found = np.zeros((len(codes), books.levels + 1), np.int32)
    ids = titles[TITLE_ID].to_pylist()
    stays = np.array([one in kept and kept[one][:-1] == code.tolist() for one, code in zip(ids, codes, strict=True)])
    found[stays] = np.array([kept[one] for one, same in zip(ids, stays, strict=True) if same], np.int32).reshape(
        -1, books.levels + 1
    )
    found[~stays] = books.assign(matrix[~stays], found[stays])
    table = pa.table({TITLE_ID: titles[TITLE_ID], SEMANTIC_ID: pa.array(found.tolist(), pa.list_(pa.int32()))})
    path = "semantic_ids/part-00000.parquet"
    return release.write_table(path, with_versions(SEMANTIC_IDS, release, path, table)).rows


def _codebooks(release: Release, matrix: Any) -> SemanticIds:
    earlier = _live_release(release)
    if earlier is not None and earlier.storage.exists(CODEBOOKS):
        release.write_bytes(CODEBOOKS, earlier.read_bytes(CODEBOOKS))
    elif not release.completed_file(CODEBOOKS):
        SemanticIds.fit(matrix).save(release.storage, CODEBOOKS)
        release.write_bytes(CODEBOOKS, release.storage.read(CODEBOOKS))
    return SemanticIds.load(release.storage, CODEBOOKS)


def _live_ids(release: Release) -> dict[Any, list[int]]:
    """The ids that titles have in the live release of this space."""
    earlier = _live_release(release)
    if earlier is None or not earlier.storage.files("semantic_ids"):
        return {}
    table = earlier.table("semantic_ids", [TITLE_ID, SEMANTIC_ID])
    return dict(zip(table[TITLE_ID].to_pylist(), table[SEMANTIC_ID].to_pylist(), strict=True))


def _live_release(release: Release) -> Release | None:
    if release.plan.previous_release is None:
        return None
    previous = release.other(release.plan.previous_release)
    return previous if previous.space_id == release.space_id else None


def _preferences(encode: EncodeConfig, release: Release) -> int:
    """What every member prefers, shard by shard on Ray; finished shards are not redone."""
    shards = release.storage.files("histories")
    todo = [path for path in shards if not release.completed_file(_target(path))]
    if todo:
        with ElasticActorPool(_preference_workers(encode, release)) as pool:
            for _ in pool.run(todo):
                pass
    return sum(entry.rows for entry in release.completed_files() if entry.path.startswith("preferences/"))


def _preference_workers(encode: EncodeConfig, release: Release) -> WorkerSpec:
    """One processor each, whatever encodes on: the heads are a small part of the model."""

    def make() -> Any:
        import ray

        return ray.remote(_PreferenceWorker).options(num_cpus=1).remote(encode, release, working_folder())

    return WorkerSpec(
        make,
        method="write",
        name="preferences worker",
        ahead=1,
        load="ready",
        load_timeout_s=encode.load_timeout_s,
        error=EncoderError,
        advice=f"look at memory, lower encode.batch_size; try the encoder {encode.encoder} alone",
    )


class _PreferenceWorker:
    """Holds one copy of the model."""

    def __init__(self, encode: EncodeConfig, release: Release, folder: str) -> None:
        self.encode, self.release, self.folder = encode, release, folder
        self.encoder: Any = None

    def ready(self) -> None:
        """Load the model, so that one that cannot be loaded is reported once."""
        import_from(self.folder)
        self.encoder = _encoder(self.encode, self.release, PreferenceEncoder, "preferences")

    def write(self, path: str) -> int:
        """The preferences of one shard of histories, of members that were published."""
        release = self.release
        published = release.read_table(f"members/{path.rsplit('/', 1)[-1]}", [MEMBER_ID])[MEMBER_ID]
        histories = release.read_table(path)
        histories = histories.filter(pc.is_in(histories[MEMBER_ID], value_set=published.combine_chunks()))
        found = [pa.table({MEMBER_ID: histories[MEMBER_ID].slice(0, 0)} | _empty())]
        for start in range(0, histories.num_rows, self.encode.batch_size):
            part = histories.slice(start, self.encode.batch_size)
            made = self.encoder.preferences(part).select(PREFERENCE_COLUMNS.names).cast(PREFERENCE_COLUMNS)
            if made.num_rows != part.num_rows:
                raise EncoderError(f"{made.num_rows} preferences of {part.num_rows} histories", where=path)
            found.append(made.add_column(0, MEMBER_ID, part[MEMBER_ID]))
        target = _target(path)
        return release.write_table(target, with_versions(PREFERENCES, release, target, pa.concat_tables(found))).rows


def _empty() -> dict[str, pa.Array]:
    return {field.name: pa.array([], field.type) for field in PREFERENCE_COLUMNS}


def _target(path: str) -> str:
    return f"preferences/{path.rsplit('/', 1)[-1]}"


def _encoder(encode: EncodeConfig, release: Release, kind: Any, method: str) -> Any:
    encoder = load_model(encode, Workspace.open(release.workspace_uri), release.plan.model_id)
    if not isinstance(encoder, kind):
        raise ConfigError(
            f"the encoder offers no {method}", where=encode.encoder, expected=kind.__name__, fix="turn the feature off"
        )
    return encoder
