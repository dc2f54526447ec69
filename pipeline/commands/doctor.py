"""`samespace doctor`: is this machine and this workspace fit for a night?"""

import os
import shutil
from argparse import ArgumentParser, Namespace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.answer import Answer, table, workspace_of
from stores.errors import SamespaceError
from stores.workspace import Workspace

PACKAGES = ("ray", "torch", "feast", "pyarrow", "duckdb", "great_expectations", "faiss-cpu", "faiss-gpu")
FREE_GB = 5


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--verify", action="store_true", help="read every published file and compare its hash")


def run(args: Namespace) -> Answer:
    """Look at packages, disk, GPU and workspace; exit code 1 where something is wrong."""
    workspace = workspace_of(args)
    findings = [*_packages(), _gpu(), _workspace(workspace)]
    if workspace.storage.is_local:
        findings.append(_disk(workspace))
    if args.verify:
        findings += [_verified(workspace, name) for name in workspace.storage.folders("releases")]
    bad = [finding for finding in findings if finding["state"] == "bad"]
    return Answer({"findings": findings, "healthy": not bad}, table(findings), 1 if bad else 0)


def _packages() -> list[dict[str, Any]]:
    found = {name: _version(name) for name in PACKAGES}
    both = bool(found["faiss-cpu"] and found["faiss-gpu"])
    lines = [
        _finding(name, "ok" if found[name] else "bad", found[name] or "not installed")
        for name in PACKAGES
        if not name.startswith("faiss")
    ]
    builds = " and ".join(f"{name} {found[name]}" for name in ("faiss-cpu", "faiss-gpu") if found[name])
    hint = " (both give the module faiss: remove one)" if both else ""
    return [*lines, _finding("faiss", "bad" if both or not builds else "ok", (builds or "not installed") + hint)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _gpu() -> dict[str, Any]:
    return _finding(
        "gpu", "ok", "nvidia-smi found" if shutil.which("nvidia-smi") else "none; everything runs on the CPU"
    )


def _disk(workspace: Workspace) -> dict[str, Any]:
    place = workspace.storage.local()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    writable = os.access(place, os.W_OK)
    state = "ok" if free >= FREE_GB and writable else "bad"
    return _finding("disk", state, f"{free:.0f} GB free{'' if writable else ', not writable'}")


def _workspace(workspace: Workspace) -> dict[str, Any]:
    try:
        pointer = workspace.pointer()
        if pointer is None:
            return _finding("workspace", "ok", f"{workspace.uri}: nothing published yet")
        release = workspace.release(pointer["release_id"])
        return _finding("workspace", "ok", f"{workspace.uri}: {release.release_id}, space {release.space_id}")
    except SamespaceError as error:
        return _finding("workspace", "bad", error.what)


def _verified(workspace: Workspace, name: str) -> dict[str, Any]:
    from stores.release import Release

    release = Release(workspace.uri, name)
    try:
        faults = release.verify() if release.sealed else []
    except SamespaceError as error:
        faults = [error.what]
    return _finding(name, "bad" if faults else "ok", "; ".join(faults) or "every file is what was written")


def _finding(what: str, state: str, says: str) -> dict[str, Any]:
    return {"what": what, "state": state, "says": says}
