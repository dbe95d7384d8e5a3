"""The report in a browser: what a reader moves, reads, and cannot be harmed by."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from palm_core import Portfolio, Run, Table, select_models
from palm_core.plugin import percent_text
from palm_eval import evaluate_run, gather_report, write_report

LIGHT_AND_DARK = ("light", "dark")


def shares(page):
    """The weight vector that the page shows, as fractions by objective."""
    found = re.findall(r"(.+?) ([\d.]+)\s%(?:, )?", page.locator("#weights").inner_text())
    return {name: float(share) / 100 for name, share in found}


def serving(page):
    """The number of the policy that the page says serves."""
    return int(page.locator("#served .chip").inner_text())


def marked(page):
    """The numbers of the rows that are marked as serving."""
    return page.locator("tr.serves .chip").all_inner_texts()


def routed(file, page):
    """The number of the policy that ``palm route`` would name for the weights shown."""
    portfolio = Portfolio.load(file.parent)
    found = shares(page)
    weights = [found[name] for name in portfolio.objectives]
    return int(portfolio.route_indices(weights)[0]) + 1


class TestTwoObjectives:
    def test_the_slider_changes_who_serves(self, answering, show):
        page = show(answering)
        served = []
        for value in (0, 500, 1000):
            page.locator("#weight-0").fill(str(value))
            assert shares(page)["kind <b>"] == value / 1000
            assert serving(page) == routed(answering, page)
            assert marked(page) == [str(serving(page))]
            served.append(serving(page))
        assert len(set(served)) == 3

    def test_by_keyboard_alone(self, answering, show):
        page = show(answering)
        page.locator("#weight-0").focus()
        page.keyboard.press("Home")
        first = serving(page)
        assert shares(page)["kind <b>"] == 0.0
        page.keyboard.press("ArrowRight")
        assert shares(page)["kind <b>"] == 0.005
        page.keyboard.press("End")
        assert shares(page)["kind <b>"] == 1.0
        assert serving(page) != first

    def test_dragging_along_the_bar(self, answering, show):
        page = show(answering)
        box = page.locator("#bar").bounding_box()
        page.mouse.move(box["x"] + 0.02 * box["width"], box["y"] + 10)
        page.mouse.down()
        first = serving(page)
        page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + 10, steps=4)
        assert shares(page)["kind <b>"] == pytest.approx(0.98, abs=0.01)
        page.mouse.up()
        assert serving(page) == routed(answering, page) != first
        page.mouse.move(box["x"], box["y"] + 10)  # let go: it follows no more
        assert shares(page)["kind <b>"] == pytest.approx(0.98, abs=0.01)

    def test_distance_is_that_of_the_run(self, answering, show):
        """On the page's weights, every policy's loss against all that the run found."""
        page = show(answering)
        portfolio, run = Portfolio.load(answering.parent), Run.open(answering.parent)
        page.locator("#weight-0").fill("850")
        weights = np.array([0.85, 0.15])
        opt = max(answer.policy.rewards @ weights for answer in run.answers)
        for i, policy in enumerate(portfolio.policies):
            loss = 100 * (1 - policy.rewards @ weights / opt)
            shown = page.locator(f"#below-{i}").inner_text().replace("\xa0%", "")
            assert float(shown) == pytest.approx(loss, rel=5e-3, abs=1e-9)
            value = float(page.locator(f"#value-{i}").inner_text())
            assert value == pytest.approx(policy.rewards @ weights, rel=1e-3)

    def test_distance_of_a_selection_is_that_to_its_table(self, tmp_path, show):
        scores = {"good": [9.0, 2.0, 6.5], "price": [5.0, 1.0, 2.0]}
        table = Table({"model": ["ant", "bee", "cow"], **scores})
        models = table.policies(maximize=["good"], minimize=["price"])
        found = select_models(models, epsilon=0.4)
        file = found.portfolio().save(tmp_path / "p.json")
        page = show(write_report(gather_report(file, models=table), tmp_path / "p.html"))
        page.locator("#weight-0").fill("750")
        values = found.normalization.apply(models).objective([0.75, 0.25])[0]
        loss = 1 - values[found.cover].max() / values.max()
        assert loss > 0.01
        shown = page.locator("#distance").inner_text().replace("\xa0", " ")
        said = r"([\d.]+) % below the best of the 3 given, for this weight vector\."
        assert float(re.fullmatch(said, shown)[1]) == pytest.approx(100 * loss, rel=5e-3)
        assert page.locator("#answers").count() == 0
        assert page.locator("figure").count() == 3

    def test_answers_stand_side_by_side_the_served_first(self, answering, show):
        page = show(answering)
        # the first prompt that tells policies apart is shown first
        assert page.locator("#prompt-number").inner_text() == "Prompt 1 of 3"
        assert page.locator("#prompt").inner_text() == "Say hello."
        for value in (0, 1000):
            page.locator("#weight-0").fill(str(value))
            cards = page.locator(".card")
            assert cards.count() == 3
            assert cards.first.locator(".chip").inner_text() == str(serving(page))
            assert "serves you" in cards.first.inner_text()
            assert page.locator(".tag", has_text="serves you").count() == 1
        page.get_by_role("button", name="Next prompt").click()
        page.get_by_role("button", name="Next prompt").click()
        assert page.locator("#prompt").inner_text() == "Bye?"
        assert page.get_by_role("button", name="Next prompt").is_disabled()
        first = page.locator(".card").first
        assert first.locator(".answer").first.inner_text() == "Bye."
        first.locator("summary").click()
        assert first.locator(".answer").nth(1).inner_text().startswith("Bye from ")
        page.locator("#prompt-choice").select_option("0")
        assert page.locator("#prompt").inner_text() == "Say hello."

    def test_rewards_of_the_prompt_and_equal_answers(self, answering, show):
        page = show(answering)
        run = Run.open(answering.parent)
        kept = {answer.policy.id: answer.policy for answer in run.answers}
        portfolio = Portfolio.load(answering.parent)
        for card in page.locator(".card").all():
            name = card.locator(".name").inner_text()
            shown = [float(one) for one in card.locator("dd").all_inner_texts()]
            assert shown == pytest.approx(kept[name].prompt_rewards[0], rel=1e-3)
        # two of the three greet alike; the page says so on the later one
        alike = [p for p in portfolio.policies if p.artifact in ("policy-0", "policy-1")]
        assert len(alike) == 2
        assert page.locator(".card", has_text="The same answer as policy").count() == 1

    def test_names_and_answers_are_never_markup(self, answering, show):
        page = show(answering)
        page.get_by_role("button", name="Next prompt").click()
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("h3 b, th b").count() == 0
        assert "<img src=x" in page.locator("#prompt").inner_text()
        assert "<img src=x" in page.locator(".answer").first.inner_text()
        assert page.locator("th", has_text="kind <b>").count() > 0

    def test_what_no_prompt_can_change(self, answering, show):
        page = show(answering)
        assert page.get_by_role("heading", level=1).inner_text().startswith("3 policies serve")
        proof = page.locator("#proof").inner_text()
        assert "means over 3 prompts. Whichever of them are drawn, no policy" in proof


class TestThreeObjectives:
    def test_dragging_changes_who_serves(self, triangle, show):
        page = show(triangle)
        box = page.locator("#triangle").bounding_box()
        assert box is not None
        served = set()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        for x, y in ((0.2, 0.85), (0.8, 0.85), (0.5, 0.2), (0.5, 0.7)):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
            assert serving(page) == routed(triangle, page)
            assert marked(page) == [str(serving(page))]
            served.add(serving(page))
        page.mouse.up()
        assert len(served) >= 3

    def test_the_point_is_where_the_pointer_is(self, triangle, show):
        page = show(triangle)
        box = page.locator("#triangle").bounding_box()
        # inside, the drawn point follows the pointer to the pixel; outside it stays on the edge
        page.mouse.click(box["x"] + 0.45 * box["width"], box["y"] + 0.6 * box["height"])
        at = page.locator("#point").bounding_box()
        assert at["x"] + at["width"] / 2 == pytest.approx(box["x"] + 0.45 * box["width"], abs=1)
        assert at["y"] + at["height"] / 2 == pytest.approx(box["y"] + 0.6 * box["height"], abs=1)
        page.mouse.click(box["x"] + 1, box["y"] + box["height"] - 1)
        assert shares(page) == {"helpful": 1.0, "brief": 0.0, "safe": 0.0}

    def test_a_finger_drags_too(self, triangle, show):
        page = show(
            triangle, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800}
        )
        box = page.locator("#triangle").bounding_box()
        page.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
        assert shares(page)["safe"] > 0.7
        assert serving(page) == routed(triangle, page)

    def test_by_keyboard_alone(self, triangle, show):
        page = show(triangle)
        page.locator("#triangle").focus()
        before = shares(page)
        for _ in range(40):
            page.keyboard.press("ArrowUp")
        assert shares(page) == {"helpful": 0.0, "brief": 0.0, "safe": 1.0}
        assert before != shares(page)
        page.keyboard.press("Shift+ArrowDown")
        assert shares(page)["safe"] == pytest.approx(0.9, abs=0.02)
        page.keyboard.press("ArrowLeft")
        assert shares(page)["helpful"] > shares(page)["brief"]

    def test_sliders_keep_the_sum_at_one(self, triangle, show):
        page = show(triangle)
        page.locator("#weight-2").fill("600")
        found = shares(page)
        assert found["safe"] == 0.6
        assert found["helpful"] == pytest.approx(found["brief"], abs=2e-3)
        page.locator("#weight-0").fill("1000")
        assert shares(page) == {"helpful": 1.0, "brief": 0.0, "safe": 0.0}
        page.locator("#weight-0").fill("0")
        assert sum(shares(page).values()) == pytest.approx(1.0)

    def test_every_row_can_show_a_weight_vector_that_it_serves(self, triangle, show):
        page = show(triangle)
        buttons = page.get_by_role("button", name="Show a weight vector that policy")
        portfolio = Portfolio.load(triangle.parent)
        assert buttons.count() == len(portfolio)
        for i in range(len(portfolio)):
            buttons.nth(i).click()
            assert serving(page) == i + 1

    def test_command_line_for_the_weights_shown(self, triangle, show):
        page = show(triangle)
        page.get_by_role("button", name="only brief").click()
        command = page.locator("#route").inner_text()
        assert command == f"palm route {triangle.parent} --weights helpful=0,brief=1,safe=0"

    def test_what_is_missing_is_said(self, triangle, show):
        page = show(triangle)
        assert "No answers are kept" in page.locator("#answers").inner_text()
        assert "has no artifact" in page.locator("#answers").inner_text()
        assert "uniform, pruned" in page.locator("#missing").inner_text()

    def test_how_sure_one_can_be(self, triangle, show):
        page = show(triangle)
        run = Run.open(triangle.parent)
        found = evaluate_run(run).intervals["epsilon"]
        text = page.locator("#proof").inner_text()
        assert (
            f"between {percent_text(float(found.lower))} and {percent_text(float(found.upper))}"
            in text
        )
        assert "95% confidence" in text

    def test_the_headline_is_the_certificate(self, triangle, show):
        page = show(triangle)
        certificate = Portfolio.load(triangle.parent).certificate
        shown = page.get_by_role("heading", level=1).inner_text()
        stated = re.search(r"ε ([\d.]+) %", certificate.statement)[1]
        assert shown.replace("\xa0", " ").endswith(f"within {stated} %")


class TestMoreObjectives:
    def test_sliders_alone(self, four, show):
        page = show(four)
        assert page.locator("#triangle, #bar").count() == 0
        served = set()
        for i in range(4):
            page.locator(f"#weight-{i}").fill("1000")
            assert serving(page) == routed(four, page)
            served.add(serving(page))
        assert len(served) >= 2

    def test_policies_show_a_weight_vector_that_they_serve(self, four, show):
        page = show(four)
        for button in page.get_by_role("button", name="Show a weight vector that policy").all():
            number = re.search(r"\d+", button.get_attribute("aria-label"))[0]
            button.click()
            assert serving(page) == int(number)


@pytest.mark.parametrize("scheme", LIGHT_AND_DARK)
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("run", ["answering", "triangle", "four"])
def test_nothing_is_wider_than_the_page(run, width, scheme, request, show):
    page = show(
        request.getfixturevalue(run), viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("run", ["answering", "triangle", "four"])
def test_figures_are_there_and_described(run, request, show):
    page = show(request.getfixturevalue(run))
    pictures = page.locator("figure img")
    assert pictures.count() >= 3
    for picture in pictures.all():
        assert picture.evaluate("(one) => one.complete && one.naturalWidth > 100")
        assert len(picture.get_attribute("alt")) > 40


def test_without_script_it_can_still_be_read(triangle, show):
    page = show(triangle, java_script_enabled=False)
    assert "needs JavaScript" in page.locator("main").inner_text()
    assert page.locator("tbody tr").count() >= 5
    assert "Against every policy there is" in page.locator("#proof").inner_text()


@pytest.mark.parametrize("scheme", LIGHT_AND_DARK)
@pytest.mark.parametrize("run", ["answering", "triangle", "four"])
def test_accessible(run, scheme, request, show):
    """No rule of axe is broken: names, roles, contrast, headings, regions."""
    page = show(request.getfixturevalue(run), color_scheme=scheme)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_one_file_and_nothing_else(triangle):
    text = triangle.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_printed_it_loses_nothing(answering, show):
    page = show(answering)
    page.emulate_media(media="print")
    assert not page.locator(".chooser").is_visible()
    assert page.locator(".card").first.is_visible()
    assert page.locator("figure img").first.is_visible()
    assert (
        page.locator(".answer").first.evaluate("(one) => getComputedStyle(one).maxHeight") == "none"
    )


def test_the_gap_shown_is_never_above_the_exact_one(triangle, show):
    """At many weight vectors, the page's distance against the run's exact gap."""
    page = show(triangle)
    portfolio = Portfolio.load(triangle.parent)
    most = 100 * portfolio.gaps.epsilon
    rng = np.random.default_rng(0)
    for weights in rng.dirichlet(np.ones(3), size=25):
        page.evaluate("(w) => setWeights(w)", weights.tolist())
        shown = page.locator("#distance").inner_text().split("\xa0%")[0]
        assert shown.startswith("less than") or float(shown) <= most * 1.005
    worst = portfolio.gaps.epsilon_weights.tolist()
    page.evaluate("(w) => setWeights(w)", worst)
    shown = float(page.locator("#distance").inner_text().split("\xa0%")[0])
    assert shown == pytest.approx(most, rel=2e-3)
