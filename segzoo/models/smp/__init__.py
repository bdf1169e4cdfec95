"""All that knows segmentation_models_pytorch (SMP): its decoders on our backbones, and our backbones as its encoders.

Nothing else in the package imports SMP. This imports decoders (`segzoo.models.decoder`), `segzoo.backbones` and what
is below them.
"""
