"""Search published vectors: exact top-k, FAISS indexes chosen by measurement, lookups of one release."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
