"""Networks: decoders on backbones, for images of every size.

`build` joins the parts that a configuration names, `networks` chooses by the task and tries whether it trains, `smp`
alone knows segmentation_models_pytorch, `folding` rewrites trained networks, and `agreement` compares results. They
import `segzoo.backbones`, `segzoo.config` and what is below; neither data nor tasks.
"""
