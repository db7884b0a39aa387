"""Import NeMo without its banners: only warnings that a user can act on should reach the terminal."""

import logging
import os
import warnings
from functools import cache
from typing import Any

_CHATTY = (
    "nv_one_logger",
    "nemo_logger",
    "lightning.pytorch",
    "lightning.fabric",
    "pytorch_lightning",
    "pytorch_lightning.utilities.rank_zero",
    "torch.distributed",
)


@cache  # a second run would quieten handlers that others have attached to NeMo's logger since
def import_asr() -> Any:
    """Import `nemo.collections.asr` (about 12 s) and turn its information messages off."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("NEMO_LOG_LEVEL", "ERROR")  # hlas logs what matters itself
    for category in (UserWarning, FutureWarning, DeprecationWarning, SyntaxWarning):
        warnings.filterwarnings("ignore", category=category)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    import nemo.collections.asr as nemo_asr
    from nemo.core.classes.common import ALLOWED_TARGET_PREFIXES
    from nemo.utils import logging as nemo_logging

    ALLOWED_TARGET_PREFIXES.append("hlas.models.modules.")  # NeMo builds classes of named packages only
    nemo_logging.setLevel(logging.ERROR)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("nv_one_logger", "nemo", "lightning")):  # importing them has set their levels anew
            logging.getLogger(name).setLevel(logging.ERROR)
    return nemo_asr
