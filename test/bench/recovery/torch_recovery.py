"""The other side of bench:recovery: SimCLR steps in PyTorch DDP over Gloo, kept alive by torchrun.

Started by itself it becomes `torchrun --max-restarts`, which starts it again for every rank. After each
step rank 0 saves model and optimizer, and every rank appends a line to LINES-RANK: its step, counted from 1,
and its process id. A restarted rank goes on from the last checkpoint.
"""
import argparse, json, os, sys
p = argparse.ArgumentParser()
for name, kind in [('world', int), ('threads', int), ('batch', int), ('size', int), ('lines', str), ('checkpoint', str)]:
    p.add_argument('--' + name, type=kind, required=True)
a = p.parse_args()
if 'LOCAL_RANK' not in os.environ:
    # In the store that torchrun shares, a restarted rank may find its peer's address of before, and waits 30 s for it.
    os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(a.world), '--max-restarts', '1000']
    os.execv(sys.executable, [sys.executable, *launch, *sys.argv])
import torch, torch.nn as nn, torch.nn.functional as F, torch.distributed as dist

class Block(nn.Module):
    def __init__(s, cin, cout, stride):
        super().__init__()
        s.c1, s.b1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        s.c2, s.b2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        s.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout)) if stride != 1 or cin != cout else nn.Identity()
    def forward(s, x):
        return F.relu(s.b2(s.c2(F.relu(s.b1(s.c1(x))))) + s.down(x))

class ResNet18(nn.Module):
    """With the stem for small images, and the neck."""
    def __init__(s):
        super().__init__()
        layers, cin = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True)], 64
        for i in range(4):
            for j in range(2):
                layers.append(Block(cin, 64 << i, 2 if i and not j else 1)); cin = 64 << i
        s.layers = nn.Sequential(*layers)
        s.neck = nn.Sequential(nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(True), nn.Linear(512, 128, bias=False), nn.BatchNorm1d(128))
    def forward(s, x):
        return s.neck(s.layers(x).mean((2, 3)))

class Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        out = [torch.empty_like(z) for _ in range(dist.get_world_size())]; dist.all_gather(out, z); return torch.cat(out)
    @staticmethod
    def backward(ctx, g):
        return g.chunk(dist.get_world_size())[dist.get_rank()].contiguous()

torch.set_num_threads(a.threads)
dist.init_process_group('gloo')
rank = dist.get_rank()
net = ResNet18()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
step = 0
if os.path.exists(a.checkpoint):
    saved = torch.load(a.checkpoint)
    net.load_state_dict(saved['net']); optimizer.load_state_dict(saved['optimizer']); step = saved['step']
ddp = nn.parallel.DistributedDataParallel(net)
torch.manual_seed(rank)
x = torch.randn(2 * a.batch, 3, a.size, a.size)
while True:
    optimizer.zero_grad(set_to_none=True)
    z = Gather.apply(F.normalize(ddp(x), dim=1))
    s = (z @ z.T / 0.1).masked_fill(torch.eye(len(z), dtype=torch.bool), float('-inf'))
    F.cross_entropy(s, torch.arange(len(z)) ^ 1).backward()
    optimizer.step(); step += 1
    if rank == 0:
        torch.save({'net': net.state_dict(), 'optimizer': optimizer.state_dict(), 'step': step}, a.checkpoint + '.new')
        os.replace(a.checkpoint + '.new', a.checkpoint)
    with open(f'{a.lines}-{rank}', 'a') as log:
        log.write(json.dumps({'step': step, 'rank': rank, 'pid': os.getpid()}) + '\n')
