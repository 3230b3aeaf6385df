"""Time of one forward and backward pass of the V-Net by width, memory layout and precision.

    .venv/bin/python benchmarks/network_time.py --threads 1

The last line is the precision that `auto` chooses on this machine, which should be that of the faster rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

import torch

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.device import choose_device
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.networks import VNet
from measuring import interleaved, machine

_DEFAULT, _CHANNELS_LAST = "default layout", "channels last"
_VARIANTS = ((_DEFAULT, "float32"), (_CHANNELS_LAST, "float32"), (_CHANNELS_LAST, "bfloat16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 64, 48])
    parser.add_argument("--patches", type=int, default=4)
    parser.add_argument("--filters", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    patches = torch.randn(options.patches, 1, *options.patch)
    work = {
        f"{filters:3} filters  {layout:14}  {precision:8}": _pass(filters, layout, precision, patches)
        for filters in options.filters
        for layout, precision in _VARIANTS
    }
    sys.stdout.write(f"{machine()}\nmedians of {options.repetitions}\n")
    for name, seconds in interleaved(work, options.repetitions).items():
        sys.stdout.write(f"{name}  {statistics.median(seconds):6.2f} s\n")
    sys.stdout.write(f"chosen: {choose_device('cpu').description}\n")


def _pass(filters: int, layout: str, precision: str, patches: torch.Tensor) -> Callable[[], None]:
    """What makes one training pass of a new network."""
    device = choose_device("cpu", precision)
    network = VNet(filters)
    if layout == _CHANNELS_LAST:
        device.place(network)

    def work() -> None:
        with device.autocast():
            logits = network(patches)
        foreground_probability(logits.float()).mean().backward()

    return work


if __name__ == "__main__":
    main()
