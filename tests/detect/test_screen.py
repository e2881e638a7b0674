from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from network_kit import blob_network, make_bundle
from onnx import ModelProto, TensorProto, helper, parser

from livescope.detect.bundle import bundled_names, load_bundle
from livescope.detect.network import read_network
from livescope.detect.screen import MAX_NETWORK_BYTES, read_screened, screened
from livescope.errors import ModelError


def bundle_with(folder: Path, content: bytes) -> Path:
    """A bundle whose card vouches for these bytes, as a stranger's would."""
    path = make_bundle(folder, blob_network()).onnx_path
    path.write_bytes(content)
    card = path.with_suffix(".card.yaml")
    tree = yaml.safe_load(card.read_text())
    tree["sha256"] = hashlib.sha256(content).hexdigest()
    card.write_text(yaml.safe_dump(tree))
    return path


def refused(folder: Path, content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_bundle(bundle_with(folder, content))


def graph(text: str, opset: int = 20) -> bytes:
    head = f'<ir_version: 10, opset_import: ["": {opset}]> g (float[1, 1, H, W] image) => (float[a, b, c, d] y) '
    model: bytes = parser.parse_model(head + text).SerializeToString()
    return model


def blobs_with_weights_in(location: str, offset: int = 0) -> ModelProto:
    network = blob_network()
    weights = network.graph.initializer[-1]
    size = len(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": size}.items():
        weights.external_data.add(key=key, value=str(value))
    return network


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "secret.bin", "..\\secret.bin"])
def test_data_outside_the_file_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(17 * 17 * 4))
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "secret.bin").write_bytes(bytes(17 * 17 * 4))
    content = blobs_with_weights_in(location).SerializeToString()
    refused(folder, content, r"keeps tensor 'filter' in another file .*external_data=False")


def test_external_data_in_a_constant_are_refused(tmp_path: Path) -> None:
    network = onnx.load_model_from_string(graph("{ c = Constant <value = float[1] {1}> () y = Add (image, c) }"))
    tensor = network.graph.node[0].attribute[0].t
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    refused(tmp_path, network.SerializeToString(), "in another file")


@pytest.mark.parametrize("dims", [[1 << 20, 1 << 20], [1 << 40], [-1], [1 << 62, 4], [2, 2]])
def test_a_tensor_that_claims_another_size_is_refused(tmp_path: Path, dims: list[int]) -> None:
    network = blob_network()
    network.graph.initializer[-1].dims[:] = dims
    refused(tmp_path, network.SerializeToString(), r"tensor 'filter' claims the shape .* but brings 289 numbers")


def test_tensors_of_strings_and_sparse_ones_are_refused(tmp_path: Path) -> None:
    network = blob_network()
    network.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"x"]))
    refused(tmp_path, network.SerializeToString(), "tensor 'text' is of ONNX type 8; livescope takes FLOAT, ")
    network = blob_network()
    network.graph.sparse_initializer.add().dims.append(1 << 50)
    refused(tmp_path, network.SerializeToString(), "sparse tensors")


def test_custom_operators_domains_and_functions_are_refused(tmp_path: Path) -> None:
    network = blob_network()
    network.graph.node.append(helper.make_node("RunShell", ["image"], ["z"], domain="com.evil"))
    refused(tmp_path, network.SerializeToString(), "'com.evil::RunShell', which livescope does not run. .* Conv, ")
    network.opset_import.append(helper.make_opsetid("com.evil", 1))
    refused(tmp_path, network.SerializeToString(), "uses operators of 'com.evil'")
    network = blob_network()
    network.functions.append(
        helper.make_function("", "Conv", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    )
    refused(tmp_path, network.SerializeToString(), r"functions of its own \('Conv'\)")


@pytest.mark.parametrize("operator", ["Loop", "If", "Scan", "ImageDecoder", "RandomNormal", "StringConcat"])
def test_operators_that_no_picture_network_needs_are_refused(tmp_path: Path, operator: str) -> None:
    network = blob_network()
    network.graph.node.append(helper.make_node(operator, ["image"], ["z"]))
    refused(tmp_path, network.SerializeToString(), f"uses operator '{operator}'")


@pytest.mark.parametrize("opset", [7, 12, 99])
def test_other_operator_sets_are_refused(tmp_path: Path, opset: int) -> None:
    refused(tmp_path, graph("{ y = Relu (image) }", opset), f"operator set {opset}; livescope takes 13 to ")


@pytest.mark.parametrize(
    "text",
    [
        "<int64[4] s = {1, 1, 1000000, 1000000}> { c = ConstantOfShape (s) y = Add (image, c) }",
        "<int64[4] s = {1, 1, 100000, 100000}> { y = Tile (image, s) }",
        "<float[4] s = {1, 1, 1000, 1000}> { y = Resize (image, , s) }",
        "<float a = {0}, float b = {1e12}, float c = {1}> { r = Range (a, b, c) y = Add (image, r) }",
        "{ v = Constant <value = int64[4] {1, 1, 1000000, 1000000}> () y = ConstantOfShape (v) }",
        "<int64[4] s = {1, 1, 500, 500}, int64[4] k = {1, 1, 900, 900}> { q = Mul (s, k) y = ConstantOfShape (q) }",
    ],
)
def test_a_small_file_that_asks_for_terabytes_is_refused(tmp_path: Path, text: str) -> None:
    refused(
        tmp_path, graph(text), r"would have the shape .* for a frame of 1024 x 1024; livescope takes up to 268435456"
    )


@pytest.mark.parametrize(
    ("shape", "repeats"),
    [("1, 1, H, W", "1, 512, 1, 1"), ("1, H, W, 1", "1, 1, 1, 512"), ("1, H, W, 3", "1, 1, 1, 512")],
)
def test_growth_is_measured_whichever_way_the_channels_lie(shape: str, repeats: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 17]>
    grow (float[{shape}] image) => (float[a, b, c, d] y) <int64[4] s = {{{repeats}}}> {{ y = Tile (image, s) }}"""
    with pytest.raises(ModelError, match=r"would have the shape .* for a frame of 1024 x 1024"):
        screened(parser.parse_model(text).SerializeToString(), "grow")


def test_a_file_of_great_size_is_not_even_read(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, blob_network()).onnx_path
    with path.open("r+b") as file:
        file.truncate(MAX_NETWORK_BYTES + 1)
    with pytest.raises(ModelError, match="has 512 MB; livescope takes up to 512 MB"):
        load_bundle(path)


class _Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_renamed_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "was-run"
    refused(tmp_path, pickle.dumps(_Evil(witness), protocol), r"no readable ONNX model but .* never as code or pickles")
    assert not witness.exists()


def test_a_renamed_torch_checkpoint_is_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(_Evil(tmp_path / "was-run")))
    refused(tmp_path, archive.getvalue(), "a zip archive, as PyTorch saves its pickles")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 1000, -7])
def test_a_truncated_network_is_refused(tmp_path: Path, kept: int) -> None:
    refused(tmp_path, blob_network().SerializeToString()[:kept], "no readable ONNX model|operator set 0")


def test_deeply_nested_bytes_are_refused(tmp_path: Path) -> None:
    content = b""
    for _ in range(2000):  # a graph in an attribute of a node of a graph, ...
        length, head = len(content), bytearray(b"\x32")
        while length > 127:
            head.append(length & 127 | 128)
            length >>= 7
        content = bytes([*head, length]) + content
    refused(tmp_path, b"\x08\x0a" + b"\x3a" + content, "no readable ONNX model")


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_networks_pass(name: str) -> None:
    bundle = load_bundle(name)
    assert len(read_screened(bundle.onnx_path).graph.node) > 10
    if bundle.card.int8 is not None:
        read_screened(bundle.int8_path())


def test_a_network_that_changes_after_it_was_loaded_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, blob_network())
    bundle.onnx_path.write_bytes(graph("{ y = Relu (image) }"))
    with pytest.raises(ModelError, match="not the one its card describes"):
        read_network(bundle)


_WHOLE = blob_network().SerializeToString()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_damage_is_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    content = bytearray(_WHOLE)
    for place, value in changes:
        content[place] = value
    try:
        model = screened(bytes(content), "damaged")
    except ModelError:
        return
    onnx.checker.check_model(model)
    assert sum(np.prod(one.dims) for one in model.graph.initializer) < 10_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [WITNESS]]", "is not YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"YAML aliases \(\*name\)"),
        ("[" * 20_000, "nested deeper than the 12 levels"),
        ("- " * 20_000, "nested deeper than the 12 levels"),
        ("# " + "x" * 2**20, "has more than the 1 MB"),
    ],
)
def test_a_hostile_card_is_refused_and_makes_nothing(tmp_path: Path, text: str, message: str) -> None:
    path = make_bundle(tmp_path, blob_network()).onnx_path
    witness = tmp_path / "was-run"
    path.with_suffix(".card.yaml").write_text(text.replace("WITNESS", str(witness)))
    with pytest.raises(ModelError, match=message):
        load_bundle(path)
    assert not witness.exists()


def test_no_source_reads_what_could_run(root: Path) -> None:
    """No pickle, no unrestricted torch.load or numpy objects, no YAML but the safe one."""
    for path in (root / "livescope").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("import pickle", "allow_pickle=True", "yaml.load(", "yaml.unsafe_load", "joblib", "marshal"):
            assert word not in text, f"{path} uses {word!r}"
        assert text.count("torch.load(") == text.count("weights_only=True"), path
