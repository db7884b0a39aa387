"""A NeMo model's name -> its .nemo file: from NeMo's cache, or fetched by NeMo from NVIDIA's catalogue or the hub."""

import difflib
from pathlib import Path

from hlas.errors import UserError


def pretrained_file(name: str) -> Path:
    """The file of a model of NVIDIA's catalogue ('stt_de_citrinet_1024') or of the hub ('nvidia/…').

    Raises UserError where it is unknown, or can be neither found nor fetched.
    """
    from hlas.models.nemo_quiet import import_asr

    where = f"pretrained '{name}'"
    if name.endswith((".nemo", ".ckpt")) or Path(name).exists():
        raise UserError(where, "is a file, not a model's name", "name a file by `init`")
    models = import_asr().models
    if "/" not in name:
        known = {
            alias
            for model_class in (models.EncDecCTCModel, models.EncDecCTCModelBPE)
            for model in model_class.list_available_models() or ()
            for alias in (model.pretrained_model_name, *(model.aliases or ()))
        }
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=len(known), cutoff=0.0)
            near.sort(key=lambda other: other.split("_")[:2] != name.split("_")[:2])  # stt_ru_…: its language first
            problem = f"none of the {len(known)} CTC models whose names NeMo knows; the nearest: {', '.join(near[:3])}"
            raise UserError(where, problem, _other_ways(name))
    try:
        path = Path(models.ASRModel.from_pretrained(name, return_model_file=True))
    except Exception as error:  # no network, no such repository, no access: NeMo, urllib, httpx, each in its own way
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(where, f"neither in NeMo's cache nor to be fetched: {first}", _other_ways(name)) from error
    if not path.is_file():
        raise UserError(where, f"its files hold no {name.rpartition('/')[2]}.nemo", _other_ways(name))
    return path


def _other_ways(name: str) -> str:
    file = f"path/to/{name.rpartition('/')[2]}.nemo"
    return f"a model of the hub is named with its owner (nvidia/…); or download the .nemo by hand and say init: {file}"
