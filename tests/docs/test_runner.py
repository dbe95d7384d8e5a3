"""The runner of the pages finds what is wrong with a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from palm_core import InputError

from .page import Page, sentence

GOOD = """
```toml title="here/task.toml"
[oracle]
name = "tabular"
[grid]
mu = 0.5
alpha = 0.5
```

```console
palm plan here/task.toml | cat
python -c "import sys; sys.exit('no such file')"  # exit 1
python -m pip install "./packages/palm-core[cli]" ./packages/palm-eval
pipx run nox -s demo tests -- --quick
```

```text
no such file
…
```

```python
import palm_core

print(palm_core.grid_size(3, 0.5, 0.2), "weights")
```

```text
7 weights
```

```python
>>> palm_core.InputError.__name__
'InputError'
```

<!-- not run: needs a GPU -->
```sh
CUDA_VISIBLE_DEVICES=0 palm build here/task.toml --out runs/one \\
  --workers 2 > log.txt 2>&1 &
id=$(sbatch --parsable job.sh) && palm status runs/one
```

```toml
[project.entry-points."palm.oracles"]
mine = "mine:Oracle"
```

```jsonl
{"prompt": "a"}
{"prompt": "b"}
```

```text
a → b
```
"""

BAD = {
    "a command fails": ("```console\nfalse\n```\n", "exit code 1, not 0"),
    "a command does not fail": ("```console\ntrue  # exit 2\n```\n", "exit code 0, not 2"),
    "an earlier part of a pipe fails": ("```console\nfalse | cat\n```\n", "exit code 1"),
    "cd would not last": ("```console\ncd examples\n```\n", "cd does not last"),
    "unfinished": ("```console\necho 'a\n```\n", "ends within a command"),
    "drifted output": ("```console\necho 3 models\n```\n```text\n3 policies\n```\n", "not printed"),
    "drifted table": ("```console\necho 'a 1 %'\n```\n```text\n  a  1 s\n```\n", "not printed"),
    "drifted print": ('```python\nprint("a")\n```\n\n```text\nb\n```\n', "not printed"),
    "nothing shown": ("```console\ntrue\n```\n```text\n…\n```\n", "nothing to compare"),
    "python raises": ("```python\n1 / 0\n```\n", "division by zero"),
    "python warns": ('```python\nimport warnings\nwarnings.warn("old")\n```\n', "old"),
    "a doctest": ("```python\n>>> 1 + 1\n3\n```\n", "Expected"),
    "no reason": ("```sh\nnvidia-smi\n```\n", "say why"),
    "a reason elsewhere": ("<!-- not run: long -->\nText.\n\n```sh\nls\n```\n", "say why"),
    "an unknown option": (
        "<!-- not run: long -->\n```sh\npalm status runs/a --fast\n```\n",
        "--fast",
    ),
    "an option within a substitution": (
        "<!-- not run: long -->\n```sh\na=$(palm status --fast runs/a)\n```\n",
        "--fast",
    ),
    "an unknown command": ("<!-- not run: long -->\n```sh\npalm prun runs/a\n```\n", "prun"),
    "broken shell": ("<!-- not run: long -->\n```sh\nif true; then ls\n```\n", "syntax error"),
    "no such example": (
        "<!-- not run: long -->\n```sh\npython examples/no.py\n```\n",
        "there is no examples/no.py",
    ),
    "a task nobody wrote": (
        "<!-- not run: long -->\n```sh\npalm plan task.toml\n```\n",
        'title="task.toml"',
    ),
    "no such package": ("```console\npython -m pip install ./packages/palm-x\n```\n", "palm-x"),
    "no such extra": ('```console\npip install "palm-core[gpu]"\n```\n', "extras"),
    "no such session": ("```console\nnox -s everything\n```\n", "sessions"),
    "no TOML": ("```toml\n[grid\n```\n", "Expected"),
    "an unknown table": ("```toml\n[girds]\nmu = 0.1\n```\n", "unknown table"),
    "an unknown key": ("```toml\n[run]\nworker = 2\n```\n", "did you mean 'workers'"),
    "a wrong value": ('```toml\n[prune]\nmethod = "best"\n```\n', "must be one of"),
    "an unknown option of an oracle": (
        '```toml\n[oracle]\nname = "tabular"\nbetta = 0.1\n```\n',
        "betta",
    ),
    "an option of no oracle": ("```toml\n[oracle]\nbeta = 0.1\n```\n", "names one"),
    "an unknown key in a file": ('```toml title="a.toml"\n[run]\nworker = 2\n```\n', "workers"),
    "an unknown reward": (
        '```toml\n[oracle]\nname = "mod"\nrewards = { a = "brevitty", b = "math" }\n```\n',
        "brevitty",
    ),
    "an unknown option of a reward": (
        '```toml\n[oracle]\nname = "mod"\n[oracle.rewards]\na = { name = "brevity", most = 3 }\n'
        'b = "math"\n```\n',
        "most",
    ),
    "an unknown option of TRL": (
        '```toml\n[oracle]\nname = "grpo"\n[oracle.trainer]\nlearning = 3\n```\n',
        "learning",
    ),
    "a study": ("```toml\n[study]\nsize = [2]\n```\n", "size"),
    "broken JSON": ("```json\n{'a': 1}\n```\n", "Expecting property name"),
    "ragged CSV": ("```csv\na,b\n1\n```\n", "one length"),
    "a file elsewhere": ('```csv title="../a.csv"\na,b\n```\n', "not in the folder"),
    "python in a file": ('```python title="a.py"\ndef f(:\n```\n', "invalid syntax"),
    "a language nobody runs": ("```bash\nls\n```\n", "must be one of"),
}


def run(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    file = folder / "a-page.md"
    file.write_text(text, encoding="utf-8")
    return Page(folder / "page", monkeypatch).run(file)


def test_a_good_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(GOOD, tmp_path, monkeypatch) == GOOD.count("```") / 2


@pytest.mark.parametrize("name", BAD)
def test_a_bad_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, told = BAD[name]
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # whatever a block raises
        run("Some prose.\n\n" + text, tmp_path, monkeypatch)
    assert told in f"{caught.value} {getattr(caught.value, 'result', '')}"
    (place,) = caught.value.__notes__
    assert "a-page.md:" in place


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```console\npalm build task.toml --owt runs\n```\n", "--owt"),
        ("```console\npalm plan none.toml\n```\n", "none.toml"),
        ("```console\nnox -s everything\n```\n", "sessions"),
        ("```python\nimport palm_core as\n```\n", "invalid syntax"),
        ("```toml\n[grid]\nmew = 0.5\n```\n", "mew"),
    ],
)
def test_a_bad_page_that_is_not_tried(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a-page.md"
    fine = "```console\nfalse\n```\n```text\nno such output\n```\n```python\n1 / 0\n```\n"
    file.write_text(fine, encoding="utf-8")
    (tmp_path / "fine").mkdir()
    assert Page(tmp_path / "fine" / "page", monkeypatch, tried=False).run(file) == 3
    file.write_text(text, encoding="utf-8")
    with pytest.raises((AssertionError, SyntaxError, InputError), match=told):
        Page(tmp_path / "page", monkeypatch, tried=False).run(file)


def test_files_and_names_last_from_block_to_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        '```python title="shop.py"\nPRICE = 3\n```\n```python\nfrom shop import PRICE\n```\n'
        "```python\nprint(PRICE)\n```\n```text\n3\n```\n"
        "```python\nimport pickle\nclass Mine: ...\npickle.loads(pickle.dumps(Mine()))\n```\n"
        '```console\npython -c "import shop; print(shop.PRICE, 1)"\n```\n```text\n3 1\n```\n'
    )
    assert run(text, tmp_path, monkeypatch) == 7
    import sys

    assert "shop" not in sys.modules


def test_a_package_that_a_page_writes_is_installed_for_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        '```toml title="sea/pyproject.toml"\n[build-system]\nrequires = ["hatchling"]\n'
        'build-backend = "hatchling.build"\n[project]\nname = "sea"\nversion = "1"\n'
        '[project.entry-points."palm.oracles"]\nsea = "sea:Sea"\n```\n'
        '```python title="sea/sea/__init__.py"\nclass Sea: ...\n```\n'
        "```console\npython -m pip install ./sea\npalm oracles\n```\n"
        "```text\n  sea  sea 1  installed\n```\n"
    )
    assert run(text, tmp_path, monkeypatch) == 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("  ε 3.93 % at safe = 1.00;  δ 0.03458", "ε 4 % at brief = 0.2, safe = 0.8; δ 3e-2", True),
        ("model-30   17.3 %", "model-7 4 %", True),
        ("w0.1-0.9  0.5", "w1-0 −0.5", True),
        ("mod-666894f0b2818417  1", "mod-0cfabc0123456789  0.5", True),
        ("mod-666894f0b2818417  1", "soup-666894f0b2818417  1", False),
        ("5 of 169 policies", "5 of 169 models", False),
        ("within 4 %", "4 %", False),
    ],
)
def test_sentences_without_their_figures(one: str, other: str, same: bool) -> None:
    assert (sentence(one) == sentence(other)) is same
