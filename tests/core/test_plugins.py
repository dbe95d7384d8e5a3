"""Finding oracles without importing them, and the ways in which one cannot be had."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from operator import attrgetter
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from palm_core import (
    InputError,
    PluginError,
    WorkError,
    available_oracles,
    describe_oracles,
    load_oracle,
)
from palm_core.errors import (
    DuplicateOracleError,
    OracleImportError,
    OracleNotInstalledError,
    UnknownOracleError,
)
from palm_core.plugin import load_task, load_task_oracle
from palm_core.run.config import parse_task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORACLE = """
    from palm_core import Policy

    class Table:
        def __init__(self, path="none", *, learning_rate=0.1, **rest):
            self.objectives = ("help", "brevity")
            self.path, self.learning_rate, self.rest = path, learning_rate, rest

        def solve(self, weights):
            for row in weights:
                yield Policy(id="only", weights=row, rewards=[1.0, 0.5])

    def table(path, learning_rate=0.1, *, seed=0):
        return Table(path, learning_rate=learning_rate, seed=seed)
"""


class Site:
    """A folder on ``sys.path`` that packages are installed into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, module: str, source: str) -> None:
        path = self.folder / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))

    def install(self, package: str, entries: str, requires: str = "") -> None:
        info = self.folder / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n{dedent(requires)}"
        )
        (info / "entry_points.txt").write_text(f"[palm.oracles]\n{dedent(entries)}")


@pytest.fixture(autouse=True)
def _forget_imports() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty site-packages: whatever this Python has installed is out of sight."""
    folder = tmp_path / "site"
    folder.mkdir()
    import_module("palm_core.oracles.protocol")  # what it takes of others is out of sight too
    monkeypatch.setattr(sys, "path", [str(folder)])
    return Site(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The folder of a user's task file; ``sys.path`` is put back afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Site(tmp_path / "task")


def refused(name: str, *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_oracle(name, *args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestListing:
    def test_nothing_is_installed(self, site: Site) -> None:
        assert available_oracles() == ()

    def test_names_are_sorted_and_nothing_is_imported(self, site: Site) -> None:
        site.write("own_listed", "raise SystemExit('imported')")
        site.install("alpha", "zebra = own_listed:a\nant = own_listed:b\n")
        assert available_oracles() == ("ant", "zebra")
        assert [info.name for info in describe_oracles() if info.installed] == ["ant", "zebra"]
        assert "own_listed" not in sys.modules

    def test_other_groups_are_not_oracles(self, site: Site) -> None:
        site.install("alpha", "mine = own:a\n\n[palm.metrics]\nother = own:b\n")
        assert available_oracles() == ("mine",)

    def test_describes_what_is_installed(self, site: Site) -> None:
        site.install("Alpha-Oracles", "mine = own.deep:make.it\n")
        (info,) = [info for info in describe_oracles() if info.name == "mine"]
        assert info.value == "own.deep:make.it"
        assert (info.distribution, info.version) == ("Alpha-Oracles", "1.0")
        assert info.installed
        assert info.hint == ""

    def test_describes_what_is_known(self, site: Site) -> None:
        site.install("palm-mod", "mod = palm_mod:load\n")
        infos = {info.name: info for info in describe_oracles()}
        assert list(infos) == ["grpo", "mod", "soup", "tabular"]
        assert infos["mod"].installed
        assert not infos["grpo"].installed
        assert infos["grpo"].value is infos["grpo"].version is None
        assert infos["grpo"].distribution == "palm-trl"

    def test_a_hint_never_names_a_package_on_an_index(self, site: Site) -> None:
        for info in describe_oracles():
            command = info.hint.partition("pip install ")[2].split()
            assert command
            assert all(argument.startswith("./packages/palm-") for argument in command)


class TestInstalledOracles:
    def test_loads_with_options(self, site: Site) -> None:
        site.write("own_table", ORACLE)
        site.install("own", "mine = own_table:Table\nother = own_table:table\n")
        oracle: Any = load_oracle("mine", path="a.csv", learning_rate=2.0, extra=[1])
        assert oracle.objectives == ("help", "brevity")
        assert (oracle.path, oracle.learning_rate) == ("a.csv", 2.0)
        assert oracle.rest == {"extra": [1]}
        made: Any = load_oracle("other", path="b.csv")
        assert made.rest == {"seed": 0}

    def test_a_dotted_attribute(self, site: Site) -> None:
        site.write("own_dotted", ORACLE + "\n    class Kit:\n        make = Table\n")
        site.install("own", "mine = own_dotted:Kit.make\n")
        assert load_oracle("mine").objectives == ("help", "brevity")

    def test_unknown(self, site: Site) -> None:
        site.install("own", "alpha = own:a\nbeta = own:b\n")
        with pytest.raises(UnknownOracleError) as caught:
            load_oracle("alfa")
        assert str(caught.value) == (
            "unknown oracle 'alfa'; installed: alpha, beta. Did you mean 'alpha'?"
        )

    def test_unknown_but_near_one_that_could_be_installed(self, site: Site) -> None:
        with pytest.raises(UnknownOracleError, match=r"'grp'; installed: none\. Did you.*'grpo'\?"):
            load_oracle("grp")

    def test_unknown_and_near_nothing(self, site: Site) -> None:
        with pytest.raises(UnknownOracleError, match=r"installed: none; an oracle of your own is"):
            load_oracle("my_oracle.Table")

    @pytest.mark.parametrize(
        ("name", "package"), [("grpo", "palm-trl"), ("mod", "palm-mod"), ("tabular", "palm-core")]
    )
    def test_known_but_not_installed(self, site: Site, name: str, package: str) -> None:
        with pytest.raises(OracleNotInstalledError) as caught:
            load_oracle(name)
        message = str(caught.value)
        assert message.startswith(f"oracle {name!r} comes with {package}, which is not installed")
        assert (
            "a checkout of the PALM repository has it: pip install ./packages/palm-core" in message
        )
        assert f"./packages/{package}" in message

    def test_installed_but_does_not_import(self, site: Site) -> None:
        site.write("own_broken", "import own_absent.deep")
        site.install("own", "mine = own_broken:make\n", "Requires-Dist: Own.Absent<2,>=1.16\n")
        with pytest.raises(OracleImportError) as caught:
            load_oracle("mine")
        assert str(caught.value) == (
            "oracle 'mine' is installed but does not import: No module named 'own_absent' "
            '(pip install "Own.Absent<2,>=1.16")'
        )
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)

    def test_what_is_missing_and_not_required_gets_no_hint(self, site: Site) -> None:
        site.write("own_broken", "import own_absent")
        site.install("own", "mine = own_broken:make\n", "Requires-Dist: numpy>=2\n")
        assert refused("mine").endswith("does not import: No module named 'own_absent'")

    def test_a_missing_sibling_is_not_fetched_from_an_index(self, site: Site) -> None:
        site.write("own_broken", "raise ModuleNotFoundError('gone', name='palm_eval')")
        site.install("own", "mine = own_broken:make\n", "Requires-Dist: palm-eval==0.1.0\n")
        assert refused("mine").endswith(
            "gone (where a checkout of the PALM repository has it: "
            "pip install ./packages/palm-eval)"
        )

    def test_a_module_that_raises(self, site: Site) -> None:
        site.write("own_raises", "raise RuntimeError('no GPU\\nto be found ' + 'x' * 1000)")
        site.install("own", "mine = own_raises:make\n")
        with pytest.raises(OracleImportError) as caught:
            load_oracle("mine")
        assert "does not import: RuntimeError: no GPU to be found xxx" in str(caught.value)
        assert len(str(caught.value)) < 400
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_an_attribute_that_is_not_there(self, site: Site) -> None:
        site.write("own_empty", "")
        site.install("own", "mine = own_empty:make\n")
        with pytest.raises(OracleImportError, match="has no attribute 'make'"):
            load_oracle("mine")

    @pytest.mark.parametrize("value", ["own_module", "own module:x", "own:a:b", ":x"])
    def test_an_entry_point_that_is_no_factory(self, site: Site, value: str) -> None:
        site.install("own", f"mine = {value}\n")
        with pytest.raises(OracleImportError, match=r"own announces .*, must be 'module:factory'"):
            load_oracle("mine")


class TestDuplicates:
    @pytest.mark.parametrize("second", ["own_b:make", "own_a:make"])
    def test_two_packages_of_one_name(self, site: Site, second: str) -> None:
        site.install("own-a", "mine = own_a:make\nother = own_a:make\n")
        site.install("own-b", f"mine = {second}\n")
        with pytest.raises(DuplicateOracleError) as caught:
            load_oracle("mine")
        assert str(caught.value) == (
            f"oracle 'mine' is provided by own-a (own_a:make) and own-b ({second}): "
            "uninstall all but one"
        )
        infos = [info for info in describe_oracles() if info.installed]
        assert [(info.name, info.distribution) for info in infos] == [
            ("mine", "own-a"),
            ("mine", "own-b"),
            ("other", "own-a"),
        ]
        assert [bool(info.hint) for info in infos] == [True, True, False]

    def test_one_package_with_two_factories_of_one_name(self, site: Site) -> None:
        site.install("own", "mine = own:a\nmine = own:b\n")
        with pytest.raises(DuplicateOracleError, match=r"by own \(own:a\) and own \(own:b\)"):
            load_oracle("mine")

    def test_only_the_name_that_is_twice_is_lost(self, site: Site) -> None:
        site.write("own_a", ORACLE)
        site.install("own-a", "mine = own_a:Table\nother = own_a:Table\n")
        site.install("own-b", "mine = own_b:make\n")
        assert available_oracles() == ("mine", "other")
        assert load_oracle("other").objectives == ("help", "brevity")

    def test_one_package_seen_twice_is_one(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        again = Site(tmp_path / "again")
        again.folder.mkdir()
        monkeypatch.setattr(sys, "path", [str(site.folder), str(again.folder), str(site.folder)])
        site.write("own_a", ORACLE)
        site.install("own-a", "mine = own_a:Table\n")
        again.install("Own_A", "mine = elsewhere:Table\n")
        assert load_oracle("mine").objectives == ("help", "brevity")
        assert len([info for info in describe_oracles() if info.name == "mine"]) == 1


class TestOptions:
    @pytest.fixture(autouse=True)
    def _installed(self, site: Site) -> None:
        site.write("own_table", ORACLE)
        site.install("own", "mine = own_table:table\nopen = own_table:Table\n")

    def test_unknown_option(self) -> None:
        assert refused("mine", path="x", lerning_rate=1) == (
            "[oracle] lerning_rate: unknown option of 'mine'; did you mean 'learning_rate'?"
        )
        assert refused("mine", path="x", colour=1) == (
            "[oracle] colour: unknown option of 'mine'. Accepted: path, learning_rate, seed"
        )

    def test_missing_option(self) -> None:
        assert refused("mine", seed=1) == (
            "[oracle] path: missing, 'mine' needs it. Accepted: path, learning_rate, seed"
        )

    def test_any_option_where_the_factory_takes_any(self) -> None:
        oracle: Any = load_oracle("open", colour=1)
        assert oracle.rest == {"colour": 1}

    def test_no_options(self, site: Site) -> None:
        site.write("own_plain", ORACLE + "\n    def plain():\n        return Table()\n")
        site.install("plain", "plain = own_plain:plain\n")
        assert refused("plain", a=1) == (
            "[oracle] a: unknown option of 'plain'. It takes no options"
        )

    def test_a_callable_without_a_signature_is_tried(self, site: Site) -> None:
        site.install("builtin", "builtin = builtins:dict\n")
        assert refused("builtin", a=1) == "oracle dict: must have a method solve(weights)"

    def test_options_may_be_called_like_our_own_parameters(self, site: Site) -> None:
        oracle: Any = load_oracle("open", name="n", folder="f", options="o")
        assert oracle.rest == {"name": "n", "folder": "f", "options": "o"}

    def test_the_factory_is_not_called_with_a_wrong_option(self, site: Site) -> None:
        site.write("own_calls", "def make(a=1):\n        raise RuntimeError('called')\n")
        site.install("calls", "calls = own_calls:make\n")
        assert "called" not in refused("calls", b=2)
        assert "called" in refused("calls")


class TestMaking:
    @pytest.fixture
    def raising(self, site: Site) -> Any:
        def load(what: str) -> Any:
            site.write("own_raising", f"import palm_core\ndef make():\n    raise {what}\n")
            site.install("own", "mine = own_raising:make\n")
            return load_oracle("mine")

        return load

    def test_our_own_errors_pass_through(self, raising: Any) -> None:
        with pytest.raises(InputError, match=r"^beta = 0: must be above 0$") as caught:
            raising("palm_core.InputError('beta = 0: must be above 0')")
        assert not isinstance(caught.value, PluginError)

    def test_a_failure_of_the_work_passes_through(self, raising: Any) -> None:
        with pytest.raises(WorkError, match=r"^out of disk$"):
            raising("palm_core.WorkError('out of disk')")

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("ValueError('beta is 0')", "refused its options: ValueError: beta is 0"),
            ("KeyError('reward')", "refused its options: KeyError: 'reward'"),
            ("TypeError", "refused its options: TypeError"),
            (
                "FileNotFoundError(2, 'No such file', 'a.csv')",
                "refused its options: [Errno 2] No such file: 'a.csv'",
            ),
        ],
    )
    def test_a_value_that_is_refused(self, raising: Any, what: str, message: str) -> None:
        with pytest.raises(InputError) as caught:
            raising(what)
        assert str(caught.value) == f"[oracle] 'mine' {message}"
        assert type(caught.value) is InputError
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("ImportError('No module named trl')", "does not import: No module named trl"),
            ("RuntimeError('no\\nGPU')", "could not be made: RuntimeError: no GPU"),
        ],
    )
    def test_a_factory_that_breaks(self, raising: Any, what: str, message: str) -> None:
        with pytest.raises(OracleImportError) as caught:
            raising(what)
        assert str(caught.value) == f"oracle 'mine' {message}"
        assert caught.value.__cause__ is not None

    def test_what_is_made_must_be_an_oracle(self, site: Site) -> None:
        site.write("own_none", "def make():\n        return object()\nnumber = 3\n")
        site.install("own", "mine = own_none:make\nnumber = own_none:number\n")
        assert "must have a method solve(weights)" in refused("mine")
        assert refused("number") == "oracle 'number' is of type int: must be a class or a function"

    def test_a_name_is_a_text(self) -> None:
        assert refused(3) == "oracle = 3: must be a name or 'package.module:factory'"


class TestModules:
    def test_beside_the_task_file(self, here: Site) -> None:
        here.write("own_beside", ORACLE)
        oracle: Any = load_oracle("own_beside:table", here.folder, path="t.csv")
        assert oracle.path == "t.csv"

    def test_the_current_directory_is_the_default(
        self, here: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.write("own_cwd", ORACLE)
        monkeypatch.chdir(here.folder)
        assert load_oracle("own_cwd:Table").objectives == ("help", "brevity")

    def test_packages_and_dotted_attributes(self, here: Site) -> None:
        here.write("own_kit/__init__", "")
        here.write("own_kit/deep", ORACLE + "\n    class Kit:\n        make = Table\n")
        assert load_oracle("own_kit.deep:Kit.make", here.folder).objectives

    def test_the_folder_comes_first_and_stays_last(self, here: Site, tmp_path: Path) -> None:
        installed = Site(tmp_path / "installed")
        installed.write("own_both", "Table = None")
        sys.path.insert(0, str(installed.folder))
        before = list(sys.path)
        here.write("own_both", ORACLE)
        load_oracle("own_both:Table", here.folder)
        load_oracle("own_both:Table", here.folder)
        assert sys.path == [*before, str(here.folder.resolve())]

    def test_the_factory_may_import_its_neighbours(self, here: Site) -> None:
        here.write("own_neighbour", ORACLE)
        here.write("own_late", "def make():\n        import own_neighbour as n; return n.Table()\n")
        assert load_oracle("own_late:make", here.folder).objectives == ("help", "brevity")

    def test_a_worker_process_finds_the_module(self, here: Site) -> None:
        here.write("own_shipped", ORACLE)
        oracle = load_oracle("own_shipped:Table", here.folder)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            names = pool.submit(attrgetter("objectives"), oracle).result(timeout=60)
        assert names == ("help", "brevity")

    @pytest.mark.parametrize(
        "name", ["own_x:", ":make", "own x:make", "own:a:b", "own.:a", "o:a()"]
    )
    def test_malformed(self, here: Site, tmp_path: Path, name: str) -> None:
        assert refused(name, tmp_path) == (
            f"oracle {name!r}: must be a name or 'package.module:factory'"
        )

    def test_no_such_module(self, here: Site, tmp_path: Path) -> None:
        with pytest.raises(
            UnknownOracleError, match=r"there is no module 'own_gone' in .* or among"
        ):
            load_oracle("own_gone:make", tmp_path)
        here.write("own_kit/__init__", "")
        with pytest.raises(UnknownOracleError, match=r"there is no module 'own_kit\.gone' in"):
            load_oracle("own_kit.gone:make", here.folder)
        with pytest.raises(UnknownOracleError, match="there is no module 'own_gone' in"):
            load_oracle("own_gone.deep:make", here.folder)

    def test_no_such_factory(self, here: Site) -> None:
        here.write("own_beside", ORACLE)
        with pytest.raises(
            UnknownOracleError, match=r"no attribute 'tabel'; did you mean 'table'\?"
        ):
            load_oracle("own_beside:tabel", here.folder)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("import own_absent", r"No module named 'own_absent'"),
            ("def make(:", r"SyntaxError: .*own_bad\.py, line 1"),
            ("1 / 0", "ZeroDivisionError: division by zero"),
        ],
    )
    def test_a_module_that_does_not_import(self, here: Site, source: str, message: str) -> None:
        here.write("own_bad", source)
        with pytest.raises(
            OracleImportError, match=f"'own_bad:make' does not import: {message}"
        ) as caught:
            load_oracle("own_bad:make", here.folder)
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize("taken", ["json", "sys", "own_first"])
    def test_a_name_that_is_taken(self, here: Site, tmp_path: Path, taken: str) -> None:
        here.write("own_first", ORACLE)
        load_oracle("own_first:Table", here.folder)
        second = Site(tmp_path / "second")
        second.write(taken, ORACLE)
        with pytest.raises(
            OracleImportError, match=f"another module '{taken}' is imported already"
        ):
            load_oracle(f"{taken}:Table", second.folder)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        assert refused("own:make", tmp_path / "gone").startswith("folder = ")


class TestTaskFiles:
    """What a task knows of itself reaches the factory that asks for it."""

    FACTORY = (
        ORACLE
        + """
    from pathlib import Path

    def asks(table: Path, other: str = "", more: "str | Path | None" = None, run_seed: int = -1):
        return Table(table, other=other, more=more, run_seed=run_seed)

    def takes_anything(**options):
        return Table("", **options)
    """
    )

    def load(self, site: Site, factory: str, **options: Any) -> Any:
        site.write("own_task", self.FACTORY)
        content = {
            "oracle": {"name": f"own_task:{factory}", **options},
            "grid": {"mu": 0.5, "alpha": 0.1},
            "run": {"seed": 7},
        }
        return load_task_oracle(parse_task(content, folder=site.folder))

    def test_paths_are_relative_to_the_task_file(self, here: Site) -> None:
        oracle = self.load(here, "asks", table="t.csv", other="o.csv", more="sub/m.csv")
        assert oracle.path == here.folder / "t.csv"
        assert oracle.rest["other"] == "o.csv"
        assert oracle.rest["more"] == str(here.folder / "sub/m.csv")

    def test_absolute_paths_and_addresses_are_left(self, here: Site, tmp_path: Path) -> None:
        oracle = self.load(here, "asks", table=str(tmp_path / "t.csv"), more="s3://bucket/m.csv")
        assert oracle.path == tmp_path / "t.csv"
        assert oracle.rest["more"] == "s3://bucket/m.csv"

    def test_the_seed_of_the_run_is_handed_over(self, here: Site) -> None:
        assert self.load(here, "asks", table="t").rest["run_seed"] == 7
        assert self.load(here, "asks", table="t", run_seed=3).rest["run_seed"] == 3

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("beta = -1", "mine.toml [oracle] beta = -1: must be a finite number above 0"),
            ("bata = 1", "mine.toml [oracle] bata: unknown option of 'tabular'; did you mean"),
            ('objectives = ["a"]', "mine.toml [oracle] objectives: at least 2 are needed, got 1"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_file(
        self, tmp_path: Path, line: str, said: str
    ) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(f'[oracle]\nname = "tabular"\n{line}\n[grid]\nmu = 1.0\nalpha = 0.2\n')
        with pytest.raises(InputError) as caught:
            load_task_oracle(load_task(file))
        assert str(caught.value).startswith(said)
        file.write_text('[oracle]\nname = "tabula"\n[grid]\nmu = 1.0\nalpha = 0.2\n')
        with pytest.raises(UnknownOracleError):  # of its own kind still
            load_task_oracle(load_task(file))

    def test_only_to_a_factory_that_names_it(self, here: Site) -> None:
        assert self.load(here, "takes_anything").rest == {}

    def test_not_without_a_task(self, here: Site) -> None:
        here.write("own_task", self.FACTORY)
        oracle: Any = load_oracle("own_task:asks", here.folder, table="t")
        assert oracle.rest["run_seed"] == -1
