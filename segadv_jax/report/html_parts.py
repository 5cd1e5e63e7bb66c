"""What a page is put together from: elements, tables, pictures. What is no `Html` is escaped."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

STYLE = Path(__file__).with_name("page.css")


class Html(str):
    """Markup. All other texts are shown as they are."""


def markup(value: object) -> Html:
    """Markup as it is; a text, or what stands for it, escaped, also within quotes."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(*parts: object) -> Html:
    return Html("".join(map(markup, parts)))


def element(name: str, *children: object, **attributes: object) -> Html:
    """<name attributes>children</name>; "class_" is "class". An attribute None is left out."""
    given = {key.rstrip("_"): value for key, value in attributes.items() if value is not None}
    said = "".join(f' {key}="{html.escape(str(value))}"' for key, value in given.items())
    if name in ("img", "meta", "br"):
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(*children)}</{name}>")


def section(title: str, *parts: object) -> Html:
    """A part of the page with its heading; empty ones of the `parts` leave no trace."""
    return element("section", element("h2", title), *(part for part in parts if part))


def paragraph(*parts: object, class_: str | None = None) -> Html:
    return element("p", *parts, class_=class_)


def listed(items: Iterable[object]) -> Html:
    return element("ul", *(element("li", item) for item in items))


def table(heads: Sequence[object], rows: Iterable[Sequence[object]], caption: object = "") -> Html:
    """A table whose first column names its rows; it scrolls where the window is too narrow.

    A cell may be a whole <td>, otherwise it becomes one.
    """
    head = element("tr", *(element("th", each, scope="col") for each in heads))
    lines = []
    for first, *cells in rows:
        made = [c if _is_cell(c) else element("td", c) for c in cells]
        lines.append(element("tr", element("th", first, scope="row"), *made))
    above = [element("caption", caption)] if caption else []
    body = element("tbody", *lines)
    return element("div", element("table", *above, element("thead", head), body), class_="scrolls")


def _is_cell(cell: object) -> bool:
    return isinstance(cell, Html) and cell.startswith("<td")


def details(summary: str, *parts: object) -> Html:
    """Parts that are folded until somebody wants them."""
    return element("details", element("summary", summary), *parts)


def picture(
    pixels: UInt8[np.ndarray, "h w 3"], text: str, photograph: bool = False, **attributes: Any
) -> Html:
    """An image within the page; a `photograph` is kept as JPEG, flat colours exactly, as PNG."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    if photograph:
        image.save(file, "JPEG", quality=80, optimize=True)
    else:
        few = len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 256
        image = image.quantize(256, dither=Image.Dither.NONE) if few else image
        image.save(file, "PNG", optimize=True)
    kind = "jpeg" if photograph else "png"
    data = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    height, width = pixels.shape[:2]
    return element("img", src=data, alt=text, width=width, height=height, **attributes)


def swatch(rgb: Sequence[int], name: str) -> Html:
    """A class's colour and name."""
    box = element("span", class_="swatch", style=f"background: rgb({', '.join(map(str, rgb))})")
    return element("span", box, name, class_="entry")


def page(title: str, *sections: object) -> str:
    """A whole page that needs no other file."""
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title),
        element("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    body = element("body", element("main", *(part for part in sections if part)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"
