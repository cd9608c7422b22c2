"""Explorer, predictions and progress bar in a real JupyterLab in headless Chromium."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_markdown_cell
from test_widgets import TOY, WIRED, notebook_of

from cnncourse import paths
from cnncourse.lab import desk, doctor

# The planted mistake: the same sliders and the same picture, but nobody listens to the slider.
UNWIRED = (
    TOY
    + """
import ipywidgets
page = ipywidgets.HTML(widgets._page(*widgets._rendered(parabola, {"power": 2})))
page.add_class("course-picture")
widgets.show(ipywidgets.VBox([ipywidgets.IntSlider(2, 1, 5), page]))
"""
)


CHROMIUM = doctor.browser()
needs_browser = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no chromium on this machine: the explorer was not tried in a real JupyterLab",
)


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A real JupyterLab on loopback with its own port, token, settings and folder; yields (url, token, folder)."""
    home = tmp_path_factory.mktemp("jupyter")
    folder = home / "lessons"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    settings = {
        f"JUPYTER_{name}": str(home / name.lower())
        for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    }
    settings |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--port-retries=0",
        f"--ServerApp.root_dir={folder}",
        "--expose-app-in-browser",
        "--allow-root",
        "--LabApp.news_url=None",
        next(word for word in desk.arguments() if word.startswith("--HTMLExporter")),
        "--LabApp.extension_manager=readonly",
    ]
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(
            command, env=os.environ | settings, stdout=log, stderr=log, cwd=folder
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/api/status?token={token}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (home / "log").read_text()[-2000:]
                time.sleep(0.25)
        else:
            pytest.fail(f"JupyterLab did not answer in 60 s: {(home / 'log').read_text()[-2000:]}")
        yield url, token, folder
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def page(jupyter):
    """One page of a headless Chromium in which JupyterLab is up."""
    from playwright.sync_api import sync_playwright

    url, token, _ = jupyter
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 1300})
        start_lab(page, f"{url}/lab?token={token}&reset")
        yield page
        browser.close()


def start_lab(page, address: str = "") -> None:
    """Go to JupyterLab's page, or load it again, and wait until it is up."""
    page.set_default_timeout(60_000)
    page.goto(address) if address else page.reload()
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate("window.jupyterapp.restored")


OPEN = """async ([name, kernel]) => {
    const app = window.jupyterapp;
    const preference = kernel ? {} : {shouldStart: false, canStart: false, autoStartDefault: false};
    const panel = await app.commands.execute('docmanager:open',
        {path: name, factory: 'Notebook', kernelPreference: preference});
    await panel.context.ready;
    await panel.revealed;
    for (const other of [...app.shell.widgets('main')]) {
        if (other !== panel) { other.dispose(); }
    }
    if (kernel) {
        await panel.sessionContext.ready;
        if (!panel.sessionContext.session) { throw new Error('no kernel'); }
    }
    window.panel = panel;
    return panel.content.widgets.map(cell => [cell.model.type, cell.model.getMetadata('tags') || []]);
}"""
RUN = """async index => {
    const content = window.panel.content;
    content.activeCellIndex = index;
    await window.jupyterapp.commands.execute('notebook:run-cell');
    await content.scrollToItem(index, 'start');
    content.widgets[index].node.setAttribute('data-explored', 'yes');
    const outputs = content.widgets[index].model.sharedModel.getOutputs();
    return outputs.filter(output => output.output_type === 'error').map(output => output.evalue);
}"""


def open_notebook(page, name: str, kernel: bool = True) -> list:
    """Open a notebook in JupyterLab; returns (type, tags) of every cell."""
    return page.evaluate(OPEN, [name, kernel])


def run_cells(page, indices: list[int]) -> None:
    for index in indices:
        assert page.evaluate(RUN, index) == [], f"cell {index} raised"


def shown(page) -> tuple[str, str]:
    """The picture and the sentence below it, as the cell shows them now."""
    cell = page.locator(".jp-Notebook:visible [data-explored=yes]").last
    picture = cell.locator("img").filter(visible=True)
    deadline = time.monotonic() + 60
    while picture.count() != 1 and time.monotonic() < deadline:
        cell.evaluate("node => node.scrollIntoView()")  # pictures above may have pushed it away
        page.wait_for_timeout(200)
    assert picture.count() == 1  # the live one or the stored one
    words = cell.locator(".course-picture p, .jp-RenderedText:not([data-mime-type*=stderr])")
    sentence = words.filter(visible=True).last
    return picture.get_attribute("src"), sentence.inner_text()


def move_slider(page, number: int = 0, key: str = "ArrowRight", patience: float = 15) -> tuple:
    """What is shown before and after one press of a key on a slider; an assertion fails when nothing changes."""
    before = shown(page)
    handle = page.locator(".jp-Notebook:visible [data-explored=yes] .noUi-handle").nth(number)
    handle.focus()
    handle.press(key)
    deadline = time.monotonic() + patience  # seconds
    while time.monotonic() < deadline:
        after = shown(page)
        if after[0] != before[0] and after[1] != before[1]:
            return before, after
        time.sleep(0.1)
    raise AssertionError(
        f"the slider moved, but the picture and its sentence stayed: {before[1]!r}"
    )


@needs_browser
def test_moving_a_slider_in_jupyterlab_changes_the_picture_and_the_sentence(jupyter, page):
    nbformat.write(notebook_of(WIRED), jupyter[2] / "wired.ipynb")
    open_notebook(page, "wired.ipynb")
    run_cells(page, [0])
    before, after = move_slider(page)
    assert before[1] == "x to the power 2 ends at 81" and after[1] == "x to the power 3 ends at 729"
    _, refused = move_slider(page)
    assert "move on" in refused[1] and refused[0] != after[0]
    move_slider(page, key="ArrowLeft")


@needs_browser
def test_a_slider_that_nobody_listens_to_is_caught(jupyter, page):
    nbformat.write(notebook_of(UNWIRED), jupyter[2] / "unwired.ipynb")
    open_notebook(page, "unwired.ipynb")
    run_cells(page, [0])
    with pytest.raises(AssertionError, match="stayed"):
        move_slider(page, patience=3)


@needs_browser
def test_a_saved_notebook_opened_without_a_kernel_still_shows_the_picture(jupyter, page):
    nbformat.write(notebook_of(WIRED), jupyter[2] / "saved.ipynb")
    open_notebook(page, "saved.ipynb")
    run_cells(page, [0])
    _, last = move_slider(page)
    page.evaluate("window.panel.context.save()")
    page.evaluate("window.panel.sessionContext.shutdown()")
    page.evaluate("window.panel.close()")
    (jupyter[2] / "saved.ipynb").rename(jupyter[2] / "reopened.ipynb")
    open_notebook(page, "reopened.ipynb", kernel=False)
    page.evaluate("window.panel.content.widgets[0].node.setAttribute('data-explored', 'yes')")
    assert shown(page) == last


@needs_browser
def test_a_page_exported_from_jupyterlab_has_the_words_that_stand_for_its_pictures(jupyter):
    url, token, folder = jupyter
    ran = NotebookClient(notebook_of(WIRED), timeout=60).execute()
    nbformat.write(ran, folder / "exported.ipynb")
    address = f"{url}/nbconvert/html/exported.ipynb?token={token}"
    page = urllib.request.urlopen(address, timeout=60).read().decode()
    assert 'alt="x to the power 2 ends at 81"' in page and "No description" not in page


@needs_browser
def test_sliders_of_a_page_that_is_loaded_again_still_move_their_picture(jupyter, page):
    url, token, folder = jupyter
    nbformat.write(notebook_of(WIRED), folder / "again.ipynb")
    own = page.context.browser.new_context().new_page()  # the other tests keep theirs as it is
    start_lab(own, f"{url}/lab?token={token}&reset")
    open_notebook(own, "again.ipynb")
    run_cells(own, [0])
    own.evaluate("window.panel.context.save()")
    _, last = move_slider(own)  # not saved: the file has the picture before
    start_lab(own)
    open_notebook(own, "again.ipynb")
    own.evaluate("window.panel.content.widgets[0].node.setAttribute('data-explored', 'yes')")
    own.locator(".jp-Notebook:visible .noUi-handle").first.wait_for()
    assert shown(own) == last
    _, moved = move_slider(own)
    assert "move on" in moved[1]
    own.context.close()


@needs_browser
def test_the_sliders_of_lesson_04_change_the_drawn_windows_and_the_output_size(jupyter, page):
    lesson = paths.lesson("04")
    name = shutil.copy(lesson, jupyter[2]).rsplit("/", 1)[1]
    cells = open_notebook(page, name)
    explorer = next(index for index, (_, tags) in enumerate(cells) if "explorer" in tags)
    run_cells(page, [index for index in range(explorer + 1) if cells[index][0] == "code"])
    for gate in page.locator(".jp-Notebook:visible .widget-toggle-buttons").all():
        gate.locator("button").first.click()  # a prediction hides what follows until it is made
    assert shown(page)[1] == "map 3 x 3; 40 of 49 pixels are never read"
    _, larger = move_slider(page, 0)
    assert larger[1] == "map 3 x 3; 48 of 64 pixels are never read"
    _, stride = move_slider(page, 2, "ArrowLeft")
    assert stride[1] == "map 6 x 6; 0 of 64 pixels are never read"
    _, padded = move_slider(page, 3)
    assert padded[1] == "map 8 x 8; 0 of 64 pixels are never read"
    _, dilated = move_slider(page, 4)
    assert dilated[1] == "map 6 x 6; 0 of 64 pixels are never read"
    for _ in range(2):
        _, large = move_slider(page, 1)
    assert "a window of at most 12 pixels" in large[1]


GATED = [
    'from cnncourse import exercises\nexercises.predict("04.p1", "Half of three:", ("one", "more"))',
    'print("measured 1.5")',
    'exercises.reveal("04.p1", "more", "It is 1.5.")',
    'print("drawn 1.5")',
    'print("claimed 1.5")',
    'print("the next idea")',
]


READ = """() => [...window.panel.node.querySelectorAll('.jp-OutputArea-child, .jp-MarkdownOutput')]
    .filter(node => node.offsetParent && getComputedStyle(node).filter === 'none')
    .map(node => node.innerText).join(' ')"""


def read(page, *texts: str) -> str:
    """All that can be read in the notebook once these texts can be, without sources and blurred text.

    JupyterLab draws outputs, widgets above all, some time after a cell has run.
    """
    page.wait_for_function(
        f"texts => {{ const read = ({READ})(); return texts.every(text => read.includes(text)); }}",
        arg=list(texts),
    )
    return page.evaluate(READ)


@needs_browser
def test_nothing_tells_the_answer_of_a_prediction_before_a_choice_is_made(jupyter, page):
    notebook = notebook_of(*GATED)
    notebook.cells.insert(5, new_markdown_cell("We now know 1.5."))
    nbformat.write(notebook, jupyter[2] / "gated.ipynb")
    cells = open_notebook(page, "gated.ipynb")
    run_cells(page, [index for index, (kind, _) in enumerate(cells) if kind == "code"])
    assert "1.5" not in read(page, "Half of three", "the next idea")
    page.locator(".jp-Notebook:visible button", has_text="one").click()
    told = ("measured 1.5", "It is 1.5", "drawn 1.5", "claimed 1.5", "We now know 1.5")
    assert "You predicted: one" in read(page, "You predicted: one", *told)


@needs_browser
def test_an_error_before_the_answer_of_a_prediction_is_seen(jupyter, page):
    nbformat.write(notebook_of(GATED[0], "1 // 0", *GATED[2:5]), jupyter[2] / "gated_wrong.ipynb")
    open_notebook(page, "gated_wrong.ipynb")
    run_cells(page, [0])
    assert page.evaluate(RUN, 1)  # it raised
    assert "ZeroDivisionError" in read(page, "ZeroDivisionError")


TRAINING = """
import torch
from cnncourse import data, runtime, training
runtime.start()
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2000), torch.nn.ReLU(), torch.nn.Linear(2000, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
history = training.fit(model, data.digits(), optimizer=optimizer, epochs=60, batch_size=64)
history[-2:]
"""
FAILING = TRAINING.replace(
    "epochs=60", "epochs=60, on_epoch=lambda rows: 0 // (rows[-1]['epoch'] - 50)"
)
START = """index => {
    window.panel.content.activeCellIndex = index;
    window.ended = window.jupyterapp.commands.execute('notebook:run-cell');
    return null;
}"""


def watch_bar(page) -> None:
    """Start the first cell, wait until its bar has moved twice, then until the cell has ended."""
    page.evaluate(START, 0)
    shown = set()
    deadline = time.monotonic() + 60
    while len(shown) < 3:
        assert time.monotonic() < deadline, f"the bar did not move: {shown}"
        text = page.locator(".jp-Notebook:visible .jp-OutputArea").first.inner_text()
        shown |= set(re.findall(r"epoch \d+ of 60, loss \d", re.sub(r"\s", " ", text)))
        page.wait_for_timeout(50)
    page.evaluate("window.ended")


@needs_browser
def test_a_bar_in_jupyterlab_moves_and_goes_when_training_ends(jupyter, page):
    nbformat.write(notebook_of(TRAINING), jupyter[2] / "training.ipynb")
    open_notebook(page, "training.ipynb")
    watch_bar(page)
    page.locator(".jp-Notebook:visible td", has_text="60").wait_for()  # the history's last row
    page.locator(".jp-Notebook:visible .progress-bar").first.wait_for(state="detached")


@needs_browser
def test_a_bar_in_jupyterlab_stays_in_red_where_training_failed(jupyter, page):
    nbformat.write(notebook_of(FAILING), jupyter[2] / "failing.ipynb")
    open_notebook(page, "failing.ipynb")
    watch_bar(page)
    page.locator(".jp-Notebook:visible .progress-bar-danger").wait_for()
    page.locator(".jp-Notebook:visible .jp-OutputArea", has_text="ZeroDivisionError").wait_for()
