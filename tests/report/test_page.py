"""The page: one file that needs nothing else, and what a browser shows of it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts.workspace import Workspace
from pipelines.drawing import bar
from pipelines.report.page import page_html, write_page
from pipelines.text import printable

from .browser import Browser, find_browser
from .made import TASKS
from .test_figures import normalised, recorded

VOID = {"meta", "link", "input", "br"}


class Reader(HTMLParser):
    """Keeps the text of each element, and what might load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(found.get("id") or tag)
        self.addresses += [found[key] or "" for key in ("src", "href", "action") if key in found]

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [], "every element is closed"
    return reader


def test_the_page_asks_for_nothing(document: dict[str, Any]) -> None:
    """It is mailed around and opened on machines without a network, years later."""
    text = page_html(document)
    reader = read(text)
    assert reader.addresses == ["data:,", "#content"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    named = set(re.findall(r"https?://[^\"'\s<]+", text))
    assert named == {"http://www.w3.org/2000/svg"}, "a name, never an address"
    assert "default-src 'none'" in text


def test_the_page_holds_the_document(document: dict[str, Any]) -> None:
    found = json.loads(read(page_html(document)).text["report"])
    assert found["rollouts"] == document["rollouts"]
    first = document["views"]["paper"]["tables"][0]["tasks"][0]["first"]
    assert found["views"]["paper"]["tables"][0]["tasks"][0]["first"] == pytest.approx(
        first, rel=1e-6
    )


def test_names_cannot_break_out_of_the_page(document: dict[str, Any]) -> None:
    """Names come from plugins and from files of others."""
    hostile = "</script><script>document.title='broken'</script> {{style}} \u2028"
    changed = {**deepcopy(document), "rollouts": [hostile]}
    reader = read(page_html(changed))
    assert json.loads(reader.text["report"])["rollouts"] == [printable(hostile)]
    assert reader.text["title"] == f"vintix: {printable(hostile)}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium, or VINTIX_CHROMIUM)")
    with Browser(program) as found:
        yield found


@pytest.fixture(scope="module")
def page(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(document, tmp_path_factory.mktemp("page") / "report.html")


ROWS = """
[...document.querySelectorAll("#tables [data-domain]")].flatMap((table) =>
  [...table.querySelectorAll("tbody tr")].map((row) => ({
    title: table.querySelector("h3").textContent,
    task: row.dataset.task,
    ...Object.fromEntries([...row.querySelectorAll("[data-field]")].map(
      (cell) => [cell.dataset.field, cell.textContent])),
  })))
"""


def shown(browser: Browser, title: str, task: str) -> dict[str, str]:
    (row,) = [row for row in browser.run(ROWS) if (row["title"], row["task"]) == (title, task)]
    return row


def choose(browser: Browser, select: str, value: str) -> None:
    browser.run(
        f"(() => {{ const one = document.getElementById({select!r}); one.value = {value!r};"
        "one.dispatchEvent(new Event('change')); })()"
    )


def test_the_tests_hear_the_console(browser: Browser, tmp_path: Path) -> None:
    """Else every page would open without a word."""
    path = tmp_path / "broken.html"
    path.write_text("<script>console.error('one'); throw new Error('two')</script>")
    browser.problems.clear()
    browser.open(path)
    assert len(browser.problems) == 2
    assert "one" in browser.problems[0] and "two" in browser.problems[1]
    browser.problems.clear()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_opens_without_a_word_on_the_console(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    """And fits: what is wider than the window would be cut off on a telephone."""
    browser.problems.clear()
    browser.requests.clear()
    browser.open(page, width, dark=dark)
    assert browser.problems == []
    assert browser.requests == [page.absolute().as_uri()], "it asks for nothing but itself"
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    drawn = browser.run("document.querySelectorAll('#figures svg path').length")
    assert drawn > 100
    outside = browser.run(
        "[...document.querySelectorAll('.panel')].filter((each) => {"
        "const svg = each.querySelector('.drawing svg').getBoundingClientRect();"
        "const box = each.getBoundingClientRect();"
        "return svg.left < box.left - 1 || svg.right > box.right + 1;}).length"
    )
    assert outside == 0
    assert "NaN" not in browser.run("document.getElementById('figures').innerHTML")


@pytest.mark.parametrize("width", [420, 800, 1200, 1400])
def test_every_score_is_in_sight(browser: Browser, page: Path, width: int) -> None:
    """Without scrolling sideways, and under the name of what it is."""
    browser.open(page, width)
    hidden = browser.run(
        "[...document.querySelectorAll('#tables .scroll')].flatMap((box) => {"
        "const frame = box.getBoundingClientRect();"
        "return [...box.querySelectorAll('[data-field], .interval')].filter((one) => {"
        "const it = one.getBoundingClientRect();"
        "return !it.width || it.left < frame.left - 1 || it.right > frame.right + 1;"
        "}).map((one) => one.textContent);})"
    )
    assert hidden == []
    named = browser.run(
        "[...document.querySelectorAll('#tables table')].every((table) =>"
        "getComputedStyle(table).display === 'table'"
        "? table.querySelector('thead').getBoundingClientRect().left > 0"
        ": [...table.querySelectorAll('td[data-name]')].every((one) =>"
        "getComputedStyle(one, '::before').content.length > 4))"
    )
    assert named


def test_the_page_begins_with_what_was_reached(
    browser: Browser, page: Path, document: dict[str, Any]
) -> None:
    browser.open(page)
    line = document["views"]["measured"]["headline"][0]
    head = browser.run("document.querySelector('h1').textContent")
    assert (
        head == f"AD: {line['first']:.2f} in the first shot, {line['last']:.2f} over the last three"
    )
    facts = browser.run("document.querySelector('.facts').textContent")
    for word in ("model-ad@v1", line["date"], "7 training, 3 seeds each", "measured scores"):
        assert word in facts


def test_the_contents_take_no_room_from_the_figures(browser: Browser, page: Path) -> None:
    """A column beside them where there is room, one line where there is none."""
    for width, most in ((420, 40), (1400, 1000)):
        browser.open(page, width)
        height, left = browser.run(
            "[document.getElementById('contents').getBoundingClientRect().height,"
            "document.getElementById('content').getBoundingClientRect().left]"
        )
        assert height < most
        assert (left > 150) == (width == 1400)
    links = browser.run("[...document.querySelectorAll('#contents a')].map((a) => a.hash.slice(1))")
    assert {"figure-domains", "tables", "provenance"} <= set(links)
    assert browser.run(f"{json.dumps(links)}.every((id) => document.getElementById(id))")


def test_page_and_picture_write_the_same_numbers(
    browser: Browser, document: dict[str, Any], tmp_path: Path
) -> None:
    """0.80 in the picture was 0.81 on the page: the mean of reported 0.86 and 0.75, cut twice."""
    changed = deepcopy(document)
    for each in changed["views"]["measured"]["figures"]:
        for panel in each["panels"]:
            panel["bars"] = [
                bar("one", 0.805 - 1e-12, task=old["task"]) for old in panel.get("bars", ())
            ]
    for each in changed["views"]["measured"]["figures"]:
        each["panels"] = [panel for panel in each["panels"] if panel["bars"]]
    changed["views"]["measured"]["figures"] = [
        each for each in changed["views"]["measured"]["figures"] if each["panels"]
    ]
    browser.open(write_page(changed, tmp_path / "page.html"))
    shown = browser.run("document.querySelector('#figure-demonstrators .drawing').textContent")
    assert "0.80" in shown and "0.81" not in shown


def test_a_film_is_in_the_page(browser: Browser, document: dict[str, Any], tmp_path: Path) -> None:
    """Shown from the page's own bytes: nothing else is opened."""
    data = io.BytesIO()
    Image.new("RGB", (64, 26), (10, 20, 30)).save(data, "GIF")
    film = {
        "caption": "reach, shot 1: return 12.0; shot 8: return 90.0",
        "media": "image/gif",
        "data": base64.b64encode(data.getvalue()).decode(),
    }
    browser.problems.clear()
    browser.requests.clear()
    path = write_page({**document, "film": film}, tmp_path / "page.html")
    browser.open(path, 420)
    browser.run("document.querySelector('#film img').decode()")
    assert browser.run("document.querySelector('#film img').naturalWidth") == 64
    assert film["caption"] in browser.run("document.getElementById('film').textContent")
    assert browser.problems == []
    asked = [each for each in browser.requests if not each.startswith("data:")]
    assert asked == [path.absolute().as_uri()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(browser: Browser, page: Path, dark: bool) -> None:
    """WCAG 2.1 AA: 4.5 for text, 3 for lines, on the page and on its cards."""
    browser.open(page, 1000, dark=dark)
    found = browser.run(
        "Object.fromEntries(['paper', 'card', 'ink', 'muted', 'guide', 'on-bar',"
        "...Array.from({length: 6}, (_, k) => `c${k}`)].map((name) =>"
        "[name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()]))"
    )
    for ground in ("paper", "card"):
        for name in ("ink", "muted", *(f"c{place}" for place in range(6))):
            assert contrast(found[name], found[ground]) >= 4.5, (name, ground)
        assert contrast(found["guide"], found[ground]) >= 3
    assert contrast(found["on-bar"], found["c0"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_numbers_shown_are_the_artifacts(
    browser: Browser, page: Path, everything: Workspace
) -> None:
    browser.open(page)
    for title, rollout in (("mujoco: AD", "model-ad"), ("mujoco: ED", "model-ed")):
        for task in ("hopper", "walker2d"):
            values_SE = recorded(everything, rollout, task)
            mean_E = normalised(values_SE).mean(axis=0)
            row = shown(browser, title, task)
            assert row["first"] == f"{mean_E[0]:.3f}"
            assert row["last"] == f"{mean_E[-3:].mean():.3f}"
            assert row["best"] == f"{mean_E.max():.3f}"
            assert row["best_shot"] == str(int(mean_E.argmax()) + 1)
            assert row["return_first"] == f"{values_SE[:, 0].mean():.1f}"
    mean = browser.run(
        "document.querySelector('#tables [data-domain=mujoco] [data-mean=mean]"
        " [data-field=last]').textContent"
    )
    expected = np.mean(
        [
            normalised(recorded(everything, "model-ad", task))[:, -3:].mean()
            for task in ("hopper", "walker2d")
        ]
    )
    assert mean == f"{expected:.3f}"


def test_the_filter_leaves_what_it_names(browser: Browser, page: Path) -> None:
    browser.open(page)
    everyone = browser.run("document.getElementById('shown').textContent")
    browser.type("#filter", "hopper, reach")
    tasks = {row["task"] for row in browser.run(ROWS)}
    assert "reach" in tasks and "hopper" in tasks and "hopper-gravity-1.1" in tasks
    assert all("hopper" in task or "reach" in task for task in tasks)
    panels = browser.run(
        "[...document.querySelectorAll('.panel[data-task]')].map((each) => each.dataset.task)"
    )
    assert set(panels) == tasks
    now = browser.run("document.getElementById('shown').textContent")
    assert now == f"{len(tasks)} of {everyone.split()[2]} tasks" != everyone
    browser.type("#filter", "no such task")
    assert browser.run(ROWS) == []
    browser.run("document.getElementById('filter').value = ''")
    browser.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    assert browser.run("document.getElementById('shown').textContent") == everyone
    assert browser.problems == []


def test_the_domain_and_the_reference_are_switched(
    browser: Browser, page: Path, document: dict[str, Any]
) -> None:
    browser.open(page)
    before = shown(browser, "mujoco: AD", "hopper")["first"]
    choose(browser, "reference", "paper")
    after = shown(browser, "mujoco: AD", "hopper")
    table = document["views"]["paper"]["tables"][0]
    row = next(row for row in table["tasks"] if row["task"] == "hopper")
    assert after["first"] == f"{row['first']:.3f}" != before
    assert after["expert"] == f"{row['expert']:,.1f}"
    assert "paper scores" in browser.run("document.getElementById('figure-domains').textContent")
    choose(browser, "domain", "metaworld")
    found = browser.run(ROWS)
    assert {row["title"].split(":")[0] for row in found} == {"metaworld"}
    assert not browser.run("!!document.getElementById('figure-tasks-mujoco')")
    assert {row["task"] for row in found} <= {*TASKS, "door-unlock", "bin-picking"}


def test_values_are_told_under_the_pointer_and_by_keys(
    browser: Browser, page: Path, everything: Workspace
) -> None:
    browser.open(page, 1400, 1000)
    browser.run("document.querySelector('#figure-domains').scrollIntoView()")
    box = browser.run(
        "(() => { const box = document.querySelector('#figure-domains svg[role=img]')"
        ".getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })()"
    )
    browser.move(box[0] + 45, box[1] + box[3] / 2)
    mean = np.mean(
        [
            normalised(recorded(everything, "model-ad", task)).mean(axis=0)
            for task in ("hopper", "walker2d")
        ],
        axis=0,
    )
    told = browser.run("document.getElementById('tip').textContent")
    assert told.startswith(f"shot 1\nmean over tasks, 2 tasks: {mean[0]:.3f} (")
    browser.move(5, 5)
    assert browser.run("document.getElementById('tip').hidden")
    browser.run("document.querySelector('#figure-domains svg[role=img]').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    told = browser.run("document.getElementById('tip').textContent")
    assert told.startswith(f"shot 2\nmean over tasks, 2 tasks: {mean[1]:.3f} (")


def test_it_is_drawn_anew_at_another_width(browser: Browser, page: Path) -> None:
    """At a telephone's width its letters are as large as at a desk's."""
    sizes = []
    for width in (1400, 400):
        browser.open(page, width)
        sizes.append(
            browser.run(
                "(() => { const svg = document.querySelector('#figures svg[role=img]');"
                "return svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; })()"
            )
        )
    assert sizes == pytest.approx([1, 1], abs=0.02)


def test_the_page_ends_with_where_it_comes_from(
    browser: Browser, page: Path, everything: Workspace
) -> None:
    browser.open(page)
    last = browser.run("document.querySelector('main > section:last-of-type').textContent")
    for kind, name in (
        ("rollouts", "model-ad"),
        ("checkpoints", "model-ed"),
        ("histories", "noise"),
    ):
        assert everything.find(kind, name).digest in last
    assert "vintix report model-ad@v1" in last
