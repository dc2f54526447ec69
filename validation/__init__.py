"""The gate between a finished night and its publication, and the report about it.

Great Expectations is imported when a gate judges, not before.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
