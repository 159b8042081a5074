"""A page taken apart."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page consists of: tags with attributes, its text, and its tables by their ids.

    A cell of a table is the number behind it where it has one, else its text.
    """

    VOID = frozenset(("meta", "link", "img", "br"))

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str | float]]] = {}
        self._table: list[list[str | float]] = []
        self._parts: list[str] = []
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self._parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id") or "", [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th") and "table" in self.open:
            self._table[-1].append("")
        if tag == "data" and "tbody" in self.open:
            self._table[-1][-1] = float(attributes["value"] or "nan")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self._parts.append(data)
        if {"td", "th"} & set(self.open) and self._table and isinstance(self._table[-1][-1], str):
            self._table[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]
