"""The usual troubles of a machine, a lake and a workspace, each found by looking and told with what to do.

A finding has a `state`: "ok", "warn" for what a night can live with, "bad" for what it cannot.
"""

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Config
from stores.erasure import JOURNAL as ERASURE
from stores.errors import CorruptError, SamespaceError
from stores.features.identity import identity_of
from stores.features.online_check import look_at_online_store
from stores.features.views import HISTORY
from stores.features.written import damaged
from stores.journal import MOVE, live, read_move
from stores.lease import holder
from stores.masking import masked
from stores.release import Release
from stores.suppression import suppressed
from stores.workspace import Workspace

PACKAGES = ("ray", "torch", "feast", "pyarrow", "duckdb", "great_expectations")
SERVICE = ("fastapi", "uvicorn", "prometheus_client")
FREE_GB, FREE_MEMORY_GB = 5, 1.5

State = Literal["ok", "warn", "bad"]
Finding = dict[str, Any]


def finding(what: str, state: State, says: str, fix: str = "") -> Finding:
    """One finding, without secrets."""
    return {"what": what, "state": state, "says": masked(says), "try": masked(fix)}


def machine() -> list[Finding]:
    """Python, packages, FAISS builds, GPU, processors, memory."""
    found = [_python(), *(_package(name) for name in PACKAGES), _faiss(), _service(), _gpu(), _memory()]
    return [one for one in found if one is not None]


def around(config: Config, workspace: Workspace) -> list[Finding]:
    """Disk, workspace, unfinished nights, interrupted moves, the lease, the model, the lake and the online store."""
    looks: list[tuple[str, Callable[[], Finding | None]]] = [
        ("disk", lambda: _disk(workspace)),
        ("workspace", lambda: _workspace(workspace)),
        ("unfinished", lambda: _unfinished(workspace)),
        ("journal", lambda: _interrupted(workspace)),
        ("writer", lambda: _writer(workspace)),
        ("model", lambda: _model(workspace)),
        ("lake", lambda: _lake(config)),
        ("online store", lambda: _online(config, workspace)),
    ]
    found = [_tried(what, look) for what, look in looks]
    return [one for one in found if one is not None]


def verified(workspace: Workspace) -> list[Finding]:
    """Whether every file of the releases and of the Feast repository is what was written."""
    looks = {"small files": partial(_small_files, workspace), "feast": partial(_feast, workspace)}
    found = [_tried(what, look) for what, look in looks.items()]
    releases = [_release(workspace, name) for name in workspace.release_names()]
    return [*releases, *(one for one in found if one is not None)]


def _release(workspace: Workspace, name: str) -> Finding:
    release = Release(workspace.uri, name)

    def look() -> Finding:
        return _named(name, release.verify() if release.sealed else [])

    return _tried(name, look) or finding(name, "ok", "")


def _small_files(workspace: Workspace) -> Finding:
    """Pointer, journal, next model, who was erased, the identity; the first that was damaged raises."""
    storage = workspace.storage
    workspace.pointer(), live(storage), read_move(workspace), workspace.next_model(), suppressed(storage)
    identity_of(storage)
    return _named("small files", [])


def _feast(workspace: Workspace) -> Finding:
    """The repository and the history: the hashes that were noted, and every page of the history."""
    faults = damaged(workspace.storage)
    for path in workspace.storage.files(HISTORY):
        if path.endswith(".parquet") and not any(fault.startswith(path) for fault in faults):
            try:
                workspace.storage.read_table(path)
            except CorruptError as error:
                faults.append(error.what)
    return _named("feast", faults)


def _named(what: str, faults: list[str]) -> Finding:
    told = "; ".join(faults) or "every file is what was written"
    return finding(what, "bad" if faults else "ok", told, "restore it, or roll back" if faults else "")


def _tried(what: str, look: Callable[[], Finding | None]) -> Finding | None:
    try:
        return look()
    except SamespaceError as error:
        return finding(what, "bad", error.what, error.fix)
    except OSError as error:
        return finding(what, "bad", str(error), "check rights, network and the address")


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    return finding("python", "ok" if good else "bad", sys.version.split()[0], "" if good else "Python 3.11 or newer")


def _package(name: str) -> Finding:
    found = _version(name)
    return finding(name, "ok" if found else "bad", found or "not installed", "" if found else "make setup")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _faiss() -> Finding:
    builds = [f"{name} {found}" for name in ("faiss-cpu", "faiss-gpu") if (found := _version(name))]
    if len(builds) == 1:
        return finding("faiss", "ok", builds[0])
    if builds:
        return finding("faiss", "bad", " and ".join(builds) + ", both the module faiss", "pip uninstall one of them")
    return finding("faiss", "bad", "not installed", "pip install 'samespace[cpu]' or 'samespace[gpu]'")


def _service() -> Finding:
    missing = [name for name in SERVICE if find_spec(name) is None]
    if missing:
        return finding("serve", "warn", f"without {', '.join(missing)}", "pip install 'samespace[serve]'")
    return finding("serve", "ok", f"fastapi {_version('fastapi')}")


def _gpu() -> Finding:
    there = shutil.which("nvidia-smi")
    if there and not _version("faiss-gpu"):
        return finding("gpu", "warn", "nvidia-smi found, but FAISS is the CPU build", "pip install 'samespace[gpu]'")
    return finding("gpu", "ok", "nvidia-smi found" if there else "none; everything runs on the CPU")


def _memory() -> Finding | None:
    """What Linux says is available; elsewhere nothing is said."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    lines = (line.split() for line in table.read_text(encoding="ascii").splitlines())
    free = next((int(words[1]) / 1e6 for words in lines if words[0] == "MemAvailable:"), 0.0)
    told = f"{free:.1f} GB available, {os.cpu_count()} processors"
    good = free >= FREE_MEMORY_GB
    return finding("memory", "ok" if good else "warn", told, "" if good else "fewer [encode] workers, more shards")


def _disk(workspace: Workspace) -> Finding | None:
    if not workspace.storage.is_local:
        return None
    place = workspace.storage.local()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if not os.access(place, os.W_OK):
        return finding("disk", "bad", f"{place} is not writable", "another --workspace, or other rights")
    good = free >= FREE_GB
    return finding("disk", "ok" if good else "bad", f"{free:.0f} GB free", "" if good else "samespace gc, or more disk")


def _workspace(workspace: Workspace) -> Finding:
    pointer = workspace.pointer()
    if pointer is None:
        return finding("workspace", "ok", f"{workspace.uri}: nothing published yet", "samespace nightly --lake LAKE")
    release = workspace.release(pointer["release_id"])
    return finding("workspace", "ok", f"{workspace.uri}: {release.release_id}, space {release.space_id}")


def _unfinished(workspace: Workspace) -> Finding | None:
    staged = [release.release_id for release in workspace.staged()]
    if not staged:
        return None
    return finding("unfinished", "warn", ", ".join(staged), "the same samespace nightly again: it goes on there")


def _interrupted(workspace: Workspace) -> Finding | None:
    names = {MOVE: "a publication", ERASURE: "an erasure"}
    found = [what for path, what in names.items() if workspace.storage.exists(path)]
    if not found or holder(workspace.storage) is not None:  # whoever holds the workspace is at it
        return None
    told = f"{' and '.join(found)} was interrupted"
    return finding("journal", "warn", told, "the next nightly, promote, rollback or erase completes it")


def _writer(workspace: Workspace) -> Finding | None:
    held = holder(workspace.storage)
    if held is None:
        return None
    told = f"{held.get('purpose', 'a night')} holds the workspace, until {held.get('expires_at', 'it ends')}"
    return finding("writer", "warn", told, "wait; a lease that nobody renews runs out by itself")


def _model(workspace: Workspace) -> Finding | None:
    model_id = workspace.next_model()
    if model_id is None:
        return None
    there = model_id in workspace.models.folders()
    fix = "" if there else "samespace train, or restore the folder"
    told = f"{model_id} for the next night" + ("" if there else ", but models/ lacks it")
    return finding("model", "ok" if there else "bad", told, fix)


def _lake(config: Config) -> Finding | None:
    if not config.lake:
        return None
    from stores.lake.contract import Lake

    lake = Lake.open(config.lake)
    broken = [file.path for table in lake.tables.values() for file in table.broken]
    told = ", ".join(f"{name} {table.rows:,} rows" for name, table in lake.tables.items())
    if broken:
        return finding("lake", "warn", f"{told}; unusable: {', '.join(broken[:3])}", "mend or remove these files")
    return finding("lake", "ok", told)


def _online(config: Config, workspace: Workspace) -> Finding:
    found = look_at_online_store(workspace.storage, config.publish)
    return finding("online store", "warn" if found.risk else "ok", found.says, found.cure)
