"""The viewer in a real browser, headless; skips where there is none."""

import argparse
import importlib.util
import json
import pathlib
import shutil
import threading

import pytest

from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.solve import ensemble
from hrm_jax.view import __main__ as view
from hrm_jax.view import page as page_module
from hrm_jax.view.report import LEVELS, nearest_level
from hrm_jax.view.server import Server
from tests import viewed
from tests.commands import Commands
from tests.test_solve import PUZZLE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
  pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None,
    reason="the wheel playwright is not installed",
  ),
]

PHONE = {"width": 375, "height": 812}


@pytest.fixture(scope="module")
def chromium():
  from playwright.sync_api import sync_playwright

  with sync_playwright() as playwright:
    # Containers have no user namespaces for its sandbox.
    browser = playwright.chromium.launch(
      executable_path=CHROMIUM, args=["--no-sandbox"]
    )
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def made(tiny_run, tmp_path_factory):
  """A report, the data it shows, and what the command said of it."""
  folder = tmp_path_factory.mktemp("viewed")
  prepared = viewed.prepare(tiny_run, folder / "data")
  flags = [*prepared.flags, f"--out={folder / 'r.html'}"]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(view, "load_from", viewed.load_restless)
    result = view.write(view._parser().parse_args(flags))
  return argparse.Namespace(
    path=folder / "r.html",
    result=result,
    flags=prepared.flags,
    recording=prepared.recording,
  )


class Watched:
  """A page, and what it must not do: fail, or ask the network."""

  def __init__(self, chromium, **context):
    self.errors, self.requests = [], []
    self.context = chromium.new_context(**context)
    self.page = self.context.new_page()
    self.page.on(
      "console",
      lambda message: (
        self.errors.append(message.text)
        if message.type in ("error", "warning")
        else None
      ),
    )
    self.page.on("pageerror", lambda error: self.errors.append(str(error)))
    self.page.on("request", lambda request: self.requests.append(request.url))

  def open(self, url):
    self.page.goto(url)
    self.page.wait_for_selector("html[data-ready]")
    return self.page

  def text(self, selector):
    return self.page.locator(selector).first.inner_text()

  def score(self, name):
    return float(self.page.locator(f"#score-{name}").get_attribute("value"))


@pytest.fixture
def watched(chromium, made):
  """The report, open; it may ask for nothing but itself."""
  found = Watched(chromium)
  found.open(made.path.as_uri())
  yield found
  found.context.close()
  assert found.errors == []
  foreign = ("http:", "https:", "ws:", "wss:")
  assert [url for url in found.requests if url.startswith(foreign)] == []


def chosen(watched, label, option):
  box = watched.page.get_by_role("combobox", name=label, exact=True)
  box.select_option(option)


def test_the_numbers_are_those_of_evaluate(watched, made, monkeypatch, capsys):
  monkeypatch.setattr(ensemble, "load_from", viewed.load_restless)
  command = Commands(monkeypatch, capsys)
  for halt in ("act", "full"):
    want = command(evaluate, *made.flags, f"--halt={halt}")
    chosen(watched, "Answers counted", halt)
    for name in ("exact_accuracy", "accuracy", "q_halt_accuracy", "steps"):
      assert watched.score(name) == pytest.approx(
        want["sets"]["all"][name], rel=1e-6
      )
    watched.page.locator(".charts summary").first.click()
    rows = watched.page.locator(".charts figure").first.locator("tr")
    column = {"full": 1, "act": 2}[halt]
    shown = [
      row.locator("td, th").nth(column).inner_text() for row in rows.all()[1:]
    ]
    by_segment = want["exact_accuracy_by_segment"]
    assert shown == [f"{100 * share:.2f} %" for share in by_segment]
    assert watched.score("puzzles") == want["sets"]["all"]["count"] == 27


def test_segments_are_played_by_keys_and_by_buttons(watched):
  page = watched.page
  page.keyboard.press("Home")
  assert "as the network gets it" in watched.text("#segment-status")
  page.keyboard.press("ArrowRight")
  assert watched.text("#answer-title") == "After segment 1"
  page.get_by_role("button", name="One segment forward").click()
  assert watched.text("#answer-title") == "After segment 2"
  page.get_by_role("button", name="One segment back").click()
  assert watched.text("#answer-title") == "After segment 1"
  page.keyboard.press("End")
  last = f"After segment {viewed.SEGMENTS}"
  assert watched.text("#answer-title") == last
  page.get_by_role("button", name="Segment 3").click()
  assert watched.text("#answer-title") == "After segment 3"
  page.get_by_role("button", name="Play").click()
  page.get_by_role("heading", name=last, exact=True).wait_for()
  page.get_by_role("button", name="Play").wait_for()  # It has ended.


def test_a_board_shows_answers_changes_and_mistakes(watched, made):
  held = viewed.page_data(made.path.read_text())
  recording = made.recording
  page = watched.page
  page.get_by_role("button", name="#5").click()
  page.get_by_role("button", name="Segment 2").click()
  cells = page.locator("#answer-title + .board [data-cell]")
  answer, before = recording.answers[5, 1], recording.answers[5, 0]
  symbols = [cell.inner_text().split()[0] for cell in cells.all()]
  assert symbols == [held["symbols"][token] for token in answer]
  changed = page.locator("#answer-title + .board .changed")
  assert changed.count() == int((answer != before).sum()) > 0
  # Cell 3 has a solution that nobody answers.
  assert "mistake" in cells.nth(3).get_attribute("class")
  cells.nth(3).hover()
  detail = watched.text("#cell-detail")
  assert detail.startswith("Row 1, column 4: ")
  percent = recording.confidence[5, 1, 3]
  assert f"{LEVELS[nearest_level(percent)]} % sure" in detail
  assert "expected" in detail
  page.locator(".board:visible").last.focus()
  page.keyboard.press("ArrowRight")
  assert watched.text("#cell-detail").startswith("Row 1, column 2: ")
  assert watched.text("#answer-title") == "After segment 2"


def test_filters_leave_what_they_say(watched, made):
  page = watched.page
  solved = round(27 * made.result["full"]["exact_accuracy"])
  assert 0 < solved < 27
  chosen(watched, "Outcome", "solved")
  assert watched.text("#list-title") == f"{solved} of 27 puzzles"
  assert page.locator(".puzzles li").count() == solved
  assert watched.score("exact_accuracy") == 1.0
  chosen(watched, "Outcome", "unsolved")
  assert watched.text("#list-title") == f"{27 - solved} of 27 puzzles"
  page.get_by_label("right once, then left").check()
  left = page.locator(".puzzles li").count()
  assert 0 < left < 27 - solved
  page.locator(".puzzles button").first.click()
  assert "left a right answer again" in watched.text(".facts")
  page.get_by_role("button", name="Show all").click()
  assert watched.text("#list-title") == "27 puzzles"
  halts = viewed.page_data(made.path.read_text())["halts_after"]
  chosen(watched, "Segments used", "1")
  assert page.locator(".puzzles li").count() == halts.count(1) > 0
  page.get_by_role("button", name="Show all").click()
  page.get_by_label("Least difficulty").fill("8")
  most = page.locator(".puzzles li").count()
  page.get_by_label("Most difficulty").fill("8")
  assert 0 < page.locator(".puzzles li").count() < most < 27
  chosen(watched, "Difficulty", "1")
  assert page.locator(".puzzles li").count() == 1
  page.get_by_label("Least difficulty").fill("")
  # 0 to 8, and 7.5 six times.
  assert page.locator(".puzzles li").count() == 9 + 6
  page.locator(".puzzles button").first.click()
  assert "0 rating" in watched.text(".facts")


def test_bars_by_rating_share_the_puzzles_that_have_one(watched):
  chosen(watched, "Difficulty", "1")
  chart = watched.page.locator("figure", has_text="Solved, by rating")
  rows = chart.locator("tr:has(td)").all()
  counts = [int(row.locator("td").last.text_content()) for row in rows]
  assert sum(counts) == 27
  # Six puzzles have one rating, which no bin parts.
  assert len(rows) < 8
  assert max(counts) == 6


def test_keys_go_from_puzzle_to_puzzle(watched):
  page = watched.page
  page.keyboard.press("ArrowDown")
  page.keyboard.press("ArrowDown")
  assert watched.text("#player-title") == "Puzzle #2"
  page.keyboard.press("ArrowUp")
  assert "Puzzle #1" in watched.text("#player-title")
  page.keyboard.press("?")
  assert page.locator("dialog").is_visible()
  page.keyboard.press("Escape")
  # The browser closes it in its own time, and keeps the keys until then.
  page.locator("dialog").wait_for(state="hidden")
  page.keyboard.press("/")
  page.keyboard.type("img")
  assert watched.text("#list-title") == "13 of 27 puzzles"


def test_a_name_from_the_data_stays_text(watched):
  page = watched.page
  page.get_by_role("button", name="#1 <img").click()
  assert watched.text("#player-title") == f"Puzzle #1 {viewed.EVIL}"
  assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, {"width": 1440, "height": 900}])
def test_nothing_keeps_people_out(chromium, made, scheme, size):
  axe = pytest.importorskip("axe_playwright_python")
  source = pathlib.Path(axe.__file__).with_name("axe.min.js").read_text()
  found = Watched(chromium, color_scheme=scheme, viewport=size)
  page = found.open(made.path.as_uri())
  page.keyboard.press("Home")
  page.keyboard.press("ArrowRight")
  for details in page.locator("details").all():
    details.evaluate("element => { element.open = true; }")
  assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
  page.evaluate(source)
  report = page.evaluate("axe.run()")
  assert len(report["passes"]) > 20
  faults = [
    (fault["id"], fault["nodes"][0]["html"][:100])
    for fault in report["violations"]
    if fault["impact"] in ("serious", "critical")
  ]
  assert faults == []
  assert found.errors == []
  found.context.close()


def test_the_theme_can_be_chosen(watched):
  page = watched.page
  colour = "getComputedStyle(document.body).backgroundColor"
  seen = set()
  for _ in range(3):
    page.locator("#theme").click()
    seen.add((page.locator("#theme").inner_text(), page.evaluate(colour)))
  assert {text for text, _ in seen} == {
    "Theme: light",
    "Theme: dark",
    "Theme: system",
  }
  assert len({shade for _, shade in seen}) == 2


@pytest.fixture(scope="module")
def served(made):
  """The report at an address, with a box to type puzzles into."""
  args = view._parser().parse_args([*made.flags, "--serve"])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(view, "load_from", viewed.load_restless)
    found = view.make(args)
  server = Server(host="127.0.0.1", port=0)
  server.show(found.html, found.live)
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  yield server
  server.shutdown()
  thread.join()
  server.server_close()


def test_a_typed_puzzle_is_solved_and_a_wrong_one_gets_its_line(
  chromium, served, monkeypatch
):
  live, goes_on = served.solve, threading.Event()

  def haltingly(text):
    lines = live(text)
    yield next(lines)
    assert goes_on.wait(60)
    if text.endswith(" "):
      raise RuntimeError("out of memory")
    yield from lines

  monkeypatch.setattr(served, "solve", haltingly)
  found = Watched(chromium)
  page = found.open(served.url)
  page.get_by_label("Type or paste a puzzle").fill("12")
  page.get_by_role("button", name="Solve", exact=True).click()
  page.locator("#live-error:not(:empty)").wait_for()
  assert "expected 16 cells" in found.text("#live-error")
  # The browser itself tells of an answer that is an error.
  assert all("400" in error for error in found.errors)
  found.errors.clear()
  page.get_by_label("Type or paste a puzzle").fill(PUZZLE)
  page.get_by_role("button", name="Solve", exact=True).click()
  page.get_by_role("heading", name="Puzzle typed 1").wait_for()
  # The first segment is shown while the network thinks about the second.
  page.get_by_role("heading", name="After segment 1", exact=True).wait_for()
  assert page.locator(".steps li").count() == 1
  assert "thinking" in found.text(".facts")
  goes_on.set()
  page.get_by_role("button", name="Play").wait_for()  # Played to its end.
  assert found.text("#answer-title") == f"After segment {viewed.SEGMENTS}"
  assert page.locator(".steps li").count() == viewed.SEGMENTS
  assert "thinking" not in found.text(".facts")
  assert found.text("#live-error") == ""
  assert "obeys the rules: " in found.text("#segment-status")
  clues = page.locator("#answer-title + .board .given")
  assert clues.count() == 16 - PUZZLE.count(".")
  assert found.text("#list-title") == "28 puzzles"
  page.get_by_label("Type or paste a puzzle").fill(f"{PUZZLE} ")
  page.get_by_role("button", name="Solve", exact=True).click()
  page.locator("#live-error:not(:empty)").wait_for()
  assert "the network failed" in found.text("#live-error")
  assert "halts after segment 1" in found.text(".facts")
  assert found.errors == []
  found.context.close()


def test_without_a_data_set_the_box_stands_alone_until_it_is_used(
  chromium, served, exported, monkeypatch
):
  args = view._parser().parse_args([f"--model={exported}", "--serve"])
  monkeypatch.setattr(served, "page", view.make(args).html.encode())
  found = Watched(chromium, viewport=PHONE)
  page = found.open(served.url)
  assert "no data set" in found.text("header")
  parts = page.locator(".bar, .filters, .list, .player, .charts")
  assert [part.is_visible() for part in parts.all()] == [False] * 5
  for key in ("ArrowLeft", "End", "ArrowDown", "ArrowUp", " ", "/"):
    page.keyboard.press(key)
  page.get_by_label("Type or paste a puzzle").fill(PUZZLE)
  page.get_by_role("button", name="Solve", exact=True).click()
  page.get_by_role("heading", name="Puzzle typed 1").wait_for()
  assert [part.is_visible() for part in parts.all()] == [True] * 5
  assert found.errors == []
  found.context.close()


def test_a_page_from_elsewhere_learns_nothing(chromium, served, tmp_path):
  token = served.url.split("token=")[1]
  other = tmp_path / "other.html"
  other.write_text("<title>elsewhere</title>")
  found = Watched(chromium)
  found.page.goto(other.as_uri())
  ask = f"""fetch("http://127.0.0.1:{served.server_port}/solve", {{
    method: "POST", headers: {{"X-Token": {json.dumps(token)}}}, body: "1"
  }}).then(() => "read", () => "refused")"""
  assert found.page.evaluate(ask) == "refused"
  found.page.goto(served.url.split("?")[0])
  assert "the address lacks its token" in found.page.content()
  found.context.close()


def test_the_page_says_why_it_cannot_be_shown(chromium, tmp_path):
  path = tmp_path / "broken.html"
  path.write_text(page_module.build({"inputs": "?"}, title="t"))
  found = Watched(chromium)
  found.page.goto(path.as_uri())
  found.page.locator("[role=alert]").wait_for()
  assert "cannot be shown" in found.text("[role=alert]")
  found.context.close()
