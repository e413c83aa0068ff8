"""Run by test_gaussian.py in processes of their own; a module apart, because each imports it anew."""

import torch

from wwae_lib import gaussian as g


def share_of_a_batch(rank: int, folder: str) -> None:
    """One of two processes: a loss on its share, gradients averaged as in data-parallel training."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    whole, weight = torch.load(f"{folder}/batch.pt", weights_only=True)
    weight.requires_grad_()
    share = whole[:7] if rank == 0 else whole[7:]  # shares of different size
    loss = g.w2_squared_to_standard_normal(*g.moments_across_processes(share @ weight))
    (slope,) = torch.autograd.grad(loss, weight, create_graph=True)
    whole_slope = g._SumAcrossProcesses.apply(slope, None) / 2
    (second,) = torch.autograd.grad(whole_slope.square().sum(), weight)
    gradient = whole_slope.detach()
    torch.distributed.all_reduce(second)
    torch.save((loss.detach(), gradient, second / 2), f"{folder}/result-{rank}.pt")
    torch.distributed.destroy_process_group()
