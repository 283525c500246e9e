"""Pages of the site that are made from other files: README, CONTRIBUTING and CHANGELOG, and the examples."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

TEXTS = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Texts at the top of the repository, and the pages that they become."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made; mkdocs calls this hook before it reads any page."""
    root = Path(config.config_file_path).parent
    for name, page in TEXTS.items():
        files.append(File.generated(config, page, content=moved((root / name).read_text(encoding="utf-8"))))
    for example in sorted((root / "examples").glob("*.py")):
        files.append(File.generated(config, f"examples/{example.stem}.md", content=shown(example)))
    return files


def moved(text: str) -> str:
    """A text from the top of the repository, its links as they are on the site."""
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r"\]\((examples/\w+)\.py\)", r"](\1.md)", text)
    for name, page in TEXTS.items():
        text = text.replace(f"]({name})", f"]({page})")
    return text


def shown(example: Path) -> str:
    """A page with the source of an example under the first line of its docstring."""
    source = example.read_text(encoding="utf-8").rstrip()
    described = (ast.get_docstring(ast.parse(source)) or example.name).splitlines()[0]
    return f"# {example.name}\n\n{described} Run it with `python examples/{example.name}`.\n\n```python\n{source}\n```\n"
