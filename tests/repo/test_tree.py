"""What must not stand in any file, and what every script must have."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

# Put together here so that this file does not hold what it looks for.
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com"]
DEBIAN = "deb" + ".debian.org"
HOMES = [rf"(?<![\w.])/{name}/\w" for name in ("work", "root", "home/\\w+", "Users/\\w+")]
FORBIDDEN = re.compile("|".join([*map(re.escape, [*REGISTRIES, DEBIAN]), *HOMES]), re.IGNORECASE)

# Files that are read must not be able to run code.
EXECUTING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def tracked(root: Path) -> list[Path]:
    """Files that are in the repository, or would be with the next commit."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := root / name).is_file()]


def named_places(text: str) -> list[str]:
    """Registries' hosts and paths of one machine that ``text`` names."""
    return [match.group() for match in FORBIDDEN.finditer(text)]


def executions(source: str) -> list[str]:
    """Where a module would run what it reads: pickles, eval, exec."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"eval", "exec", "compile", "__import__"}:
                found.append(called)
            settings = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if settings.get("allow_pickle", "False") != "False":
                found.append("allow_pickle")
            if called == "torch.load" and settings.get("weights_only") != "True":
                found.append("torch.load without weights_only=True")
        found += [name for name in names if name.partition(".")[0] in EXECUTING]
    return found


def test_no_file_names_a_registry_or_a_path_of_one_machine(root: Path) -> None:
    found = {}
    files = tracked(root)
    assert root / "pyproject.toml" in files
    for path in files:
        try:
            places = named_places(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue  # a picture
        if places:
            found[str(path.relative_to(root))] = places
    assert not found


# What these unpickle comes from workers that the same process has started, over pipes that
# nobody else can write to, never from a file.
BETWEEN_OUR_PROCESSES = "packages/palm-core/src/palm_core/run/executors/"


def test_nothing_that_is_read_is_executed(root: Path) -> None:
    found = {}
    for path in sorted(root.glob("packages/*/src/**/*.py")):
        places = executions(path.read_text(encoding="utf-8"))
        if str(path.relative_to(root)).startswith(BETWEEN_OUR_PROCESSES):
            places = [place for place in places if place != "pickle"]
        if places:
            found[str(path.relative_to(root))] = places
    assert not found


def test_no_file_is_large(root: Path) -> None:
    large = {path.name: size for path in tracked(root) if (size := path.stat().st_size) > 1_000_000}
    assert not large


class TestTheChecksThemselves:
    @pytest.mark.parametrize(
        "text",
        [
            "see https://" + REGISTRIES[0] + "/project/x",
            "FILES." + REGISTRIES[1].upper(),
            "registry." + REGISTRIES[2],
            "http://" + DEBIAN,
            "open('/" + "work/main')",
            "/" + "root/x",
            "/" + "home/someone/x",
        ],
    )
    def test_a_place_is_found(self, text: str) -> None:
        assert named_places(text)

    @pytest.mark.parametrize(
        "text", ["docs/" + "work/x", "the root/" + "x", "github.com/home", "~/x", "/" + "tmp"]
    )
    def test_what_is_no_place_is_not(self, text: str) -> None:
        assert not named_places(text)

    @pytest.mark.parametrize(
        "source",
        [
            "import pickle",
            "import pickle.x as p",
            "from joblib import load",
            "def f():\n    import dill",
            "np.load(f, allow_pickle=True)",
            "np.load(f, allow_pickle=unsafe)",
            "eval(text)",
            "torch.load(f)",
            "torch.load(f, weights_only=False)",
        ],
    )
    def test_an_execution_is_found(self, source: str) -> None:
        assert executions(source)

    @pytest.mark.parametrize(
        "source",
        ["np.load(f, allow_pickle=False)", "model.eval()", "torch.load(f, weights_only=True)"],
    )
    def test_what_is_none_is_not(self, source: str) -> None:
        assert not executions(source)
