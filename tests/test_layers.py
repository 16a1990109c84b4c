"""Imports point down only; the layers are those of the table below, the lowest first."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    {
        *("mtl.errors", "mtl.tasks", "mtl.settings", "mtl.choices", "mtl.config", "mtl.config_text"),
        *("mtl.garbage", "mtl.machine"),
    },
    {"mtl.data", "mtl.modeling"},
    {"mtl.training"},
    {"mtl.runs", "mtl.inference", "mtl.sharing", "mtl.reports"},
    {"mtl.ui", "mtl.terminal"},  # what a person sees: a page or a terminal
    {"mtl.__main__", "mtl", "app"},  # `mtl` itself offers the public names
)
RANK = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
HEAVY = {"torch", "transformers", "sentence_transformers", "pandas"}


def module_name(path: Path) -> str:
    """Turn a file into the dotted name it is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in [*sorted((ROOT / "mtl").rglob("*.py")), ROOT / "app.py"]}


def imports(path: Path) -> Iterator[str]:
    """Yield every module a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which hides the layer it reaches for"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def package(module: str) -> str:
    """Name the part of the code a module belongs to: `mtl.runs` for `mtl.runs.store`."""
    return ".".join(module.split(".")[:2])


def within(name: str) -> list[str]:
    """List the modules of a package."""
    found = [module for module in MODULES if package(module) == name]
    assert found, f"there is no {name}"
    return found


def library(module: str) -> str:
    """Name the top package of a module: `torch` for `torch.nn`."""
    return module.partition(".")[0]


IMPORTS = {module: sorted(set(imports(path))) for module, path in MODULES.items()}
OURS = {
    module: {package(name) for name in names if library(name) in {"mtl", "app"}} for module, names in IMPORTS.items()
}


@pytest.mark.parametrize("module", MODULES)
def test_layers_every_module_has_its_layer(module: str) -> None:
    assert package(module) in RANK


@pytest.mark.parametrize("module", MODULES)
def test_layers_imports_point_down_only(module: str) -> None:
    own = RANK[package(module)]
    assert {name for name in OURS[module] if RANK[name] > own} == set()


def test_layers_no_two_modules_need_each_other() -> None:
    needs = {module: set(names) & MODULES.keys() for module, names in IMPORTS.items()}
    order = list(TopologicalSorter(needs).static_order())  # a cycle is an error that names it
    assert set(order) == set(needs)


@pytest.mark.parametrize("module", within("mtl.data"))
def test_layers_data_knows_nothing_of_models(module: str) -> None:
    assert OURS[module] & {"mtl.modeling", "mtl.training", "mtl.runs"} == set()


@pytest.mark.parametrize("module", within("mtl.training"))
def test_layers_training_knows_no_disk_no_process_and_no_page(module: str) -> None:
    above = {"mtl.runs", "mtl.inference", "mtl.sharing", "mtl.reports", "mtl.ui"}
    assert OURS[module] & above == set()
    assert {library(name) for name in IMPORTS[module]} & {
        "subprocess",
        "multiprocessing",
        "plotly",
        "matplotlib",
    } == set()


@pytest.mark.parametrize("module", [module for module in MODULES if package(module) != "mtl.ui"])
def test_layers_only_the_page_imports_gradio(module: str) -> None:
    assert {library(name) for name in IMPORTS[module]} & {"gradio", "gradio_client", "spaces"} == set()


@pytest.mark.parametrize("module", [module for name in sorted(LAYERS[0]) for module in within(name)])
def test_layers_the_lowest_needs_no_heavy_library(module: str) -> None:
    assert {library(name) for name in IMPORTS[module]} & (HEAVY | {"numpy", "gradio"}) == set()


@pytest.mark.parametrize("module", [module for module in MODULES if package(module) not in {"mtl.data", "mtl.ui"}])
def test_layers_tables_are_read_by_the_data_package_alone(module: str) -> None:
    assert "pandas" not in {library(name) for name in IMPORTS[module]}


@pytest.mark.parametrize("module", within("mtl.ui"))
def test_layers_the_page_loads_torch_only_when_a_function_needs_it(module: str) -> None:
    top = [
        name
        for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    assert {library(name) for name in top} & HEAVY == set()


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("mtl.training.loop", {"gradio", "plotly", "matplotlib"}),
        ("mtl.config_text, mtl.config, mtl.tasks, mtl.settings, mtl.errors", {"gradio", "numpy", *HEAVY}),
        ("mtl.config, mtl.runs.store, mtl.runs.queue", {"gradio", *HEAVY}),
        ("mtl.runs.worker, mtl.runs.preflight, mtl.runs.files", {"gradio", *HEAVY}),
        ("mtl.data.reading, mtl.data.combining, mtl.data.writing", {"gradio", "charset_normalizer", *HEAVY}),
        ("mtl.data.preparing, mtl.data.profile, mtl.reports.data", {"gradio", *HEAVY - {"pandas"}}),
        ("mtl.__main__, mtl.terminal", {"gradio", "numpy", "tqdm", *HEAVY}),
        ("mtl.ui.app", {"torch", "transformers", "sentence_transformers"}),
    ],
)
def test_layers_importing_one_thing_does_not_drag_in_another(modules: str, absent: set[str]) -> None:
    code = f"import sys, {modules}; print(*({absent} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
