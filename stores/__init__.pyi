from .errors import SamespaceError as SamespaceError
from .files.filesystem import Storage as Storage
from .lake.contract import Lake as Lake
from .releases.manifest import Manifest as Manifest
from .releases.manifest import Plan as Plan
from .releases.manifest import StageReport as StageReport
from .releases.release import Release as Release
from .releases.workspace import Workspace as Workspace
