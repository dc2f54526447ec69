"""The ground floor: schemas, files, releases, the pointer, Feast, the dead letter."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
