from .app import create_app as create_app
from .config import ServeConfig as ServeConfig
from .loaded_release import LoadedRelease as LoadedRelease
from .release_watcher import ReleaseWatcher as ReleaseWatcher
from .release_watcher import Standing as Standing
from .transport import server as server
