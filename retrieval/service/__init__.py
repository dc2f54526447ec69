"""The HTTP service: one live release in memory, replaced without downtime, and the explorer page.

FastAPI and prometheus_client come with the extra `[serve]`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
