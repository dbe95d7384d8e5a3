"""What a user gets: wheels, discovered plugins, quick and honest commands."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

# Each takes a second or more to import, and nothing that only lists or helps needs one.
HEAVY = ("torch", "numba", "scipy", "matplotlib", "pulp", "pandas", "transformers")


def run(place: Any, *command: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=place.folder,
        env={"PATH": str(place.python.parent), "HOME": str(place.folder)},
        capture_output=True,
        text=True,
    )


def answer(place: Any, code: str) -> Any:
    """What ``code`` leaves in ``result``, run in the user's environment."""
    code = f"import json, sys\n{code}\nprint(json.dumps(result))"
    ran = run(place, place.python, "-c", code)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


class TestWheels:
    def test_each_has_licence_and_types(self, wheels: dict[str, Path]) -> None:
        for name, wheel in wheels.items():
            module = name.replace("-", "_")
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
                (licence,) = (item for item in names if item.endswith("/licenses/LICENSE"))
                assert archive.read(licence).startswith(b"MIT License")
            assert f"{module}/py.typed" in names
            assert {Path(item).parts[0] for item in names} == {
                module,
                Path(licence).parts[0],
            }, f"{wheel.name} installs more than {module}"

    def test_every_module_and_data_file_is_in_it(self, root: Path, wheels: dict[str, Path]) -> None:
        for name, wheel in wheels.items():
            source = root / "packages" / name / "src"
            files = {
                path.relative_to(source).as_posix()
                for path in source.rglob("*")
                if path.is_file() and "__pycache__" not in path.parts
            }
            with zipfile.ZipFile(wheel) as archive:
                packed = {item for item in archive.namelist() if ".dist-info/" not in item}
            assert packed == files

    def test_entry_points_are_there_and_resolve(self, projects: dict[str, Any]) -> None:
        for name, project in projects.items():
            declared = {
                (group, key): value
                for group, entries in {
                    "console_scripts": project.get("scripts", {}),
                    **project.get("entry-points", {}),
                }.items()
                for key, value in entries.items()
            }
            entries = distribution(name).entry_points
            assert {(entry.group, entry.name): entry.value for entry in entries} == declared
            for entry in entries:
                assert callable(entry.load()), entry


class TestPlugins:
    def test_a_third_party_is_discovered(self, user: Any) -> None:
        found = answer(user, "import palm_core; result = palm_core.available_oracles()")
        assert found == ["fake", "tabular"]

    def test_listing_imports_nothing(self, user: Any) -> None:
        loaded = answer(
            user,
            "import palm_core\n"
            "from palm_core.oracles.registry import describe_oracles\n"
            "palm_core.available_oracles(), describe_oracles()\n"
            "result = sorted({name.partition('.')[0] for name in sys.modules})",
        )
        assert "palm_core" in loaded
        assert not {*HEAVY, "fake_palm_oracle"} & set(loaded)

    def test_it_is_described(self, user: Any) -> None:
        fake, _grpo, _mod, _soup, tabular = answer(
            user,
            "from dataclasses import asdict\n"
            "from palm_core.oracles.registry import describe_oracles\n"
            "result = [asdict(info) for info in describe_oracles()]",
        )
        assert fake == {
            "name": "fake",
            "value": "fake_palm_oracle:Circle",
            "distribution": "fake-palm-oracle",
            "version": "1.0",
            "installed": True,
            "hint": "",
        }
        assert (tabular["distribution"], tabular["installed"]) == ("palm-core", True)

    def test_it_loads_and_conforms(self, user: Any) -> None:
        result = answer(
            user,
            "import palm_core\n"
            "from palm_core.testing import check_conformance\n"
            "report = check_conformance(lambda: palm_core.load_oracle('fake', radius=2.0))\n"
            "result = [report.objectives, report.checked, float(report.policies[0].rewards[0])]",
        )
        assert result[0] == ["east", "north"]
        assert {"deterministic", "batches", "optimality", "picklable"} <= set(result[1])
        assert result[2] == 2.0

    def test_a_wrong_option_is_refused(self, user: Any) -> None:
        ran = run(
            user, user.python, "-c", "import palm_core; palm_core.load_oracle('fake', radios=2)"
        )
        assert ran.stderr.strip().endswith(
            "[oracle] radios: unknown option of 'fake'; did you mean 'radius'?"
        )


class TestCommandLine:
    @pytest.mark.parametrize("form", ["palm", "python -m palm_core"])
    def test_without_its_extra_it_says_what_to_install(self, user: Any, form: str) -> None:
        command = [user.script("palm")] if form == "palm" else [user.python, "-m", "palm_core"]
        ran = run(user, *command, "--help")
        assert ran.returncode == 2
        assert ran.stdout == ""
        assert ran.stderr.startswith("palm: the command line needs")
        assert ran.stderr.count("\n") == 1

    @pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["oracles", "--json"]])
    def test_quick_answers_import_nothing_heavy(self, arguments: list[str]) -> None:
        code = (
            "import sys\n"
            "from palm_core.__main__ import main\n"
            f"sys.argv = ['palm', *{arguments!r}]\n"
            "try:\n    main()\n"
            "except SystemExit as end:\n    assert not end.code, end.code\n"
            "print('\\n', *sorted({name.partition('.')[0] for name in sys.modules}))"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        loaded = set(ran.stdout.splitlines()[-1].split())
        assert {"palm_core", "cyclopts"} <= loaded
        assert not {*HEAVY, "numpy"} & loaded


def test_importing_the_package_takes_neither_numpy_nor_anything_heavy() -> None:
    code = "import sys, palm_core; print(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "palm_core" in loaded
    assert not {*HEAVY, "numpy", "msgspec", "cyclopts"} & loaded
