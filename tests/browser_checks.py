"""The page in a real browser, at two widths and in both colour schemes: `make test-browser`, not `make test`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import make_contents, make_panel, resume_cell
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from vorn.records import Axes
from vorn.report import Report, build_report, write_page
from vorn.views import View

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"> \u00e4"
WORDS = ["The ", "key is ", "\U0001f511 42", "<b>. ", "Why", "?"]
SHARES = bytes([255, 0, 128, 128, 0, 255])
LONG_ENOUGH_S = 10


def found(names: tuple[str, ...]) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(
        f"none of {', '.join(names)} is on the PATH: these checks need Chromium and its driver "
        "(apt-get install chromium chromium-driver)"
    )


@pytest.fixture(scope="session")
def report() -> tuple[Report, list[Any], View]:
    """The panel of the tests, on a heat map; on f30 everyone says something hostile, and its prompt can be seen."""
    places = [Axes(down="depth", down_at=depth, across="tokens", across_at=9) for depth in (0, 0.5, 1)]
    cells = [
        replace(seen, completion=HOSTILE, answer_graded=HOSTILE) if seen.fixture_id == "f30" else seen
        for seen in (replace(seen, axes=places[seen.fixture_index % 3]) for seen in make_panel())
    ]
    ends = [len("".join(WORDS[: place + 1])) for place in range(len(WORDS))]
    view = View(
        evaluation_id="e0",
        fixture_id="f30",
        fingerprint="print of f30",
        prompt="".join(WORDS),
        token_ends=tuple(ends),
        evidence=(2, 3),
        question_start_token=4,
        kept={seen.cell_id: SHARES for seen in cells if seen.policy != "full"},
    )
    return build_report(make_contents(*cells)), cells, view


@pytest.fixture(scope="session")
def page(report: tuple[Report, list[Any], View], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, cells, view = report
    return write_page(made, cells, tmp_path_factory.mktemp("page"), [view])[0]


@pytest.fixture(scope="module", params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def browser(request: pytest.FixtureRequest, page: Path) -> Iterator[Chrome]:
    """The page, open."""
    with opened(page, *request.param) as driver:
        yield driver


@contextmanager
def opened(page: Path, width: int, scheme: str) -> Iterator[Chrome]:
    """A browser; what it has to complain about or has asked the network for is judged at the end."""
    options = ChromeOptions()
    options.binary_location = found(BROWSERS)
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root otherwise
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(found(("chromedriver",))))
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        driver.get(page.as_uri())
        yield driver
        messages = [entry["message"] for entry in driver.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    finally:
        driver.quit()
    assert messages == []
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}


def table(browser: Chrome, title: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, f'.table[data-title="{title}"]')


def rows(place: Any) -> list[list[str]]:
    """Texts of the rows that can be seen, in the order in which they stand."""
    script = """return [...arguments[0].querySelectorAll("tbody tr")].filter((row) => !row.hidden)
        .map((row) => [...row.cells].map((cell) => cell.textContent))"""
    return place.parent.execute_script(script, place)


def clear(box: Any) -> None:
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)


def test_the_page_fits_its_width_and_follows_the_colour_scheme(browser: Chrome, request: Any) -> None:
    width, scheme = request.node.callspec.params["browser"]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    colours = browser.execute_script(
        """const text = document.querySelector("figure svg text"), paper = document.querySelector("figure svg path");
        return [getComputedStyle(document.body).backgroundColor, getComputedStyle(text).fill,
                getComputedStyle(paper).fill].map((colour) => colour.match(/\\d+/g).map(Number))"""
    )
    page, ink, paper = (sum(colour[:3]) / 3 for colour in colours)
    assert page == paper
    assert (page < 64 and ink > 192) if scheme == "dark" else (page > 192 and ink < 64)
    images = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map((one) => one.clientHeight)"
    )
    assert len(images) == 9
    assert min(images) > 100


def test_a_table_sorts_by_numbers_and_by_names(browser: Chrome, report: Any) -> None:
    place = table(browser, "Cells")
    labels = [cell.cell for cell in report[0].cells]
    assert [row[0] for row in rows(place)] == labels
    heads = {name: place.find_element(By.XPATH, f".//th[button='{name}']/button") for name in ("hits", "cell")}
    hits = {cell.cell: cell.hits for cell in report[0].cells}
    heads["hits"].click()
    assert [hits[row[0]] for row in rows(place)] == sorted(hits.values(), reverse=True)
    heads["hits"].click()
    assert [hits[row[0]] for row in rows(place)] == sorted(hits.values())
    heads["cell"].click()
    assert [row[0].split("/")[0] for row in rows(place)] == sorted(label.split("/")[0] for label in labels)
    heads["cell"].click()
    assert [row[0].split("/")[0] for row in rows(place)] == sorted((one.split("/")[0] for one in labels), reverse=True)


def test_a_table_filters_and_what_is_left_can_be_copied(browser: Chrome, report: Any) -> None:
    place = table(browser, "Cells")
    box = place.find_element(By.TAG_NAME, "input")
    clear(box)
    box.send_keys("h2o TOKEN")
    wanted = [cell for cell in report[0].cells if cell.policy == "h2o" and cell.unit == "token"]
    left = rows(place)
    assert {row[0] for row in left} == {cell.cell for cell in wanted}
    assert place.find_element(By.TAG_NAME, "output").text == f"{len(wanted)} of {len(report[0].cells)} rows"
    browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    place.find_element(By.CLASS_NAME, "copy").click()
    say = place.find_element(By.TAG_NAME, "output")
    WebDriverWait(browser, LONG_ENOUGH_S).until(lambda _: "copied" in say.text)
    assert say.text == f"{len(wanted)} rows copied"
    copied = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    header, *lines = copied.rstrip("\n").split("\n")
    assert header.split("\t")[:4] == ["cell", "budget", "kept", "evidence kept"]
    assert [line.split("\t") for line in lines] == left
    clear(box)
    assert len(rows(place)) == len(report[0].cells)


def test_a_fixture_shows_its_prompt_what_was_kept_and_every_completion(browser: Chrome, report: Any) -> None:
    made, cells, _ = report
    wait = WebDriverWait(browser, LONG_ENOUGH_S)
    viewer = browser.find_element(By.CLASS_NAME, "viewer")
    pick = Select(viewer.find_element(By.CLASS_NAME, "pick"))
    hits = sum(seen.outcome == 1.0 for seen in cells if seen.fixture_id == "f30")
    assert pick.first_selected_option.text == f"f30: {hits} of {len(made.cells)} hits"
    wait.until(lambda _: len(viewer.find_elements(By.CLASS_NAME, "text")) == 2)
    script = "return [...arguments[0].children].map((one) => [one.className, one.textContent, one.style.cssText])"
    spans = browser.execute_script(script, viewer.find_element(By.CLASS_NAME, "text"))
    assert [(name, text) for name, text, _ in spans] == [
        ("", "The "),
        ("gone", "key is "),
        ("evidence", "\U0001f511 42<b>. "),
        ("question", "the question"),
        ("gone", "Why"),
        ("", "?"),
    ]
    depths = [float(style.split(":")[1].strip(" ;")) for name, _, style in spans if name != "question"]
    assert depths[0] == max(depths) > depths[2] > depths[1] == 0.0
    graded = viewer.find_element(By.CLASS_NAME, "graded")
    said = {row[0]: row[2] for row in rows(graded)}
    assert said == {cell.cell: HOSTILE for cell in made.cells}
    assert browser.title == "pocket, niah"


def test_fixtures_are_stepped_through_and_cells_compared(browser: Chrome, report: Any) -> None:
    made, cells, _ = report
    wait = WebDriverWait(browser, LONG_ENOUGH_S)
    viewer = browser.find_element(By.CLASS_NAME, "viewer")
    pick = Select(viewer.find_element(By.CLASS_NAME, "pick"))
    pane = Select(viewer.find_elements(By.CSS_SELECTOR, ".prompt select")[1])
    pane.select_by_visible_text("random/token/64")
    chosen = ".graded tr.chosen td:first-child"
    wait.until(lambda _: "random/token/64" in [one.text for one in viewer.find_elements(By.CSS_SELECTOR, chosen)])
    viewer.find_element(By.CLASS_NAME, "next").click()
    name = pick.first_selected_option.text.split(":")[0]
    assert name != "f30"
    wait.until(lambda _: viewer.find_elements(By.CLASS_NAME, "text") == [])
    outcomes = {row[0]: row[1] for row in rows(viewer.find_element(By.CLASS_NAME, "graded"))}
    labels = {cell.cell_id: cell.cell for cell in made.cells}
    ours = [seen for seen in cells if seen.fixture_id == name]
    assert outcomes == {labels[seen.cell_id]: "hit" if seen.outcome else "miss" for seen in ours}
    everyone = len(pick.options)
    split = viewer.find_element(By.CLASS_NAME, "split")
    split.click()
    wanted = {seen.fixture_id for seen in cells if seen.outcome == 0.0}  # the reference hits them all
    assert {option.text.split(":")[0] for option in pick.options} == wanted
    split.click()
    assert len(pick.options) == everyone
    viewer.find_element(By.CLASS_NAME, "next").click()
    viewer.find_element(By.CLASS_NAME, "back").click()
    assert pick.first_selected_option.text.startswith("f30:")


def test_folded_tables_open_by_keyboard(browser: Chrome) -> None:
    summary = browser.find_element(By.XPATH, "//details[summary[starts-with(., 'Table: Against full')]]/summary")
    browser.execute_script("arguments[0].focus()", summary)
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert table(browser, "Against full").is_displayed()


def test_a_page_of_resumes_fits_sorts_by_ratio_and_shows_what_cells_did(tmp_path: Path) -> None:
    """Two policies at twice and half of the baseline's time, on eight instances of two resumes."""
    verdict = {"baseline": "forecast", "bound": None, "margin": 0.05, "seed": 0}
    cells = [
        seen
        for policy, factor, hit in (
            ("full", 0.25, 0.9),
            ("forecast", 1.0, 0.5),
            ("slow", 2.0, 0.25),
            ("fast", 0.5, 0.9),
        )
        for seen in resume_cell(policy, {f"i{n}": [factor * (1 + n), factor] for n in range(8)}, outcome=hit)
    ]
    made = build_report(make_contents(*cells), verdict=verdict)
    with opened(write_page(made, cells, tmp_path)[0], 390, "dark") as browser:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        matrix = table(browser, "matrix")
        head = matrix.find_elements(By.CSS_SELECTOR, "thead button")[1]
        browser.execute_script("arguments[0].click()", head)
        ratios = [float(row[1].split()[0]) for row in rows(matrix)]
        assert ratios == sorted(ratios, reverse=True)
        assert [row[0] for row in rows(matrix)][:2] == ["slow", "forecast"]
        viewer = browser.find_element(By.CSS_SELECTOR, ".viewer")
        names = [cell.get_attribute("textContent") for cell in viewer.find_elements(By.CSS_SELECTOR, "thead th")]
        assert names == ["cell", "token hit", "matched tokens", "replay tokens", "seconds", "evictions", "fired"]
        shown = {row[0]: row[1:] for row in rows(viewer)}
        assert shown["slow/8"][:3] == ["25.0 %", "90", "40"]
        assert shown["full"][0] == "90.0 %"
        before = Select(viewer.find_element(By.CSS_SELECTOR, ".pick")).first_selected_option.text
        browser.execute_script("arguments[0].click()", viewer.find_element(By.CSS_SELECTOR, ".next"))
        assert Select(viewer.find_element(By.CSS_SELECTOR, ".pick")).first_selected_option.text != before
