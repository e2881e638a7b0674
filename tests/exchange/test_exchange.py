"""Models out as bioimage.io packages and in again; and packages that were made to harm."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from network_kit import as_frame, blob_network, disc_frame, make_bundle
from onnx import parser

import livescope
from livescope.analysis import FrameAnalyser
from livescope.detect.bundle import Bundle, load_bundle
from livescope.errors import ModelError
from livescope.exchange.adopt import adopt
from livescope.exchange.bioimage import export_package
from livescope.settings import DetectorSettings

Change = Callable[[dict[str, bytes], dict[str, Any]], None]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_package(load_bundle("suspension"), tmp_path_factory.mktemp("out") / "suspension.zip")


def test_a_bundle_comes_back_as_it_went(exported: Path, tmp_path: Path) -> None:
    before, made = load_bundle("suspension"), adopt(exported, tmp_path / "again.onnx")
    assert made.checked == "test tensors reproduced"
    assert made.bundle.onnx_path.read_bytes() == before.onnx_path.read_bytes()
    assert made.bundle.card == before.card.model_copy(update={"int8": None})
    seen = (path.with_suffix(".seen.txt").read_text() for path in (before.onnx_path, made.bundle.onnx_path))
    assert len(set(seen)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.card.yaml", "again.onnx", "again.seen.txt"]
    card = before.onnx_path.with_suffix(".card.yaml")
    with_card = adopt(exported, tmp_path / "own" / "again.onnx", card).bundle.onnx_path
    assert with_card.with_suffix(".seen.txt").is_file()  # the network was trained on them whatever the card
    frame = as_frame(disc_frame([(40, 40)], [(90, 60)], (128, 128)))
    calls = [
        FrameAnalyser(bundle, DetectorSettings(backend="onnx", threads=1))(frame).calls
        for bundle in (before, made.bundle)
    ]
    np.testing.assert_array_equal(calls[0].p_dead, calls[1].p_dead)


def test_nothing_of_an_older_bundle_stays_beside_the_new_one(exported: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "net[1].onnx"  # as a browser names a second download
    adopt(exported, out)
    out.with_suffix(".int8.onnx").write_bytes(b"of the old one")
    network = tmp_path / "mine.onnx"
    network.write_bytes(parser.parse_model(MAP).SerializeToString())
    adopt(network, out, example_card(root, tmp_path))
    assert out.read_bytes() == network.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("net*")) == ["net[1].card.yaml", "net[1].onnx"]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_package_is_told(tmp_path: Path, method: int) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", method) as package:
        package.writestr("bioimageio.yaml", "type: model\n" * 500)
    content = bytearray(path.read_bytes())
    start = 30 + len("bioimageio.yaml") + (9 if method == zipfile.ZIP_LZMA else 0)  # behind the headers
    content[start : start + 12] = b"\xff" * 12
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"'bioimageio\.yaml' in .* cannot be unpacked: .* Get it again"):
        adopt(path, tmp_path / "again.onnx")


def test_an_unpacked_package_is_taken_as_well(exported: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported) as package:
        package.extractall(tmp_path / "package")
    assert adopt(tmp_path / "package", tmp_path / "again.onnx").bundle.name == "suspension"


def test_bioimageio_core_passes_it_and_a_foreign_one(exported: Path, foreign: Path) -> None:
    """In a process of its own: bioimageio.core leaves files open, which are errors here."""
    pytest.importorskip("bioimageio.core", reason="needs livescope[bioimageio]")
    code = "import sys; from livescope.exchange.bioimage import validated; [print(validated(p)) for p in sys.argv[1:]]"
    command = [sys.executable, "-W", "ignore", "-c", code, str(exported), str(foreign)]
    environment = {**os.environ, "PYTHONPATH": str(Path(livescope.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("description valid, test tensors reproduced") == 2


def test_a_network_that_does_not_do_what_it_did_is_refused(exported: Path, tmp_path: Path) -> None:
    def spoil(files: dict[str, bytes], tree: dict[str, Any]) -> None:
        files["radii.npy"] = npy(np.load(io.BytesIO(files["radii.npy"])) + 1)
        for one in tree["outputs"]:
            one["test_tensor"].pop("sha256")

    with pytest.raises(ModelError, match=r"differs from its test tensors by 1\. Get it again"):
        adopt(changed(exported, tmp_path, spoil), tmp_path / "again.onnx")


def changed(package: Path, folder: Path, change: Change) -> Path:
    """A copy of a package with some of its files changed."""
    with zipfile.ZipFile(package) as source:
        files = {name: source.read(name) for name in source.namelist()}
    name = "rdf.yaml" if "rdf.yaml" in files else "bioimageio.yaml"
    tree = yaml.safe_load(files[name])
    change(files, tree)
    files[name] = yaml.safe_dump(tree).encode()
    out = folder / "changed.zip"
    with zipfile.ZipFile(out, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return out


def _weights_from(where: str) -> Change:
    return lambda _files, tree: tree["weights"]["onnx"].update(source=where)


def _pickled_tensor(files: dict[str, bytes], tree: dict[str, Any]) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    files["image.npy"] = file.getvalue()
    tree["inputs"][0]["test_tensor"].pop("sha256")


def _giant_tensor(files: dict[str, bytes], tree: dict[str, Any]) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 20)})
    files["image.npy"] = file.getvalue()
    tree["inputs"][0]["test_tensor"].pop("sha256")


def _pickled_network(files: dict[str, bytes], tree: dict[str, Any]) -> None:
    files["suspension.onnx"] = pickle.dumps({"weights": [1.0]})
    tree["weights"]["onnx"].pop("sha256")


def _only_torchscript(_files: dict[str, bytes], tree: dict[str, Any]) -> None:
    tree["weights"] = {"torchscript": tree["weights"]["onnx"]}


def _without_tensors(_files: dict[str, bytes], tree: dict[str, Any]) -> None:
    for one in (*tree["inputs"], *tree["outputs"]):
        one.pop("test_tensor")


def _list_nothing(_files: dict[str, bytes], tree: dict[str, Any]) -> None:
    for one in tree["inputs"]:
        one.pop("test_tensor")
    tree["test_inputs"] = 7


def _truth(values: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(files: dict[str, bytes], tree: dict[str, Any]) -> None:
        files["dead_logit.npy"] = npy(values(np.load(io.BytesIO(files["dead_logit.npy"]))))
        for one in tree["outputs"]:
            one["test_tensor"].pop("sha256")

    return change


def _other_card(files: dict[str, bytes], tree: dict[str, Any]) -> None:
    files["suspension.card.yaml"] = load_bundle("adherent").onnx_path.with_suffix(".card.yaml").read_bytes()
    for one in tree["attachments"]:
        one.pop("sha256")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_weights_from("../../etc/passwd"), "from outside itself"),
        (_weights_from("/etc/passwd"), "from outside itself"),
        (_weights_from("https://example.org/net.onnx"), "from outside itself; .*Download the whole package"),
        (_weights_from("C:\\net.onnx"), "from outside itself"),
        (_weights_from("net\0.onnx"), "from outside itself"),
        (_weights_from("missing.onnx"), "names 'missing.onnx', but does not hold it"),
        (_weights_from("README.md"), "'README.md' .* is damaged: its sha256"),
        (_pickled_network, "no readable ONNX model but a Python pickle"),
        (_pickled_tensor, "test tensor 'image.npy' is no .npy file of numbers"),
        (_giant_tensor, r"test tensor 'image.npy' .* claims \(1048576, 1048576\) of float32"),
        (_only_torchscript, r"no ONNX weights \(it has: torchscript\)\. livescope runs no code of packages"),
        (_without_tensors, "brings no test tensors for its inputs"),
        (_other_card, "describes another network"),
        (_list_nothing, "brings no test tensors for its inputs"),
        (_truth(lambda truth: np.full_like(truth, np.nan)), "'dead_logit.npy' is no .npy file of .*not finite"),
        (
            _truth(lambda truth: truth.astype(complex)),
            "'dead_logit.npy' is no .npy file of numbers: it holds complex128",
        ),
        (_truth(lambda truth: np.full(truth.shape, "x")), "it holds <U1; livescope takes booleans, integers and"),
        (_truth(lambda truth: np.zeros(truth.shape, "M8[s]")), r"it holds datetime64\[s\]"),
        (lambda _files, tree: tree.update(attachments=5), "has attachments 5, which is no list of files"),
        (lambda _files, tree: tree.update(attachments={"files": "card"}), "has attachments 'card', which is no list"),
        (lambda _files, tree: tree.update(attachments={"files": None}), "brings no livescope card"),
        (lambda _files, tree: tree.update(type="application"), "describes no model"),
        (lambda _files, tree: tree.update(inputs="many"), "does not describe its inputs"),
    ],
)
def test_packages_that_are_wrong_or_hostile_leave_nothing(
    exported: Path, tmp_path: Path, change: Change, message: str
) -> None:
    (tmp_path / "in").mkdir()
    package = changed(exported, tmp_path / "in", change)
    with pytest.raises(ModelError, match=message):
        adopt(package, tmp_path / "out" / "again.onnx")
    assert not list((tmp_path / "out").glob("*"))


def test_a_zip_bomb_is_not_unpacked(exported: Path, tmp_path: Path) -> None:
    def bomb(files: dict[str, bytes], _tree: dict[str, Any]) -> None:
        files["image.npy"] = bytes(65 * 2**20)

    with pytest.raises(ModelError, match=r"'image.npy' in .* is larger than the 64 MB that livescope takes"):
        adopt(changed(exported, tmp_path, bomb), tmp_path / "again.onnx")


def test_a_link_that_leads_outside_is_refused(exported: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported) as package:
        package.extractall(tmp_path / "package")
    weights = tmp_path / "package" / "suspension.onnx"
    weights.rename(tmp_path / "elsewhere.onnx")
    weights.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match="is a link that leads outside the package"):
        adopt(tmp_path / "package", tmp_path / "again.onnx")


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_what_is_no_package_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(ModelError, match=r"is no model: .* Give a bioimage.io package"):
        adopt(tmp_path / "model.zip", tmp_path / "again.onnx")
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        adopt(tmp_path / "missing.zip", tmp_path / "again.onnx")
    with pytest.raises(ModelError, match=r"holds no bioimageio\.yaml or rdf.yaml"):
        adopt(tmp_path, tmp_path / "again.onnx")


MAP = """
<ir_version: 10, opset_import: ["": 17]>
segment (float[1, 1, H, W] image) => (float[1, 3, H, W] classes)
<float[3, 1, 1, 1] weight = {0, 10, -10}, float[3] bias = {0, -5, -5}> { classes = Conv (image, weight, bias) }
"""


def example_card(root: Path, folder: Path, **changes: object) -> Path:
    """The card of configs/, as a user would fill it in."""
    tree = yaml.safe_load((root / "configs" / "adapter.card.yaml").read_text())
    path = folder / "draft.card.yaml"
    path.write_text(yaml.safe_dump({**tree, **changes}))
    return path


def found(bundle: Bundle) -> tuple[int, int]:
    frame = as_frame(disc_frame([(30, 40), (90, 150)], [(60, 60)], (117, 203)), pixel_um=bundle.card.pixel_um)
    calls = FrameAnalyser(bundle, DetectorSettings(threads=1))(frame).calls
    return calls.count(1), calls.count(2)


def test_a_plain_network_and_the_example_card_make_a_bundle(root: Path, tmp_path: Path) -> None:
    network = tmp_path / "unet.onnx"
    onnx.save(parser.parse_model(MAP), network)
    card = example_card(root, tmp_path, normalisation={"kind": "background", "contrast": 0.5})
    made = adopt(network, tmp_path / "models" / "mine.onnx", card)
    assert made.bundle.sha256 == hashlib.sha256(network.read_bytes()).hexdigest()
    assert found(made.bundle) == (2, 1)
    with pytest.raises(ModelError, match="brings no livescope card"):
        adopt(network, tmp_path / "models" / "mine.onnx")
    with pytest.raises(ModelError, match="is the network itself"):
        adopt(network, network, card)
    assert load_bundle(made.bundle.onnx_path).card == made.bundle.card


def test_a_card_that_does_not_fit_leaves_nothing(root: Path, tmp_path: Path) -> None:
    network = tmp_path / "unet.onnx"
    onnx.save(parser.parse_model(MAP), network)
    adapter = {"kind": "class_map", "output": "masks", "classes": {"live": 1}}
    with pytest.raises(ModelError, match="names outputs 'masks', but the network gives 'classes'"):
        adopt(network, tmp_path / "models" / "mine.onnx", example_card(root, tmp_path, adapter=adapter))
    with pytest.raises(ModelError, match="a livescope network takes 'image' and gives"):
        adopt(network, tmp_path / "models" / "mine.onnx", example_card(root, tmp_path, adapter=None))
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": {"kind": "class_map", "classes": {"live": 99}}}, "names class 99, but the network's map has 3"),
        ({"adapter": {"kind": "class_map", "values": "classes", "classes": {"live": 1}}}, "class numbers of shape"),
        ({"adapter": {"kind": "boxes", "detections": "classes", "classes": {"live": 1}}}, "boxes of shape"),
        ({"normalisation": {"kind": "fixed", "black": float("nan"), "white": 255}}, "should be a finite number"),
        ({"shift": {"clipped": 0.0, "unevenness": 0.0, "subsets": [{"data": "mine", "means": [[0.0] * 16],
          "covariance": [[0.0] * (k + 1) for k in range(16)]}]}}, "covariance of 'mine': .*not positive definite"),
    ],
)  # fmt: skip
def test_a_card_that_would_fail_at_the_first_frame_leaves_nothing(
    root: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    network = tmp_path / "unet.onnx"
    onnx.save(parser.parse_model(MAP), network)
    with pytest.raises(ModelError, match=message):
        adopt(network, tmp_path / "models" / "mine.onnx", example_card(root, tmp_path, **changes))
    assert not list(tmp_path.glob("models/*"))


def test_a_network_of_one_size_is_tried_with_that(root: Path, tmp_path: Path) -> None:
    model = parser.parse_model(MAP)
    for place, size in ((2, 96), (3, 128)):
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[place].dim_value = size
    onnx.save(model, tmp_path / "unet.onnx")
    adopt(tmp_path / "unet.onnx", tmp_path / "models" / "mine.onnx", example_card(root, tmp_path))


@pytest.mark.parametrize("taken", ["mine.onnx", "mine.card.yaml", "mine.int8.onnx"])
def test_a_folder_in_the_place_of_a_bundle_is_told_before_anything_moves(
    exported: Path, tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).mkdir()
    with pytest.raises(ModelError, match=rf"cannot be written: .*{taken}' is a folder\. Choose another path"):
        adopt(exported, tmp_path / "mine.onnx")
    assert [path.name for path in tmp_path.iterdir()] == [taken]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of somebody else: a class map."""
    image = np.random.default_rng(0).standard_normal((1, 1, 64, 96)).astype(np.float32)
    files = {
        "unet.onnx": parser.parse_model(MAP).SerializeToString(),
        "image.npy": npy(image),
        "classes.npy": npy(np.concatenate([0 * image, 10 * image - 5, -10 * image - 5], axis=1)),
        "README.md": b"# A network\n\n## Validation\n\nNone.\n",
    }
    tree = {
        "type": "model",
        "format_version": "0.5.4",
        "name": "a small network",
        "description": "Bright is live, dark is dead.",
        "authors": [{"name": "Somebody"}],
        "documentation": "README.md",
        "license": "MIT",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "inputs": [tensor("image", ["grey"], {"min": 32, "step": 1})],
        "outputs": [tensor("classes", ["none", "live", "dead"], None)],
        "weights": {"onnx": {"source": "unet.onnx", "opset_version": 17}},
    }
    path = tmp_path_factory.mktemp("foreign") / "unet.zip"
    with zipfile.ZipFile(path, "w") as package:
        for name, content in {**files, "rdf.yaml": json.dumps(tree).encode()}.items():
            package.writestr(name, content)
    return path


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tensor(name: str, channels: list[str], size: dict[str, int] | None) -> dict[str, Any]:
    space = [{"type": "space", "id": a, "size": size or {"tensor_id": "image", "axis_id": a}} for a in "yx"]
    axes = [{"type": "batch", "size": 1}, {"type": "channel", "channel_names": channels}, *space]
    return {"id": name, "axes": axes, "data": {"type": "float32"}, "test_tensor": {"source": f"{name}.npy"}}


def test_a_foreign_package_comes_in_with_a_card(root: Path, foreign: Path, tmp_path: Path) -> None:
    card = example_card(root, tmp_path, normalisation={"kind": "background", "contrast": 0.5})
    made = adopt(foreign, tmp_path / "models" / "mine.onnx", card)
    assert made.checked == "test tensors reproduced"
    assert found(made.bundle) == (2, 1)
    with pytest.raises(ModelError, match="brings no livescope card"):
        adopt(foreign, tmp_path / "models" / "mine.onnx")


def test_tensors_of_a_processing_that_we_do_not_do_are_compared_by_shape(
    root: Path, foreign: Path, tmp_path: Path
) -> None:
    def processed(files: dict[str, bytes], tree: dict[str, Any]) -> None:
        files["classes.npy"] = npy(np.zeros((1, 3, 64, 96), np.float32))
        tree["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance"}]

    package = changed(foreign, tmp_path, processed)
    made = adopt(package, tmp_path / "models" / "mine.onnx", example_card(root, tmp_path))
    assert made.checked.startswith("shapes agree with the test tensors; their values were not compared")


@pytest.mark.parametrize(
    ("licence", "message"),
    [("ask me", "does not begin with an SPDX identifier"), ("BSD-3-Clause (network)", None), ("MIT", None)],
)
def test_the_licence_must_be_one_that_the_format_knows(tmp_path: Path, licence: str, message: str | None) -> None:
    bundle = make_bundle(tmp_path, blob_network(), licence=licence)
    if message is None:
        with zipfile.ZipFile(export_package(bundle, tmp_path / "kit.zip")) as package:
            assert yaml.safe_load(package.read("bioimageio.yaml"))["license"] == licence.split()[0]
    else:
        with pytest.raises(ModelError, match=message):
            export_package(bundle, tmp_path / "kit.zip")
