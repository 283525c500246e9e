"""Pages of the site that are made from other files: README, CONTRIBUTING and CHANGELOG, and the examples."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TEXTS = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Texts at the top of the repository, and the pages that they become."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made; mkdocs calls this hook before it reads any page."""
    root = Path(config.config_file_path).parent
    for name, page in TEXTS.items():
        text = (root / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\]\(docs/", "](", text)))
    for example in sorted((root / "examples").glob("*.py")):
        files.append(File.generated(config, f"examples/{example.stem}.md", content=shown(example)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files beside `docs/` lead to the pages that are made of them."""
    depth = page.file.src_uri.count("/")
    up = "../" * (depth + (page.file.src_uri not in TEXTS.values()))
    markdown = re.sub(rf"\]\({up}(examples/\w+)\.py\)", rf"]({'../' * depth}\1.md)", markdown)
    for name, made in TEXTS.items():
        markdown = markdown.replace(f"]({up}{name})", f"]({'../' * depth}{made})")
    return markdown


def shown(example: Path) -> str:
    """A page with the source of an example under the first line of its docstring."""
    source = example.read_text(encoding="utf-8").rstrip()
    described = (ast.get_docstring(ast.parse(source)) or example.name).splitlines()[0]
    return f"# {example.name}\n\n{described} Run it with `python examples/{example.name}`.\n\n```python\n{source}\n```\n"
