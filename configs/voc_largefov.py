"""Dilated-8 on PASCAL VOC 2012 against LargeFOV.

    python main.py --config=configs/voc_largefov.py:product \\
        --config.init=dilation8_pascal_voc.caffemodel --config.data.archives=FOLDER \\
        --workdir=runs/voc/largefov_product

Learning rates and lambda are those that the paper selected for each encoding. It reports mean IoU
and mean BF on the validation set of basic 72.02, 47.19; product 72.04, 47.70; scaling 71.99, 47.85
(baseline 71.79, 47.36). See configs/voc_baseline.py for the starting weights.
"""

from segadv_jax.configs import voc_baseline


def get_config(encoding="product"):
    """Args: encoding: "basic", "product" or "scaling"."""
    return voc_baseline.adversarial("largefov", encoding)
