"""A bioimage.io package of somebody else, read without trusting it: only its own files, of bounded size, and no code.

Owns zip and folder, the description, and the comparison of a network with its test tensors. What a network may hold is
decided in `livescope.detect.screen`.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import math
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from livescope.detect.bundle import plain_yaml
from livescope.detect.onnx_runtime import FAILURES, open_session
from livescope.detect.screen import MAX_NETWORK_BYTES
from livescope.errors import ModelError

__all__ = ["Package", "read_file"]

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(RuntimeError, NotImplementedError),  # a password, a compression that Python lacks
)
"""What unpacking a zip fails with."""
_DESCRIPTIONS = ("bioimageio.yaml", "rdf.yaml")
_MAX_FILE_BYTES = 64 * 2**20
"""Largest description, card, list or test tensor."""
_TOLERANCE = 1e-3
"""Largest difference from a test tensor, in parts of its largest number: the format's own default."""


def read_file(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises
    ------
    ModelError
        It cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}. Check the path.") from None
    if len(content) > most:
        raise ModelError(f"{str(path)!r} is larger than the {most / 2**20:.0f} MB that livescope takes.")
    return content


class Package:
    """A zip or a folder whose description is read, and of its files those that the description names.

    Parameters
    ----------
    source
        ``.zip`` or unpacked folder.

    Raises
    ------
    ModelError
        It is none, or describes no model; as of every method, where a file is damaged, too large, or from elsewhere.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._zip: zipfile.ZipFile | None = None
        if not source.is_dir():
            try:
                self._zip = zipfile.ZipFile(source)
            except OSError as error:
                raise ModelError(f"{str(source)!r} cannot be read: {error.strerror}. Check the path.") from None
            except zipfile.BadZipFile as error:
                raise ModelError(
                    f"{str(source)!r} is no model: {error}. Give a bioimage.io package (.zip or its folder) or an "
                    ".onnx file."
                ) from None
        try:
            self._tree = self._described()
        except ModelError:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def _described(self) -> dict[str, Any]:
        source = self._source
        names = self._zip.namelist() if self._zip else [path.name for path in source.iterdir()]
        found = next((name for name in _DESCRIPTIONS if name in names), None)
        if found is None:
            raise ModelError(f"{str(source)!r} holds no {' or '.join(_DESCRIPTIONS)}: it is no bioimage.io package.")
        tree = plain_yaml(self.file(found, _MAX_FILE_BYTES), f"{found} in {str(source)!r}")
        if not isinstance(tree, dict) or tree.get("type") != "model":
            raise ModelError(f"{str(source)!r} describes no model.")
        return tree

    def file(self, name: object, most: int, sha256: object = None) -> bytes:
        """Read a file of the package, never one from elsewhere."""
        place = PurePosixPath(str(name))
        if not isinstance(name, str) or place.is_absolute() or ".." in place.parts or any(c in name for c in ":\\\0"):
            raise ModelError(
                f"{str(self._source)!r} takes {name!r} from outside itself; livescope reads files within a package "
                "only. Download the whole package (as .zip) and give that."
            )
        if self._zip is None:
            path = (self._source / name).resolve()
            if not path.is_relative_to(self._source.resolve()):
                raise ModelError(f"{str(self._source)!r}: {name!r} is a link that leads outside the package.")
            content = read_file(path, most)
        else:
            content = self._unzipped(name, most)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ModelError(f"{name!r} in {str(self._source)!r} is damaged: its sha256 is not the description's.")
        return content

    def _unzipped(self, name: str, most: int) -> bytes:
        assert self._zip is not None
        try:
            with self._zip.open(name) as file:
                content = file.read(most + 1)
        except KeyError:
            raise ModelError(f"{str(self._source)!r} names {name!r}, but does not hold it. Get it again.") from None
        except _DAMAGED as error:
            raise ModelError(f"{name!r} in {str(self._source)!r} cannot be unpacked: {error}. Get it again.") from None
        if len(content) > most:
            raise ModelError(
                f"{name!r} in {str(self._source)!r} is larger than the {most / 2**20:.0f} MB that livescope takes."
            )
        return content

    def network(self) -> bytes:
        """Bytes of the ONNX weights."""
        weights = self._tree.get("weights")
        onnx = weights.get("onnx") if isinstance(weights, dict) else None
        if not isinstance(onnx, dict):
            kinds = ", ".join(map(str, weights)) if isinstance(weights, dict) else "none"
            raise ModelError(
                f"{str(self._source)!r} has no ONNX weights (it has: {kinds}). livescope runs no code of packages; "
                "export the network as ONNX."
            )
        return self.file(onnx.get("source"), MAX_NETWORK_BYTES, onnx.get("sha256"))

    def attached(self, ending: str) -> bytes | None:
        """Bytes of the attachment of that ending, None without one."""
        listed = self._tree.get("attachments") or []
        files = listed.get("files") or [] if isinstance(listed, dict) else listed  # as in format 0.4, and 0.5
        if not isinstance(files, list):
            raise ModelError(
                f"{str(self._source)!r} has attachments {files!r}, which is no list of files. Get it again, or ask its "
                "authors."
            )
        for one in files:
            name, sha256 = (one.get("source"), one.get("sha256")) if isinstance(one, dict) else (one, None)
            if isinstance(name, str) and name.endswith(ending):
                return self.file(name, _MAX_FILE_BYTES, sha256)
        return None

    def compare(self, network: bytes) -> str:
        """Run the network on the package's test tensors; returns what was compared."""
        given, wanted = self._tensors("inputs"), self._tensors("outputs")
        described = [*self._tree["inputs"], *self._tree["outputs"]]
        processed = any(one.get("preprocessing") or one.get("postprocessing") for one in described)
        try:
            session = open_session(network, 1, "CPUExecutionProvider", str(self._source))
            inputs = [one.name for one in session.get_inputs()]
            found = session.run(None, dict(zip(inputs, given, strict=True)))
            pairs = list(zip(found, wanted, strict=True))
        except (*FAILURES, ValueError) as error:
            raise ModelError(f"the network in {str(self._source)!r} fails on its test tensors: {error}") from None
        for answer, truth in pairs:
            self._agree(answer, truth, values=not processed)
        if processed:
            return "shapes agree with the test tensors; their values were not compared, since they include processing"
        return "test tensors reproduced"

    def _agree(self, answer: NDArray[Any], truth: NDArray[Any], values: bool) -> None:
        """Refuse an answer of another shape, not finite, or of other values than the truth where those are to agree."""
        if answer.shape != truth.shape or not np.isfinite(answer).all():
            raise ModelError(
                f"the network in {str(self._source)!r} gives {answer.shape} for its test tensors, which say "
                f"{truth.shape}. Get it again, or ask its authors."
            )
        # in float64, as an unsigned difference would wrap
        difference = float(np.abs(answer.astype(np.float64) - truth.astype(np.float64)).max(initial=0.0))
        most = _TOLERANCE * max(1.0, float(np.abs(truth).max(initial=0)))
        if values and not difference <= most:
            raise ModelError(
                f"the network in {str(self._source)!r} differs from its test tensors by {difference:.2g}. Get it "
                "again, or ask its authors."
            )

    def _tensors(self, side: str) -> list[NDArray[Any]]:
        described = self._tree.get(side)
        if not isinstance(described, list) or not all(isinstance(one, dict) for one in described):
            raise ModelError(f"{str(self._source)!r} does not describe its {side}.")
        files: object = [one.get("test_tensor") for one in described]
        if not any(one.get("test_tensor") for one in described):
            files = self._tree.get(f"test_{side}")  # format 0.4
        if not isinstance(files, list) or not files or not all(files):
            raise ModelError(
                f"{str(self._source)!r} brings no test tensors for its {side}: nothing shows that the network works. "
                "Get a package with them."
            )
        return [
            _tensor(self.file(one["source"], _MAX_FILE_BYTES, one.get("sha256")), one["source"])
            if isinstance(one, dict) and "source" in one
            else _tensor(self.file(one, _MAX_FILE_BYTES), str(one))
            for one in files
        ]


def _tensor(content: bytes, name: str) -> NDArray[Any]:
    """Read an .npy file of numbers, whose header must not claim more than it brings."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if dtype.kind not in "biuf":
            raise ValueError(f"it holds {dtype}; livescope takes booleans, integers and floating point")
        if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError(f"its header claims {shape} of {dtype}")
        file.seek(0)
        array: NDArray[Any] = np.load(file, allow_pickle=False)
        if not np.isfinite(array).all():
            raise ValueError("some of them are not finite")
    except (ValueError, EOFError, OSError) as error:
        raise ModelError(f"test tensor {name!r} is no .npy file of numbers: {error}. Get the package again.") from None
    return array
