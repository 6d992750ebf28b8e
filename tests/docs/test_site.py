"""The site has a page for whatever there is to tell of; that its links are alive, the strict build says."""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path

import pytest

import cvg

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site() -> types.ModuleType:
    """docs/tools/site.py, which MkDocs loads."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "docs/tools/site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_has_its_page_of_the_api(site: types.ModuleType) -> None:
    folders = {init.parent.name for init in (ROOT / "cvg").glob("*/__init__.py")}
    assert folders and {f"cvg.{name}" for name in folders} <= set(site.packages())


def test_every_module_is_on_one_page(site: types.ModuleType) -> None:
    told = [module for modules in site.packages().values() for module in modules]
    public = {
        site.module_name(path.parent if path.stem == "__init__" else path)
        for folder in ("cvg", "data_prep")
        for path in (ROOT / folder).rglob("*.py")
        if path.stem != "__main__" and "pretrain" not in path.parts
    }
    assert len(told) == len(set(told)) and set(told) == public


def test_public_names_are_those_of_the_package(site: types.ModuleType) -> None:
    assert site.public_names() == cvg.__all__


def test_pages_of_the_root_keep_their_links(site: types.ModuleType) -> None:
    page = site.root_page("![p](docs/assets/a.gif) [m](docs/memory.md#b) [c](CONTRIBUTING.md) [w](https://x.org/docs/)")
    assert page == "![p](assets/a.gif) [m](memory.md#b) [c](contributing.md) [w](https://x.org/docs/)"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_every_page_is_in_the_navigation(page: Path) -> None:
    assert str(page.relative_to(ROOT / "docs")) in (ROOT / "mkdocs.yml").read_text()


def test_pictures_of_the_readme_are_small() -> None:
    assert (ROOT / "docs/assets/teaser.gif").stat().st_size < 400_000
    assert (ROOT / "docs/assets/method.svg").stat().st_size < 20_000
