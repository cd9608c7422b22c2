"""The site in a real headless Chromium: from files, no other host asked, readable for everybody; what moves moves."""

from __future__ import annotations

from importlib.resources import files

import pytest
import site_course
from site_course import SLUG

from cnncourse.lab import doctor

CHROMIUM = doctor.browser()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: the site was not tried in a real browser"
)
NARROW, WIDE = 390, 1920  # pixels: a telephone, a projector
PATIENCE = 30_000  # milliseconds
# Contrast takes axe most of its time: of texts of one colour and size on one ground three are asked, lines of code too.
# Everything else is asked of the whole page; most pages leave out lines of code, which hold nothing but text.
AXE = """async exclude => {
    const grounds = new Map();  // of an element: what it and those around it are painted with
    const ground = node => {
        if (!node) return "";
        if (!grounds.has(node)) {
            const look = getComputedStyle(node);
            const own = [look.backgroundColor, look.backgroundImage, look.opacity, look.filter, look.position].join();
            const plain = own === "rgba(0, 0, 0, 0),none,1,none,static";
            grounds.set(node, ground(node.parentElement) + (plain ? "" : own + ";"));
        }
        return grounds.get(node);
    };
    const kinds = new Map();  // look of a text to the three smallest elements that have it
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const node = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !node.checkVisibility()) continue;
        const look = getComputedStyle(node);
        const kind = [look.color, look.fontSize, look.fontWeight, look.textShadow, ground(node)].join();
        const found = kinds.get(kind) ?? new Map();
        found.set(node, node.querySelectorAll("*").length);
        kinds.set(kind, new Map([...found].sort((a, b) => a[1] - b[1]).slice(0, 3)));
    }
    const include = [...kinds.values()].flatMap(found => [...found.keys()]);
    const how = {preload: false, resultTypes: ["violations"]};  // to preload would fetch style sheets: not from files
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];
    const page = await axe.run({exclude},
        {...how, runOnly: tags, rules: {"color-contrast": {enabled: false}}});
    const contrast = await axe.run({include}, {...how, runOnly: {type: "rule", values: ["color-contrast"]}});
    const found = [...page.violations, ...contrast.violations];
    return found.filter(one => ["serious", "critical"].includes(one.impact)).map(one =>
        `${one.id}: ${one.nodes.length} times, first ${one.nodes[0].target}: ${one.nodes[0].html.slice(0, 200)}`);
}"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The site of the small course, with stored sliders."""
    folder = tmp_path_factory.mktemp("course")
    site_course.write(folder)
    return site_course.build(folder).folder


class Visitor:
    """A page of the browser that writes down what goes wrong: messages of the console, requests to other hosts."""

    def __init__(self, browser, width: int = NARROW, scheme: str = "light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.wrong: list[str] = []
        self.context.route("**/*", self._route)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("requestfailed", lambda asked: self.wrong.append(f"failed: {asked.url}"))

    def _route(self, route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"another host: {route.request.url}")
            route.abort()

    def _said(self, message) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    def go(self, place) -> None:
        self.page.goto(place.as_uri())

    def audit(self, place, without: str = ".highlight") -> list[str]:
        """Go to a page with every fold open; returns what went wrong and what axe finds serious or critical."""
        self.wrong.clear()
        self.go(place)
        self.page.evaluate(
            "document.querySelectorAll('details').forEach(fold => { fold.open = true; })"
        )
        self.page.evaluate("window.MathJax?.startup?.promise")
        self.page.add_script_tag(
            content=files("axe_playwright_python").joinpath("axe.min.js").read_text()
        )
        return [
            *self.wrong,
            *self.page.evaluate(AXE, [[one.strip()] for one in without.split(",")]),
        ]


@pytest.fixture
def visitor(browser):
    visitor = Visitor(browser)
    yield visitor
    visitor.context.close()


def pages(folder) -> list:
    return [page for page in sorted(folder.rglob("*.html")) if "_static" not in page.parts]


def audited(browser, places, folder, without: str = ".highlight", **how) -> dict[str, list[str]]:
    visitor = Visitor(browser, **how)
    found = {page.relative_to(folder).as_posix(): visitor.audit(page, without) for page in places}
    visitor.context.close()
    return {page: wrong for page, wrong in found.items() if wrong}


def test_every_page_is_readable_for_everybody_and_asks_no_other_host(browser, site):
    places = [page for page in pages(site[0]) if page.parent.name != "api"]
    assert len(places) > 15
    assert audited(browser, places, site[0]) == {}


def test_pages_of_the_package_and_lines_of_code_are_readable_too(browser, site):
    folder = site[0]
    api = [folder / "api" / f"cnncourse.{name}.html" for name in ("errors", "runtime", "figures")]
    assert audited(browser, [folder / "api" / "index.html", *api], folder, "nothing") == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_readable_on_a_projector_and_in_the_dark(browser, site, scheme):
    folder = site[0]
    first = sorted((folder / "lessons").glob("*.html"))[3]
    places = [folder / "index.html", first, folder / "corrections.html"]
    code = folder / "api" / "cnncourse.errors.html"
    assert audited(browser, places, folder, width=WIDE, scheme=scheme) == {}
    assert audited(browser, [code], folder, "nothing", width=WIDE, scheme=scheme) == {}


@pytest.mark.parametrize(("found", "planted", "said"), [
    ('alt="It &lt;rises&gt;."', "", "image-alt"),
    ('<p class="sentence"', '<p style="color: #eee; background: #fff" class="sentence"', "color-contrast"),
    ('<span class="kn">import</span>', '<span class="kn" style="color: #eee">import</span>', "color-contrast"),
    ("</head>", '<script src="https://cdn.example/x.js"></script></head>', "another host"),
    ("</head>", "<script>console.error('broken')</script></head>", "console: broken"),
])  # fmt: skip
def test_a_planted_mistake_is_caught(visitor, small, found, planted, said):
    place = small / "lessons" / f"{SLUG}.html"
    text = place.read_text()
    assert found in text
    wrong = place.with_name("wrong.html")
    wrong.write_text(text.replace(found, planted))
    try:
        assert any(said in line for line in visitor.audit(wrong))
    finally:
        wrong.unlink()


def test_the_answer_of_a_prediction_is_seen_once_a_choice_is_clicked(visitor, small):
    from playwright.sync_api import expect

    visitor.go(small / "lessons" / f"{SLUG}.html")
    answer = visitor.page.get_by_text("measured 1.5")
    expect(visitor.page.get_by_role("button", name="more than one")).to_be_visible()
    expect(answer).to_be_hidden()
    visitor.page.get_by_role("button", name="one", exact=True).click()
    expect(answer).to_be_visible()
    verdict = visitor.page.locator(".gate .verdict")
    expect(verdict).to_have_text("✗ Measured: more than one. You predicted: one.")
    other = visitor.page.get_by_role("button", name="more than one")
    other.click(force=True)  # the first choice counts
    expect(verdict).to_have_text("✗ Measured: more than one. You predicted: one.")
    assert visitor.wrong == []


def test_the_fold_of_an_answer_and_of_code_opens_by_keyboard(visitor, small):
    from playwright.sync_api import expect

    visitor.go(small / "lessons" / f"{SLUG}.html")
    for summary, inside in (("What was measured", "measured 1.5"), ("import math", "x =")):
        hidden = visitor.page.get_by_text(inside).first
        expect(hidden).to_be_hidden()
        fold = visitor.page.locator("summary", has_text=summary)
        fold.focus()
        fold.press("Enter")
        expect(hidden).to_be_visible()


def test_a_link_to_a_claim_opens_the_fold_in_which_it_stands(visitor, small):
    from playwright.sync_api import expect

    visitor.go(small / "claims.html")
    visitor.page.get_by_role("link", name="It has 760").click()
    expect(visitor.page.locator(".claim")).to_be_visible()


def test_a_slider_moved_by_keyboard_changes_picture_and_sentence(visitor, small):
    from playwright.sync_api import expect

    visitor.go(small / "lessons" / f"{SLUG}.html")
    slider, picture = visitor.page.get_by_label("Size"), visitor.page.locator(".explorer img")
    sentence = visitor.page.locator(".explorer .sentence")
    expect(sentence).to_have_text("size 3, plain")
    slider.focus()
    slider.press("ArrowRight")
    expect(sentence).to_have_text("size 5, plain")
    expect(picture).to_have_attribute("src", f"../figures/{SLUG}/explorers/sizes/1-0.png")
    expect(picture).to_have_attribute("alt", "size 5, plain")
    expect(slider).to_have_attribute("aria-valuetext", "5")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 60
    visitor.page.get_by_label("dilated").check()
    expect(sentence).to_have_text("size 5, dilated")
    slider.press("ArrowRight")
    expect(sentence).to_contain_text("No picture is stored")
    expect(picture).to_be_hidden()
    slider.press("ArrowLeft")
    expect(picture).to_be_visible()
    assert visitor.wrong == []


def test_the_search_finds_a_word_of_a_lesson_from_files(visitor, site):
    from playwright.sync_api import expect

    visitor.page.goto((site[0] / "search.html").as_uri() + "?q=shortcuts")
    found = visitor.page.locator("#search-results a", has_text="Residual networks")
    expect(found.first).to_be_visible()
    found.first.click()
    expect(visitor.page.locator("article h1")).to_contain_text("Residual networks")
    assert visitor.wrong == []


def test_claims_are_sorted_by_a_click_and_back_by_a_second_one(visitor, site):
    from playwright.sync_api import expect

    visitor.go(site[0] / "claims.html")
    head = visitor.page.get_by_role("button", name="seeds", exact=True)
    lesson = visitor.page.get_by_role("button", name="lesson", exact=True)
    first = visitor.page.locator("table.sortable tbody tr").first.locator("td").nth(3)
    numbers = visitor.page.locator("table.sortable tbody td:nth-child(4)").all_inner_texts()
    lesson.click()
    expect(first).to_have_text(min(numbers))
    lesson.click()
    expect(first).to_have_text(max(numbers))
    head.click()
    expect(visitor.page.locator("th[aria-sort]")).to_have_count(1)


def test_figures_keep_their_paper_in_the_dark(browser, small):
    visitor = Visitor(browser, scheme="dark")
    visitor.go(small / "lessons" / f"{SLUG}.html")
    page, paper = (
        visitor.page.locator(place).evaluate("node => getComputedStyle(node).backgroundColor")
        for place in ("body", ".picture img")
    )
    visitor.context.close()
    assert paper == "rgb(255, 255, 255)" != page


def test_a_formula_is_drawn(visitor, small):
    from playwright.sync_api import expect

    visitor.go(small / "lessons" / f"{SLUG}.html")
    expect(visitor.page.locator("mjx-container svg").first).to_be_visible()
    assert visitor.wrong == []


def test_no_page_is_wider_than_a_telephone(visitor, site):
    for place in [site[0] / "index.html", *sorted((site[0] / "lessons").glob("*.html"))[:3]]:
        visitor.go(place)
        visitor.page.evaluate(
            "document.querySelectorAll('details').forEach(fold => { fold.open = true; })"
        )
        wide = visitor.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= NARROW, f"{place.name}: {wide} pixels"
