"""The page in a real browser: the search, keys, phone and dark, nothing asked elsewhere."""

import os
import shutil

import pytest
import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.extra("serve", "services"),
    pytest.mark.skipif(not CHROMIUM, reason="needs the browser chromium"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    corpus = served.write_corpus(folder / "corpus")
    for seed in (0, 1):
        model = served.save_model(folder / f"tiny{seed}", seed)
        served.publish(folder / "store", model, corpus)
    index = served.write_index(folder / "notes", folder / "tiny0", corpus)
    made = served.Running(releases=[folder / "store"], indexes=[index])
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser, server):
    """A page that fails the test for an error on its console or a request to elsewhere."""
    wrong = []
    made = browser.new_page(viewport={"width": 1200, "height": 900})
    made.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("request", lambda each: each.url.startswith((server.url, "data:"))
            or wrong.append(each.url))  # fmt: skip
    made.goto(server.url)
    wait(made, "document.querySelector('#state').textContent.includes('documents')")
    yield made
    made.close()
    assert not wrong


def wait(page, true):
    """Waits until an expression is true; the page's policy forbids playwright's own way."""
    served.until(lambda: page.evaluate(true))


def search(page, text):
    page.fill("#query", text)
    page.keyboard.press("Enter")
    page.wait_for_selector("#results li")


def test_a_search_shows_places_and_marks_words(page):
    search(page, "forest island")
    first = page.locator("#results li").first
    assert page.locator("#results li").count() == 10
    assert "notes.md:" in first.locator(".place").inner_text()
    assert page.locator("#results mark").count() > 0
    assert "hits" in page.inner_text("#state")
    assert "q=forest" in page.url


def test_keys_neighbours_and_the_map(page):
    page.locator("body").click(position={"x": 5, "y": 400})
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    search(page, "forest")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    chosen = page.evaluate("document.activeElement.dataset.id")
    page.keyboard.press("n")
    wait(page, "document.querySelector('#results h2').textContent.includes('Neigh')")
    assert page.locator(f"#results li[data-id='{chosen}']").count() == 0
    assert page.locator("#map").is_visible()
    painted = "[...document.querySelector('#map').getContext('2d').getImageData(0,0,680,680).data]"
    assert page.evaluate(f"{painted}.filter(x => x).length") > 1000


def test_two_releases_side_by_side_and_a_width(page):
    search(page, "forest")
    page.select_option("#index", "store")
    wait(page, "document.querySelector('#results h2').textContent.includes('2.1')")
    page.select_option("#right", "1.1")
    page.wait_for_selector(".columns.two")
    assert page.locator("#results h2").all_inner_texts()[1].startswith("Release 1.1")
    assert "in both" in page.inner_text("#state")
    page.select_option("#right", "")
    page.select_option("#width", "8")
    wait(page, "!document.querySelector('.columns.two')")
    assert page.locator("#results li").count() == 10


def test_a_text_is_never_markup(page, server):
    texts = server.state.chains["notes"].steps[0].corpus.texts
    texts[0] = "<img src=x onerror=alert(1)> forest <script>x</script>"
    page.select_option("#index", "notes")
    page.select_option("#count", "100")
    search(page, "forest")
    assert page.locator("#results img, #results script").count() == 0
    assert "<img src=x" in page.locator("li[data-id=d0] .text").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_it_fits_a_desk_and_a_phone(page, scheme, width, tmp_path):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.select_option("#index", "store")
    search(page, "forest island")
    wait(page, "document.querySelector('#map').offsetParent !== null")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#query").bounding_box()["width"] > 180
    folder = os.environ.get("GEMB_SCREENSHOTS", str(tmp_path))
    page.screenshot(path=f"{folder}/page-{width}-{scheme}.png")
