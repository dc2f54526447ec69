"""Write package facades: lazy_loader with a stub, so that type checkers and editors see every public name."""
import sys
from pathlib import Path
repo = Path(sys.argv[1])
P = {
"alignment": ('''Align native vectors onto the shared space: canonical basis, robust Procrustes, acceptance.

Gram, fit, Anchors, AlignmentConfig      inputs of a fit
AlignmentTransform                       the maps that come out
judge, AcceptanceVerdict                 may the vectors be published into the space?
dimension_report                         which coordinates are stable on their own

The core needs NumPy alone; `job` runs it on Ray. Public names are imported on first use. No module is named like a
public function: importing such a module would hide the function.
''', {"acceptance": "AcceptanceVerdict FitResult fit_and_validate judge", "anchors": "Anchors", "config": "AcceptanceConfig AlignmentConfig", "fitting": "fit", "metrics": "DimensionStability dimension_report", "second_moments": "Gram", "transform": "AlignmentTransform"}, []),
"embeddings": ("Turn interactions into native vectors; torch is imported here and nowhere else.", {"encode.encoder": "Encoder load"}, []),
"embeddings/foundation": ("The foundation model: a causal transformer over histories beside a title tower.", {"config": "FoundationConfig", "encoder": "FoundationEncoder", "evaluation": "evaluate train_and_evaluate", "trainer": "TrainedModel train"}, []),
"retrieval": ("Search published vectors: exact top-k, FAISS indexes chosen by measurement, lookups of one release.", {"client": "RetrievalClient", "config": "IndexConfig RetrievalConfig", "filters": "Filter", "index": "TitleIndex", "index_metadata": "Origin", "lookup": "candidates similar"}, ["exact"]),
"retrieval/service": ("The HTTP service: one live release in memory, replaced without downtime, and the explorer page.\n\nFastAPI and prometheus_client come with the extra `[serve]`.\n", {"app": "create_app", "config": "ServeConfig", "loaded_release": "LoadedRelease", "release_watcher": "ReleaseWatcher"}, []),
"stores": ("The ground floor: schemas, files, releases, the pointer, Feast, the dead letter.", {"errors": "SamespaceError", "files.filesystem": "Storage", "lake.contract": "Lake", "releases.manifest": "Manifest Plan StageReport", "releases.release": "Release", "releases.workspace": "Workspace"}, []),
"stores/lake": ("The lake: the input tables, their contract, and the writers that make one.", {"movielens": "import_movielens", "simulation.config": "SimulationConfig"}, []),
"validation": ("The gate between a finished night and its publication, and the report about it.\n\nGreat Expectations is imported when a gate judges, not before.\n", {"checks": "Check Expectation GateVerdict", "config": "GateConfig", "gx_gate": "judge run_suite", "job": "run_index run_input run_vectors", "report": "write_report"}, []),
}
for pkg, (doc, homes, modules) in P.items():
    d = repo/pkg
    (d/"__init__.py").write_text(f'"""{doc}"""\n\nimport lazy_loader\n\n__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)\n', encoding="utf-8")
    lines = []
    if modules: lines.append("from . import " + ", ".join(f"{m} as {m}" for m in modules))
    for m in sorted(homes): lines += [f"from .{m} import {n} as {n}" for n in homes[m].split()]
    (d/"__init__.pyi").write_text("\n".join(lines) + "\n", encoding="utf-8")
