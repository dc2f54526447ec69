"""The lake: the input tables, their contract, and the writers that make one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
