"""The pages of releases: written when a night ends, and their first line again after the pointer moved."""

from pipeline.telling import Teller
from stores.release import Release
from stores.workspace import Workspace
from validation.report import recently_moved, refresh_report, write_report


def report_night(workspace: Workspace, release: Release, tell: Teller) -> None:
    """Write a night's page, and the state of the releases that it replaced into theirs.

    The release stays as it is where that fails, and a line says so.
    """
    try:
        write_report(release)
    except Exception as error:
        tell.line(f"  the report could not be written ({type(error).__name__}: {error}); try samespace report")
    refresh_reports(workspace, tell)


def refresh_reports(workspace: Workspace, tell: Teller) -> None:
    """Write the first line of the pages of the releases that last went live or left, as of now.

    A page that cannot be written keeps its earlier line, which names its own moment; a line of the command says so.
    """
    try:
        for release in recently_moved(workspace):
            refresh_report(release)
    except Exception as error:
        tell.line(f"  a report could not be written again ({type(error).__name__}: {error}); try samespace report")
