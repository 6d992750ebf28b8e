"""Pages of the site that have another source than a file in docs/.

README, CHANGELOG and CONTRIBUTING stand in the repository's root, where they are looked for; the API is in the
docstrings, one page for each package. MkDocs calls these functions (``hooks`` of mkdocs.yml).
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""File of the root -> page."""
COMMANDS = "commands"
"""The page of the modules that are commands."""


def packages() -> dict[str, list[str]]:
    """Every page of the API -> its modules: a page for each package, one for the public names, one for commands."""
    pages: dict[str, list[str]] = {}
    for top in ("cvg", "data_prep"):
        folder = ROOT / top
        for init in sorted(folder.rglob("__init__.py")):
            package = init.parent
            modules = [path for path in sorted(package.glob("*.py")) if not path.stem.startswith("_")]
            if package == folder / "pretrain":  # how the shipped models were made: scripts, told in shipped_models.md
                continue
            names = [module_name(path) for path in modules]
            if package == folder:
                pages[top] = [top] if top == "cvg" else [top, *names]
                if top == "cvg":
                    pages[COMMANDS] = names
            else:
                page = package.relative_to(folder).parts[0]  # subpackages are on the page of the package around them
                pages.setdefault(f"{top}.{page}", []).extend([module_name(package), *names])
    return pages


def module_name(path: Path) -> str:
    """Dotted name of a module's file or a package's folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def api_page(title: str, modules: list[str]) -> str:
    """Markdown that mkdocstrings fills: each module's text and public names."""
    parts = [f"# {title}\n"]
    for module in modules:
        is_package = (ROOT / module.replace(".", "/")).is_dir()
        # What a package takes in from its modules is told there.
        options = "    options:\n      members: false\n" if is_package else ""
        parts.append(f"::: {module}\n{options}")
    if title == "cvg":
        parts.append("\n".join(f"- [`{name}`][cvg.{name}]" for name in public_names()))
    return "\n".join(parts)


def public_names() -> list[str]:
    """What ``from cvg import`` offers."""
    source = (ROOT / "cvg/__init__.py").read_text()
    listed = re.search(r"__all__ = \[(.*?)\]", source, re.DOTALL)
    return [name for name in re.findall(r'"(\w+)"', listed[1]) if not name.startswith("_")] if listed else []


def root_page(source: str) -> str:
    """A file of the root with its links as they are from docs/."""
    source = re.sub(r'(\]\(|src=")docs/', r"\1", source)
    for name, page in ROOT_PAGES.items():
        source = source.replace(f"]({name}", f"]({page}")
    return source


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages of the API go into the navigation."""
    entries = [{title: f"api/{title}.md"} for title in packages()]
    place = next(i for i, entry in enumerate(config.nav or []) if "Glossary" in entry)
    config.nav = [*(config.nav or [])[:place], {"API": entries}, *(config.nav or [])[place:]]
    config.watch += [str(ROOT / name) for name in (*ROOT_PAGES, "cvg", "data_prep")]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages themselves."""
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=root_page((ROOT / name).read_text())))
    for title, modules in packages().items():
        files.append(File.generated(config, f"api/{title}.md", content=api_page(title, modules)))
    return files
