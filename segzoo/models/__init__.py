"""Networks: decoders on backbones, for images of every size.

`build` joins the parts that a configuration names, `smp` alone knows segmentation_models_pytorch, `tracing` and
`folding` rewrite trained networks, and `agreement` says whether they compute the same as before. Networks know
`segzoo.backbones`, `segzoo.config` and what is below them; neither data nor tasks.
"""
