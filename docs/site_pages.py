"""Pages of the site that are made from other files: README, CONTRIBUTING and CHANGELOG, examples and notebooks.

If the environment variable `EXECUTE_NOTEBOOKS` is set, notebooks are executed, which takes a minute or two. Otherwise
their pages show cells without outputs.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from traitlets.config import Config

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
    for notebook in sorted((root / "docs" / "notebooks").glob("*.ipynb")):
        page, pictures = converted(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
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
    return (
        f"# {example.name}\n\n{described} Run it with `python examples/{example.name}`.\n\n```python\n{source}\n```\n"
    )


def converted(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and the pictures on it by name."""
    cells = nbformat.read(notebook, as_version=4)
    executed = bool(os.environ.get("EXECUTE_NOTEBOOKS"))
    if executed:
        from nbclient import NotebookClient

        NotebookClient(cells, timeout=600).execute()
    kinds = ["text/html", "image/svg+xml", "image/png", "text/plain"]  # no LaTeX, which needs a script to be drawn
    exporter = MarkdownExporter(config=Config({"NbConvertBase": {"display_data_priority": kinds}}))
    made = {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
    text, resources = exporter.from_notebook_node(cells, resources=made)
    title, _, rest = text.partition("\n")
    about = f"[The notebook]({notebook.name})" + ("." if executed else ", here without what it displays.")
    return f"{title}\n\n{about}\n{rest}", dict(resources["outputs"])
