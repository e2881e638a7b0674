from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from livescope.detect.bundle import load_bundle
from livescope.train.data import fingerprint, simulated_fields
from livescope.train.seen import read_seen, seen_path, seen_whole, unknown_training, unseen, write_seen


def test_what_a_network_has_seen_is_nothing_known_or_unknown(tmp_path: Path) -> None:
    assert (read_seen(None), seen_whole(None)) == (frozenset(), True)
    bundle = load_bundle("suspension")
    assert len(read_seen(bundle)) == 1643
    assert unknown_training(bundle) == []
    elsewhere = replace(bundle, onnx_path=tmp_path / "elsewhere.onnx")
    assert (read_seen(elsewhere), seen_whole(elsewhere)) == (frozenset(), False)
    assert "elsewhere.seen.txt is missing" in unknown_training(elsewhere)[0]


def test_a_list_that_is_not_whole_says_so_and_leaves_out_what_it_names(tmp_path: Path) -> None:
    fields = simulated_fields(2, seed=3, side_px=256)
    bundle = replace(load_bundle("simulated"), onnx_path=tmp_path / "mine.onnx")
    write_seen([fingerprint(fields[0])], bundle.onnx_path, whole=False)
    assert read_seen(bundle) == {fingerprint(fields[0])}
    assert not seen_whole(bundle)
    assert "mine.seen.txt does not name them all" in unknown_training(bundle)[0]
    kept, left_out = unseen(bundle, fields)
    assert [field.name for field in kept] == [fields[1].name]
    assert left_out == 1
    write_seen([], bundle.onnx_path)
    assert seen_path(bundle.onnx_path).read_text() == ""
    assert seen_whole(bundle)
