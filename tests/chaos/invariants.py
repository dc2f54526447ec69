"""What must be true of a workspace whenever no command runs, whatever happened before. Each returns what is wrong."""

from pathlib import Path
from typing import Any

import numpy as np

from stores.publishing.journal import read_plan
from stores.releases.lease import current_lease
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from tests.chaos.consumers import vectors

SAMPLED, K, RECALL = 60, 10, 0.99


def faults(workspace: Workspace, keep: int) -> list[str]:
    """Everything that is wrong, each with its name."""
    live = workspace.current()
    found = {
        "current": current_is_sealed_and_whole(live),
        "feast": feast_serves_the_files(workspace, live),
        "index": index_finds_what_exact_search_finds(live),
        "unfinished": nothing_is_unfinished(workspace),
        "retention": nothing_beyond_retention(workspace, keep),
    }
    return [f"{name}: {line}" for name, lines in found.items() for line in lines]


def current_is_sealed_and_whole(live: Release) -> list[str]:
    """The pointer names a sealed release that was not held, and every file has the hash of the manifest."""
    status = [] if live.sealed and live.manifest.status == "ready" else [f"{live.release_id} is not ready"]
    return status + live.verify()


def feast_serves_the_files(workspace: Workspace, live: Release) -> list[str]:
    """Plain Feast serves the vector of every member and title of the live release, and nothing for who left."""
    from feast import FeatureStore

    store, wrong = FeatureStore(repo_path=f"{workspace.uri}/feast"), []
    for kind in ("member", "title"):
        expected: dict[int, Any] = dict(vectors(live, kind))
        for release in workspace.releases():
            if release.storage.files(f"{kind}s"):  # one that was refused early has no vectors
                expected = dict.fromkeys(vectors(release, kind)) | expected
        rows = [{f"{kind}_id": one} for one in expected]
        served = store.get_online_features([f"{kind}_embedding:embedding"], rows).to_dict()["embedding"]
        for (entity, vector), row in zip(expected.items(), served, strict=True):
            same = row is None if vector is None else row is not None and np.array_equal(np.float32(row), vector)
            wrong += [] if same else [f"{kind} {entity} is served as {str(row)[:40]}"]
    return wrong[:5]


def index_finds_what_exact_search_finds(live: Release) -> list[str]:
    """Recall@10 of a sample of members with plain FAISS, against inner products of the published vectors."""
    from retrieval.release_reader import search_candidates

    titles = vectors(live, "title")
    names, matrix = np.array(list(titles)), np.stack(list(titles.values()))
    queries = np.stack(list(vectors(live, "member").values())[:SAMPLED])
    exact = names[np.argsort(-queries @ matrix.T, axis=1, kind="stable")[:, :K]]
    got, _ = search_candidates(live, queries, K)
    recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(exact.tolist(), got, strict=True)]))
    return [] if recall >= RECALL else [f"recall@{K} is {recall:.3f}"]


def nothing_is_unfinished(workspace: Workspace) -> list[str]:
    """No staged release, no move of the pointer half done, nobody who holds the workspace."""
    lines = [f"{release.release_id} is staged" for release in workspace.staged()]
    lines += ["a move of the pointer is not finished"] if read_plan(workspace) else []
    return lines + ([f"{found['purpose']} holds the workspace"] if (found := current_lease(workspace.storage)) else [])


def nothing_beyond_retention(workspace: Workspace, keep: int) -> list[str]:
    """The newest `keep` releases, the live one and the one that opened its space; and only their models."""
    releases = workspace.releases()
    newest = {release.release_id for release in releases[-keep:]}
    live = workspace.current()
    allowed = newest | {live.release_id, live.plan.reference_release}
    models = {release.manifest.model_id for release in releases} | {workspace.next_model()}
    lines = [f"release {one.release_id} should be gone" for one in releases if one.release_id not in allowed]
    return lines + [f"model {one} should be gone" for one in workspace.models.folders() if one not in models]


def weight(workspace: Workspace, folder: str) -> int:
    """Bytes of a folder of the workspace."""
    return sum(path.stat().st_size for path in (Path(workspace.uri) / folder).rglob("*") if path.is_file())
