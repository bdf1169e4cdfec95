"""One step of training, and everything that it changes."""

import torch
from torch.autograd.graph import saved_tensors_hooks

from segzoo.cpu.recompute import RecomputingConvolution, TrainingPass

PLAIN = TrainingPass("forward", recompute=False)


def learned(network, image, run=PLAIN):
    """Outputs, gradients and statistics by name."""
    image = image.clone(memory_format=torch.preserve_format).requires_grad_()
    outputs = run(network, image)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    sum((output * torch.randn(output.shape, generator=generator).to(output)).sum() for output in outputs).backward()
    found = {"image": image.grad, **dict(network.named_buffers())}
    found |= {f"output {index}": output.detach() for index, output in enumerate(outputs)}
    found |= {f"gradient of {name}": parameter.grad for name, parameter in network.named_parameters()}
    return {name: tensor.clone() for name, tensor in found.items() if tensor is not None}


def kept_bytes(call, network):
    """What autograd keeps while something is called, a network's weights aside."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def recomputing(run, network):
    """How many convolutions a training pass computes with what stands in front of them."""
    rewritten = run.rewritten(network)
    return 0 if rewritten is None else sum(isinstance(module, RecomputingConvolution) for module in rewritten.modules())
