"""What an expanded prompt must keep of the original: quoted text, numbers, colours, negations, objects and where they are.

Used on training pairs, on measured models and on every prompt the server expands. English and the Chinese words of the corpus are read;
a rule that cannot read a prompt says nothing, so the checks err on the side of the words they know.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imagewright.curation.rewriting import QUOTED, STOP_WORDS, rejection, visible_texts

COLOURS = frozenset({
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "grey", "black", "brown", "gold", "golden", "silver",
    "violet", "magenta", "turquoise", "teal", "beige", "navy", "crimson", "maroon", "indigo",
})  # fmt: skip
# Objects the corpus composes pictures from: naming another one changes what is asked for.
OBJECTS = frozenset({"circle", "square", "triangle", "star", "cross", "poster", "sign", "slide"})
NEGATIONS = frozenset({"no", "not", "without", "never", "nothing", "except", "none"})
RELATIONS = {"left": "left", "right": "right", "above": "above", "below": "below", "under": "below", "beneath": "below", "over": "above"}
OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ONE = frozenset({"1", "a", "an", "single"})
FILLERS = STOP_WORDS | {
    "draw", "please", "make", "want", "need", "would", "like", "could", "can", "you", "me", "i", "my", "create", "generate", "some", "get",
    "saying", "says", "text", "words", "pls", "u", "gimme", "just", "from", "be", "or", "any", "do",
}  # fmt: skip
SPELLINGS = {"gray": "grey", "colour": "color"}
# Longest first, so that a word is never read as part of another.
CHINESE = {
    "红色": "red", "橙色": "orange", "黄色": "yellow", "绿色": "green", "青色": "cyan", "蓝色": "blue", "紫色": "purple",
    "粉色": "pink", "白色": "white", "灰色": "grey", "黑色": "black", "正方形": "square", "圆形": "circle", "三角形": "triangle",
    "五角星": "star", "十字": "cross", "海报": "poster", "标牌": "sign", "幻灯片": "slide", "左边": "left", "右边": "right",
    "上方": "above", "下方": "below", "没有": "without", "不要": "without", "一个": "one", "两个": "two", "三个": "three",
    "四个": "four", "五个": "five", "和": "and",
}  # fmt: skip
CHINESE_WORD = re.compile("|".join(sorted(CHINESE, key=len, reverse=True)))
CHINESE_PLACE = re.compile(r"([a-z]+)[^a-z]*在((?:[^a-z]*[a-z]+)*?[^a-z]*)的\s*(left|right|above|below)")
CHINESE_GLUE = re.compile("[的在了是有上请画张个]")
MARKERS = re.compile(r"<\||\|>|\[/?INST\]|</?s>|```", re.IGNORECASE)
WORD = re.compile(r"\d+(?:[.,:]\d+)*%?|[^\W\d_]+(?:'[^\W\d_]+)?", re.UNICODE)
REACH_WORDS = 3
MAX_REPEATS = 3


@dataclass(frozen=True)
class Facts:
    """What a prompt says outside its quoted texts, in canonical words."""

    words: tuple[str, ...]
    numbers: frozenset[str]
    colours: frozenset[str]
    objects: frozenset[str]
    negated: frozenset[str]
    coloured: frozenset[tuple[str, str]]
    """(colour, thing)."""
    placed: frozenset[tuple[str, str, str]]
    """(thing, relation, thing); the same place told from the other side is normalised to `left` and `above`."""


def read_facts(text: str) -> Facts:
    """Reads numbers, colours, objects, negations, coloured things and places of a prompt."""
    words = canonical_words(text)
    numbers = frozenset(word for word in words if word[0].isdigit())
    coloured = set()
    for at, word in enumerate(words[:-1]):
        if word in COLOURS and words[at + 1] not in COLOURS | FILLERS | NEGATIONS:
            coloured.add((word, words[at + 1]))
    return Facts(
        words=words,
        numbers=numbers,
        colours=frozenset(words) & COLOURS,
        objects=frozenset(words) & OBJECTS,
        negated=frozenset(negated_words(words)),
        coloured=frozenset(coloured),
        placed=frozenset(places(words)),
    )


def canonical_words(text: str) -> tuple[str, ...]:
    """Lower-case words outside quotes: numbers as digits, known Chinese words in English, plurals of known objects singular."""
    plain = QUOTED.sub(" ", unicodedata.normalize("NFC", text))
    plain = CHINESE_WORD.sub(lambda match: f" {CHINESE[match[0]]} ", plain).lower()
    plain = CHINESE_PLACE.sub(lambda match: f"{match[1]} {match[3]} of {match[2]} ", plain)
    return tuple(canonical_word(word) for word in WORD.findall(CHINESE_GLUE.sub(" ", plain)))


def canonical_word(word: str) -> str:
    """ "three" -> "3", "crosses" -> "cross", "gray" -> "grey"."""
    if word in NUMBERS:
        return str(NUMBERS.index(word))
    for ending in ("es", "s"):
        if word.endswith(ending) and word.removesuffix(ending) in OBJECTS:
            return word.removesuffix(ending)
    return SPELLINGS.get(word, word)


def is_content(word: str) -> bool:
    """Whether a word names something to be seen (neither glue, number, negation nor place)."""
    return word not in FILLERS and word not in NEGATIONS and word not in RELATIONS and not word[0].isdigit()


def negated_words(words: Sequence[str]) -> Iterable[str]:
    """The thing each negation speaks of: the last word of the noun phrase that follows it, or the negation itself."""
    for at, word in enumerate(words):
        if word in NEGATIONS:
            follows = [later for later in words[at + 1 : at + 1 + REACH_WORDS] if is_content(later)]
            known = [later for later in follows if later in OBJECTS]
            yield (known or [later for later in follows if later not in COLOURS] or follows or [word])[0]


def places(words: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    """(thing, relation, thing) around every relation word, told as left or above."""
    for at, word in enumerate(words):
        if word in RELATIONS:
            before = [earlier for earlier in words[:at] if is_content(earlier) and earlier not in COLOURS]
            after = [later for later in words[at + 1 :] if is_content(later) and later not in COLOURS]
            if before and after:
                relation = RELATIONS[word]
                first, second = before[-1], after[0]
                yield (first, relation, second) if relation in ("left", "above") else (second, OPPOSITES[relation], first)


def broken_constraints(prompt: str, enhanced: str) -> tuple[str, ...]:
    """Names of the constraints that `enhanced` breaks; empty when it may replace `prompt`."""
    form = rejection(enhanced, prompt)
    if form:
        return (form,)
    if MARKERS.search(enhanced) or enhanced.lstrip().startswith(("{", "[")):
        return ("not_plain_text",)
    asked, told = read_facts(prompt), read_facts(enhanced)
    checks = {
        "repetition": is_repetitive(told.words),
        "off_topic": kept_share(asked, told) < 0.5,
        "lost_number": any(not keeps_number(number, told) for number in asked.numbers),
        "added_number": adds_number(asked, told),
        "lost_colour": not asked.colours <= told.colours,
        "swapped_colour": any(not keeps_colour_of(pair, told.words) for pair in asked.coloured),
        "lost_negation": not asked.negated <= told.negated,
        "shows_negated": any(shown_positively(word, told) for word in asked.negated if word not in NEGATIONS),
        "excludes_asked": bool((told.negated - asked.negated - NEGATIONS) & set(asked.words)),
        "lost_object": not asked.objects <= told.objects,
        "added_object": bool(asked.objects) and not told.objects <= asked.objects,
        "changed_place": not asked.placed <= told.placed or contradicts_place(asked, told),
        "added_text": bool(visible_texts(prompt)) and not set(visible_texts(enhanced)) <= set(visible_texts(prompt)),
    }
    return tuple(name for name, broken in checks.items() if broken)


def kept_share(asked: Facts, told: Facts) -> float:
    """Share of the prompt's content words that the expansion still says; 1 for a prompt without any."""
    content = {word for word in asked.words if is_content(word) and word.isascii()}
    kept = sum(any(same_stem(word, other) for other in set(told.words)) for word in content)
    return kept / len(content) if content else 1.0


def same_stem(word: str, other: str) -> bool:
    """Equal up to a plural ending."""
    return word == other or word.rstrip("s") == other.rstrip("s")


def keeps_number(number: str, told: Facts) -> bool:
    """A one may become an article."""
    return number in told.numbers or (number == "1" and bool(ONE & set(told.words)))


def adds_number(asked: Facts, told: Facts) -> bool:
    """Whether the expansion counts something the prompt names and does not count that way."""
    named = {word for word in asked.words if is_content(word)} - COLOURS
    for at, word in enumerate(told.words):
        if word[0].isdigit() and word != "1" and word not in asked.numbers:
            near = told.words[at + 1 : at + 1 + REACH_WORDS]
            if any(same_stem(thing, later) for thing in named for later in near):
                return True
    return False


def keeps_colour_of(pair: tuple[str, str], words: Sequence[str]) -> bool:
    """Whether a colour still stands shortly before its thing, no other colour between them."""
    colour, thing = pair
    for at, word in enumerate(words):
        if same_stem(word, thing):
            near = [earlier for earlier in words[max(0, at - REACH_WORDS) : at] if earlier in COLOURS]
            if near and near[-1] == colour:
                return True
    return not any(same_stem(word, thing) for word in words) and colour in words


def shown_positively(word: str, told: Facts) -> bool:
    """Whether a thing the prompt excludes is also mentioned without a negation before it."""
    for at, other in enumerate(told.words):
        if same_stem(word, other) and not NEGATIONS & set(told.words[max(0, at - REACH_WORDS) : at]):
            return True
    return False


def contradicts_place(asked: Facts, told: Facts) -> bool:
    """Whether the expansion puts the same two things the other way round."""
    return any((second, relation, first) in told.placed for first, relation, second in asked.placed)


def is_repetitive(words: Sequence[str]) -> bool:
    """Whether some run of four words comes back more than `MAX_REPEATS` times: the loop of a model that lost its way."""
    runs = [tuple(words[at : at + 4]) for at in range(len(words) - 3)]
    return any(runs.count(run) > MAX_REPEATS for run in set(runs))
