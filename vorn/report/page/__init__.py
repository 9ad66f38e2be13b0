"""The report as a page: one self-contained HTML file, and its figures."""

from vorn.report.page.build import Page, build_page

__all__ = ["Page", "build_page"]
