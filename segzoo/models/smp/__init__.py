"""The meeting with segmentation_models_pytorch (SMP): its decoders on our backbones. Its only importer."""
