# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.5.1"]
#
# [tool.nox]
# script-venv-backend = "venv"
# ///
"""What anyone runs on a checkout: ``nox -s demo`` and ``nox -s tests``.

Every session installs wheels built from this checkout, never the checkout
itself, and with them only what they declare: what a user would have. What
others publish comes in the versions of pins.txt, which ``nox -s pins``
writes; `newest` and `lowest` try the others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

nox.options.default_venv_backend = "venv"  # pip, so that pip's configuration holds
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False  # `pythons` takes those that are there

ROOT = Path(__file__).parent
# What sessions install besides the packages. All of it goes into TOOLS, and so into pins.txt.
NOX = "nox>=2025.5.1"
PYTEST = ("pytest>=9,<10", "pytest-xdist>=3.8", "hypothesis>=6.130")
BROWSER = ("playwright>=1.55", "axe-playwright-python>=0.1.4")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
# mkdocs-material is looked after until May 2027; mkdocs 2 is another program.
SITE = (
    *("mkdocs>=1.6.1,<2", "mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1.0"),
    *("griffe-sphinx>=0.3", "latex2mathml>=3.78", "pyte>=0.8.2", "requests>=2.32"),
)
# The one that Python 3.11 brings takes three times as long to find out what to install.
PIP = "pip>=25.3"
# What these two find fault with changes from version to version.
RUFF, MYPY = "ruff==0.17.6", "mypy==2.4.1"
COVERAGE, MUTMUT = "coverage>=7.10", "mutmut==3.8.1"
HATCHLING = "hatchling>=1.27"  # builds our packages, and those that pages write
SYBIL, UV = "sybil>=10.1,<11", "uv>=0.8"
RELEASE = ("build>=1.3", "twine>=6.1", "check-wheel-contents>=0.6.3", "packaging>=25")
# Baselines of others: without one, its benchmark says that it is not installed.
# morl-baselines declares simulators and trackers that its linear support does not use.
BASELINES = ("cvxpy", "pycddlib==2.1.6", "gymnasium>=1", "pymoo>=0.6")
ATHERIS, MORL = "atheris>=3", "morl-baselines==1.3.0"
TOOLS = (
    *(PIP, NOX, *PYTEST, *BROWSER, *SITE, RUFF, MYPY, COVERAGE, MUTMUT, HATCHLING, SYBIL, UV),
    *(*RELEASE, *BASELINES, ATHERIS),
)


class Package(NamedTuple):
    """A package of this repository, and what its tests take beyond itself."""

    extras: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()  # packages of this repository that it needs
    tools: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()  # extras that another session installs


# A new package is one entry here; its tests are in tests/<name without "palm-">.
PACKAGES = {
    "palm-core": Package(
        extras=("cli", "highs", "parquet"), tools=("jsonschema>=4.23",), elsewhere=("ray",)
    ),
    "palm-eval": Package(extras=("hf",), siblings=("palm-core",)),
    "palm-mod": Package(extras=("lora",), siblings=("palm-core", "palm-eval")),
    "palm-trl": Package(siblings=("palm-core", "palm-eval")),
}
LARGE = ("hf",)  # extras that hold PyTorch
TESTS = {name.removeprefix("palm-"): name for name in PACKAGES}

# What only PyTorch for NVIDIA's processors asks for, and PyTorch itself (constraints.txt).
UNPINNED = re.compile(r"(nvidia|cuda)-|(triton|torch)\b")
_THEIRS = {name: os.environ.get(name) for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")}


def hold(environment: MutableMapping[str, Any], *files: Path | str) -> None:
    """Have every pip that is started with this environment hold to the versions in ``files``.

    So do those in the environments where packages are built, and those that tests start. pip
    separates several files by spaces; as URLs their names have none.
    """
    wanted = [(ROOT / file).as_uri() for file in files]
    for name, theirs in _THEIRS.items():
        environment[name] = " ".join([theirs, *wanted] if theirs else wanted)


# For all sessions, unless one says otherwise.
hold(os.environ, "constraints.txt", "pins.txt")
# Nothing is compiled when it is installed, and tests start hundreds of processes: each would
# compile all that it imports anew, which takes longer than most of what they do.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_wheels: dict[str, Path] = {}
# From `side_by_side`, for this nox and not for what it runs.
_BUILT = os.environ.pop("PALM_WHEELS_BUILT", "")
_PROCESSES = os.environ.pop("PALM_TEST_PROCESSES", "logical")


def wheel(session: nox.Session, name: str) -> Path:
    """Build the wheel of a package, once per run of nox; `tests` has built those of all."""
    if name not in _wheels:
        folder = session.cache_dir.absolute() / "wheels" / name
        if not _BUILT:
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
    session.install("--quiet", PIP)
    # Python compiles on import what is used; all of PyTorch takes pip minutes.
    session.install("--no-compile", *wanted, *tools)
    # An environment that is used again (nox -r) holds an older build of the same version.
    session.install("--quiet", "--force-reinstall", "--no-deps", *map(str, ours.values()))
    for name in ours:
        session.run("python", "-c", INSTALLED, name.replace("-", "_"), log=False)


def run_tests(
    session: nox.Session, *where: str, by: str = "loadfile", env: dict[str, str] | None = None
) -> None:
    """Run tests on every core, or this lane's share; those of the command line in one process.

    ``by``: how pytest-xdist spreads them. A file's fixtures are made once if it stays together.
    """
    spread = () if session.posargs else ("-n", _PROCESSES, "--maxprocesses=8", "--dist", by)
    wanted = ("python", "-m", "pytest", "-rs", *(session.posargs or [*spread, *where]))
    # A thread more for every process would only slow them all down.
    session.run(*wanted, env={"OMP_NUM_THREADS": "1", **(env or {})})


INSTALLED = """
import importlib.util, sys, sysconfig
place = importlib.util.find_spec(sys.argv[1]).origin
if not place.startswith(sysconfig.get_path("purelib")):
    raise SystemExit(f"{sys.argv[1]} is not the installed one but {place}")
"""


@nox.session
def tests(session: nox.Session) -> None:
    """Everything that has to hold before a change lands, two sessions at a time."""
    for name in PACKAGES:
        wheel(session, name)
    # Lint is a matter of seconds; of the others the longest first, so that the lanes end together.
    side_by_side(session, "lint", "together", *(f"tests-{key}" for key in (*TESTS, "ray")))


#: While one session installs, or does what takes one core, the other computes.
LANES = 2


def side_by_side(session: nox.Session, *names: str) -> None:
    """Run sessions, each in a nox of its own, in lanes that share the cores.

    The output of a session is shown when it has ended, and grows in a file until then.
    """
    logs = session.cache_dir.absolute() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    ours = {"PALM_WHEELS_BUILT": "1", "PALM_TEST_PROCESSES": str(max(1, cores // LANES))}
    theirs = {name: value for name, value in _THEIRS.items() if value}
    environment = {n: v for n, v in os.environ.items() if n not in _THEIRS} | theirs | ours
    nox_itself = (sys.executable, "-m", "nox", "--script-mode", "none", "-f", __file__)

    def run(name: str) -> float:
        began = time.monotonic()
        with (logs / f"{name}.log").open("wb") as log:
            subprocess.run(
                [*nox_itself, "-s", name],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
        return time.monotonic() - began

    session.log(f"{', '.join(names)}: {LANES} at a time; what they say is in {logs} until they end")
    failed = []
    with ThreadPoolExecutor(min(LANES, cores)) as lanes:
        running = {lanes.submit(run, name): name for name in names}
        try:
            for one in as_completed(running):
                name = running[one]
                print((logs / f"{name}.log").read_text("utf-8", "replace"), flush=True)
                if one.exception() is None:
                    session.log(f"{name} was successful in {one.result() / 60:.1f} minutes")
                else:
                    failed.append(name)
                    session.log(f"{name} failed: {one.exception()}")
        except BaseException:  # Ctrl-C, which those that run get, too
            lanes.shutdown(cancel_futures=True)
            raise
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def check_package(session: nox.Session, name: str) -> None:
    """Install a package with what its tests need, and run them."""
    install(session, name, tools=(*PYTEST, *PACKAGES[name].tools))
    # The examples in the docstrings are tests too.
    where = (f"tests/{name.removeprefix('palm-')}", "--doctest-modules", "--pyargs")
    by = "worksteal" if name == "palm-core" else "loadfile"
    run_tests(session, *where, name.replace("-", "_"), by=by)


def _add_tests(key: str, name: str) -> None:
    @nox.session(name=f"tests-{key}")
    def run(session: nox.Session) -> None:
        check_package(session, name)

    run.__doc__ = f"The tests of {name}, against its wheel."


for _key, _name in TESTS.items():
    _add_tests(_key, _name)


EACH = [nox.param(name, id=key) for key, name in TESTS.items()]


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
@nox.parametrize("name", EACH)
def pythons(session: nox.Session, name: str) -> None:
    """The tests of a package on another Python: nox -s "pythons-3.13(core)"."""
    check_package(session, name)


@nox.session(python="3.11")
@nox.parametrize("name", EACH)
def lowest(session: nox.Session, name: str) -> None:
    """The tests of a package with the lowest versions that it declares: nox -s "lowest(core)".

    Of PyTorch constraints.txt has the version. The rest is what uv finds to be the lowest that
    go together; pip, which installs them, cannot look for the lowest.
    """
    folder = Path(session.create_tmp())
    asked, found = folder / "asked.txt", folder / "lowest.txt"
    # uv decides in this order, and PyTorch would have it take the newest of what it needs.
    lines = sorted(third_parties(name, PACKAGES[name].extras), key=lambda x: x.startswith("torch"))
    asked.write_text("\n".join(lines), encoding="utf-8")
    found.unlink(missing_ok=True)  # uv would prefer what it found before
    session.install(UV)
    held = ("--constraint", "constraints.txt", "--resolution", "lowest-direct")
    session.run("uv", "pip", "compile", "--quiet", "--no-annotate", *held, "-o", found, asked)
    session.log(found.read_text(encoding="utf-8"))
    hold(session.env, "constraints.txt", found.absolute())
    check_package(session, name)


def third_parties(name: str, extras: Iterable[str] = ()) -> list[str]:
    """What a package and the packages of this repository below it ask for from others."""
    text = (ROOT / "packages" / name / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    asked = [*project["dependencies"]]
    asked += [line for extra in extras for line in project["optional-dependencies"][extra]]
    lines: list[str] = []
    below: list[str] = []
    for line in asked:
        ours = re.match(r"(palm-\w+)(?:\[(.*)\])?==", line)
        if ours:
            below += third_parties(ours[1], re.findall(r"\w+", ours[2] or ""))
        else:
            lines.append(line)
    return lines + below


@nox.session(name="tests-ray")
def tests_ray(session: nox.Session) -> None:
    """Oracle calls on a real Ray cluster, on this machine."""
    install(session, "palm-core", extras=("cli", "ray"), tools=PYTEST)
    # Mostly they wait. Threads are Ray's affair here, so not `run_tests`.
    spread = ("-n", "2", "--dist", "loadfile", "tests/ray")
    session.run("python", "-m", "pytest", *(session.posargs or spread))


def chromium(session: nox.Session) -> dict[str, str]:
    """The variable that names the machine's Chromium; where there is none, get Playwright's."""
    browser = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if browser is None:
        session.run("python", "-m", "playwright", "install", "chromium")
    return {"PALM_CHROMIUM": browser or ""}


@nox.session(name="tests-report")
def tests_report(session: nox.Session) -> None:
    """The report in a real browser: Chromium, the machine's own or else Playwright's."""
    install(session, "palm-core", "palm-eval", tools=(*PYTEST, *BROWSER), without=LARGE)
    run_tests(session, "tests/report", env=chromium(session))


@nox.session
def golden(session: nox.Session) -> None:
    """Compare the commands' JSON with recorded output; -- tests/golden --record rewrites it."""
    install(session, "palm-core", "palm-eval", tools=PYTEST, without=LARGE)
    run_tests(session, "tests/golden", by="worksteal")


DOCS = (*PYTEST, *BROWSER, *SITE, NOX, RUFF, SYBIL, HATCHLING)


@nox.session
def docs(session: nox.Session) -> None:
    """Every block of every page, tried; the site with its pictures, built and checked: site/.

    ``nox -s docs -- --external`` asks for the links to other hosts, too.
    """
    external = "--external" in session.posargs
    session.posargs[:] = [word for word in session.posargs if word != "--external"]
    install(session, *PACKAGES, tools=DOCS)
    run_tests(session, "tests/docs", by="worksteal")
    if not session.posargs:  # else those tests alone
        build_site(session, external=external)


def build_site(session: nox.Session, *, external: bool = False) -> None:
    """Build the site and look at it."""
    browser = chromium(session)
    session.run("python", "docs/building/assemble.py")
    session.run("python", "docs/building/pictures.py", env=browser)
    session.run("python", "-m", "mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    run_tests(session, "tests/site", env=browser | {"PALM_EXTERNAL_LINKS": str(int(external))})


@nox.session
def together(session: nox.Session) -> None:
    """What types, golden, tests-report, tests-repo and docs do, in one environment.

    To install PyTorch takes longer than most of these.
    """
    install(session, *PACKAGES, tools=(*DOCS, MYPY))
    session.run("mypy")
    wheels = {"PALM_WHEELS": str(session.cache_dir.absolute() / "wheels")}
    run_tests(session, "tests/docs", "tests/golden", by="worksteal", env=wheels)
    if not session.posargs:  # else those tests alone
        run_tests(session, "tests/repo", "tests/report", env=wheels | chromium(session))
        build_site(session)


@nox.session(name="tests-repo")
def tests_repo(session: nox.Session) -> None:
    """The tests of the repository itself: wheels, versions, entry points, imports."""
    install(session, *PACKAGES, tools=(*PYTEST, NOX), without=LARGE)
    folder = str(session.cache_dir.absolute() / "wheels")
    run_tests(session, "tests/repo", env={"PALM_WHEELS": folder})


# What a release of somebody else's may break; Ruff's and mypy's versions stand above.
PARTS: dict[str, Callable[[nox.Session], None]] = {
    **{key: partial(check_package, name=name) for key, name in TESTS.items()},
    "ray": tests_ray,
    "report": tests_report,
    "repo": tests_repo,
    "docs": docs,
}


@nox.session
@nox.parametrize("part", [nox.param(key, id=key) for key in PARTS])
def scheduled(session: nox.Session, part: str) -> None:
    """The tests with those that take long, and more examples: nox -s "scheduled(core)".

    For schedules: each of these has beside it something quick that looks at the same.
    """
    session.env["PYTEST_ADDOPTS"] = "-m '' --hypothesis-profile=scheduled"
    PARTS[part](session)


@nox.session
@nox.parametrize("part", [nox.param(key, id=key) for key in PARTS])
def newest(session: nox.Session, part: str) -> None:
    """The tests with the newest versions that others have published: nox -s "newest(core)"."""
    hold(session.env, "constraints.txt")
    PARTS[part](session)


@nox.session
def pins(session: nox.Session) -> None:
    """Write pins.txt: what its versions lack; all anew with nox -s pins -- --upgrade.

    The versions go together on every Python from 3.11 on and on every system, as uv finds them.
    """
    folder = Path(session.create_tmp())
    asked, found, kept = folder / "asked.txt", folder / "found.txt", ROOT / "pins.txt"
    lines = {*TOOLS}
    for name, package in PACKAGES.items():
        lines |= {*third_parties(name, (*package.extras, *package.elsewhere)), *package.tools}
    asked.write_text("\n".join(sorted(lines)), encoding="utf-8")
    old = kept.read_text(encoding="utf-8") if kept.exists() else ""
    found.write_text(old, encoding="utf-8")  # uv prefers what it finds here
    hold(session.env, "constraints.txt")
    session.install(UV)
    how = ("--universal", "--python-version", "3.11", "--fork-strategy", "fewest")
    held = ("--constraint", "constraints.txt", "--only-binary", "atheris")
    quiet = ("--quiet", "--no-annotate", "--no-header")
    uv = ("uv", "pip", "compile", *how, *held, *quiet, *session.posargs)
    session.run(*uv, "-o", found, asked)
    new = found.read_text(encoding="utf-8").splitlines()
    pinned = [line for line in new if not UNPINNED.match(line)]
    kept.write_text("\n".join([PINS, *pinned, ""]), encoding="utf-8")


PINS = """\
# Tested versions: what the sessions of the noxfile install, beside constraints.txt.
# Made by `nox -s pins`; newer ones by `nox -s pins -- --upgrade`."""


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and its formatting."""
    session.install(RUFF)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, with the dependencies that the wheels declare."""
    install(session, *PACKAGES, tools=(MYPY, NOX))
    session.run("mypy")


@nox.session
def coverage(session: nox.Session) -> None:
    """Which branches of palm-core its tests reach: 95 % at least, worker processes included."""
    tools = (*PYTEST, *PACKAGES["palm-core"].tools, COVERAGE)
    install(session, "palm-core", tools=tools)
    # Few examples: coverage asks whether a branch is reached, not how often. What is
    # compiled is out of its sight; some tests run the kernels in plain Python besides.
    spread = ("-n", "logical", "--maxprocesses=8", "--dist", "worksteal")
    where = session.posargs or [*spread, "tests/core", "--hypothesis-profile=mutation"]
    folder = session.cache_dir.absolute() / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ours = {"COVERAGE_FILE": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    coverage = ("python", "-m", "coverage")
    session.run(*coverage, "run", "-m", "pytest", *where, env=ours)
    session.run(*coverage, "combine", "--quiet", env=ours)
    session.run(*coverage, "json", "--quiet", "-o", str(folder / "found.json"), env=ours)
    session.run(*coverage, "report", "--skip-covered", "--show-missing", env=ours)
    session.run("python", "-c", BRANCHES, str(folder / "found.json"))


# What `coverage report` compares with its threshold has statements and branches together.
BRANCHES = """
import json, sys
found = json.load(open(sys.argv[1], "rb"))["totals"]
share = found["covered_branches"] / found["num_branches"]
print(f"{share:.1%} of {found['num_branches']} branches, must be 95 % at least")
sys.exit(share < 0.95)
"""


@nox.session
def truth(session: nox.Session) -> None:
    """Claims of many instances against exact arithmetic; posargs: of tests/core/truth_run.py."""
    install(session, "palm-core")
    session.run("python", "tests/core/truth_run.py", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Whether tests notice when the mathematics is changed; posargs: groups or modules."""
    tools = (*PYTEST, *PACKAGES["palm-core"].tools, MUTMUT)
    install(session, "palm-core", tools=tools)
    session.run("python", "tests/mutation/run.py", *session.posargs)


@nox.session(name="raise-version", venv_backend="none")
def raise_version(session: nox.Session) -> None:
    """Write a new version wherever one stands: nox -s raise-version -- 0.2.0."""
    session.run(sys.executable, "release/raise_version.py", *session.posargs, external=True)


@nox.session(name="release-check")
def release_check(session: nox.Session) -> None:
    """Build what would be released into dist/, look at it, and try it in a clean environment."""
    session.env["PYTHONPATH"] = ""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="palm-release-") as made:
        folder = Path(made)
        session.install(*RELEASE)
        build = ("python", "-m", "build", "--quiet", "--outdir")
        (folder / "tree").mkdir()
        for name in PACKAGES:  # the source package, and the wheel out of it; then without it
            session.run(*build, dist, ROOT / "packages" / name)
            shutil.copy(wheel(session, name), folder / "tree")
        archives = sorted(map(str, dist.iterdir()))
        session.run("twine", "check", "--strict", *archives)
        session.run("check-wheel-contents", *(name for name in archives if name.endswith(".whl")))
        session.run("python", "release/archives.py", dist, folder / "tree")
        _try_installed(session, folder, dist)


def _try_installed(session: nox.Session, folder: Path, dist: Path) -> None:
    """Install the wheels with all that they ask for, and run release/installed.py there."""
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    session.run("python", "-m", "venv", folder / "venv")
    wanted = []
    for name, package in PACKAGES.items():
        (wheel,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
        extras = f"[{','.join(package.extras)}]" if package.extras else ""
        wanted.append(f"{name}{extras} @ {wheel.as_uri()}")
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    session.run(*pip, "install", *wanted, external=True)
    session.run(*pip, "check", external=True)
    shutil.copytree(ROOT / "examples", folder / "examples")
    helpers = folder / "helpers"
    helpers.mkdir()
    for name in ("language/tiny_models.py", "trl/tiny_tasks.py", "../release/installed.py"):
        shutil.copy(ROOT / "tests" / name, helpers)
    (folder / "work").mkdir()
    with session.chdir(folder / "work"):
        places = (dist, ROOT, folder / "examples", helpers)
        # What third parties warn one another of is for the tests; here it would hide the table.
        quiet = ("-I", "-W", "ignore::FutureWarning")
        session.run(python, *quiet, helpers / "installed.py", *places, external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """A portfolio out of a table of models, two out of oracles, evaluated, and a page on each."""
    install(session, "palm-core", "palm-eval", without=LARGE)
    shutil.rmtree("runs/demo", ignore_errors=True)  # or an older demo's run would be resumed
    models, chosen = "runs/demo/models.csv", "runs/demo/models.json"
    session.run("python", "examples/quickstart/make_models.py", models)
    wishes = ("--maximize", "helpful", "safe", "--minimize", "cost", "--epsilon", "0.05")
    session.run("palm", "select", models, *wishes, "--save", chosen)
    session.run("palm", "report", chosen, "--models", models)
    pages = [(ROOT / chosen).with_suffix(".html").as_uri()]
    for name in ("quickstart", "reranking"):
        task, run = f"examples/{name}/task.toml", f"runs/demo/{name}"
        session.run("palm", "build", task, "--out", run)
        session.run("palm", "evaluate", run, "--task", task)
        session.run("palm", "report", run, "--task", task, "--most", "5")
        pages.append((ROOT / run / "report.html").as_uri())
    session.log(f"The table is {models}. Pages to open in a browser: {' '.join(pages)}")


@nox.session(reuse_venv=True)
def benchmarks(session: nox.Session) -> None:
    """All benchmarks, or those named; --full for their whole length. Makes docs/benchmarks.md."""
    install(session, *PACKAGES)
    for tools in ((ATHERIS,), BASELINES, ("--no-deps", MORL)):
        session.install("--only-binary=atheris", *tools, success_codes=[0, 1])
    session.run("python", "benchmarks", *session.posargs)
