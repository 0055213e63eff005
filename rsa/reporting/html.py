"""The report as one HTML page that needs nothing else: figures and style are within it, and there is no script."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

STYLE = Path(__file__).with_name("report.css")
MEDIA = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<nav aria-label="Contents">
{contents}</nav>
<main>
{body}</main>
</body>
</html>
"""


def page(markdown: str, folder: Path) -> str:
    """Render a report in Markdown, whose pictures are files named relative to `folder`, as one page.

    Tables and blocks of HTML are kept; headings get anchors and are listed as contents. Raises ValueError with the name of a
    picture that does not exist.
    """
    parser = MarkdownIt("commonmark", {"html": True}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    tokens = parser.parse(markdown)
    headings = _anchored(tokens)
    body = parser.renderer.render(tokens, parser.options, {})
    title = next((text for level, text, _ in headings if level == "h1"), "Report")
    contents = "".join(f'<a href="#{name}">{html.escape(text)}</a>\n' for level, text, name in headings if level == "h2")
    body = re.sub(r'(<img\b[^>]*?\bsrc=")([^"]*)(")', lambda match: match[1] + _embedded(match[2], folder) + match[3], body)
    return PAGE.format(title=html.escape(title), style=STYLE.read_text(), contents=contents, body=body)


class _Renderer(RendererHTML):
    """Renderer of the elements that differ from markdown-it's.

    Cells carry the heading of their column for narrow screens, a picture on its own is a figure, headings link to themselves.
    """

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        self.headings: list[str] = []
        return '<div class="table" role="region" aria-label="Table" tabindex="0">\n<table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        return "</table>\n</div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        self.headings.append(tokens[idx + 1].content)
        return self.renderToken(tokens, idx, options, env)  # type: ignore[arg-type]

    def tr_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        self.cell = 0
        return "<tr>\n"

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        tokens[idx].attrSet("data-heading", self.headings[self.cell])
        self.cell += 1
        return self.renderToken(tokens, idx, options, env)  # type: ignore[arg-type]

    def paragraph_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        if tokens[idx].hidden:
            return ""
        return '<figure role="region" aria-label="Figure" tabindex="0">' if _is_picture(tokens[idx + 1]) else "<p>"

    def paragraph_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        if tokens[idx].hidden:
            return "\n" if tokens[idx + 1].type.endswith("list_open") else ""
        return "</figure>\n" if _is_picture(tokens[idx - 1]) else "</p>\n"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: object) -> str:
        name = tokens[idx - 2].attrGet("id")
        return f' <a class="anchor" href="#{name}" aria-label="Link to this section">#</a></{tokens[idx].tag}>\n'


def _is_picture(inline: Token) -> bool:
    return [child.type for child in inline.children or ()] == ["image"]


def _anchored(tokens: Sequence[Token]) -> list[tuple[str, str, str]]:
    """Give every heading a unique name; return tag, text and name of each."""
    headings: list[tuple[str, str, str]] = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            text = "".join(child.content for child in tokens[place + 1].children or ())
            plain = re.sub(r"[^\w]+", "-", text.lower()).strip("-") or "section"
            same = sum(name == plain or re.fullmatch(rf"{re.escape(plain)}-\d+", name) is not None for _, _, name in headings)
            name = f"{plain}-{same}" if same else plain
            token.attrSet("id", name)
            headings.append((token.tag, text, name))
    return headings


def _embedded(source: str, folder: Path) -> str:
    """Return the content of a picture's file as a data URL."""
    path = folder / unquote(html.unescape(source))
    if path.suffix not in MEDIA or not path.is_file():
        raise ValueError(f"a picture of the report must be a file of {', '.join(MEDIA)} in {folder}, got {source}")
    return f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
