"""The usual troubles of a machine, a lake and a workspace, each found by looking and told with what to do.

A finding has a `state`: "ok", "warn" for what a night can live with, "bad" for what it cannot.
"""

import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import Any, Literal

from pipeline.config import Config
from pipeline.ray_checks import SHARED_MEMORY, RayConfig, check_address, check_object_store, check_port, check_sockets
from stores.errors import CorruptError, NotFoundError, SamespaceError
from stores.feast.checksums import find_damaged
from stores.feast.feature_views import HISTORY
from stores.feast.ownership import check_online_store, read_identity
from stores.feast.repository import FeatureRepository, PublishConfig
from stores.files.checksummed_json import object_of
from stores.files.filesystem import Storage, sha256, temporary_folder
from stores.masking import mask_secrets
from stores.publishing.erasure import ERASE_JOURNAL as ERASURE
from stores.publishing.erasure import read_erasure
from stores.publishing.journal import PUBLISH_JOURNAL, published_state, read_plan
from stores.publishing.retention import due
from stores.publishing.suppression_list import read_suppression_list
from stores.releases.lease import current_lease
from stores.releases.release import Release
from stores.releases.workspace import Workspace, promoted_at

PACKAGES = ("ray", "torch", "feast", "pyarrow", "duckdb", "great_expectations")
SERVICE = ("fastapi", "uvicorn", "prometheus_client")
FREE_GB, FREE_MEMORY_GB = 5, 1.5
_WRITING_S = 1.0
_CLOCK_OFF = timedelta(minutes=5)
HASHES = "hashes.json"
"""Beside a model: the SHA-256 of each of its files."""
MODEL_CURE = "restore the model's folder from a copy, or train again"

State = Literal["ok", "warn", "bad"]
HealthCheck = dict[str, Any]


def health_check(what: str, state: State, says: str, fix: str = "") -> HealthCheck:
    """One finding, without secrets."""
    return {"what": what, "state": state, "says": mask_secrets(says), "try": mask_secrets(fix)}


def check_machine() -> list[HealthCheck]:
    """Python, packages, FAISS builds, GPU, processors, memory."""
    found = [_python(), *(_package(name) for name in PACKAGES), _faiss(), _service(), _gpu(), _memory()]
    return [one for one in found if one is not None]


def check_environment(config: Config, workspace: Workspace) -> list[HealthCheck]:
    """Disk, workspace, unfinished nights, interrupted moves, the lease, the model, the lake, the online store, Ray."""
    looks: list[tuple[str, Callable[[], HealthCheck | None]]] = [
        ("disk", lambda: _disk(workspace)),
        ("temporary files", _temporary),
        ("workspace", lambda: _workspace(workspace)),
        ("clock", lambda: _clock(workspace)),
        ("unfinished", lambda: _unfinished(workspace)),
        ("half-deleted", lambda: _half_deleted(workspace)),
        ("journal", lambda: _interrupted(workspace)),
        ("writer", lambda: _writer(workspace)),
        ("model", lambda: _model(workspace)),
        ("lake", lambda: _lake(config)),
        ("online store", lambda: _online(config, workspace)),
        *_ray_looks(config.ray),
    ]
    found = [_run_check(what, look) for what, look in looks]
    return [one for one in found if one is not None]


def verify_files(workspace: Workspace) -> list[HealthCheck]:
    """Whether every file of the releases, the models and the Feast repository is what was written; damage is named."""
    names: list[str] = []

    def list_releases() -> None:
        names.extend(workspace.release_names())

    listed = _run_check("releases", list_releases)
    found = [_run_check(name, partial(_release, workspace, name)) for name in names]
    found += [listed, *_small_files(workspace), _run_check("models", partial(_models, workspace))]
    return [one for one in [*found, _run_check("feast", partial(_feast, workspace))] if one is not None]


def _release(workspace: Workspace, name: str) -> HealthCheck | None:
    release = Release(workspace.uri, name)
    try:
        if release.sealed:
            return _list_faults(name, release.verify())
        readable = release.storage.exists("plan.json") and release.plan
    except NotFoundError:
        return None  # dropped meanwhile
    return _list_faults(name, []) if readable else None


def _small_files(workspace: Workspace) -> list[HealthCheck]:
    """Pointer, lease, journals, next model, who was erased, Feast's views, identity: a finding for each damaged one."""
    storage = workspace.storage
    looks: list[Callable[[], Any]] = [
        workspace.pointer,
        partial(current_lease, storage),
        partial(published_state, storage),
        partial(read_plan, workspace),
        partial(read_erasure, storage),
        workspace.next_model,
        partial(read_suppression_list, storage),
        lambda: FeatureRepository(storage, PublishConfig()).described(),
        partial(read_identity, storage),
    ]
    found = [_run_check("small files", partial(_looked_at, look)) for look in looks]
    return [one for one in found if one is not None] or [_list_faults("small files", [])]


def _looked_at(look: Callable[[], Any]) -> None:
    look()


def _models(workspace: Workspace) -> HealthCheck:
    """Every file of a model whose hash was written beside it."""
    faults, half_removed = [], due(workspace)
    for model_id in workspace.models.folders():
        folder = workspace.models.subfolder(model_id)
        if not folder.exists(HASHES) or model_id in half_removed:
            continue
        noted = object_of(folder.read(HASHES), f"models/{model_id}/{HASHES}", workspace.uri, MODEL_CURE)
        faults += [f"models/{model_id}/{name}" for name, wanted in noted.items() if _hash(folder, name) != wanted]
    says = "; ".join(f"{path} is missing or was changed" for path in faults) or "every file is what was written"
    return health_check("models", "bad" if faults else "ok", says, MODEL_CURE if faults else "")


def _hash(folder: Storage, name: str) -> str:
    return sha256(folder.read(name)) if folder.exists(name) else ""


def _feast(workspace: Workspace) -> HealthCheck:
    """The repository and the history: the hashes that were noted, and every page of the history."""
    faults = find_damaged(workspace.storage)
    if faults and _writer(workspace) is not None:  # a command is writing: what it was at is whole a moment later
        sleep(_WRITING_S)
        faults = [fault for fault in find_damaged(workspace.storage) if fault in faults]
    for path in workspace.storage.files(HISTORY):
        if path.endswith(".parquet") and not any(fault.startswith(path) for fault in faults):
            try:
                workspace.storage.read_table(path)
            except CorruptError as error:
                faults.append(error.what)
    return _list_faults("feast", faults)


def _list_faults(what: str, faults: list[str]) -> HealthCheck:
    told = "; ".join(faults) or "every file is what was written"
    return health_check(what, "bad" if faults else "ok", told, "restore it, or roll back" if faults else "")


def _run_check(what: str, look: Callable[[], HealthCheck | None]) -> HealthCheck | None:
    """What a look found; an error, of whatever kind, is a finding too, so that all other looks are taken."""
    try:
        return look()
    except SamespaceError as error:
        return health_check(what, "bad", error.what, error.fix)
    except OSError as error:
        return health_check(what, "bad", str(error), "check rights, network and the address")
    except Exception as error:
        return health_check(what, "bad", f"{type(error).__name__}: {error}", "restore the file, and report this")


def _python() -> HealthCheck:
    good = sys.version_info >= (3, 11)
    return health_check(
        "python", "ok" if good else "bad", sys.version.split()[0], "" if good else "Python 3.11 or newer"
    )


def _package(name: str) -> HealthCheck:
    found = _version(name)
    return health_check(name, "ok" if found else "bad", found or "not installed", "" if found else "make setup")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _faiss() -> HealthCheck:
    builds = [f"{name} {found}" for name in ("faiss-cpu", "faiss-gpu") if (found := _version(name))]
    if len(builds) == 1:
        return health_check("faiss", "ok", builds[0])
    if builds:
        return health_check(
            "faiss", "bad", " and ".join(builds) + ", both the module faiss", "pip uninstall one of them"
        )
    return health_check("faiss", "bad", "not installed", "pip install 'samespace[cpu]' or 'samespace[gpu]'")


def _service() -> HealthCheck:
    missing = [name for name in SERVICE if find_spec(name) is None]
    if missing:
        return health_check("serve", "warn", f"without {', '.join(missing)}", "pip install 'samespace[serve]'")
    return health_check("serve", "ok", f"fastapi {_version('fastapi')}")


def _gpu() -> HealthCheck:
    there = shutil.which("nvidia-smi")
    if there and not _version("faiss-gpu"):
        return health_check(
            "gpu", "warn", "nvidia-smi found, but FAISS is the CPU build", "pip install 'samespace[gpu]'"
        )
    return health_check("gpu", "ok", "nvidia-smi found" if there else "none; everything runs on the CPU")


def _memory() -> HealthCheck | None:
    """What Linux says is available; elsewhere nothing is said."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    lines = (line.split() for line in table.read_text(encoding="ascii").splitlines())
    free = next((int(words[1]) / 1e6 for words in lines if words[0] == "MemAvailable:"), 0.0)
    told = f"{free:.1f} GB available, {os.cpu_count()} processors"
    good = free >= FREE_MEMORY_GB
    return health_check("memory", "ok" if good else "warn", told, "" if good else "fewer [encode] workers, more shards")


def _disk(workspace: Workspace) -> HealthCheck | None:
    if not workspace.storage.is_local:
        return None
    place = workspace.storage.local()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if not os.access(place, os.W_OK):
        return health_check("disk", "bad", f"{place} is not writable", "another --workspace, or other rights")
    good = free >= FREE_GB
    return health_check(
        "disk", "ok" if good else "bad", f"{free:.0f} GB free", "" if good else "samespace gc, or more disk"
    )


def _workspace(workspace: Workspace) -> HealthCheck:
    pointer = workspace.pointer()
    if pointer is None:
        return health_check(
            "workspace", "ok", f"{workspace.uri}: nothing published yet", "samespace nightly --lake LAKE"
        )
    release = workspace.release(pointer["release_id"])
    return health_check("workspace", "ok", f"{workspace.uri}: {release.release_id}, space {release.space_id}")


def _unfinished(workspace: Workspace) -> HealthCheck | None:
    remnants = {release.release_id for release in workspace.half_deleted()}
    staged = [release.release_id for release in workspace.staged() if release.release_id not in remnants]
    if not staged:
        return None
    return health_check("unfinished", "warn", ", ".join(staged), "the same samespace nightly again: it goes on there")


def _half_deleted(workspace: Workspace) -> HealthCheck | None:
    remnants = [release.release_id for release in workspace.half_deleted()]
    if not remnants or _is_held(workspace):
        return None
    return health_check("half-deleted", "warn", ", ".join(remnants), "samespace gc removes the rest of them")


def _is_held(workspace: Workspace) -> bool:
    """Whether a command holds the workspace; not where the lease is damaged, which another finding names."""
    try:
        return current_lease(workspace.storage) is not None
    except CorruptError:
        return False


def _temporary() -> HealthCheck | None:
    with temporary_folder() as place:
        return health_check("temporary files", "ok", f"in {place.parent}")


def _clock(workspace: Workspace) -> HealthCheck | None:
    moved = promoted_at(workspace)
    ahead = (moved - datetime.now(UTC)) if moved else timedelta()
    if moved is None or ahead < _CLOCK_OFF:
        return None
    says = f"the live release counts as live from {moved.isoformat()} on, which is in the future"
    return health_check(
        "clock", "warn", says, "set this machine's clock; if it is right, the one that published was wrong"
    )


def _interrupted(workspace: Workspace) -> HealthCheck | None:
    names = {PUBLISH_JOURNAL: "a publication", ERASURE: "an erasure"}
    found = [what for path, what in names.items() if workspace.storage.exists(path)]
    if not found or _is_held(workspace):  # whoever holds the workspace is at it
        return None
    told = f"{' and '.join(found)} was interrupted"
    return health_check("journal", "warn", told, "the next nightly, promote, rollback or erase completes it")


def _writer(workspace: Workspace) -> HealthCheck | None:
    held = current_lease(workspace.storage)
    if held is None:
        return None
    told = f"{held.get('purpose', 'a night')} holds the workspace, until {held.get('expires_at', 'it ends')}"
    return health_check("writer", "warn", told, "wait; a lease that nobody renews runs out by itself")


def _model(workspace: Workspace) -> HealthCheck | None:
    model_id = workspace.next_model()
    if model_id is None:
        return None
    there = model_id in workspace.models.folders()
    fix = "" if there else "samespace train, or restore the folder"
    told = f"{model_id} for the next night" + ("" if there else ", but models/ lacks it")
    return health_check("model", "ok" if there else "bad", told, fix)


def _lake(config: Config) -> HealthCheck | None:
    if not config.lake:
        return None
    from stores.lake.contract import Lake

    lake = Lake.open(config.lake)
    broken = [file.path for table in lake.tables.values() for file in table.broken]
    told = ", ".join(f"{name} {table.rows:,} rows" for name, table in lake.tables.items())
    if broken:
        return health_check("lake", "warn", f"{told}; unusable: {', '.join(broken[:3])}", "mend or remove these files")
    return health_check("lake", "ok", told)


def _ray_looks(config: RayConfig) -> list[tuple[str, Callable[[], HealthCheck | None]]]:
    """What a night needs of Ray: an answer of the cluster that it joins, or room for a local one."""
    if config.joins:
        return [("ray cluster", lambda: health_check("ray cluster", "ok", f"{check_address(config)} answers"))]
    return [
        ("ray sockets", lambda: health_check("ray sockets", "ok", f"below {check_sockets(config)}")),
        ("ray object store", lambda: _ray_object_store(config)),
        ("ray port", check_port),
    ]


def _ray_object_store(config: RayConfig) -> HealthCheck:
    place, told = check_object_store(config), f"{config.object_store_mb} MiB in"
    if place == SHARED_MEMORY:
        return health_check("ray object store", "ok", f"{told} {place}")
    slow = f"{told} {place}, which is slower than {SHARED_MEMORY}"
    return health_check("ray object store", "warn", slow, f"free {SHARED_MEMORY}, or docker run --shm-size")


def _online(config: Config, workspace: Workspace) -> HealthCheck:
    found = check_online_store(workspace.storage, config.publish)
    return health_check("online store", "warn" if found.risk else "ok", found.says, found.cure)
