"""The figures: colours that stay apart, bytes that stay the same, a comparison that sees what a reader sees."""

import base64
import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import skimage.data
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2lab

from cnncourse import figures, paths
from cnncourse.errors import MachineError, ParameterError
from cnncourse.lab import reading

# Machado, Oliveira, Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
# severity 1.0, on linear RGB
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour):
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def seen(colour, blindness):
    light = np.clip(
        np.asarray(BLINDNESS[blindness]) @ linear(np.array(matplotlib.colors.to_rgb(colour))), 0, 1
    )
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNCOURSE_FIGURES", str(tmp_path))
    monkeypatch.delenv("CNNCOURSE_STYLE", raising=False)
    figures.use_style()
    yield tmp_path
    plt.close("all")


def drawing(label="0.93", shift=0.0, size=9, **settings):
    fig, ax = plt.subplots(figsize=(4, 3), **settings)
    ax.plot([0, 1, 2], np.array([1.0, 0.5, 0.2]) + shift)
    ax.text(1, 0.8, label, fontsize=size)
    ax.set(xlim=(0, 2), ylim=(0, 1), xlabel="epoch", ylabel="loss")
    return fig


def saved(id="fig-resnet-block", **changes):
    figures.save(drawing(**changes), id, caption="Loss over epochs.", alt="The loss falls.")


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_every_pair_of_colours_stays_apart_for_the_colour_blind(blindness):
    lab = [rgb2lab(seen(colour, blindness)) for colour in figures.CYCLE]
    assert min(deltaE_ciede2000(one, other) for one, other in itertools.combinations(lab, 2)) > 9


def test_the_colours_differ_in_lightness_and_stand_out_on_white():
    colours = [seen(colour, "none") for colour in figures.CYCLE]
    lightness = sorted(rgb2lab(colour)[0] for colour in colours)
    assert np.diff(lightness).min() > 11
    luminance = [linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in colours]
    assert min(1.05 / (value + 0.05) for value in luminance) > 2.3


def test_every_meaning_has_a_colour_that_a_style_file_can_change(tmp_path, monkeypatch):
    style = tmp_path / "own.mplstyle"
    style.write_text(
        "axes.prop_cycle: cycler('color', ['ff0000', '00ff00', '0000ff', '000000'])\nfont.size: 20\n"
    )
    monkeypatch.setenv("CNNCOURSE_STYLE", str(style))
    figures.use_style()
    assert all(matplotlib.colors.is_color_like(colour) for colour in figures.COLOUR.values())
    assert (
        matplotlib.colors.to_hex(figures.COLOUR["train"]) == "#ff0000"
        and plt.rcParams["font.size"] == 20
    )
    monkeypatch.delenv("CNNCOURSE_STYLE")
    figures.use_style()
    assert matplotlib.colors.to_hex("C0") == figures.CYCLE[0]


def test_a_missing_style_file_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setenv("CNNCOURSE_STYLE", "/nowhere/own.mplstyle")
    with pytest.raises(ParameterError, match=r"/nowhere/own.mplstyle[\s\S]*unset"):
        figures.use_style()


@pytest.mark.parametrize(
    "content, says",
    [
        (b"font.sise: 12\n", r"font.sise: 12[\s\S]*line 1[\s\S]*did you mean 'font.size'"),
        (b"# mine\nfont.size 12\n", r"font.size 12[\s\S]*line 2"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", r"no text[\s\S]*unset"),
        (b"font.size: large-ish-xx\n", r"readable matplotlib style file[\s\S]*font.size"),
    ],
)
def test_a_style_file_that_says_nothing_is_named_with_the_line(
    tmp_path, monkeypatch, content, says
):
    style = tmp_path / "my own.mplstyle"
    style.write_bytes(content)
    monkeypatch.setenv("CNNCOURSE_STYLE", str(style))
    with pytest.raises(ParameterError, match=says):
        figures.use_style()


def test_a_dark_style_has_its_own_background_and_ink_in_both_files(tmp_path, monkeypatch):
    style = tmp_path / "dark, with spaces.mplstyle"
    style.write_text("# dark\nfigure.facecolor: 111111\ntext.color: eeeeee  # light\n")
    for name, dark in ((str(style), 0x11), ("dark_background", 0)):
        monkeypatch.setenv("CNNCOURSE_STYLE", name)
        figures.use_style()
        png, svg = figures.pictures(drawing())
        assert np.asarray(plt.imread(io.BytesIO(png)))[0, 0, 0] == pytest.approx(dark / 255)
        background = svg.decode().partition('id="axes_1"')[0]
        assert f"#{dark:02x}{dark:02x}{dark:02x}" in background or not dark  # black is the default
        assert "#ffffff" not in background
        assert matplotlib.colors.to_rgb(figures.COLOUR["ink"])[0] > 0.9
    monkeypatch.delenv("CNNCOURSE_STYLE")
    figures.use_style()
    assert matplotlib.colors.to_rgb(figures.COLOUR["ink"])[0] < 0.2


# Small files


def test_a_png_has_a_palette_and_looks_the_same():
    fig = drawing()
    full = io.BytesIO()
    fig.savefig(full, format="png", dpi=figures.DOTS_PER_INCH, metadata={"Software": None})
    few = figures.quantised(full.getvalue())
    assert few == figures.quantised(full.getvalue())
    picture = Image.open(io.BytesIO(few))
    assert picture.mode == "P" and picture.info["dpi"][0] == pytest.approx(160, abs=0.1)
    assert len(few) < 0.6 * len(full.getvalue())
    assert figures.difference(full.getvalue(), few) < 0.02


def test_photographs_are_dithered_so_that_every_spot_has_its_colour():
    fig, ax = plt.subplots(figsize=(4, 4))
    ax.imshow(skimage.data.astronaut())
    full = io.BytesIO()
    fig.savefig(full, format="png", dpi=figures.DOTS_PER_INCH)
    png, svg = figures.pictures(fig)
    spots = [
        gaussian_filter(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float), (3, 3, 0))
        for data in (full.getvalue(), figures.quantised(full.getvalue()))
    ]
    assert np.abs(spots[0] - spots[1]).max() < figures.FURTHEST_COLOUR
    assert len(png) < 0.45 * len(full.getvalue()) and len(svg) < 0.7 * len(full.getvalue())


def test_a_picture_with_transparent_parts_stays_as_it_is():
    clear = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(clear, format="PNG")
    assert figures.quantised(clear.getvalue()) == clear.getvalue()


@pytest.mark.parametrize("kind", ["markers", "scatter", "regions", "line", "few"])
def test_clouds_and_regions_are_pictures_inside_the_svg_and_lines_stay_lines(kind):
    x, y = np.random.default_rng(0).normal(size=(2, 3000))
    fig, ax = plt.subplots(figsize=(8, 4))
    draw = {
        "markers": lambda: ax.plot(x, y, "o"),
        "scatter": lambda: ax.scatter(x, y),
        "regions": lambda: ax.contourf(np.sin(np.arange(10000).reshape(100, 100) / 3)),
        "line": lambda: ax.plot(np.sort(x), y),
        "few": lambda: ax.plot(x[:20], y[:20], "o"),
    }
    draw[kind]()
    ax.set(xlabel="epoch")
    svg = figures.pictures(fig)[1].decode()
    assert ("<image" in svg) is (kind not in ("line", "few"))
    assert len(svg) < 150_000 and "<!-- epoch -->" in svg
    again, ax = plt.subplots(figsize=(8, 4))
    draw[kind]()
    ax.set(xlabel="epoch")
    assert figures.pictures(again)[1].decode() == svg


# Letters


@pytest.mark.parametrize(
    "size, height, pixels",
    [(10, 4.5, 10 / 72 * 240), (10, 8, 10 / 72 * 135), (7, 4, 7 / 72 * 240)],
)
def test_the_smallest_letters_are_measured_as_on_a_full_screen(size, height, pixels):
    fig, ax = plt.subplots(figsize=(8, height))
    ax.text(0.5, 0.5, "small", fontsize=size)
    ax.text(0.5, 0.2, "", fontsize=1)
    ax.text(0.5, 0.2, "hidden", fontsize=1, visible=False)
    other = fig.add_axes([0, 0, 1, 1])
    other.set_title("off", fontsize=1)
    other.set_visible(False)
    assert figures.smallest_letters(fig) == (pytest.approx(pixels, abs=0.06), "small")


def test_ticks_that_an_axis_does_not_draw_do_not_count():
    fig, ax = plt.subplots(figsize=(8, 4))
    ax.tick_params(labelsize=3)
    assert figures.smallest_letters(fig)[0] == 10
    ax.axis("off")
    assert figures.smallest_letters(fig) == (None, "")


def test_letters_that_nobody_reads_are_an_error_of_the_lesson(scratch):
    saved(size=5)
    record = json.loads((scratch / "fig-resnet-block.json").read_text())
    assert record["smallest_text"] == "0.93" and record["smallest_px"] == 25.0  # 5 pt, 4 x 3 inches
    cell = SimpleNamespace(outputs=[{"metadata": {"image/png": record}}])
    assert list(reading._letters([cell])) == []
    record["smallest_px"] = 20.1
    assert "'0.93' has letters of 20 pixels" in list(reading._letters([cell]))[0]
    record["smallest_px"] = None
    assert list(reading._letters([cell])) == []


def test_letters_are_at_least_11_points():
    sizes = [
        value
        for key, value in figures.STYLE.items()
        if key.endswith("size") and "marker" not in key
    ]
    sizes = [value for value in sizes if not isinstance(value, tuple)]  # figsize
    assert len(sizes) >= 6 and min(sizes) >= 11


def test_two_processes_write_the_same_bytes_whatever_the_users_own_settings(tmp_path):
    script = """if True:
        import matplotlib; matplotlib.use("Agg")
        import matplotlib.pyplot as plt; from cnncourse import figures
        figures.use_style()
        fig, axes = plt.subplots(1, 2); axes[0].plot([1, 3, 2]); axes[1].imshow([[1, 2], [3, 4]])
        figures.save(fig, "fig-resnet-block", caption="c", alt="a")"""
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: none\naxes.grid: True\n")
    found = []
    for run, extra in enumerate(
        ({}, {"MATPLOTLIBRC": str(tmp_path), "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "5"})
    ):
        target = tmp_path / str(run)
        own = os.environ | {"CNNCOURSE_FIGURES": str(target)} | extra
        subprocess.run([sys.executable, "-c", script], check=True, env=own)
        found.append({path.name: path.read_bytes() for path in target.iterdir()})
    assert sorted(found[0]) == [f"fig-resnet-block.{ending}" for ending in ("json", "png", "svg")]
    assert found[0] == found[1]
    assert (
        b"<text" not in found[0]["fig-resnet-block.svg"]
        and b"<dc:date>" not in found[0]["fig-resnet-block.svg"]
    )


def test_noise_in_the_last_digits_of_the_layout_changes_no_byte():
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    class Noisy(
        ConstrainedLayoutEngine
    ):  # as the real one is: it orders its equations by memory addresses
        def execute(self, fig):
            super().execute(fig)
            for ax in fig.axes:
                ax._set_position(
                    np.array(ax.get_position(original=True).bounds) + noise, which="original"
                )

    found = []
    for noise in (0, 3e-14):  # noqa: B007 - the engine adds it
        fig, axes = plt.subplots(1, 3, layout=Noisy())
        shown = axes[0].imshow([[1, 2], [3, 4]])
        fig.colorbar(shown, ax=axes[0])
        axes[1].plot([1, 2], label="line")
        axes[2].inset_axes([0.5, 0.5, 0.4, 0.4]).plot([1, 2])
        fig.supxlabel("all of them")
        found.append(figures.pictures(fig))
    assert found[0] == found[1]


def test_the_record_beside_a_figure_names_its_lesson_and_hashes(tmp_path):
    saved("fig-resnet-block.detail")
    record = json.loads((tmp_path / "fig-resnet-block.detail.json").read_text())
    assert record["lesson"] == "14_resnet"
    assert (record["caption"], record["alt"]) == ("Loss over epochs.", "The loss falls.")
    for ending in ("svg", "png"):
        content = (tmp_path / f"fig-resnet-block.detail.{ending}").read_bytes()
        assert record["sha256"][ending] == hashlib.sha256(content).hexdigest()
    assert set(record["versions"]) == {"torch", "matplotlib", "numpy"}


def test_saving_closes_the_figure():
    saved()
    assert plt.get_fignums() == []


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'fig-resnet-block'"):
        saved("fig-resnet-blok")
    with pytest.raises(ParameterError):
        saved("../fig-resnet-block")


@pytest.mark.parametrize("missing", ["caption", "alt"])
def test_a_figure_without_words_is_refused(missing):
    words = {"caption": "Loss.", "alt": "It falls."} | {missing: " "}
    with pytest.raises(ParameterError, match=missing):
        figures.save(drawing(), "fig-resnet-block", **words)


def test_a_picture_that_is_not_published_has_words_and_leaves_no_file(scratch, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("IPython.display.display", lambda data, **more: shown.append((data, more)))
    figures.show(drawing(), alt="The loss falls.")
    assert plt.get_fignums() == [] and list(scratch.iterdir()) == []
    ((data, more),) = shown
    told = more["metadata"]["image/png"]
    assert data["text/plain"] == told["alt"] == "The loss falls."
    assert told["width"] == 384 and told["smallest_px"] == 45.0  # 9 pt, 360 pixels an inch
    assert base64.b64decode(data["image/png"]) == figures.pictures(drawing())[0]


def test_a_picture_shown_without_words_is_refused():
    with pytest.raises(ParameterError, match="a sentence for alt"):
        figures.show(drawing(), alt=" ")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNNCOURSE_FIGURES", str(tmp_path / "file" / "folder"))
    with pytest.raises(MachineError, match=r"file/folder[\s\S]*CNNCOURSE_FIGURES"):
        saved()


def test_interactive_figures_never_touch_the_published_ones(monkeypatch):
    monkeypatch.delenv("CNNCOURSE_FIGURES")
    assert figures.folder("14_resnet") == paths.build() / "figures" / "14_resnet"


def png(fig, **changes):
    with matplotlib.rc_context(changes):
        image = figures.pictures(fig)[0]
    plt.close(fig)
    return image


@pytest.mark.parametrize(
    "changed", ["0.98", "0.90", "0.83", "0.95", "0,93", "-0.93", "0.9", "0.39"]
)
def test_a_changed_digit_in_a_small_label_is_another_picture(changed):
    assert not figures.same_picture(png(drawing("0.93")), png(drawing(changed)))


def test_a_curve_that_moved_by_two_pixels_is_another_picture():
    assert not figures.same_picture(png(drawing()), png(drawing(shift=0.006)))


def test_other_antialiasing_is_the_same_picture(tmp_path):
    plain = png(drawing())
    assert figures.same_picture(plain, plain)
    assert figures.same_picture(plain, png(drawing(shift=0.002)))  # 0.7 pixels
    fixed = png(drawing(layout="none"))
    assert figures.same_picture(fixed, png(drawing(layout="none"), **{"text.hinting": "none"}))
    file = tmp_path / "one.png"
    file.write_bytes(plain)
    assert figures.same_picture(file, plain)


def test_a_picture_of_another_size_is_another_picture():
    small = io.BytesIO()
    plt.imsave(small, np.zeros((4, 4)))
    assert figures.difference(small.getvalue(), png(drawing())) == 1.0
