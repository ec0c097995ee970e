"""The families of published models: config.json to TextSpec, tensor names to parameter paths.

One file a family. FAMILIES holds them by the `model_type` of their config.json.
"""

from gemb.pretrained.families import (
    bert,
    decoder,
    distilbert,
    gemma4,
    modernbert,
    mpnet,
    nomic,
    static,
    t5,
    vision,
)
from gemb.pretrained.families.family import Family

FAMILIES: dict[str, Family] = {
    model_type: family
    for module in (bert, decoder, distilbert, gemma4, modernbert, mpnet, nomic, static, t5, vision)
    for model_type, family in module.FAMILIES.items()
}
