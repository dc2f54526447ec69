"""The foundation model: a causal transformer over histories beside a title tower."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
