"""Dilated-8 on PASCAL VOC 2012 against SmallFOV-light.

    python main.py --config=configs/voc_smallfov_light.py:product \\
        --config.init=dilation8_pascal_voc.caffemodel --config.data.archives=FOLDER \\
        --workdir=runs/voc/smallfov_light_product

Learning rates and lambda are those that the paper selected for each encoding. It reports mean IoU
and mean BF on the validation set of basic 71.88, 47.22; product 71.91, 47.38; scaling 71.96, 46.89
(baseline 71.79, 47.36). See configs/voc_baseline.py for the starting weights.
"""

from segadv_jax.configs import voc_baseline


def get_config(encoding="product"):
    """Args: encoding: "basic", "product" or "scaling"."""
    return voc_baseline.adversarial("smallfov_light", encoding)
