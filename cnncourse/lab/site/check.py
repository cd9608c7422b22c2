"""Whether a built site holds together: links lead somewhere, pictures have words, nothing asks another host."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import unquote

TAG = re.compile(r"<(a|img|link|script|source|iframe)\b([^>]*)>")
NAMED = re.compile(r'\s(?:id|name)="([^"]+)"')
VALUE = re.compile(r'\s(href|src|alt|role|rel)="([^"]*)"')
ELSEWHERE = ("http:", "https:", "//")
NO_FILE = (*ELSEWHERE, "mailto:", "data:", "javascript:")


def problems(site: Path) -> list[str]:
    """What is wrong with the pages of a site, a line each; reads the files and opens no browser.

    >>> problems(Path("build/site"))
    []
    """
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    pages = {path: text for path, text in pages.items() if "_static" not in path.parts}
    names = {
        path: {html.unescape(name) for name in NAMED.findall(text)} for path, text in pages.items()
    }
    found: dict[str, None] = {}  # each once, in their order
    for path, text in pages.items():
        where = path.relative_to(site).as_posix()
        for tag, inside in TAG.findall(text):
            said = {name: html.unescape(value) for name, value in VALUE.findall(inside)}
            if tag == "img" and not said.get("alt", "").strip():
                found[f"{where}: a picture without alternative text: {said.get('src', '')}"] = None
            address = said.get("src", said.get("href", ""))
            if tag != "a" and said.get("rel") != "canonical" and address.startswith(ELSEWHERE):
                found[f"{where}: asks another host: {address}"] = None
            if address and not address.startswith(NO_FILE) and not _leads(path, address, names):
                found[f"{where}: leads nowhere: {address}"] = None
    return list(found)


def _leads(page: Path, address: str, names: dict[Path, set[str]]) -> bool:
    place, _, name = address.partition("#")
    target = (page.parent / unquote(place.partition("?")[0])).resolve() if place else page
    if not target.is_file():
        return False
    return not name or target not in names or {name, unquote(name)} & names[target] != set()
