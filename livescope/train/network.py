"""The single-pass star-convex network: one picture in, five maps at a quarter of its size out.

Owns the architecture and the folding of its batch norms. Knows nothing of losses, data or files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from livescope.calls import N_RAYS
from livescope.errors import ModelError

__all__ = ["MULTIPLE", "STRIDE", "Maps", "StarNet", "fold", "from_weights"]

STRIDE = 4
"""Input pixels a cell of the output maps."""
MULTIPLE = 16
"""Height and width of the input must be multiples of this: the coarsest level is at 1/16."""
TYPICAL_RADIUS_PX = 8.0
"""Radius that the untrained network predicts."""


class Maps(NamedTuple):
    """The network's outputs, in the order of the exported ONNX.

    Attributes
    ----------
    object_logit, foreground_logit, dead_logit
        (N, 1, h, w): a cell's centre lies here; this place is covered by a cell; the cell centred here is dead.
    offset_yx
        (N, 2, h, w) input pixels from the centre of the stride cell to the centre of the cell.
    radii
        (N, 32, h, w) input pixels, positive, along `livescope.calls.ray_angles`.
    """

    object_logit: Tensor
    foreground_logit: Tensor
    dead_logit: Tensor
    offset_yx: Tensor
    radii: Tensor


class _Block(nn.Sequential):
    """Convolution, batch norm, ReLU. The order matters to `fold`."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> None:
        padding = 2 if kernel == 6 else kernel // 2
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
        )


class StarNet(nn.Module):
    """Encoder to 1/16, decoder to 1/4 with added skips, five 1x1 heads; 0.24 M parameters at the default widths.

    The cost sits at 1/2 and 1/4 (few channels there), the parameters at 1/16.

    Parameters
    ----------
    widths
        Channels at 1/2, 1/4, 1/8 and 1/16 of the input.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (12, 32, 48, 80)) -> None:
        super().__init__()
        w2, w4, w8, w16 = widths
        self.widths = widths
        # 6x6 at stride 2 is centred on its 2x2 pixels: the same sums as space-to-depth and 3x3, without moving memory
        self.stem = _Block(1, w2, kernel=6, stride=2)
        self.down4 = nn.Sequential(_Block(w2, w4, stride=2), _Block(w4, w4))
        self.down8 = nn.Sequential(_Block(w4, w8, stride=2), _Block(w8, w8))
        self.down16 = nn.Sequential(_Block(w8, w16, stride=2), _Block(w16, w16), _Block(w16, w16))
        self.lateral8, self.merge8 = _Block(w16, w8, kernel=1), _Block(w8, w8)
        self.lateral4, self.merge4 = _Block(w8, w4, kernel=1), _Block(w4, w4)
        self.object = nn.Conv2d(w4, 1, 1)
        self.foreground = nn.Conv2d(w4, 1, 1)
        self.dead = nn.Conv2d(w4, 1, 1)
        self.offset = nn.Conv2d(w4, 2, 1)
        self.log_radii = nn.Conv2d(w4, N_RAYS, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        # a prior of 1 % (Lin et al. 2017, focal loss): otherwise the empty positions swamp the first hundred steps
        nn.init.constant_(self.object.bias, -4.6)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Maps:
        """Map a normalised image (N, 1, H, W) float32, H and W multiples of 16, to `Maps` at (H / 4, W / 4)."""
        return self.heads(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """Compute what all heads read: (N, ``widths[1]``, H / 4, W / 4)."""
        at4 = self.down4(self.stem(image))
        at8 = self.down8(at4)
        at16 = self.down16(at8)
        at8 = self.merge8(at8 + self.up(self.lateral8(at16)))
        merged: Tensor = self.merge4(at4 + self.up(self.lateral4(at8)))
        return merged

    def heads(self, at4: Tensor) -> Maps:
        """Read the maps from the features."""
        # the clamp (radii up to 400 pixels) keeps float16 finite
        radii = TYPICAL_RADIUS_PX * torch.exp(self.log_radii(at4).clamp(-4.0, 3.9))
        return Maps(self.object(at4), self.foreground(at4), self.dead(at4), 4.0 * self.offset(at4), radii)


def fold(network: StarNet) -> StarNet:
    """Return a copy in evaluation mode with its batch norms folded into the convolutions: the same function."""
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, _Block):
            convolution, norm = module[0], module[1]
            if isinstance(norm, nn.Identity):
                continue
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            module[0] = fuse_conv_bn_eval(convolution, norm)
            module[1] = nn.Identity()
    return folded


def from_weights(weights: Mapping[str, NDArray[np.float32]]) -> StarNet:
    """Rebuild a folded network from named weights, e.g. those of an exported ONNX, to train it further.

    Raises
    ------
    ModelError
        The names or shapes are not those of a `StarNet`.
    """
    try:
        widths = tuple(len(weights[f"{block}.0.weight"]) for block in ("stem", "down4.1", "down8.1", "down16.1"))
        network = fold(StarNet(widths))  # type: ignore[arg-type]
        network.load_state_dict({name: torch.from_numpy(weights[name].copy()) for name in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"these weights are no livescope network ({error}); start from a bundle that livescope has trained."
        ) from None
    return network
