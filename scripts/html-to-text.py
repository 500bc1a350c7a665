#!/usr/bin/env python3
"""Prose of HTML pages as plain text: scripts/html-to-text.py PAGE.html... > text

A paragraph, heading or list item becomes one line, with a blank line after it. Navigation, tables of contents, program
listings and tables are left out: what stays reads as a book does.
"""
import sys
from html.parser import HTMLParser

BLOCKS = {"address", "blockquote", "body", "br", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "ul"}
SKIPPED = {"head", "pre", "script", "style", "table"}
SKIPPED_CLASSES = {"docnav", "list-of-examples", "list-of-figures", "list-of-tables", "toc", "url"}
SKIPPED_IDS = {"banner", "title"}
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}  # have no end tag


class Prose(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs = []
        self.words = []
        self.skipped = []  # the tags open inside a skipped element, outermost first

    def end_paragraph(self):
        text = " ".join("".join(self.words).split())
        self.words = []
        if text:
            self.paragraphs.append(text)

    def handle_starttag(self, tag, attributes):
        if tag in BLOCKS:
            self.end_paragraph()
        if tag in VOID:
            return
        a = dict(attributes)
        classes = set((a.get("class") or "").split())
        if self.skipped or tag in SKIPPED or a.get("id") in SKIPPED_IDS or classes & SKIPPED_CLASSES:
            self.end_paragraph()
            self.skipped.append(tag)

    def handle_startendtag(self, tag, attributes):
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_endtag(self, tag):
        if tag in self.skipped:
            while self.skipped.pop() != tag:
                pass
        elif tag in BLOCKS:
            self.end_paragraph()

    def handle_data(self, data):
        if not self.skipped:
            self.words.append(data)

    def close(self):
        super().close()
        self.end_paragraph()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.splitlines()[0])
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for path in sys.argv[1:]:
        parser = Prose()
        with open(path, encoding="utf-8") as page:
            parser.feed(page.read())
        parser.close()
        for paragraph in parser.paragraphs:
            print(paragraph, end="\n\n")


main()
