"""Time of one forward and backward pass of the V-Net by width and memory layout.

.venv/bin/python benchmarks/network_time.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch

from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.networks import VNet

_LAYOUTS = {"default": torch.contiguous_format, "channels last": torch.channels_last_3d}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 64, 48])
    parser.add_argument("--patches", type=int, default=4)
    parser.add_argument("--filters", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    patches = torch.randn(options.patches, 1, *options.patch)
    variants = [(filters, layout) for filters in options.filters for layout in _LAYOUTS]
    networks = {v: VNet(filters=v[0]).to(memory_format=_LAYOUTS[v[1]]) for v in variants}
    seconds: dict[tuple[int, str], list[float]] = {variant: [] for variant in variants}
    # Interleaved, so that a busy moment of the machine does not fall on one variant; the first round warms up.
    for repetition in range(options.repetitions + 1):
        for variant in variants:
            start = time.perf_counter()
            foreground_probability(networks[variant](patches)).mean().backward()
            if repetition:
                seconds[variant].append(time.perf_counter() - start)
    sys.stdout.write(
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, float32, medians\n"
    )
    for filters, layout in variants:
        sys.stdout.write(f"{filters:3} filters  {layout:14} {statistics.median(seconds[filters, layout]):6.2f} s\n")


if __name__ == "__main__":
    main()
