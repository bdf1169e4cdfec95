"""Networks: decoders on backbones, for images of every size."""
