# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.5.1"]
#
# [tool.nox]
# script-venv-backend = "venv"
# ///
"""What anyone runs on a checkout: ``nox -s demo`` and ``nox -s tests``.

Every session installs wheels built from this checkout, never the checkout
itself, and with them only what they declare: what a user would have.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import nox

nox.options.default_venv_backend = "venv"  # pip, so that pip's configuration holds
nox.options.sessions = ["tests"]

ROOT = Path(__file__).parent
NOX = "nox>=2025.5.1"
PYTEST = ("pytest>=9,<10", "hypothesis>=6.130")
BROWSER = ("playwright>=1.55", "axe-playwright-python>=0.1.4")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
# What these two find fault with changes from version to version.
RUFF, MYPY = "ruff==0.17.6", "mypy==2.4.1"
COVERAGE, MUTMUT = "coverage>=7.10", "mutmut==3.8.1"


class Package(NamedTuple):
    """A package of this repository, and what its tests take beyond itself."""

    extras: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()  # packages of this repository that it needs
    tools: tuple[str, ...] = ()


# A new package is one entry here; its tests are in tests/<name without "palm-">.
PACKAGES = {
    "palm-core": Package(extras=("cli", "highs", "parquet"), tools=("jsonschema>=4.23",)),
    "palm-eval": Package(extras=("hf",), siblings=("palm-core",)),
    "palm-mod": Package(extras=("lora",), siblings=("palm-core", "palm-eval")),
    "palm-trl": Package(siblings=("palm-core", "palm-eval")),
}
LARGE = ("hf",)  # extras that hold PyTorch
TESTS = {name.removeprefix("palm-"): name for name in PACKAGES}

_wheels: dict[str, Path] = {}


def wheel(session: nox.Session, name: str) -> Path:
    """Build the wheel of a package, once per run of nox."""
    if name not in _wheels:
        folder = session.cache_dir.absolute() / "wheels" / name
        shutil.rmtree(folder, ignore_errors=True)
        source = ROOT / "packages" / name
        pip = ("python", "-m", "pip", "wheel", "--quiet", "--no-deps")
        session.run(*pip, "--wheel-dir", str(folder), str(source))
        (_wheels[name],) = folder.glob("*.whl")
    return _wheels[name]


def install(
    session: nox.Session,
    *names: str,
    tools: tuple[str, ...] = (),
    extras: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> None:
    """Install packages with their extras and siblings as wheels, and tools beside them.

    ``extras``: in place of those that the tests of a package take; ``without``: not these.
    """
    session.env["PYTHONPATH"] = ""  # what is on it would hide what is installed
    siblings = {sibling for name in names for sibling in PACKAGES[name].siblings}
    ours = {name: wheel(session, name) for name in sorted({*names, *siblings})}
    wanted = []
    for name, path in ours.items():
        taken = (extras or PACKAGES[name].extras) if name in names else ()
        listed = ",".join(extra for extra in taken if extra not in without)
        wanted.append(f"{name}[{listed}] @ {path.as_uri()}" if listed else str(path))
    session.install("--constraint", "constraints.txt", *wanted, *tools)
    # An environment that is used again (nox -r) holds an older build of the same version.
    session.install("--quiet", "--force-reinstall", "--no-deps", *map(str, ours.values()))
    for name in ours:
        session.run("python", "-c", INSTALLED, name.replace("-", "_"), log=False)


INSTALLED = """
import importlib.util, sys, sysconfig
place = importlib.util.find_spec(sys.argv[1]).origin
if not place.startswith(sysconfig.get_path("purelib")):
    raise SystemExit(f"{sys.argv[1]} is not the installed one but {place}")
"""


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Everything that has to hold before a change lands."""
    keys = (*TESTS, "ray", "report", "repo")
    for name in ("lint", "types", *(f"tests-{key}" for key in keys)):
        session.notify(name)


def _add_tests(key: str, name: str) -> None:
    @nox.session(name=f"tests-{key}")
    def run(session: nox.Session) -> None:
        tools = (*PYTEST, *PACKAGES[name].tools)
        install(session, name, tools=tools)
        # The examples in the docstrings are tests too.
        module = name.replace("-", "_")
        where = session.posargs or [f"tests/{key}", "--doctest-modules", "--pyargs", module]
        session.run("python", "-m", "pytest", "-rs", *where)

    run.__doc__ = f"The tests of {name}, against its wheel."


for _key, _name in TESTS.items():
    _add_tests(_key, _name)


@nox.session(name="tests-ray")
def tests_ray(session: nox.Session) -> None:
    """Oracle calls on a real Ray cluster, on this machine."""
    install(session, "palm-core", extras=("cli", "ray"), tools=PYTEST)
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/ray"]))


@nox.session(name="tests-report")
def tests_report(session: nox.Session) -> None:
    """The report in a real browser: Chromium, the machine's own or else Playwright's."""
    install(session, "palm-core", "palm-eval", tools=(*PYTEST, *BROWSER), without=LARGE)
    browser = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if browser is None:
        session.run("python", "-m", "playwright", "install", "chromium")
    session.run(
        *("python", "-m", "pytest", *(session.posargs or ["tests/report"])),
        env={"PALM_CHROMIUM": browser or ""},
    )


@nox.session(name="tests-repo")
def tests_repo(session: nox.Session) -> None:
    """The tests of the repository itself: wheels, versions, entry points, imports."""
    install(session, *PACKAGES, tools=(*PYTEST, NOX), without=LARGE)
    folder = str(session.cache_dir.absolute() / "wheels")
    session.run(
        "python", "-m", "pytest", *(session.posargs or ["tests/repo"]), env={"PALM_WHEELS": folder}
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and its formatting."""
    session.install(RUFF)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, with the dependencies that the wheels declare."""
    install(session, *PACKAGES, tools=(MYPY,))
    session.run("mypy")


@nox.session
def coverage(session: nox.Session) -> None:
    """Which branches of palm-core its tests reach: 95 % at least, worker processes included."""
    tools = (*PYTEST, *PACKAGES["palm-core"].tools, COVERAGE)
    install(session, "palm-core", tools=tools)
    # Few examples: coverage asks whether a branch is reached, not how often. What is
    # compiled is out of its sight; some tests run the kernels in plain Python besides.
    where = session.posargs or ["tests/core", "--hypothesis-profile=mutation"]
    folder = session.cache_dir.absolute() / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ours = {"COVERAGE_FILE": str(folder / "data")}
    coverage = ("python", "-m", "coverage")
    session.run(*coverage, "run", "-m", "pytest", *where, env=ours)
    session.run(*coverage, "combine", "--quiet", env=ours)
    session.run(*coverage, "report", "--skip-covered", "--show-missing", env=ours)


@nox.session
def mutation(session: nox.Session) -> None:
    """Whether tests notice when the mathematics is changed; posargs: groups or modules."""
    tools = (*PYTEST, *PACKAGES["palm-core"].tools, MUTMUT)
    install(session, "palm-core", tools=tools)
    session.run("python", "tests/mutation/run.py", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """A portfolio out of a table of models, two out of oracles, evaluated, and a page on each."""
    install(session, "palm-core", "palm-eval", without=LARGE)
    shutil.rmtree("runs/demo", ignore_errors=True)  # or an older demo's run would be resumed
    models, pages = "runs/demo/models.csv", []
    session.run("python", "examples/quickstart/make_models.py", models)
    wishes = ("--maximize", "helpful", "safe", "--minimize", "cost", "--epsilon", "0.05")
    session.run("palm", "select", models, *wishes)
    for name in ("quickstart", "reranking"):
        task, run = f"examples/{name}/task.toml", f"runs/demo/{name}"
        session.run("palm", "build", task, "--out", run)
        session.run("palm", "evaluate", run, "--task", task)
        session.run("palm", "report", run, "--task", task, "--most", "5")
        pages.append((ROOT / run / "report.html").as_uri())
    session.log(f"The table is {models}. Pages to open in a browser: {' and '.join(pages)}")
