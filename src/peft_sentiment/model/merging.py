"""An adapter computed into the weights of its base."""

import copy

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from transformers import PreTrainedModel

from peft_sentiment.errors import AdapterError
from peft_sentiment.model.adapters import get_bare_model


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """Return a plain model of `transformers` that computes what base and adapter do together.

    peft's own `merge_and_unload` fails for most methods where the head is more than one layer.

    Args:
        model: in float32, for an update is lost in the rounding of less; left as it is.

    Raises:
        AdapterError: the method can't be merged.
    """
    if model.active_peft_config.is_prompt_learning:
        raise AdapterError(
            f"The adapter can't be merged: {model.active_peft_config.peft_type.value.lower()} "
            "changes what is read, not the weights. Keep it beside its base."
        )
    merged: PreTrainedModel = copy.deepcopy(get_bare_model(model))
    for name, module in list(merged.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            merged.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            merged.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    merged.eval()
    return merged
