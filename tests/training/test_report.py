"""The report: one page by itself, with all that it promises, and a browser can show it."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clickpath.cli import main
from training.report.page import Row, path, table

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
TITLES = (
    "The model beside the baselines",
    "Training",
    "Calibration",
    "ROC and precision",
    "Lift of the purchase",
    "Purchase by click",
    "Example paths",
    "Next action",
    "Model card",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("report") / "run"
    size = ["--events", "10000", "--users", "160", "--epochs", "2"]
    assert main(["train", *size, "--out", str(run)]) == 0
    assert main(["report", str(run), "--no-baselines"]) == 0
    return run / "report.html"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in ("meta", "use", "path", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_page_has_all_parts_and_is_well_formed(written: Path) -> None:
    text = written.read_text()
    assert tuple(re.findall("<h2>(.*?)</h2>", text)) == TITLES
    assert text.count("<svg") == 6
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []


def test_the_page_needs_nothing_from_elsewhere(written: Path) -> None:
    text = written.read_text()
    tags = _Tags()
    tags.feed(text)
    for name, value in tags.attributes:
        if name in ("src", "href", "xlink:href"):
            assert (value or "").startswith("#")
    assert "@import" not in text
    assert "<script" not in text
    assert not re.search(r"url\((?!#)", text)


def test_pictures_take_their_colours_from_the_page(written: Path) -> None:
    text = written.read_text()
    assert "var(--ink)" in text
    assert not re.search(r"#0[14][0-9a-f]{4}", text)


def test_ids_of_different_pictures_do_not_collide(written: Path) -> None:
    pictures = re.findall("<svg.*?</svg>", written.read_text(), flags=re.DOTALL)
    used = [{*re.findall(r'<clipPath id="([^"]+)"', picture)} for picture in pictures]
    assert sum(map(len, used)) == len(set().union(*used))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_browser_shows_it(written: Path, tmp_path: Path, scheme: int) -> None:
    assert BROWSER is not None
    picture = tmp_path / "page.png"
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage"]
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars"),
        *(f"--disable-{each}" for each in quiet),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,1400"),
        *(f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}"),
        written.as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 20_000  # an empty page is smaller


def test_names_are_escaped_and_the_model_stands_out() -> None:
    text = table(["<a>"], [Row("model", ["1 & 2"], ["0 to 3"]), Row("knn", ["2"])])
    assert "&lt;a&gt;" in text
    assert "1 &amp; 2" in text
    assert text.count('class="model"') == 1
    assert "&lt;b&gt;" in path(["<b>"], [0.0])


def test_a_directory_without_a_model_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) != 0
    assert len(capsys.readouterr().err.splitlines()) == 1
