"""Reward functions: what they give, what they refuse, and what they are called."""

from __future__ import annotations

import math as m
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError, PluginError, WorkError
from palm_core.oracles import registry as _entry_points
from palm_eval import load_reward
from palm_eval.plugin import check_scores
from palm_eval.rewards import brevity, gsm, length, math, regex
from palm_eval.rewards import registry as loading
from palm_eval.rewards.conversations import completion_text, prompt_text
from palm_eval.rewards.correctness import last_boxed, last_number


def one(reward, completion, **columns):
    """The reward of one completion."""
    (score,) = reward(["q"], [completion], **{key: [value] for key, value in columns.items()})
    return score


class TestTexts:
    def test_a_conversation_counts_as_what_the_assistant_says(self):
        talk = [
            {"role": "assistant", "content": "Let me see."},
            {"role": "tool", "content": "99"},
            {
                "role": "assistant",
                "content": [
                    {"type": "image", "text": "x.png"},
                    {"type": "text", "text": "It is 4"},
                ],
            },
        ]
        assert completion_text(talk) == "Let me see.\nIt is 4"
        assert one(length(), talk) == 19

    def test_a_message_that_only_calls_a_tool_is_empty(self):
        assert completion_text([{"role": "assistant", "content": None}]) == ""

    def test_a_prompt_is_the_user_s_message_after_the_system_s(self):
        system = {"role": "system", "content": "Be kind."}
        user = {"role": "user", "content": "Hi"}
        assert prompt_text([system, user]) == "Be kind.\n\nHi"
        with pytest.raises(InputError, match="user, assistant, user: must be a string or one"):
            prompt_text([user, {"role": "assistant", "content": "Ho"}, user])

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            3,
            b"x",
            ["x"],
            [{"content": "x"}],
            [{"role": "user", "content": 3}],
            [{"role": "user", "content": [{"type": "text"}]}],
        ],
    )
    def test_what_is_no_text_is_refused_by_index(self, wrong):
        with pytest.raises(InputError, match="completion 1 .*must be a string or a list"):
            length()(["a", "b"], ["fine", wrong])


class TestCalling:
    def test_as_many_prompts_as_completions(self):
        with pytest.raises(InputError, match="completions: has 1 entries, must have 2"):
            length()(["a", "b"], ["c"])

    def test_a_missing_column_is_named(self):
        with pytest.raises(InputError, match="reward 'gsm' needs the column 'ground_truth'"):
            gsm()(["a"], ["4"])

    def test_a_column_of_another_length_is_refused(self):
        with pytest.raises(InputError, match="'ground_truth' has 2 values: must be 1"):
            gsm()(["a"], ["4"], ground_truth=["4", "5"])

    def test_columns_of_others_are_left_alone(self):
        rest = {"trainer_state": object(), "ground_truth": None, "completion_ids": [[1]]}
        assert length()(prompts=["a"], completions=["four"], **rest) == [4.0]

    def test_no_completions_have_no_rewards(self):
        assert math()([], [], ground_truth=[]) == []

    @pytest.mark.parametrize("bad", [m.nan, m.inf, "0.5", [1.0]])
    def test_a_score_that_is_not_finite_names_index_and_prompt(self, bad):
        with pytest.raises(WorkError, match="of completion 1, prompt 'p{60} …', is .*finite"):
            check_scores([0.0, bad], ["x", "p" * 70], "mine")

    @pytest.mark.parametrize("bad", [[1.0], [1.0, 2.0, 3.0], 1.0, "12", None])
    def test_a_wrong_number_of_scores_is_refused(self, bad):
        with pytest.raises(WorkError, match="reward 'mine' returned"):
            check_scores(bad, ["a", "b"], "mine")

    def test_names_are_unique_to_the_options(self):
        made = [length(), length(sign=-1), length(unit="words"), gsm(), gsm(match="string"),
                math(), math(seconds=1), regex(pattern="a"), regex(pattern="b"), brevity(),
                brevity(max_tokens=8), brevity(correct="math")]  # fmt: skip
        names = [reward.__name__ for reward in made]
        prints = [reward.fingerprint for reward in made]
        assert len(set(names)) == len(set(prints)) == len(made)
        assert names[0] == "length"
        assert length(sign=-1).__name__ == names[1]
        assert length(name="mine").__name__ == "mine"

    def test_they_travel_to_workers(self):
        for reward in (length(), gsm(), regex(pattern="a+"), brevity()):
            again = pickle.loads(pickle.dumps(reward))
            assert again.fingerprint == reward.fingerprint
        assert pickle.loads(pickle.dumps(regex(pattern="a+")))(["q"], ["baa"]) == [1.0]


class TestLength:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [({}, 13.0), ({"sign": -1}, -13.0), ({"unit": "words"}, 2.0)],
    )
    def test_counts(self, options, expected):
        assert one(length(**options), " Größe\n zählt") == expected

    def test_tokens_by_their_ids(self):
        assert one(length(unit="tokens", sign=-1), "abc", completion_ids=[5, 6]) == -2.0

    def test_tokens_of_nobody_are_refused(self):
        with pytest.raises(InputError, match="needs the column 'completion_ids' or the option"):
            one(length(unit="tokens"), "abc")

    @pytest.mark.parametrize(
        "options", [{"unit": "bytes"}, {"sign": 0}, {"sign": True}, {"tokenizer": "x"}]
    )
    def test_refuses(self, options):
        with pytest.raises(InputError):
            length(**options)


class TestRegex:
    @pytest.mark.parametrize(
        ("options", "text", "expected"),
        [
            ({"pattern": "b+"}, "abbc", 1.0),
            ({"pattern": "b+"}, "xyz", 0.0),
            ({"pattern": "b+", "method": "match"}, "abbc", 0.0),
            ({"pattern": "b+", "method": "fullmatch"}, "bb", 1.0),
            ({"pattern": "b+", "method": "fullmatch"}, "bbc", 0.0),
            ({"pattern": "B", "ignore_case": True}, "b", 1.0),
            ({"pattern": "B"}, "b", 0.0),
            ({"pattern": "a.b"}, "a\nb", 0.0),
            ({"pattern": "a.b", "dot_all": True}, "a\nb", 1.0),
            ({"pattern": "^b$"}, "a\nb\nc", 0.0),
            ({"pattern": "^b$", "multiline": True}, "a\nb\nc", 1.0),
            ({"pattern": "b", "sign": -1}, "b", -1.0),
        ],
    )
    def test_matches(self, options, text, expected):
        assert one(regex(**options), text) == expected

    def test_a_catastrophic_pattern_is_stopped_and_said(self):
        began = time.monotonic()
        with pytest.raises(
            WorkError, match=r"'\(a\|aa\)\+\$' took more than 0.2 s on completion 1"
        ):
            regex(pattern="(a|aa)+$", seconds=0.2)(["p", "q"], ["a", "a" * 60 + "b"])
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize("pattern", ["(", "[", "*", 3])
    def test_what_is_no_pattern_is_refused(self, pattern):
        with pytest.raises(InputError, match="pattern = "):
            regex(pattern=pattern)


class TestGsm:
    @pytest.mark.parametrize(
        ("text", "truth", "expected"),
        [
            ("no number at all", "5", 0),
            ("", "5", 0),
            ("first 1, then 2, at last 18", "18", 1),
            ("18 then 19", "18", 0),
            ("18 apples", "18", 1),
            ("18kg", "18", 1),
            ("-5", "-5", 1),
            ("-5", "5", 0),
            ("it is −5", "-5", 1),
            ("10-3", "3", 1),
            ("x=-3", "-3", 1),
            ("Answer:\n- 18", "18", 1),
            ("5 - 18", "18", 1),
            ("1,234,567", "1234567", 1),
            ("1,2,3", "123", 1),
            ("1{,}234", "1234", 1),
            ("1, 2", "2", 1),
            ("18.0", "18", 1),
            ("18", "18.00", 1),
            ("18.", "18", 1),
            ("18.5.", "18.5", 1),
            ("$1,234.50", "1234.5", 1),
            ("-$5", "-5", 1),
            ("\\$5", "5", 1),
            ("50%", "50", 1),
            (r"\boxed{18}", "18", 1),
            ("007", "7", 1),
            (".50", "0.5", 1),
            ("-0", "0", 1),
            ("#### 7", "2 + 5 = 7 #### 7", 1),
            ("7", "9 #### 7", 1),
            ("7", 7, 1),
            ("7", 7.0, 1),
            ("0.0000001", 1e-7, 1),
            ("0.1234567", 0.1234567, 1),
            ("0.1234567", 0.123457, 0),
            ("9" * 5000, "9" * 5000, 1),
            ("9" * 4999 + "8", "9" * 5000, 0),
            ("٣", "3", 0),
        ],
    )
    def test_awkward_answers(self, text, truth, expected):
        assert one(gsm(), text, ground_truth=truth) == expected

    @pytest.mark.parametrize(
        ("text", "truth", "expected"),
        [
            ("18.0", "18", 0),
            ("1,234", "1234", 1),
            ("-5", "5", 1),
            ("-5.5", "-5.5", 1),
            ("-5.5", "5.5", 0),
        ],
    )
    def test_as_strings_as_open_instruct_does(self, text, truth, expected):
        assert one(gsm(match="string"), text, ground_truth=truth) == expected

    def test_another_column(self):
        assert one(gsm(ground_truth="answer"), "4", answer="4", ground_truth="5") == 1

    @pytest.mark.parametrize("truth", ["none", "", "7 #### none", None, True, [4]])
    def test_a_ground_truth_without_number_is_refused(self, truth):
        with pytest.raises(InputError, match="'ground_truth', row 1: "):
            gsm()(["a", "b"], ["4", "5"], ground_truth=["4", truth])

    @given(st.decimals(allow_nan=False, allow_infinity=False, places=4), st.integers(0, 3))
    def test_the_form_of_a_number_changes_nothing(self, number, zeros):
        plain = format(number, "f")
        grouped = f"{number:,.4f}" + "0" * zeros
        assert last_number(f"So it is ${grouped}.") == last_number(plain)
        assert Decimal(last_number(plain)) == number

    @given(st.text(max_size=60), st.integers(-(10**9), 10**9))
    def test_what_stands_before_the_last_number_changes_nothing(self, before, number):
        assert last_number(f"{before}\n= {number}") == str(number)


class TestMath:
    @pytest.mark.parametrize(
        ("text", "box"),
        [
            (r"\boxed{1} or \boxed{2}", "2"),
            (r"\boxed{\frac{\sqrt{3}}{2}}.", r"\frac{\sqrt{3}}{2}"),
            (r"\boxed{\{1,2\}}", r"\{1,2\}"),
            (r"\boxed{\left\{x\right.}", r"\left\{x\right."),
            (r"\boxed{a\\}", r"a\\"),
            (r"\boxed {7}", "7"),
            (r"\fbox{7}", "7"),
            (r"$\boxed 5$", "5"),
            (r"\boxed{1} and \boxed{2", None),
            (r"\boxed", None),
            (r"\boxedx{1}", None),
            ("7", None),
        ],
    )
    def test_the_last_box(self, text, box):
        assert last_boxed(text) == box

    @given(
        st.recursive(
            st.sampled_from(["1", "x", r"\{", r"\}"]),
            lambda s: s.map("{{{}}}".format),
            max_leaves=8,
        ),
        st.text(alphabet="ab{}\\ ", max_size=10),
    )
    def test_braces_may_be_nested(self, inside, after):
        assert last_boxed(rf"\boxed{{{inside}}}{after}") == inside

    @pytest.mark.parametrize(
        ("text", "truth", "expected"),
        [
            (r"\boxed{\frac{1}{2}}", "0.5", 1),
            (r"\boxed{\frac{\sqrt{12}}{2}}", r"\sqrt{3}", 1),
            (r"\boxed{(x+1)^2}", "x^2+2x+1", 1),
            (r"\boxed{(-1, 2]}", "(-1,2]", 1),
            (r"\boxed{(-1, 2)}", "(-1,2]", 0),
            (r"\boxed{\{2,1\}}", r"so \boxed{\{1,2\}}", 1),
            (r"\boxed{5\text{ cm}}", "5", 1),
            (r"\boxed{1,234}", 1234, 1),
            (r"\boxed{3}", "4", 0),
            (r"\boxed{}", "4", 0),
            (r"\boxed{\frac{}", "4", 0),
            ("4", "4", 0),
        ],
    )
    def test_equivalence(self, text, truth, expected):
        assert one(math(), text, ground_truth=truth) == expected

    @pytest.mark.parametrize("same", [r"\foo{}!!", "x" * 3000, "9^{9^{9}}"])
    def test_equal_as_written_is_equal_even_where_no_formula(self, same):
        assert one(math(), rf"\boxed{{ {same}}}", ground_truth=same) == 1

    @pytest.mark.parametrize("truth", ["", "  ", r"\boxed{3", None])
    def test_a_ground_truth_without_answer_is_refused(self, truth):
        with pytest.raises(InputError, match="'ground_truth', row 0"):
            one(math(), r"\boxed{3}", ground_truth=truth)

    def test_what_cannot_be_stopped_is_stopped_and_the_next_is_judged(self):
        began = time.monotonic()
        answers = [r"\boxed{9^{9^{9}}}", r"\boxed{0.5}"]
        assert math(seconds=1)(["q"] * 2, answers, ground_truth=["2", "1/2"]) == [0.0, 1.0]
        assert time.monotonic() - began < 30

    def test_an_answer_of_endless_length_is_wrong_at_once(self):
        began = time.monotonic()
        assert one(math(), rf"\boxed{{{'(' * 100_000}}}", ground_truth="2") == 0
        assert time.monotonic() - began < 1

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
    def test_after_an_interruption_the_next_answer_is_its_own(self):
        def interrupt(*_):
            raise KeyboardInterrupt

        assert one(math(), r"\boxed{0.5}", ground_truth="1/2") == 1  # the process is there
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(KeyboardInterrupt):
                one(math(seconds=20), r"\boxed{9^{9^{9}}}", ground_truth="2")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert one(math(), r"\boxed{0.5}", ground_truth="1/2") == 1

    def test_threads_get_their_own_answers(self):
        found = {}

        def ask(number):
            answers = [rf"\boxed{{{number}.0}}", rf"\boxed{{{number + 1}}}"] * 3
            found[number] = math()(["q"] * 6, answers, ground_truth=[str(number)] * 6)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: [1.0, 0.0] * 3 for number in range(4)}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_process_does_not_share_the_pipes(self):
        code = (
            "import os\n"
            "from palm_eval.rewards import math, math_process\n"
            "def ask(answer, truth):\n"
            "    return math()(['q'], [r'\\boxed{%d.0}' % answer], ground_truth=[str(truth)])\n"
            "assert ask(1, 1) == [1.0]\n"
            "judge = math_process._JUDGE\n"
            "pid = judge._process.pid\n"
            "judge._lock.acquire()\n"  # as another thread may hold it
            "child = os.fork()\n"
            "if child: judge._lock.release()\n"
            "wrong = 0 if child else 1\n"
            "ok = all(ask(n + wrong, n) == [1.0 - wrong] for n in range(10))\n"
            "ok = ok and bool(child) == (judge._process.pid == pid)\n"
            "if not child: os._exit(0 if ok else 3)\n"
            "assert ok and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
            "assert ask(3, 3) == [1.0]\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


class TestBrevity:
    def test_equation_3(self):
        ids = [[0] * 64, [0] * 64, [0] * 256, [0] * 300, []]
        scores = brevity()(
            ["q"] * 5, ["4", "5", "4", "4", "4"], completion_ids=ids, ground_truth=["4"] * 5
        )
        assert scores == [0.75, 0.0, 0.0, 0.0, 1.0]

    def test_with_another_judge_and_length(self):
        judge = brevity(max_tokens=10, correct="math", correct_options={"ground_truth": "answer"})
        assert one(judge, r"\boxed{0.5}", answer="1/2", completion_ids=[1]) == 0.9
        assert judge.columns == ("answer", "completion_ids")

    def test_needs_tokens(self):
        with pytest.raises(InputError, match="'completion_ids' or the option 'tokenizer'"):
            one(brevity(), "4", ground_truth="4")

    def test_correct_is_right_or_wrong(self):
        with pytest.raises(InputError, match="correct is 3 for completion 0, must be 0 or 1"):
            one(brevity(correct=length()), "abc", completion_ids=[1])

    @pytest.mark.parametrize(
        "options",
        [
            {"max_tokens": 0},
            {"correct": 3},
            {"correct": len},
            {"correct_options": {"a": 1}, "correct": length()},
        ],
    )
    def test_refuses(self, options):
        with pytest.raises(InputError):
            brevity(**options)


ENTRIES = {
    "brevity": "palm_eval.rewards.lengths:brevity",
    "classifier": "palm_eval.rewards.classifiers:classifier",
    "gsm": "palm_eval.rewards.correctness:gsm",
    "length": "palm_eval.rewards.lengths:length",
    "math": "palm_eval.rewards.correctness:math",
    "regex": "palm_eval.rewards.patterns:regex",
}


@pytest.fixture
def entries(monkeypatch):
    """The group's entry points, ours and broken ones."""
    found = {**ENTRIES, "broken": "palm_eval.nowhere:x", "number": "math:pi"}
    group = "palm.rewards"
    points = [EntryPoint(name, value, group) for name, value in found.items()]
    points.append(EntryPoint("twice", "math:cos", group))
    points.append(EntryPoint("twice", "math:sin", group))
    monkeypatch.setattr(
        _entry_points, "entry_points", lambda *, group: points if group == "palm.rewards" else []
    )


class TestLoading:
    def test_by_name_with_options(self, entries):
        assert load_reward("length", unit="words")(["q"], ["a b"]) == [2.0]
        assert set(ENTRIES) <= set(loading.available_rewards())

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("lenght", {}, "unknown reward 'lenght'; installed: .*Did you mean 'length'"),
            ("zzz", {}, "a reward of your own is named 'module:function'"),
            ("broken", {}, "installed but does not import: No module named 'palm_eval.nowhere'"),
            ("number", {}, "is of type float: must be a class or a function"),
            (
                "twice",
                {},
                r"provided by .* \(math:cos\) and .* \(math:sin\): uninstall all but one",
            ),
            ("no_such_module_here:f", {}, "there is no module 'no_such_module_here'"),
            ("json:nothing", {}, "unknown reward 'json:nothing'"),
            ("json:dump", {"a": 1}, "takes no options, got a"),
            ("math:pi", {}, "is of type float: must be a function"),
            ("json:JSONEncoder", {}, "is of type type: must be a function"),
            ("json:", {}, "must be a name or 'module:function'"),
            ("length", {"units": 1}, "units: unknown option of 'length'; did you mean 'unit'"),
            ("regex", {}, "pattern: missing, 'regex' needs it. Accepted: pattern"),
            ("length", {"unit": "bytes"}, "unit = 'bytes': must be one of"),
            ("", {}, "must be a name"),
        ],
    )
    def test_refuses(self, entries, name, options, message):
        with pytest.raises(InputError, match=message):
            load_reward(name, **options)

    def test_a_function_of_ones_own_is_used_as_it_is(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "my_rewards_here.py").write_text(
            "def shout(prompts, completions, **columns):\n"
            "    return [float(c.isupper()) for c in completions]\n"
        )
        mine = load_reward("my_rewards_here:shout", tmp_path)
        assert mine(["q", "q"], ["HA", "ha"]) == [1.0, 0.0]
        assert mine is sys.modules.pop("my_rewards_here").shout

    def test_one_that_does_not_import_says_why(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "my_broken_rewards.py").write_text("1 / 0")
        with pytest.raises(PluginError, match="does not import: ZeroDivisionError") as caught:
            load_reward("my_broken_rewards:f", tmp_path)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_rewards_load_without_torch_or_sympy():
    code = (
        "import sys\n"
        "import palm_eval.rewards as r\n"
        "r.length, r.gsm, r.math, r.brevity, r.classifier, r.PRESETS\n"
        "assert not {'torch', 'transformers', 'sympy', 'math_verify'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_rewards_say_what_tells_whether_an_answer_is_right() -> None:
    for judge in (load_reward("gsm"), load_reward("math")):
        assert judge.correctness is judge
    gated = load_reward("brevity", correct="math")
    assert gated.correctness.__name__ == "math"
    assert load_reward("length").correctness is None
