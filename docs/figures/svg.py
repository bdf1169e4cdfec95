"""A few shapes of SVG. Colours come from the page's stylesheet, so that figures follow its light and dark theme."""

from dataclasses import dataclass, field
from html import escape

LINE = 17  # pixels from one line of text to the next


@dataclass
class Drawing:
    """A picture that grows downwards.

    Args:
        width: in pixels.
        title: what it shows, for those who cannot see it.
    """

    width: int
    title: str
    height: int = 0
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, text: str, kind: str) -> None:
        """A rounded rectangle with a line of text in it, or several, separated by newlines."""
        self.bar(x, y, width, height, kind)
        lines = text.split("\n")
        first = y + height / 2 - LINE * (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            self.text(x + width / 2, first + number * LINE, line, "on-box")

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A rounded rectangle."""
        self._grow(y + height)
        self.parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"></rect>'
        )

    def text(self, x: float, y: float, text: str, kind: str = "label", anchor: str = "middle") -> None:
        """A line of text, its middle at `y`."""
        self._grow(y + LINE / 2)
        self.parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}" dominant-baseline="central">'
            f"{escape(text)}</text>"
        )

    def line(self, *points: tuple[float, float], kind: str = "wire") -> None:
        """A line through points."""
        self._grow(max(y for _, y in points))
        joined = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{joined}"></polyline>')

    def circle(self, x: float, y: float, radius: float, kind: str) -> None:
        """A disc."""
        self._grow(y + radius)
        self.parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"></circle>')

    def plus(self, x: float, y: float) -> None:
        """Where two tensors are added."""
        self.circle(x, y, 9, "sum")
        self.line((x - 5, y), (x + 5, y))
        self.line((x, y - 5), (x, y + 5))

    def __str__(self) -> str:
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        body = "\n".join(self.parts)
        # No blank line in it: one would end the block of HTML in Markdown.
        opened = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
        return f"{opened}\n<title>{escape(self.title)}</title>\n{body}\n</svg>"

    def _grow(self, bottom: float) -> None:
        self.height = max(self.height, int(bottom) + 4)


Captioned = dict[str, Drawing]
"""Caption -> picture."""


def figures(*columns: Captioned) -> str:
    """Columns of pictures side by side, or below each other where the page is narrow, each with its caption."""
    shown = "\n".join(f'<div class="column">\n{_column(drawings)}\n</div>' for drawings in columns)
    return f'<div class="figures">\n{shown}\n</div>'


def _column(drawings: Captioned) -> str:
    return "\n".join(
        f"<figure>\n{drawing}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"
        for caption, drawing in drawings.items()
    )
