"""The slides in a browser without a network: every one of them fits, and is large enough to be read."""

import shutil

import pytest
from browser.lab import CHROMIUM_FLAGS, SCREENSHOTS

from course_lib.classroom.location import LESSONS
from course_lib.classroom.slides import HEIGHT, WIDTH, make_slides
from course_lib.classroom.workspace import lesson_names

NAMES = [name for name in lesson_names() if "hw" not in name]
SMALLEST = 0.6  # of the type's full size: code then has 11 of 720 lines, a tenth more than this page's own
# what sticks out of the page, or is wider than the box that clips it
CLIPPED = """() => {
  const slide = Reveal.getCurrentSlide(), found = [];
  for (const one of slide.querySelectorAll(".fit, .fit pre, .fit img, .fit table")) {
    const box = one.getBoundingClientRect();
    if (box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight ||
        one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX !== "visible")
      found.push(`${one.tagName} ${Math.round(box.left)} ${Math.round(box.top)} ${Math.round(box.right)} ` +
                 `${Math.round(box.bottom)}: ${one.innerText.slice(0, 80)}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here: `apt-get install chromium` (Debian) installs what the browser tests need")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_clipped_or_too_small_and_nothing_comes_from_elsewhere(name, browser, tmp_path):
    path = make_slides(LESSONS / name, tmp_path)
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady() && document.querySelector('.fit').dataset.size")
    sizes = page.evaluate("[...document.querySelectorAll('.fit')].map(box => [+box.dataset.size, box.innerText])")
    assert [text[:80] for size, text in sizes if size < SMALLEST] == []
    total = page.evaluate("Reveal.getTotalSlides()")
    assert total > 25
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for number in range(total):
        assert page.evaluate(CLIPPED) == [], f"slide {number + 1}"
        if number == 4:
            page.screenshot(path=SCREENSHOTS / f"slides_{path.stem}.png")
        page.evaluate("Reveal.next()")
    assert errors == []
    assert {url.split(":")[0] for url in asked} <= {"file", "data"} and sum(
        url.startswith("file") for url in asked
    ) == 1
    page.close()
