"""The peer with the CIFAR stem: python torch_simclr_cifar.py TORCH_SIMCLR.PY [its options]

The peer script knows the ImageNet stem only. This loads it unchanged as module `torch_simclr`, gives
its ResNet a 3x3 convolution without a pool, and starts its ranks as it does itself. Spawned ranks
import this file again and so patch their copy too.
"""
import argparse
import importlib.util
import sys

import torch.multiprocessing as mp
import torch.nn as nn

spec = importlib.util.spec_from_file_location("torch_simclr", sys.argv[1])
peer = importlib.util.module_from_spec(spec)
sys.modules["torch_simclr"] = peer
spec.loader.exec_module(peer)

with_imagenet_stem = peer.ResNet.__init__


def with_cifar_stem(self, arch):
    with_imagenet_stem(self, arch)
    self.stem = nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True)
    )


peer.ResNet.__init__ = with_cifar_stem

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("arch", "dtype"):
        parser.add_argument("--" + name, required=True)
    for name in ("size", "batch", "world", "threads", "steps", "warmup", "port"):
        parser.add_argument("--" + name, type=int, required=True)
    options = parser.parse_args(sys.argv[2:])
    mp.spawn(peer.run, (options,), options.world)
