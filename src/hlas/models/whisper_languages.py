"""The languages that Whisper knows, and for one that it lacks the nearest of them.

The branches are those of the usual genealogical classification (as in Glottolog), down to where it tells something
about which language's spelling and sounds come near.
"""

import difflib
from typing import Any

from hlas.errors import UserError
from hlas.manifests.text import Language

CODES = (
    *("af", "am", "ar", "as", "az", "ba", "be", "bg", "bn", "bo", "br", "bs", "ca", "cs", "cy", "da", "de", "el", "en"),
    *(
        "es",
        "et",
        "eu",
        "fa",
        "fi",
        "fo",
        "fr",
        "gl",
        "gu",
        "ha",
        "haw",
        "he",
        "hi",
        "hr",
        "ht",
        "hu",
        "hy",
        "id",
        "is",
    ),
    *("it", "ja", "jw", "ka", "kk", "km", "kn", "ko", "la", "lb", "ln", "lo", "lt", "lv", "mg", "mi", "mk", "ml", "mn"),
    *("mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "oc", "pa", "pl", "ps", "pt", "ro", "ru", "sa", "sd", "si", "sk"),
    *("sl", "sn", "so", "sq", "sr", "su", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "uk", "ur", "uz"),
    *("vi", "yi", "yo", "zh", "yue"),
)
# branch, wider group: codes; those that Whisper lacks stand beside their relatives, so that they are found
_BRANCHES = {
    ("West Slavic", "Slavic"): "cs pl sk hsb dsb csb szl",
    ("East Slavic", "Slavic"): "ru uk be rue",
    ("South Slavic", "Slavic"): "hr sr bs sl mk bg sr-Latn cnr",
    ("Baltic", "Baltic"): "lv lt ltg sgs",
    ("West Germanic", "Germanic"): "de nl lb yi af en fy fy-NL nds li gsw sco frr",
    ("North Germanic", "Germanic"): "sv da no nn is fo nb-NO nn-NO",
    ("Ibero-Romance", "Romance"): "es pt gl ast an mwl lad",
    ("Gallo-Romance", "Romance"): "fr oc ca wa frp rm rm-sursilv rm-vallader",
    ("Italo-Romance", "Romance"): "it la ro lij sc vec fur lmo nap scn pms",
    ("Celtic", "Celtic"): "cy br ga ga-IE gd kw gv",
    ("Finnic", "Uralic"): "fi et vot vro krl olo liv se",
    ("Volga and Ugric", "Uralic"): "hu fi et myv mdf mhr mrj kv kpv udm koi",
    ("Turkic of the north", "Turkic"): "tt ba kk ky kaa nog crh cv sah tyv alt",
    ("Turkic of the south", "Turkic"): "tr az tk uz ug gag",
    ("Iranian", "Iranian"): "fa tg ps ku kmr ckb zza os bal",
    ("Indo-Aryan", "Indo-Aryan"): "hi ur mr ne bn as gu pa sd si sa or sat skr bho mai kok dv awa",
    ("Dravidian", "Dravidian"): "ta te kn ml tcy",
    ("Semitic", "Afro-Asiatic"): "ar he mt am ti tig syr arz ary",
    ("Cushitic, Chadic, Berber", "Afro-Asiatic"): "so ha om kab zgh ber",
    ("Bantu", "Niger-Congo"): "sw ln sn rw lg xh zu nso st tn ts ve nyn kln ruc",
    ("West African", "Niger-Congo"): "yo ig tw wo bm dyu ff ee gaa",
    ("Malayic and Philippine", "Austronesian"): "id ms jw su tl mg ceb min ban",
    ("Polynesian", "Austronesian"): "mi haw to sm ty rap",
    ("Sinitic", "Sino-Tibetan"): "zh yue zh-HK zh-TW nan nan-tw hak wuu",
    ("Tibeto-Burman", "Sino-Tibetan"): "bo my cnh dz",
    ("Tai", "Tai"): "th lo shn",
    ("Mongolic", "Mongolic"): "mn bxr xal",
    ("Kartvelian and its neighbours", "Caucasus"): "ka hy ab ady kbd av ce xmf lez",
}
NEAREST = 5  # of those that are named


def nearest(code: str) -> tuple[str, ...]:
    """Codes that Whisper knows: of the same branch, else of the same wider group, else of a similar name."""
    base = code.partition("-")[0]
    homes = [key for key, codes in _BRANCHES.items() if {code, base} & set(codes.split())]
    for part in (0, 1):
        wanted = {home[part] for home in homes}
        found = [c for key, codes in _BRANCHES.items() if key[part] in wanted for c in codes.split() if c in CODES]
        if found:
            return tuple(dict.fromkeys(found))[:NEAREST]
    return tuple(difflib.get_close_matches(base, CODES, n=NEAREST, cutoff=0.5))


_CHANGE = (
    "set `whisper: {code: …}` in the language's YAML, or `language: …` on the stage ('auto': it guesses); "
    "`hlas transcribe` takes --language CODE"
)


def check_code(code: str, known: tuple[str, ...] = CODES, where: str = "", change: str = _CHANGE) -> None:
    """Raise UserError where a code ('' = Whisper guesses) is none of those the model knows, and name the nearest.

    `change` says where the code came from and can be changed.
    """
    if not code or code in known:
        return
    near = [c for c in nearest(code) if c in known]
    says = f"the nearest that it knows: {', '.join(near)}" if near else "it knows: " + ", ".join(known)
    problem = f"Whisper does not know the language '{code}'"
    raise UserError(where or f"Whisper language '{code}'", problem, f"{change}; {says}")


def unknown_code(code: str) -> str:
    """What a YAML's key is told that holds no code of Whisper's."""
    near = ", ".join(nearest(code)) or "see models/README.md"
    return f"Whisper does not know the language '{code}'; the nearest: {near}"


def told_language(wanted: str, language: Language, stage: str) -> str:
    """The code that Whisper is told, '' where it guesses. UserError where it lacks the language and nothing maps it."""
    if wanted == "auto":
        return ""
    code = wanted or language.whisper_code or language.code
    check_code(code, where=f"{stage}: {language.name}")
    return code


def known_to(tokenizer: Any) -> tuple[str, ...]:
    """The codes for which a model's tokenizer has a token; an English-only model knows just that."""
    found = tuple(code for code in CODES if tokenizer.token_to_id(f"<|{code}|>") is not None)
    return found or ("en",)
