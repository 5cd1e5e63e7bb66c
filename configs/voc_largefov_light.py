"""Dilated-8 on PASCAL VOC 2012 against LargeFOV-light.

    python main.py --config=configs/voc_largefov_light.py:product \\
        --config.init=dilation8_pascal_voc.caffemodel --config.data.archives=FOLDER \\
        --workdir=runs/voc/largefov_light_product

Learning rates and lambda are those that the paper selected for each encoding. It reports mean IoU
and mean BF on the validation set of basic 71.95, 46.97; product 71.97, 47.73; scaling 72.01, 47.43
(baseline 71.79, 47.36). See configs/voc_baseline.py for the starting weights.
"""

from segadv_jax.configs import voc_baseline


def get_config(encoding="product"):
    """Args: encoding: "basic", "product" or "scaling"."""
    return voc_baseline.adversarial("largefov_light", encoding)
