"""``palm export``: what is written, that it can be loaded, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from export_runs import OBJECTIVES, make_base, make_run
from huggingface_hub import ModelCard
from palm_command import run as palm
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from palm_core import Portfolio, serving_intervals
from palm_trl.export.folder import write_export

# peft asks transformers for what it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")


TABULAR = '[oracle]\nname = "tabular"\nobjectives = ["a", "b"]\n'
GRID = "[grid]\nmu = 1.0\nalpha = 0.3\n"


def build(task: Path, run: Path) -> None:
    assert palm(["build", str(task), "--out", str(run), "--executor", "here"]) == 0


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def made(base, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("adapters") / "run", base)


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run", base, kind="full")


@pytest.fixture(scope="module")
def served(made, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("served") / "out"
    assert palm(["export", str(made), "--to", "vllm", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def published(made, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("published") / "out"
    assert palm(["export", str(made), "--to", "hf", "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def ask(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = palm(["export", *map(str, arguments)])
    return (code, *capsys.readouterr())


def refused(capsys, *arguments) -> str:
    """The one line that says why; nothing else is printed."""
    code, out, said = ask(capsys, *arguments)
    assert (code, out, said.count("\n")) == (2, "", 1), said
    return said


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def started(
    folder: Path, tmp_path: Path, *arguments: str, servers: int = 1, **environment: str
) -> list[list[str]]:
    """Folder and arguments that serve.sh starts each of its servers with."""
    log = tmp_path / "started"
    fake = tmp_path / "fake.py"
    fake.write_text(
        "import json, os, sys, time\n"
        f"with open({str(log)!r}, 'a') as log:\n"
        "    log.write(json.dumps([os.getcwd(), *sys.argv[1:]]) + '\\n')\n"
        # the others end with the first that does
        f"while len(open({str(log)!r}).readlines()) < {servers}:\n"
        "    time.sleep(0.01)\n"
    )
    log.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", str(folder / "serve.sh"), *arguments],
        env={"PATH": "/usr/bin:/bin", "VLLM": f"{sys.executable} {fake}", **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in log.read_text().splitlines()]


class TestForVllm:
    def test_only_the_adapter_and_its_tokenizer(self, made, served):
        policies = Portfolio.load(made).policies
        folders = sorted(path.name for path in (served / "adapters").iterdir())
        assert folders == sorted(policy.id for policy in policies)
        assert len(folders) >= 3
        for policy in policies:
            artifact = made / "artifacts" / policy.artifact
            found = files_of(served / "adapters" / policy.id)
            assert set(found) == {
                "adapter_config.json",
                "adapter_model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "chat_template.jinja",
            }
            assert found == {name: (artifact / name).read_bytes() for name in found}
            assert (artifact / "responses.jsonl").exists()
        assert {path.name for path in served.iterdir()} == {
            *("adapters", "serve.sh", "routing.json", "route.py", "README.md", "export.json")
        }

    def test_the_command_serves_what_was_measured(self, made, base, served, tmp_path):
        ((place, *said),) = started(served, tmp_path, "--max-model-len", "64", PORT="9000")
        names = [policy.id for policy in Portfolio.load(made).policies]
        assert place == str(served)
        assert said[0] == str(base.resolve())
        assert said[-2:] == ["--max-model-len", "64"]
        options = dict(pairwise(said))
        assert "--tokenizer" not in said  # the base's own is the same
        assert options["--max-loras"] == str(len(names))
        assert options["--max-lora-rank"] == "8"
        assert options["--port"] == "9000"
        assert options["--generation-config"] == "vllm"
        assert json.loads(options["--override-generation-config"]) == {"temperature": 0.7}
        assert options["--dtype"] == "float32"
        assert "--enable-lora" in said
        first = said.index("--lora-modules") + 1
        assert said[first : first + len(names)] == [f"{name}=adapters/{name}" for name in names]
        ((_, other, *_),) = started(served, tmp_path, BASE="there's another")
        assert other == "there's another"

    def test_the_tokenizer_that_was_used(self, base, tmp_path, capsys):
        """The base has none, or another one; or the task says that it was not the base's."""
        bare = Path(shutil.copytree(base, tmp_path / "bare"))
        (bare / "tokenizer.json").unlink()
        changed = Path(shutil.copytree(base, tmp_path / "changed"))
        (changed / "tokenizer.json").write_text("{}")
        run = make_run(tmp_path / "run", base, options={"name": "grpo", "tokenizer": "another"})
        one = make_run(tmp_path / "one", base)
        first = f"adapters/{Portfolio.load(run).policies[0].id}"
        for given in ([run], [one, "--base", bare], [one, "--base", changed]):
            assert ask(capsys, *given, "--to", "vllm", "--out", tmp_path / "out")[0] == 0
            ((_, _, *said),) = started(tmp_path / "out", tmp_path)
            assert said[said.index("--tokenizer") + 1] == first

    def test_whole_models_have_a_server_each(self, whole, tmp_path, capsys):
        code, out, _ = ask(capsys, whole, "--to", "vllm", "--out", tmp_path / "out", "--json")
        assert code == 0
        told = json.loads(out)
        size = len(told["models"])
        calls = started(tmp_path / "out", tmp_path, "--seed", "1", servers=size, PORT="9000")
        assert len(calls) == size >= 3
        found = {}
        for _, model, *said in calls:
            options = dict(pairwise(said))
            found[options["--served-model-name"]] = (model, int(options["--port"]))
            assert said[-2:] == ["--seed", "1"]
            assert "--enable-lora" not in said
            assert float(options["--gpu-memory-utilization"]) * len(calls) <= 0.9
        assert found == {
            model["name"]: (f"models/{model['name']}", model["port"] + 1000)
            for model in told["models"]
        }
        assert sorted(model["port"] for model in told["models"]) == list(
            range(8000, 8000 + len(calls))
        )
        for model in told["models"]:
            loaded = AutoModelForCausalLM.from_pretrained(model["path"])
            assert loaded.config.hidden_size == 32

    def test_where_one_server_ends_all_end(self, whole, tmp_path, capsys):
        assert ask(capsys, whole, "--to", "vllm", "--out", tmp_path / "out")[0] == 0
        fake = tmp_path / "fake.sh"
        fake.write_text('case "$*" in *"--port 8000"*) exit 7;; esac\nexec sleep 60\n')
        done = subprocess.run(
            ["bash", str(tmp_path / "out" / "serve.sh")],
            env={"PATH": "/usr/bin:/bin", "VLLM": f"bash {fake}"},
            capture_output=True,
            timeout=20,
        )
        # the pipe is closed, so no sleep is left that could hold it open
        assert done.returncode == 7

    def test_the_readme_says_how_to_ask(self, made, served):
        said = (served / "README.md").read_text()
        name = Portfolio.load(made).policies[0].id
        assert f"`{name}`" in said
        assert "serve every preference within" in said
        assert "chat.completions.create" in said
        assert '"role": "system"' in said
        (python,) = re.findall(r"^```python\n(.*?)^```", said, re.MULTILINE | re.DOTALL)
        compile(python, "README.md", "exec")
        shell = re.findall(r"^```sh\n(.*?)^```", said, re.MULTILINE | re.DOTALL)[1]
        asked = subprocess.run(
            ["bash", "-c", f"curl() {{ for last; do :; done; echo \"$last\"; }}\n"
             f"python() {{ {sys.executable} \"$@\"; }}\n{shell}"],
            cwd=served, capture_output=True, text=True,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        body = json.loads(asked.stdout)
        assert body["model"] == name
        assert body["max_tokens"] == 24
        assert body["messages"][0] == {"role": "system", "content": "It's brief."}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"use_dora": True}, "use_dora = true"),
            ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
            ({"rank_pattern": {"q_proj": 3}}, "rank_pattern"),
            ({"bias": "all"}, "bias = 'all'"),
            ({"r": 513}, "rank 513, vLLM serves at most 512"),
        ],
    )
    def test_adapters_that_vllm_would_serve_wrongly(self, base, tmp_path, capsys, change, said):
        run = make_run(tmp_path / "run", base, change=change)
        line = refused(capsys, run, "--to", "vllm")
        assert said in line
        assert "requires --to hf" in line
        assert not (run / "export").exists()


class TestForTheHub:
    def test_adapters_load_and_answer_as_they_did(self, made, base, published):
        tokens = torch.tensor([[0, 5, 6, 7]])
        logits = {}
        for policy in Portfolio.load(made).policies:
            place = published / policy.id
            loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), place)
            original = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(base),
                made / "artifacts" / policy.artifact,
            )
            with torch.no_grad():
                logits[policy.id] = loaded(tokens).logits
                assert torch.equal(logits[policy.id], original(tokens).logits)
            direct = AutoModelForCausalLM.from_pretrained(place)
            with torch.no_grad():
                assert torch.equal(direct(tokens).logits, logits[policy.id])
            assert AutoTokenizer.from_pretrained(place)("a")["input_ids"][0] == 0
        one, other, *_ = logits.values()
        assert not torch.equal(one, other)

    def test_whole_models_load(self, whole, tmp_path, capsys):
        assert ask(capsys, whole, "--to", "hf", "--out", tmp_path / "out")[0] == 0
        for policy in Portfolio.load(whole).policies:
            place = tmp_path / "out" / policy.id
            artifact = whole / "artifacts" / policy.artifact
            model = AutoModelForCausalLM.from_pretrained(place)
            kept = load_file(artifact / "model.safetensors")
            assert torch.equal(model.state_dict()["lm_head.weight"], kept["lm_head.weight"])
            card = ModelCard.load(place / "README.md")
            assert card.data.library_name == "transformers"
            assert card.data.base_model == "org/made-up"

    def test_the_card(self, made, published):
        portfolio = Portfolio.load(made)
        intervals = serving_intervals(portfolio.policy_set)
        for policy, (least, most) in zip(portfolio.policies, intervals, strict=True):
            card = ModelCard.load(published / policy.id / "README.md")
            assert card.data.library_name == "peft"
            assert card.data.pipeline_tag == "text-generation"
            assert {"palm", "grpo", "lora"} <= set(card.data.tags)
            # a folder of one machine is no name on the hub
            assert card.data.base_model is None
            said = card.text
            for name, weight, reward in zip(
                OBJECTIVES, policy.weights, policy.rewards, strict=True
            ):
                assert f"| {name} | {weight:.4f} | {reward:.4g} | 0.01 |" in said
            assert "all weights of brevity and helpfulness" in said
            assert f"It serves: brevity from {least:.3f} to {most:.3f}." in said
            assert "| 1.25 |" in said  # its KL
            assert "at most" in said
            assert "**Against every policy that was found.**" in said
            assert "**Against every policy there is.**" in said
            for told in ('preset = "objective"', "learning_rate = 0.002", "| beta | 0.04 |",
                         "| steps | 60 |", "seed of the run | 5", "torch "):  # fmt: skip
                assert told in said, told
        one, other, *_ = (published / policy.id / "README.md" for policy in portfolio.policies)
        assert one.read_text() != other.read_text()

    def test_a_base_on_the_hub_is_named(self, base, tmp_path, capsys, monkeypatch):
        run = make_run(
            tmp_path / "run",
            base,
            change={"base_model_name_or_path": "org/made-up"},
            info={"base": "org/made-up@v2"},
        )
        assert ask(capsys, run, "--to", "hf")[0] == 0
        for policy in Portfolio.load(run).policies:
            card = ModelCard.load(run / "export" / "hf" / policy.id / "README.md")
            assert card.data.base_model == "org/made-up"
            assert card.data.base_model_relation == "adapter"
            assert "at revision `v2`" in card.text
        assert ask(capsys, run, "--to", "vllm")[0] == 0
        ((_, model, *said),) = started(run / "export" / "vllm", tmp_path)
        assert (model, said[:2]) == ("org/made-up", ["--revision", "v2"])
        assert "--dtype" not in said
        # once it was fetched, its precision is known
        fetched = tmp_path / "hub" / "models--org--made-up"
        for folder in ("refs", "snapshots/123"):
            (fetched / folder).mkdir(parents=True)
        (fetched / "refs" / "v2").write_text("123")
        (fetched / "snapshots" / "123" / "config.json").write_text('{"dtype": "float32"}')
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        assert ask(capsys, run, "--to", "vllm")[0] == 0
        ((_, _, *said),) = started(run / "export" / "vllm", tmp_path)
        assert said[said.index("--dtype") + 1] == "float32"


class TestWhatIsSaid:
    def test_what_the_run_does_not_know_is_not_made_up(self, base, tmp_path, capsys):
        run = make_run(tmp_path / "run", base, options={"name": "somebody:else"})
        assert ask(capsys, run, "--to", "vllm")[0] == 0
        ((_, _, *said),) = started(run / "export" / "vllm", tmp_path)
        assert "--override-generation-config" not in said
        readme = (run / "export" / "vllm" / "README.md").read_text()
        assert "does not say at which temperature" in readme
        assert "How prompts were put to the models is not known" in readme

    def test_what_policies_say_of_themselves_comes_first(self, base, tmp_path, capsys):
        run = make_run(
            tmp_path / "run",
            base,
            options={"name": "somebody:else", "temperature": 0.3},
            info={"temperature": 1.5, "trainer": {"loss_type": "dr_grpo", "optim": None}},
        )
        assert ask(capsys, run, "--to", "vllm")[0] == ask(capsys, run, "--to", "hf")[0] == 0
        ((_, _, *said),) = started(run / "export" / "vllm", tmp_path)
        told = said[said.index("--override-generation-config") + 1]
        assert json.loads(told) == {"temperature": 1.5}
        name = Portfolio.load(run).policies[0].id
        card = (run / "export" / "hf" / name / "README.md").read_text()
        assert '[trainer]\nloss_type = "dr_grpo"' in card

    def test_the_defaults_of_grpo_are_known(self, base, tmp_path, capsys):
        run = make_run(tmp_path / "run", base, options={"name": "grpo", "preset": "paper"})
        assert ask(capsys, run, "--to", "vllm")[0] == 0
        ((_, _, *said),) = started(run / "export" / "vllm", tmp_path)
        assert json.loads(said[said.index("--override-generation-config") + 1]) == {
            "temperature": 1.0
        }
        assert '"max_tokens": 256' in (run / "export" / "vllm" / "README.md").read_text()

    def test_the_document(self, made, tmp_path, capsys):
        code, out, said = ask(capsys, made, "--to", "vllm", "--out", tmp_path / "x", "--json")
        told = json.loads(out)
        assert (code, said) == (0, "")
        assert told["export"] == str(tmp_path / "x")
        assert sum(model["share"] for model in told["models"]) == pytest.approx(1)
        assert {Path(model["path"]).parent.name for model in told["models"]} == {"adapters"}

    def test_in_words(self, made, tmp_path, capsys):
        code, out, said = ask(capsys, made / "portfolio.json", "--to", "vllm", "--out", tmp_path)
        assert code == 0
        assert out.splitlines()[0] == str(tmp_path)
        assert all(policy.id in out for policy in Portfolio.load(made).policies)
        assert f"bash {tmp_path}/serve.sh" in said

    def test_a_base_that_is_elsewhere(self, base, tmp_path, capsys):
        run = make_run(
            tmp_path / "run", base, change={"base_model_name_or_path": "/no/such folder/here"}
        )
        code, _, said = ask(capsys, run, "--to", "vllm")
        assert code == 0
        assert "/no/such folder/here is not on this machine" in said
        ((_, model, *_),) = started(run / "export" / "vllm", tmp_path)
        assert model == "/no/such folder/here"


class TestWhereTheBaseIs:
    """Adapters of a model in a folder beside the task, which a run does not know the place of."""

    @pytest.fixture
    def relative(self, base, tmp_path):
        (tmp_path / "tasks" / "made").mkdir(parents=True)
        shutil.copytree(base, tmp_path / "tasks" / "made" / "deep" / "model")
        return make_run(
            tmp_path / "run", base, change={"base_model_name_or_path": "made/deep/model"}
        )

    def test_not_found(self, relative, capsys):
        line = refused(capsys, relative, "--to", "vllm")
        assert "base model 'made/deep/model': no such folder" in line
        assert "--task TASK" in line

    def test_beside_the_task(self, relative, tmp_path):
        out = tmp_path / "out"
        write_export(relative, "hf", out, task_dir=tmp_path / "tasks")
        place = tmp_path / "tasks" / "made" / "deep" / "model"
        for policy in Portfolio.load(relative).policies:
            config = json.loads((out / policy.id / "adapter_config.json").read_text())
            assert config["base_model_name_or_path"] == str(place.resolve())
            assert config["r"] == 4
            # which finds the base by that
            AutoModelForCausalLM.from_pretrained(out / policy.id)

    def test_given(self, relative, base, tmp_path, capsys):
        for to in ("vllm", "hf"):
            assert ask(capsys, relative, "--to", to, "--base", base)[0] == 0
        ((_, model, *_),) = started(relative / "export" / "vllm", tmp_path)
        assert model == str(base.resolve())
        code, _, said = ask(capsys, relative, "--to", "vllm", "--base", "org/name@v3")
        assert (code, "org/name is taken" in said) == (0, False)
        ((_, model, *said),) = started(relative / "export" / "vllm", tmp_path)
        assert (model, said[:2]) == ("org/name", ["--revision", "v3"])

    def test_whole_models_have_none(self, whole, base, capsys):
        line = refused(capsys, whole, "--to", "vllm", "--base", base)
        assert "requires adapters, has full models" in line

    def test_the_task_must_be_the_runs(self, tmp_path, capsys):
        for name, beta in (("task", 0.1), ("other", 0.2)):
            (tmp_path / f"{name}.toml").write_text(f"{TABULAR}beta = {beta}\n{GRID}")
        build(tmp_path / "task.toml", tmp_path / "run")
        line = refused(capsys, tmp_path / "run", "--to", "hf", "--task", tmp_path / "other.toml")
        assert "must be the task of" in line
        line = refused(capsys, tmp_path / "run", "--to", "hf", "--task", tmp_path / "task.toml")
        assert "has no model to export" in line


class TestNothingIsOverwritten:
    def test_an_earlier_export_is_replaced_as_a_whole(self, made, tmp_path, capsys):
        out = tmp_path / "out"
        assert ask(capsys, made, "--to", "hf", "--out", out)[0] == 0
        assert ask(capsys, made, "--to", "vllm", "--out", out)[0] == 0
        assert (out / "serve.sh").exists()
        assert len(list(out.iterdir())) == 6
        assert list(tmp_path.iterdir()) == [out]

    @pytest.mark.parametrize("name", ["notes.txt", "export.json"])
    def test_other_things_stay(self, made, tmp_path, capsys, name):
        (tmp_path / name).write_text('{"format": "mine"}')
        line = refused(capsys, made, "--to", "vllm", "--out", tmp_path)
        assert "must be new, empty or an earlier export" in line
        assert [file.name for file in tmp_path.iterdir()] == [name]

    def test_a_file_or_the_run_itself(self, made, tmp_path, capsys):
        (tmp_path / "file").write_text("mine")
        assert "is a file" in refused(capsys, made, "--to", "hf", "--out", tmp_path / "file")
        assert "has other files" in refused(capsys, made, "--to", "hf", "--out", made)

    def test_what_fails_leaves_nothing(self, made, tmp_path, capsys, monkeypatch):
        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("palm_trl.export.folder.model_card", fail)
        code, _, said = ask(capsys, made, "--to", "hf", "--out", tmp_path / "out")
        assert (code, said.count("\n")) == (1, 1)
        assert "No space left on device" in said
        assert list(tmp_path.iterdir()) == []


class TestWhatIsExportedWasMeasured:
    def test_a_model_that_has_changed(self, copied, capsys):
        policy = Portfolio.load(copied).policies[-1]
        config = copied / "artifacts" / policy.artifact / "adapter_config.json"
        config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 9'))
        line = refused(capsys, copied, "--to", "vllm")
        assert policy.id in line
        assert "has changed since it was recorded" in line

    def test_a_portfolio_that_the_run_did_not_make(self, copied, capsys):
        file = copied / "portfolio.json"
        told = json.loads(file.read_text())
        told["policies"][0]["rewards"][0] += 1e-9
        file.write_text(json.dumps(told))
        assert "no answer in the run's ledger" in refused(capsys, copied, "--to", "vllm")

    def test_a_portfolio_without_its_run(self, made, tmp_path, capsys):
        shutil.copy(made / "portfolio.json", tmp_path)
        assert "ledger" in refused(capsys, tmp_path / "portfolio.json", "--to", "vllm")

    def test_a_name_that_leads_out_of_the_artifact(self, base, tmp_path, capsys):
        (tmp_path / "secret").write_text("{}")
        run = make_run(tmp_path / "run", base, link=tmp_path / "secret")
        line = refused(capsys, run, "--to", "hf")
        assert "tokenizer_config.json must be a file inside it" in line

    def test_a_damaged_ledger(self, copied, capsys):
        with closing(sqlite3.connect(copied / "ledger.sqlite")) as file:
            file.execute("UPDATE answer SET policy = replace(policy, '\"kl\"', '\"xx\"')")
            file.commit()
        assert "damaged" in refused(capsys, copied, "--to", "vllm")


class TestWhatThereIsNoModelOf:
    def test_a_table(self, tmp_path, capsys):
        (tmp_path / "task.toml").write_text(TABULAR + GRID)
        build(tmp_path / "task.toml", tmp_path / "run")
        line = refused(capsys, tmp_path / "run", "--to", "vllm")
        assert "has no model to export (oracle: 'tabular'); must be a run of 'grpo'" in line

    def test_responses_alone(self, base, tmp_path, capsys):
        run = make_run(tmp_path / "run", base, kind="none")
        assert "its artifact has no model" in refused(capsys, run, "--to", "hf")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"peft_type": "IA3"}, "peft_type = 'IA3': must be 'LORA'"),
            ({"r": 0}, "r = 0: must be a rank"),
            ({"base_model_name_or_path": None}, "base_model_name_or_path = None"),
            ({"base_model_name_or_path": "--help"}, "base_model_name_or_path = '--help'"),
        ],
    )
    def test_an_adapter_that_is_none(self, base, tmp_path, capsys, change, said):
        run = make_run(tmp_path / "run", base, change=change)
        assert said in refused(capsys, run, "--to", "vllm")

    def test_requests_that_are_wrong(self, made, tmp_path, capsys):
        assert "--to" in refused(capsys, made)
        assert "gguf" in refused(capsys, made, "--to", "gguf")
        assert "nowhere" in refused(capsys, tmp_path / "nowhere", "--to", "hf")


def test_an_adapter_in_a_folder_of_the_artifact(base, tmp_path, capsys):
    """As the oracle `soup` saves it; and policies whose names are no file names."""
    run = make_run(tmp_path / "run", base, below="soup", prefix="my soup,")
    assert ask(capsys, run, "--to", "vllm", "--out", tmp_path / "out")[0] == 0
    names = [path.name for path in (tmp_path / "out" / "adapters").iterdir()]
    assert len(names) == len(Portfolio.load(run).policies)
    for name in names:
        assert re.fullmatch(r"my-soup-w[0-9.-]+", name)
        assert (tmp_path / "out" / "adapters" / name / "tokenizer.json").exists()


def test_it_is_light_to_list():
    code = (
        "import sys; import palm_trl.export; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'trl', 'peft', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_runs_differ(made):
    """Of the fixtures: policies of different models."""
    digests = {
        (made / "artifacts" / policy.artifact / "adapter_model.safetensors").read_bytes()
        for policy in Portfolio.load(made).policies
    }
    assert len(digests) == len(Portfolio.load(made).policies)
    assert np.isclose(np.linalg.norm(Portfolio.load(made).policies[0].rewards), 1)
