"""One step of training, and everything that it changes."""

import torch

from segzoo.models.lean.rewrite import TrainingPass

PLAIN = TrainingPass("forward", lean=False)


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
