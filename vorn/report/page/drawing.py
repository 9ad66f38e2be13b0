"""A figure as the page holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vorn.report.style import images, inline


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with the sentence below it."""

    name: str  # of its files, without ending; unique in the report
    title: str
    caption: str
    files: dict[str, bytes]  # by format, "svg" and "png"

    @property
    def svg(self) -> Markup:
        """As an element of the page."""
        return Markup(inline(self.files["svg"], self.name, f"{self.title}. {self.caption}"))


def draw(name: str, title: str, caption: str, figure: Any) -> Drawing | None:
    """A matplotlib Figure with its files; None for none."""
    return None if figure is None else Drawing(name, title, caption, images(figure))
