"""Imports point down the levels that the design names, so each module can be read after those below it."""

import ast

import pytest

from cnncourse import paths

LEVELS = [
    {"errors", "paths", "machine", "project"},
    {"runtime", "parameters", "packaged"},
    {
        "data",
        "scenes",
        "augment",
        "metrics",
        "cost",
        "inspection",
        "models",
    },
    {"training", "pretend"},
    {"plots", "diagrams", "figures", "dark", "claims", "widgets", "exercises"},
    {"lab", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
PACKAGE = paths.root() / "cnncourse"
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def module(path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path, top_level_only=False) -> set[str]:
    """Full dotted names that a source file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_level_and_those_below(path):
    assert module(path) in LEVEL, (
        f"{module(path)} has no level yet: add it to the design and to this test"
    )
    used = {name.split(".")[1] for name in imported(path) if name.startswith("cnncourse.")} & set(
        LEVEL
    )
    assert {name for name in used if LEVEL[name] > LEVEL[module(path)]} == set()


@pytest.mark.parametrize("name", ["plots", "lab"])
def test_drawing_numbers_and_running_lessons_need_no_torch(name):
    paths = [path for path in SOURCES if module(path) == name]
    assert paths
    packages = {
        name.split(".")[0] for path in paths for name in imported(path, top_level_only=True)
    }
    assert packages & {"torch", "torchvision"} == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_star_imports_and_no_unsafe_loading(path):
    tree = ast.parse(path.read_text())
    assert not any(
        isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)
    )
    loading = ("torch.load", "load_state_dict_from_url", "entry.get_state_dict")
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        assert name not in {"pickle.load", "pickle.loads", "joblib.load"}
        if name.endswith(loading):
            assert {word.arg: ast.unparse(word.value) for word in call.keywords}.get(
                "weights_only"
            ) == "True"
