"""Align native vectors onto the shared space: canonical basis, robust Procrustes, acceptance.

Gram, fit, Anchors, AlignmentConfig      inputs of a fit
AlignmentTransform                       the maps that come out
judge, AcceptanceVerdict                 may the vectors be published into the space?
dimension_report                         which coordinates are stable on their own

The core needs NumPy alone; `job` runs it on Ray. Public names are imported on first use. No module is named like a
public function: importing such a module would hide the function.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
