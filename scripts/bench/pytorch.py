"""The same network in plain PyTorch: how fast the machine could train it."""

import os
import time

import numpy as np

from bench.kit import recipe_of
from bench.reading import held_out_split
from digits.console import BadInput
from digits.model.backend import cpu_count


def twin(network):
    """Return the PyTorch twin, with fresh weights, of a Keras network that is a chain of layers; it gives logits.

    Raises:
        BadInput: for a layer that it has no twin for.
    """
    import torch

    modules, channels = [], 1
    for layer in network.layers[1:]:
        match type(layer).__name__:
            case "Rescaling":  # Done on the batch.
                continue
            case "Softmax":  # In the loss.
                continue
            case "Conv2D":
                stride, padding = layer.strides[0], layer.padding
                if stride != 1 and padding == "same":
                    padding = layer.kernel_size[0] // 2
                module = torch.nn.Conv2d(
                    channels, layer.filters, layer.kernel_size, stride, padding, bias=layer.use_bias
                )
                channels = layer.filters
            case "MaxPooling2D":
                module = torch.nn.MaxPool2d(layer.pool_size)
            case "BatchNormalization" | "FusedBatchNormalization":
                module = torch.nn.BatchNorm2d(channels)
            case "ReLU":
                module = torch.nn.ReLU()
            case "Dropout" | "ByteDropout":
                module = torch.nn.Dropout(layer.rate)
            case "Flatten":
                module = torch.nn.Flatten()
            case "Dense":
                module = torch.nn.Linear(layer.kernel.shape[0], layer.units, bias=layer.use_bias)
            case other:
                raise BadInput(f"The layer {other} has no PyTorch twin here: --part train needs a plain chain.")
        modules.append(module)
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if activation != "linear" and not isinstance(module, torch.nn.ReLU):
            raise BadInput(f"The activation {activation} inside a layer has no PyTorch twin here.")
    return torch.nn.Sequential(*modules)


def train(options: dict) -> dict:
    """Measure images a second over `epochs` epochs, channels last, not augmented, "bfloat16" by autocast or not."""
    os.environ["KERAS_BACKEND"] = "torch"
    import torch

    from digits.model.networks import build_network

    torch.set_num_threads(cpu_count())
    torch.manual_seed(options["seed"])
    recipe = recipe_of(options)
    images, labels, _, _ = held_out_split(options)
    images = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    labels = torch.from_numpy(labels.astype(np.int64))
    model = (
        twin(build_network(recipe.networks[0], dropout=recipe.dropout)).to(memory_format=torch.channels_last).train()
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def epoch():
        order = torch.randperm(len(images))
        for start in range(0, len(order), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            batch = (images[rows].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options["bfloat16"]):
                logits = model(batch)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits.float(), labels[rows]).backward()
            optimizer.step()

    epoch()
    started = time.perf_counter()
    for _ in range(options["epochs"]):
        epoch()
    seconds = time.perf_counter() - started
    return {"images_per_second": options["epochs"] * len(images) / seconds}
