"""The nights before this one: what earlier releases of the same line say of themselves."""

from typing import Any

from stores.releases.release import Release


def live_lineage(release: Release, nights: int = 14) -> list[Release]:
    """The releases that were live before this one, the latest first, as far as they are still kept.

    Follows `previous_release`, so a night that was rolled back is not part of the line.
    """
    found: list[Release] = []
    at = release.plan.previous_release
    while at and len(found) < nights and at not in {earlier.release_id for earlier in found}:
        earlier = release.other(at)
        if not earlier.sealed:
            break
        found.append(earlier)
        at = earlier.plan.previous_release
    return found


def previous_release(release: Release) -> Release | None:
    """The release that was live when this night began; None on the first night."""
    return next(iter(live_lineage(release, 1)), None)


def metrics(release: Release | None, stage: str) -> dict[str, Any]:
    """The metrics of a finished stage; empty where there is no such release or report."""
    report = release.stage_report(stage) if release else None
    return report.metrics if report else {}
