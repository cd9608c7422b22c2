"""MTCNN's three networks with the weights of their package: alone, and as a cascade that finds faces."""

import hashlib
import pickle
import re
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.ops import nms

from cnncourse import cost, data
from cnncourse.errors import DataError, ShapeError
from cnncourse.lab import doctor
from cnncourse.models import mtcnn

NAMES = ("pnet", "rnet", "onet")
SIDES = {"pnet": 12, "rnet": 24, "onet": 48}
PLACES = {
    name: metadata.distribution(mtcnn.PACKAGE).locate_file(mtcnn.FILES[name][0]) for name in NAMES
}
FACE = (182, 66, 267, 175)  # left, top, right, bottom of the astronaut's face, by eye
EYES, NOSE, MOUTH = ((203, 101), (246, 103)), (225, 125), ((202, 139), (249, 141))  # likewise


@pytest.fixture
def planted(site_packages):
    """The folder where packages are installed, with none in it; the files of weights are not yet written."""
    for file, _ in mtcnn.FILES.values():
        (site_packages / file).parent.mkdir(parents=True, exist_ok=True)
    return site_packages


@pytest.fixture(scope="module")
def networks():
    return {name: getattr(mtcnn, name)(pretrained=True) for name in NAMES}


@pytest.fixture(scope="module")
def photographs():
    return data.photos()


# --- a cascade, as short as it can be: the reference solution stands in lesson 20


def shifted(boxes, shifts):
    """Boxes (N, 4) moved by shifts (N, 4) in their own widths and heights."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return boxes + shifts * torch.stack([width, height, width, height], 1)


def crops(images, boxes, side):
    """The squares around boxes (N, 4), black where they leave the picture: (N, 3, side, side), and the squares."""
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    squares = torch.cat([middle - half, middle + half], 1).round()
    found = []
    for left, top, right, bottom in squares.int().tolist():
        black = torch.zeros(1, 3, bottom - top, right - left)
        part = images[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        black[..., max(-top, 0) :, max(-left, 0) :][..., : part.shape[2], : part.shape[3]] = part
        found.append(F.interpolate(black, (side, side), mode="bilinear", antialias=True))
    return torch.cat(found), squares


@torch.no_grad()
def faces(networks, images, limits=(0.6, 0.7, 0.9), smallest=40):
    """Boxes (K, 4), probabilities (K,) and landmarks (K, 5, 2) in pixels, of faces from `smallest` pixels on."""
    boxes, scores = [torch.zeros(0, 4)], [torch.zeros(0)]
    scale = 12 / smallest
    while min(images.shape[2:]) * scale >= 12:
        size = [round(side * scale) for side in images.shape[2:]]
        found = networks["pnet"](F.interpolate(images, size, mode="area"))
        row, column = torch.where(found.probability[0] > limits[0])
        corner = torch.stack([column, row], 1).float() * 2
        near = shifted(torch.cat([corner, corner + 12], 1), found.box[0, :, row, column].T) / scale
        score = found.probability[0, row, column]
        kept = nms(near, score, 0.5)
        boxes.append(near[kept]), scores.append(score[kept])
        scale *= 0.709
    boxes, scores = torch.cat(boxes), torch.cat(scores)
    boxes = boxes[nms(boxes, scores, 0.7)]
    for name, limit, overlap in (("rnet", limits[1], 0.7), ("onet", limits[2], 0.3)):
        if not len(boxes):
            return boxes, torch.zeros(0), torch.zeros(0, 5, 2)
        windows, squares = crops(images, boxes, SIDES[name])
        found = networks[name](windows)
        sure = found.probability > limit
        boxes, scores = shifted(squares, found.box)[sure], found.probability[sure]
        kept = nms(boxes, scores, overlap)
        boxes, scores = boxes[kept], scores[kept]
    squares = squares[sure][kept]
    side = (squares[:, 2:] - squares[:, :2])[:, None]
    return boxes, scores, squares[:, None, :2] + found.landmarks[sure][kept] * side


def overlap(one, other):
    """Intersection over union of two boxes."""
    (a, b, c, d), (e, f, g, h) = one, other
    common = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    return common / ((c - a) * (d - b) + (g - e) * (h - f) - common)


def test_the_cascade_finds_the_astronauts_face_alone_and_its_five_points(networks, photographs):
    boxes, scores, landmarks = faces(networks, mtcnn.to_input(photographs["astronaut"]))
    assert len(boxes) == 1 and scores[0] > 0.99
    assert overlap(boxes[0].tolist(), FACE) > 0.8
    assert (landmarks[0] - torch.tensor([*EYES, NOSE, *MOUTH])).norm(dim=1).max() < 6  # pixels


def test_a_grey_photograph_of_a_face_from_the_side_is_found_too(networks, photographs):
    boxes, _, _ = faces(networks, mtcnn.to_input(photographs["camera"]))
    assert len(boxes) == 1 and overlap(boxes[0].tolist(), (200, 122, 255, 197)) > 0.6


def test_a_mirrored_face_has_its_points_in_the_same_order(networks, photographs):
    image = mtcnn.to_input(photographs["astronaut"])
    _, _, landmarks = faces(networks, image.flip(3))
    (left, right), ((mouth, at), (corner, end)) = EYES, MOUTH
    seen = [right, left, NOSE, (corner, end), (mouth, at)]  # what lay right lies left
    mirrored = torch.tensor([[511 - x, y] for x, y in seen])
    assert (landmarks[0] - mirrored).norm(dim=1).max() < 6


def test_pictures_without_faces_have_none(networks, photographs):
    for name in ("chelsea", "coffee", "rocket", "coins", "brick", "moon"):
        boxes, scores, _ = faces(networks, mtcnn.to_input(photographs[name]))
        assert len(boxes) == 0, (name, boxes, scores)


def test_each_network_tells_the_face_from_other_windows(networks, photographs):
    image = mtcnn.to_input(photographs["astronaut"])
    left, top, right, bottom = FACE
    face = torch.tensor([[left, top, right, bottom], [left - 5, top, right - 5, bottom]]).float()
    step = torch.arange(0, 380, 60)
    corner = torch.cartesian_prod(step, step).float()
    for name, side in SIDES.items():
        with torch.no_grad():
            seen = networks[name](crops(image, face, side)[0]).probability.flatten()
            other = torch.cat(
                [
                    networks[name](
                        crops(rest, torch.cat([corner, corner + 110], 1), side)[0]
                    ).probability.flatten()
                    for rest in (mtcnn.to_input(photographs[k]) for k in ("brick", "grass", "moon"))
                ]
            )
        assert seen.min() > 0.9 and other.mean() < 0.05, (name, seen, other)


def test_with_the_plain_order_of_flattening_faces_are_seen_where_none_are(
    networks, photographs, monkeypatch
):
    """The weights were trained with columns before rows; torch's own order hands them other pixels' numbers."""
    monkeypatch.setattr(mtcnn, "flattened", lambda maps: maps.flatten(1))
    for name, true in (("astronaut", 1), ("chelsea", 0)):
        boxes, _, _ = faces(networks, mtcnn.to_input(photographs[name]))
        assert len(boxes) > true, name


# --- the networks


@pytest.mark.parametrize(
    "name, parameters, multiply_adds",
    [("pnet", 6_632, 44_760), ("rnet", 100_178, 1_530_768), ("onet", 389_040, 12_909_952)],
)
def test_they_have_the_parameters_and_multiply_adds_of_the_papers_layers(
    networks, name, parameters, multiply_adds
):
    costs = cost.table(networks[name], (3, SIDES[name], SIDES[name]))
    assert (costs.parameters, costs.multiply_adds) == (parameters, multiply_adds)
    assert not costs.uncounted


@pytest.mark.parametrize("name", NAMES)
def test_the_state_dict_is_the_files_key_by_key_and_value_by_value(networks, name):
    state = torch.load(PLACES[name], weights_only=True)
    ours = networks[name].state_dict()
    assert list(ours) == list(state)
    assert all(torch.equal(ours[key], state[key]) for key in state)
    state.pop("prelu1.weight")
    with pytest.raises(RuntimeError, match="Missing key"):
        getattr(mtcnn, name)().load_state_dict(state)


def test_the_shapes_are_those_of_the_documentation(networks):
    for name, side in SIDES.items():
        found = networks[name](torch.zeros(2, 3, side, side))
        tail = (1, 1) if name == "pnet" else ()
        assert found.logits.shape == (2, 2, *tail) and found.box.shape == (2, 4, *tail)
        assert found.probability.shape == (2, *tail)
        assert torch.equal(found.probability, found.logits.softmax(1)[:, 1])
        assert (found.landmarks is None) == (name != "onet")
    assert found.landmarks.shape == (2, 5, 2)
    for height, width in ((12, 13), (20, 31), (101, 102)):
        rows, columns = networks["pnet"](torch.zeros(1, 3, height, width)).box.shape[2:]
        assert (rows, columns) == (-(-(height - 10) // 2), -(-(width - 10) // 2))


def test_pnet_in_one_pass_equals_every_window_on_its_own(networks, photographs):
    image = mtcnn.to_input(photographs["astronaut"])[..., 60:162, 170:272]  # the face
    windows = image.unfold(2, 12, 2).unfold(3, 12, 2)  # (1, 3, 46, 46, 12, 12)
    windows = windows[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
    with torch.no_grad():
        once, alone = networks["pnet"](image), networks["pnet"](windows)
    assert len(windows) == 2116 and once.probability.std() > 0.01
    for one, many in ((once.probability, alone.probability), (once.box[0], alone.box)):
        many = many.flatten() if one.ndim == 3 and len(one) == 1 else many[..., 0, 0].T
        assert torch.allclose(one.reshape(many.shape), many, rtol=0, atol=1e-5)
    moved = torch.roll(alone.probability.flatten(), 1)  # planted: every answer one window further
    assert not torch.allclose(once.probability.flatten(), moved, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_windows_get_the_same_numbers_again_and_one_by_one(networks, name):
    torch.manual_seed(0)
    windows = torch.rand(4, 3, SIDES[name], SIDES[name]) * 2 - 1
    first, again = networks[name](windows), getattr(mtcnn, name)(pretrained=True)(windows)
    trained = getattr(mtcnn, name)(pretrained=True).train()(windows)
    single = networks[name](windows[2:3])
    for number, part in enumerate(first):
        if part is not None:
            assert torch.equal(part, again[number]) and torch.equal(part, trained[number])
            assert torch.allclose(part[2:3], single[number], atol=1e-5)


def test_windows_of_another_size_are_refused(networks):
    with pytest.raises(ShapeError, match="24 x 24 pixels"):
        networks["rnet"](torch.zeros(1, 3, 48, 48))
    with pytest.raises(ShapeError, match="at least 12 x 12"):
        networks["pnet"](torch.zeros(1, 3, 11, 40))


# --- the input


def test_the_input_is_centred_and_keeps_its_size():
    ends = np.zeros((20, 30, 3), np.uint8)
    ends[:, 15:] = 255
    got = mtcnn.to_input(ends)
    assert got.shape == (1, 3, 20, 30) and got.dtype == torch.float32
    assert got.unique().tolist() == [-127.5 / 128, 127.5 / 128] and got[..., :15].max() < 0
    for same in (torch.from_numpy(ends), ends.transpose(2, 0, 1), Image.fromarray(ends)):
        assert torch.equal(mtcnn.to_input(same), got)
    with pytest.raises(ShapeError, match="np.stack") as raised:
        mtcnn.to_input(ends[..., 0])
    assert "models.mtcnn.to_input" in str(raised.value)


# --- what can be missing


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(DataError, match="--no-deps facenet-pytorch==2.6.0; make figures") as raised:
        mtcnn.onet(pretrained=True)
    assert "not installed" in str(raised.value) and "mtcnn.onet" in str(raised.value)
    assert mtcnn.onet(), "without weights it needs no package"
    said = [words for state, words in doctor._weights() if state == "FIX"]
    assert len(said) == 2 and "facenet-pytorch" in said[1]


@pytest.mark.parametrize("name", NAMES)
def test_one_changed_byte_and_a_file_cut_short_are_refused(planted, name):
    file, sha256 = mtcnn.FILES[name]
    with pytest.raises(DataError, match="--force-reinstall"):  # no file at all
        getattr(mtcnn, name)(pretrained=True)
    content = bytearray(PLACES[name].read_bytes())
    assert hashlib.sha256(content).hexdigest() == sha256
    content[20_000] ^= 1
    for wrong in (bytes(content), bytes(content[:10_000]), b""):
        (planted / file).write_bytes(wrong)
        with pytest.raises(DataError, match=f"SHA-256 {sha256[:16]}") as raised:
            getattr(mtcnn, name)(pretrained=True)
        assert str(planted / file) in str(raised.value)
        assert re.search(f"{len(wrong):,} bytes", str(raised.value))


def test_code_in_a_file_of_weights_does_not_run(planted, tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    content = pickle.dumps(Trap(), protocol=2)
    file = mtcnn.FILES["pnet"][0]
    (planted / file).write_bytes(content)
    found = hashlib.sha256(content).hexdigest()  # even with the checksum of the trap
    monkeypatch.setitem(mtcnn.FILES, "pnet", (file, found))
    with pytest.raises(pickle.UnpicklingError):
        mtcnn.weights("pnet")
    assert not (tmp_path / "ran").exists()


def test_the_package_is_not_imported():
    for name in NAMES:
        mtcnn.weights(name)
    assert "facenet_pytorch" not in sys.modules
