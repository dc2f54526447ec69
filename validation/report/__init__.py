"""The report: one HTML file per release that opens from disk and asks for nothing else.

Every section is one small file with a `section(facts) -> Html | None`; `page` puts them together.
"""

from validation.report.page import refresh_report, write_report
from validation.report.release_state import recently_moved
from validation.report.title_map import plane_of

__all__ = ["plane_of", "recently_moved", "refresh_report", "write_report"]
