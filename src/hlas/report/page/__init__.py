"""The report as a page: everything of it that is HTML, SVG, CSS and JavaScript."""

from hlas.report.page.document import PageOptions, page

__all__ = ["PageOptions", "page"]
