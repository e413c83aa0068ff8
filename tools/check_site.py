"""Check a built site: internal links lead somewhere, no page needs the network, no picture lacks words.

python tools/check_site.py _build/html
"""

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
LINKED = {**LOADED, "a": "href"}
PASSIVE = {"canonical", "prev", "next", "search", "index", "author"}  # <link>s that a browser does not load


class Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.anchors, self.links, self.loads, self.silent = {""}, [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(v for k in ("id", "name") if (v := values.get(k)))
        source, words = values.get("src", ""), (values.get("alt") or "").strip()
        if tag == "img" and (not words or source.endswith(Path(words).name)):  # docutils' default is the name
            self.silent.append(source)
        target = values.get(LINKED.get(tag, ""))
        if not target:
            return
        self.links.append(target)
        if tag in LOADED and not PASSIVE & set((values.get("rel") or "").split()):
            self.loads.append(target)


def problems(site: Path) -> list[str]:
    pages = {
        path.resolve(): Page(path)
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts  # the theme leaves templates there
    }
    if not pages:
        return [f"{site} holds no page"]
    wrong = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        wrong += [
            f"{where}: loads {load} from the network"
            for load in page.loads
            if urlsplit(load).scheme in {"http", "https"} or load.startswith("//")
        ]
        wrong += [f"{where}: picture {source} without alternative text" for source in page.silent]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                wrong.append(f"{where}: {link} leads to no file")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{where}: {link} leads to no anchor")
    return wrong


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("site", type=Path, help="the folder of the built pages")
    wrong = problems(asked.parse_args().site)
    print(
        "\n".join(wrong)
        or "links lead somewhere, nothing is loaded from the network, pictures have their words"
    )
    sys.exit(bool(wrong))
