"""Ledgers on file systems that are shared, that lack locks or memory maps, or are locked."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from palm_core import Policy, WorkError, sample_weights
from palm_core.plugin import Ledger
from palm_core.run.ledger import FILE_NAME
from palm_core.run.ledger import lock as _journal
from palm_core.run.ledger import schema as _schema

TASK = {"oracle": {"name": "x"}, "grid": {"mu": 0.5, "alpha": 0.1}, "run": {"seed": 0}}
NAMES = ("helpful", "brief")
ASKED = sample_weights(4, 2, seed=1)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/mountinfo")


def begin(folder: Path) -> Ledger:
    ledger = Ledger.begin(folder, TASK, NAMES)
    ledger.request(ASKED)
    return ledger


def answer(ledger: Ledger, row: np.ndarray) -> None:
    ledger.started(row[np.newaxis])
    made = Policy(id=f"w{row[0]!r}", weights=row, rewards=row, regularizer=0.5)
    ledger.record(row, made, 1.0)


def answered(folder: Path) -> list[float]:
    with Ledger.read(folder) as ledger:
        return [float(found.weights[0]) for found in ledger.answers()]


def first(rows: np.ndarray) -> list[float]:
    return [float(row[0]) for row in rows]


def is_wal(folder: Path) -> bool:
    return _journal.is_wal(folder / FILE_NAME)


def at_work_with_a_log(folder: Path) -> None:
    """A run with two answers that was killed, its last answers in the write-ahead log."""
    place = folder.with_name("source")
    with begin(place) as ledger:
        for row in ASKED[:2]:
            answer(ledger, row)
        assert is_wal(place)
        folder.mkdir()
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            shutil.copy(place / name, folder / name)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a mount of NFS."""
    monkeypatch.setattr(_journal, "file_system", lambda _: "nfs4")
    monkeypatch.setattr(_schema, "file_system", lambda _: "nfs4")


class TestFileSystem:
    MOUNTS = (
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "22 21 0:40 / /shared rw - nfs4 server:/export rw,vers=4.2\n"
        "23 22 0:41 / /shared/scratch rw master:2 - lustre mgs@tcp:/fs rw\n"
        "24 21 0:42 / /with\\040space rw - fuse.sshfs me@there:/ rw\n"
        "25 21 0:43 / /twice rw - ext4 /dev/sdb1 rw\n"
        "26 25 0:44 / /twice rw - cifs //there/share rw\n"
        "nonsense\n"
    )

    @pytest.mark.parametrize(
        ("folder", "kind"),
        [
            ("/", "ext4"),
            ("/local/run", "ext4"),
            ("/shared", "nfs4"),
            ("/shared/runs/a", "nfs4"),
            ("/shared2/runs", "ext4"),
            ("/shared/scratch/run", "lustre"),
            ("/with space/run", "fuse.sshfs"),
            ("/twice/run", "cifs"),
        ],
    )
    def test_the_deepest_and_last_mount_counts(self, folder: str, kind: str) -> None:
        assert _journal.file_system(Path(folder), self.MOUNTS) == kind

    def test_nothing_is_known_without_mounts(self) -> None:
        assert _journal.file_system(Path("/run"), "") == ""

    @LINUX
    @pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs", "9p", ""])
    def test_what_may_be_shared_gets_no_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        monkeypatch.setattr(_journal, "file_system", lambda _: kind)
        with begin(tmp_path / "run"):
            assert not is_wal(tmp_path / "run")

    @LINUX
    def test_what_is_local_gets_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_journal, "file_system", lambda _: "ext4")
        with begin(tmp_path / "run"):
            assert is_wal(tmp_path / "run")
        assert not list((tmp_path / "run").glob("*-shm"))


@LINUX
class TestShared:
    @pytest.mark.usefixtures("shared")
    def test_answers_are_read_while_they_are_written(self, tmp_path: Path) -> None:
        with begin(tmp_path / "run") as ledger:
            for count, row in enumerate(ASKED, start=1):
                answer(ledger, row)
                assert answered(tmp_path / "run") == first(ASKED[:count])
        with begin(tmp_path / "run") as ledger:
            assert len(ledger.answers()) == 4
        assert not is_wal(tmp_path / "run")

    def test_a_ledger_with_a_log_goes_on_without_one(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        run = tmp_path / "run"
        at_work_with_a_log(run)
        request.getfixturevalue("shared")
        with begin(run) as ledger:
            assert [found.weights[0] for found in ledger.answers()] == first(ASKED[:2])
            answer(ledger, ASKED[2])
            # others read at once: the file was let go of
            assert answered(run) == first(ASKED[:3])
        assert not is_wal(run)
        assert not (run / f"{FILE_NAME}-wal").exists()

    def test_a_ledger_without_a_log_gets_one_at_home(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = tmp_path / "run"
        with monkeypatch.context() as patch:
            patch.setattr(_journal, "file_system", lambda _: "nfs4")
            with begin(run) as ledger:
                answer(ledger, ASKED[0])
        with begin(run) as ledger:
            answer(ledger, ASKED[1])
            assert is_wal(run)
        assert answered(run) == first(ASKED[:2])

    def test_a_log_that_another_machine_may_write_is_not_read(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        run = tmp_path / "run"
        with begin(run) as ledger:
            answer(ledger, ASKED[0])
            request.getfixturevalue("shared")
            with pytest.raises(WorkError, match=r"nfs4.* on the machine where it runs"):
                Ledger.read(run)
        # closed, all is in the file
        assert answered(run) == first(ASKED[:1])

    def test_what_cannot_be_written_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        request.getfixturevalue("shared")
        run = tmp_path / "run"
        with begin(run) as ledger:
            answer(ledger, ASKED[0])
            monkeypatch.setattr(os, "access", lambda *_: False)
            assert answered(run) == first(ASKED[:1])

    def test_half_a_transaction_is_rolled_back_or_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        request.getfixturevalue("shared")
        with begin(tmp_path / "run") as ledger:
            answer(ledger, ASKED[0])
        with closing(sqlite3.connect(tmp_path / "run" / FILE_NAME)) as connection:
            connection.execute("PRAGMA cache_size = 1")  # what is written goes to the file at once
            connection.execute("UPDATE answer SET seconds = -1")
            rows = [(f"{number}", "x" * 3000) for number in range(50)]
            connection.executemany("INSERT INTO run VALUES (?, ?)", rows)
            killed = shutil.copytree(tmp_path / "run", tmp_path / "killed")
            connection.rollback()
        assert (killed / f"{FILE_NAME}-journal").stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda *_: False)
            with pytest.raises(WorkError, match="copy the run to read it"):
                answered(killed)
        with Ledger.read(killed) as ledger:
            assert [found.seconds for found in ledger.answers()] == [1.0]


def test_shared_memory_that_cannot_be_made(tmp_path: Path) -> None:
    """Where only SQLite finds out, in the middle of its work."""
    (tmp_path / f"{FILE_NAME}-shm").mkdir()
    for count, row in enumerate(ASKED[:2], start=1):
        with begin(tmp_path) as ledger:
            answer(ledger, row)
            assert not is_wal(tmp_path)
            assert answered(tmp_path) == first(ASKED[:count])


def test_a_file_that_another_program_locks_is_told_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_schema, "PATIENCE", 0.1)
    with begin(tmp_path) as ledger:
        answer(ledger, ASKED[0])
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        for use in (begin, answered):
            with pytest.raises(WorkError, match=r"another program .*run the same command again"):
                use(tmp_path)
        other.execute("ROLLBACK")
    assert answered(tmp_path) == first(ASKED[:1])


# What file systems without locks, memory maps or shared memory do, by the ending of a file.
REFUSING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static int on(const char *what) { const char *e = getenv("REFUSED"); return e && !strcmp(e, what); }
static int ends(const char *path, const char *end) {
  size_t n = strlen(path), m = strlen(end);
  return n >= m && !strcmp(path + n - m, end);
}
static int is(int fd, const char *end) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return ends(path, end);
}
#define FCNTL(name) \
  int name(int fd, int cmd, ...) { \
    va_list a; va_start(a, cmd); void *arg = va_arg(a, void *); va_end(a); \
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name); \
    if ((cmd == F_SETLK || cmd == F_SETLKW) && \
        (on("all locks") || (on("locks") && is(fd, "-shm")))) \
      { errno = ENOLCK; return -1; } \
    return real(fd, cmd, arg); }
FCNTL(fcntl)
FCNTL(fcntl64)
#define MMAP(name, offset) \
  void *name(void *at, size_t n, int prot, int flags, int fd, offset from) { \
    void *(*real)(void *, size_t, int, int, int, offset) = dlsym(RTLD_NEXT, #name); \
    if (on("maps") && fd >= 0 && is(fd, "-shm")) { errno = ENODEV; return MAP_FAILED; } \
    return real(at, n, prot, flags, fd, from); }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)
#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    va_list a; va_start(a, flags); int mode = va_arg(a, int); va_end(a); \
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name); \
    if (on("files") && ends(path, "-shm")) { errno = EROFS; return -1; } \
    return real(path, flags, mode); }
OPEN(open)
OPEN(open64)
"""

USE = """
import sys, time
from pathlib import Path
sys.path.append(sys.argv[1])
from test_ledger_journal import ASKED, answer, answered, begin, is_wal
run, count = Path(sys.argv[2]), int(sys.argv[3])
since = time.perf_counter()
try:
    ledger = begin(run)
    if count:
        answer(ledger, ASKED[count - 1])
    assert not is_wal(run)
    assert len(answered(run)) == count
    if len(sys.argv) > 4:
        import os
        os.kill(os.getpid(), 9)
    ledger.close()
except Exception as error:
    print(type(error).__name__, error)
print(time.perf_counter() - since)
"""


@LINUX
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
class TestRefusing:
    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("refusing")
        (folder / "refusing.c").write_text(REFUSING)
        command = ["gcc", "-shared", "-fPIC", "-o", "refusing.so", "refusing.c", "-ldl"]
        subprocess.run(command, cwd=folder, check=True)
        return folder / "refusing.so"

    def use(
        self, library: Path, refused: str, run: Path, count: int, *more: str
    ) -> subprocess.CompletedProcess[str]:
        here = str(Path(__file__).parent)
        return subprocess.run(
            [sys.executable, "-c", USE, here, str(run), str(count), *more],
            env=os.environ | {"LD_PRELOAD": str(library), "REFUSED": refused},
            capture_output=True,
            text=True,
            timeout=120,
        )

    @pytest.mark.parametrize("refused", ["locks", "maps", "files"])
    def test_a_ledger_without_shared_memory(
        self, library: Path, tmp_path: Path, refused: str
    ) -> None:
        run = tmp_path / "run"
        with begin(run) as ledger:  # with a log, as ledgers were until now
            answer(ledger, ASKED[0])
        told = self.use(library, refused, run, 2)
        assert (told.returncode, told.stderr) == (0, "")
        assert float(told.stdout) < 5.0  # SQLite would try for ten seconds and more
        killed = self.use(library, refused, run, 3, "killed")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        told = self.use(library, refused, run, 4)
        assert float(told.stdout) < 5.0
        assert answered(run) == first(ASKED)

    def test_a_file_system_without_any_locks_is_named(self, library: Path, tmp_path: Path) -> None:
        told = self.use(library, "all locks", tmp_path / "run", 1)
        error, seconds = told.stdout.splitlines()
        assert error.startswith("WorkError")
        assert "local disk" in error
        assert float(seconds) < 5.0
