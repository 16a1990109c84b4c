from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>\d[0-9A-Za-z.]*)")
# Folders of one machine. A home folder called user, app or mtl is a container's.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}])/(?:root|work|tmp|mnt|Users|home/(?!user\b|app\b|mtl\b))/?[\w.-]+|\b[A-Z]:\\\\?Users", re.ASCII
)
REGISTRY = re.compile(r"\b[\w.-]*(?:pypi|pythonhosted|artifactory|devpi|npmjs)[\w-]*\.[a-z]{2,}", re.IGNORECASE)


def pins(name: str) -> dict[str, str]:
    """Read the pinned versions of a requirements file; a line that is no exact pin is an error."""
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        requirement = line.partition("#")[0].strip()
        if not requirement or requirement == "-r requirements.txt":
            continue
        match = PIN.fullmatch(requirement)
        assert match, f"{name}: {requirement} is not pinned with =="
        assert match["name"].lower() not in found, f"{name}: {match['name']} is listed twice"
        found[match["name"].lower()] = match["version"]
    return found


def version(text: str) -> tuple[int, ...]:
    """Turn `2.12.5` into numbers that compare."""
    return tuple(int(part) for part in text.split("."))


def front_matter() -> dict[str, object]:
    """Read the YAML a Space reads at the top of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert match, "README.md does not begin with front matter"
    found = yaml.safe_load(match[1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_all_pinned_exactly(name: str) -> None:
    assert len(pins(name)) > 5


def test_requirements_torch_is_the_version_that_was_measured() -> None:
    assert pins("requirements.txt")["torch"] == "2.13.0"


def test_requirements_pydantic_is_one_that_gradio_takes() -> None:
    assert version(pins("requirements.txt")["pydantic"]) <= (2, 12, 5)


def test_requirements_gradio_is_the_one_a_space_installs() -> None:
    assert pins("requirements.txt")["gradio"] == front_matter()["sdk_version"]


def test_requirements_the_space_starts_the_file_there_is() -> None:
    matter = front_matter()
    assert matter["sdk"] == "gradio"
    assert (ROOT / str(matter["app_file"])).is_file()
    assert str(matter["python_version"]) == "3.12"


def test_requirements_of_development_begin_with_those_of_the_app() -> None:
    assert (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").startswith("-r requirements.txt\n")
    assert pins("requirements.txt").keys().isdisjoint(pins("requirements-dev.txt"))


# A Space brings `spaces` with it, and transformers says which version of the Hub's client it needs.
BROUGHT_BY_OTHERS = {"spaces", "huggingface_hub"}


def imported() -> set[str]:
    """Name the libraries that the app imports, anywhere in it."""
    found: set[str] = set()
    for path in [ROOT / "app.py", *(ROOT / "mtl").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"mtl"}


def test_requirements_pin_every_library_that_is_imported() -> None:
    libraries = imported()
    assert {"torch", "gradio", "yaml"} <= libraries
    distributions, pinned = packages_distributions(), pins("requirements.txt")
    missing = {
        name
        for name in libraries - BROUGHT_BY_OTHERS
        if not {distribution.lower() for distribution in distributions.get(name, [])} & pinned.keys()
    }
    assert missing == set()


def copied() -> Iterator[str]:
    """Yield what the Dockerfile copies out of the repository."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line.strip(), comments=True)
        if not words or words[0].upper() not in {"COPY", "ADD"}:
            continue
        options = [word for word in words[1:] if word.startswith("--")]
        if not any(option.startswith("--from=") for option in options):
            yield from [word for word in words[1:] if not word.startswith("--")][:-1]


def test_requirements_what_the_dockerfile_copies_exists() -> None:
    sources = list(copied())
    assert "requirements.txt" in sources
    for source in sources:
        assert source in {".", "./"} or list(ROOT.glob(source.strip("/"))), f"there is no {source}"


def written_here() -> list[Path]:
    """List the files that people read, without what tools and runs leave behind."""
    ours = ("app.py", "*.md", "*.yaml", "*.toml", "mtl", "tests", "benchmarks", "data", "checkpoints/starter")
    found = [path for pattern in ours for path in ROOT.glob(pattern)]
    inside = [path for folder in found if folder.is_dir() for path in folder.rglob("*")]
    return sorted(path for path in {*found, *inside} if path.suffix in {".py", ".md", ".yaml", ".toml"})


@pytest.mark.parametrize("path", written_here(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_requirements_no_file_names_a_machine_or_a_registry(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert MACHINE_PATH.findall(text) == []
    assert REGISTRY.findall(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /" + "root/project", True),
        ("cd /" + "home/anna/mtl", True),
        ("(/" + "tmp/run)", True),
        ("C:\\" + "Users\\anna", True),
        ("VOLUME /home/user/app/checkpoints", False),
        ("https://example.org/work/root/tmp", False),
        ("../work/x and ~/tmp/x", False),
    ],
)
def test_requirements_the_search_for_machine_paths_finds_them(text: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://py" + "pi.org/simple", True),
        ("files.python" + "hosted.org", True),
        ("host py" + "pi.mirror.example.com", True),
        ("It comes from PyPI. Then", False),
        ("https://huggingface.co/spaces", False),
    ],
)
def test_requirements_the_search_for_registries_finds_them(text: str, found: bool) -> None:
    assert bool(REGISTRY.search(text)) == found
