"""Render every page of a directory: ``python3 render.py SOURCE DESTINATION``."""

import html
import sys
from pathlib import Path
from string import Template

PAGE = Template("""<!doctype html>
<meta charset="utf-8">
<title>$title</title>
<h1>$title</h1>
<p>$text</p>
""")


def main() -> None:
    source, destination = map(Path, sys.argv[1:])
    destination.mkdir(parents=True, exist_ok=True)
    for page in sorted(source.glob("*.txt")):
        title, _, text = page.read_text().partition("\n")
        rendered = PAGE.substitute(title=html.escape(title), text=html.escape(text.strip()))
        (destination / page.with_suffix(".html").name).write_text(rendered)
        print(f"rendered {page.name}")


main()
