"""One text in many spellings is one text: to every operator, to choices and to lengths. A number is one in any digits."""

import sys
import time
import unicodedata
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from leads_given import happened, scored, shipped

from scoring.features.comparison import (
    COMPARISON_BY_FOLDING,
    NEWEST_COMPARISON,
    PLAIN_COMPARISON,
    SPELLING_COMPARISON,
)
from scoring.features.operators import OPERATORS
from scoring.features.texts import (
    LONGEST_TEXT,
    MOST_MARKS_OF_LETTER,
    fold_pattern,
    fold_text,
    is_longer,
    number_of,
    unify_spelling,
)
from scoring.models.model import ModelError, compile_model

INVISIBLE = (
    "\u200c\u200d\u200b\u200e\u200f\u202a\u202c\u2060\u2066\u2069\ufeff\u00ad\u034f\u061c\u180e\ufe0f\u0640"
)

SAME = [
    ("مدیر فروش", "مدير فروش", "Arabic yeh"),
    ("مدیر", "مدىر", "alef maksura"),
    ("شرکت", "شركت", "Arabic kaf"),
    ("تبریز", "ﺗﺒﺮﻳﺰ", "presentation forms"),
    ("می‌خواهم", "میخواهم", "ZWNJ"),
    ("مدیر", "مـــدیر", "tatweel"),
    ("500", "۵۰۰", "Persian digits"),
    ("500", "٥٠٠", "Arabic digits"),
    ("500", "५००", "Devanagari digits"),
    ("Café", "Cafe\u0301", "decomposed"),
    ("Åse", "A\u030ase", "decomposed"),
    ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "Hangul jamo"),
    ("SaaS", "ＳａａＳ", "full width"),
    ("ガス", "ｶﾞｽ", "half width"),
    ("office", "oﬃce", "ligature"),
    ("straße", "STRASSE", "sharp s"),
    ("Σίσυφος", "ΣΊΣΥΦΟΣ", "final sigma"),
    ("İstanbul", "istanbul", "Turkish"),
    ("Diyarbakır", "DİYARBAKIR", "Turkish"),
    ("New York", "New\u00a0York", "no-break space"),
    ("New York", "\u3000New \u2009\t York\n", "several spaces"),
    ("Director", "\ufeffDirector\u200b", "byte order mark"),
    ("Director", "\u202aDirec\u00adtor\u202c", "direction marks and a soft hyphen"),
    ("51-200", "51–200", "en dash"),
    ("51-200", "51\u2011200", "no-break hyphen"),
    ("L'Oréal", "L’ORÉAL", "apostrophe"),
    ('"Acme"', "“Acme”", "quotes"),
    ("❤", "❤\ufe0f", "variation selector"),
]


@pytest.mark.parametrize(("one", "other"), [pair[:2] for pair in SAME], ids=[pair[2] for pair in SAME])
def test_spellings_of_one_text_are_the_same(one, other):
    assert fold_text(one) == fold_text(other)
    assert OPERATORS["equals"].parse(one)(other)
    assert OPERATORS["in_list"].parse(["x", other])(one)
    assert OPERATORS["contains"].parse(one)(f"a {other} b")
    assert OPERATORS["starts_with"].parse(other)(f"{one} b")
    assert OPERATORS["ends_with"].parse(one)([1, f"a {other}"])
    assert not OPERATORS["not_contains"].parse(one)(f"a {other} b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cafe", "café"),
        ("51200", "51-200"),
        ("مدیر", "مدیره"),
        ("أحمد", "احمد"),
        ("فاطمة", "فاطمه"),
        ("a b", "ab"),
    ],
)
def test_what_people_read_as_two_texts_stays_two(one, other):
    assert fold_text(one) != fold_text(other)


@given(st.text())
@example("\u0344" * 20)
@example("i\u0307\u0307")
@example("\u0627\u200c\u0653")
def test_folding_a_folded_text_changes_nothing(text):
    assert fold_text(fold_text(text)) == fold_text(text)
    assert unify_spelling(unify_spelling(text)) == unify_spelling(text)


@pytest.mark.slow
def test_folding_is_idempotent_for_every_character():
    """A thousand of them in one text, between other characters."""
    for begin in range(0, sys.maxunicode + 1, 1_000):
        text = "|".join(
            f"a{chr(point)}\u0301" for point in range(begin, min(begin + 1_000, sys.maxunicode + 1))
        )
        folded = fold_text.__wrapped__(text)
        assert fold_text.__wrapped__(folded) == folded, hex(begin)


NUMBERS = [
    ("1200", 1200), (" 1200 ", 1200), ("-5", -5), ("\u22125", -5), ("+5", 5), ("0.1", Decimal("0.1")),
    ("1,200", 1200), ("1.200", Decimal("1.2")), ("1.200.000", 1_200_000), ("1,200,000", 1_200_000),
    ("1.200,50", Decimal("1200.5")), ("1,200.50", Decimal("1200.5")), ("1,5", Decimal("1.5")),
    ("0,125", Decimal("0.125")), ("1200,5", Decimal("1200.5")), ("12,34,567", 1_234_567),
    ("12,34,567.25", Decimal("1234567.25")), ("1 200", 1200), ("1\u00a0200", 1200),
    ("1\u202f200,50", Decimal("1200.5")), ("1'200", 1200), ("1’200.50", Decimal("1200.5")),
    ("۵۰۰۰۰۰", 500_000), ("٥٠٠٬٠٠٠", 500_000), ("۱٬۲۰۰٫۵", Decimal("1200.5")), ("۱۲٫۵", Decimal("12.5")),
    ("۱،۲۰۰", 1200), ("１２００", 1200), ("€ 1,200", 1200), ("1.200,50 €", Decimal("1200.5")), ("-$5", -5), ("1.200 €", 1200), ("$1.200", 1200), ("$1.20", Decimal("1.2")), ("$1200.5", Decimal("1200.5")),
    ("₹12,34,567", 1_234_567), ("۵۰۰ ﷼", 500), ("\u200f۱۲\u200c", 12), ("0" * 29 + "7", 7),
]  # fmt: skip
NO_NUMBERS = [
    "", " ", "\u200b", "x", "five", "0x5", "5_0", "1e5", "1,200,00", "1,2,3", "1.2.3", "12 34", "1 200 00", "5%",
    "$5€", "5 EUR", "5 km", "51-200", "500+", "--5", "5.", ".5", "1,200 000", "9" * 31, "0." + "1" * 31,
    "1 200 000" + ",000" * 40, "infinity", "nan",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_a_text_spells_a_number(text, value):
    assert number_of(text) == value
    assert OPERATORS["equals"].parse(value)(text)
    assert OPERATORS["between"].parse([text, value])(text)
    assert OPERATORS["greater_than"].parse(text)(value + 1)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_a_text_spells_no_number(text):
    assert number_of(text) is None


@given(st.integers(-(10**29), 10**29), st.sampled_from(["{:,}", "{:_}", "{}"]), st.integers(0, 99))
def test_separators_and_digits_do_not_change_a_number(whole, form, cents):
    text = form.format(whole).replace("_", "\u202f") + f".{cents:02}"
    value = Decimal(f"{whole}.{cents:02}")
    assert number_of(text) == value
    assert number_of(text.translate({ord("0") + digit: chr(0x6F0 + digit) for digit in range(10)})) == value


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0), ("   ", 0), (INVISIBLE, 0), ("\u200b \u2060", 0), ("\u3164\u2800", 0), (" abc ", 3), ("\u0640\u200d0", 1), ("a\n\u200db", 3), ("\ufeffabc\u200b", 3),
        ("a b", 3), ("Cafe\u0301", 4), ("👨‍👩‍👧‍👦", 1), ("🇩🇪🇫🇷", 2), ("👍🏽", 1), ("❤️", 1), ("ｶﾞ", 1), ("नमस्ते", 3), ("한국", 2),
        ("\u1112\u1161\u11ab\u1100\u116e\u11a8", 2), ("می‌خواهم", 7), ("a\u200bb\u00adc", 3), ("مـــدیر", 4), ("e" + "\u0301" * 500, 1),
        ("\ud800", 1), ("Z̸̧͕a͠l̵g̷o̶", 5), ("a\r\nb", 3),
    ],
)  # fmt: skip
def test_a_length_is_what_people_count(text, length):
    assert not is_longer(text, length)
    assert length == 0 or is_longer(text, length - 1)


@pytest.mark.parametrize(
    ("answer", "points"),
    [
        ("Retail", 5), ("0123456789", 5), ("0123456789a", 10), ("  0123456789  ", 5), ("👨‍👩‍👧‍👦" * 10, 5), ("👨‍👩‍👧‍👦" * 11, 10),
        ("Cafe\u0301 Paris", 5), ("۱۲۳۴۵۶۷۸۹۰\u200b\u200f", 5), ("می‌خواهم\u200c\u200c\u200c", 5), ("فروشگاه پوشاک", 10),
    ],
)  # fmt: skip
def test_a_detailed_answer_has_more_than_ten_characters_as_people_count(answer, points):
    event = happened("question_answered", question_id="q1", text=answer, source="chatbot")
    assert scored(shipped("chatbot"), [event]).total == points * 1_000_000


# Every operator, and all spellings

LETTERS = st.text(st.sampled_from("abzK Éåñ1907-'مدیرفکتهآئ"), min_size=1, max_size=12)
PERSIAN_TO_ARABIC = str.maketrans("یک", "يك")
FULL_WIDTH = {ascii_: ascii_ + 0xFEE0 for ascii_ in range(0x21, 0x7F)}
PERSIAN_DIGITS = {ord("0") + digit: 0x6F0 + digit for digit in range(10)}
RESPELL = {
    "Arabic letters": lambda text: text.translate(PERSIAN_TO_ARABIC),
    "Persian digits": lambda text: text.translate(PERSIAN_DIGITS),
    "full width": lambda text: text.translate(FULL_WIDTH),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "composed": lambda text: unicodedata.normalize("NFC", text),
}


@st.composite
def spellings(draw, text):
    for respell in draw(st.lists(st.sampled_from(sorted(RESPELL)), max_size=4)):
        text = RESPELL[respell](text)
    cuts = draw(st.lists(st.tuples(st.integers(0, len(text)), st.sampled_from(INVISIBLE)), max_size=4))
    for position, mark in sorted(cuts, reverse=True):
        text = text[:position] + mark + text[position:]
    return text


@given(st.data(), LETTERS, LETTERS)
def test_every_operator_gives_one_verdict_for_all_spellings(data, value, operand):
    other_value, other_operand = data.draw(spellings(value)), data.draw(spellings(operand))
    for operator in ("equals", "not_equals", "contains", "not_contains", "starts_with", "ends_with"):
        if not fold_text(operand):
            continue
        test = OPERATORS[operator]
        assert test.parse(operand)(value) == test.parse(other_operand)(other_value), operator
    for operator in ("in_list", "not_in_list"):
        test = OPERATORS[operator]
        assert test.parse([operand])(value) == test.parse([other_operand])(other_value), operator
    for length in range(len(value) + 2):
        test = OPERATORS["longer_than"].parse(length)
        assert test(value) == test(other_value), length
    for operator in ("is_set", "is_not_set"):
        test = OPERATORS[operator].parse(True)
        assert test(value) == test(other_value)
    pattern = OPERATORS["matches"].parse(rf"(?:{fold_pattern(operand).replace(' ', '')})")
    assert pattern(value) == pattern(other_value)


@given(st.data(), st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_every_operator_of_numbers_gives_one_verdict_for_all_spellings(data, value, limit):
    text, operand = data.draw(spellings(str(value))), data.draw(spellings(str(limit)))
    for operator in (
        "greater_than",
        "less_than",
        "greater_or_equal",
        "less_or_equal",
        "equals",
        "not_equals",
    ):
        assert OPERATORS[operator].parse(limit)(value) == OPERATORS[operator].parse(operand)(text), operator


@pytest.mark.parametrize(
    ("pattern", "passes", "fails"),
    [
        ("مدير", ["مدیر فروش", "مـدير"], ["مدر"]),
        ("^[۰-۹]{3}$", ["123", "۱۲۳", "٤٥٦"], ["12"]),
        ("^[ا-ي ]+$", ["مدیر فروش", "شرکت"], ["abc"]),
        ("^[ك-ي]+$", ["ملی", "كل"], ["x"]),
        ("caf\u0065\u0301+$", ["Café", "Caféé"], ["Cafe"]),
        ("（x）", ["(X)"], ["x"]),
        ("مـ*د", ["مد", "مـــد"], ["م-د"]),
        ("get a demo", ["Get\u00a0a  Demo", " ＧＥＴ a\nDEMO"], ["getademo"]),
        (r"^\d+\.\d$", ["12.5", "۱۲.۵"], ["12,5"]),
        (r"[^ي]x", ["ax"], ["یx", "يx"]),
    ],
)
def test_a_pattern_finds_all_spellings(pattern, passes, fails):
    test = OPERATORS["matches"].parse(pattern)
    assert [value for value in passes if not test(value)] == []
    assert [value for value in fails if test(value)] == []


@given(st.text(max_size=60))
@example("9" * 30)
def test_no_pattern_breaks_anything_but_its_own_model(pattern):
    text = f'model = "m"\n[groups.g]\nrules = [{{ name = "r", value = "profile.x", matches = {_toml(pattern)}, points = 1 }}]\n'
    with suppress(ModelError):
        compile_model(text)


def _toml(text):
    return '"' + "".join(f"\\U{ord(c):08x}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in text) + '"'


@given(
    st.one_of(
        st.text(), st.none(), st.booleans(), st.integers(), st.floats(), st.lists(st.text(), max_size=3)
    )
)
@example("\ud800")
def test_every_operator_is_total_in_every_version(value):
    operands = {
        "in_list": ["a", 5],
        "not_in_list": ["۵"],
        "between": [1, "2"],
        "longer_than": 1,
        "is_set": True,
    }
    operands |= {"is_not_set": True, "matches": "é|[ي]"}
    for by in COMPARISON_BY_FOLDING.values():
        for name, operator in OPERATORS.items():
            operand = operands.get(name, 5 if operator.operand_type == "number" else "ي")
            assert operator.parse(operand, by)(value) in {True, False}


CHOICE = """
model = "m"
[groups.g]
rules = [
  { name = "City", choose = "profile.city", points = { "تبریز" = 3, "New York" = 5, 7 = 9 }, otherwise = 1 },
  { name = "Steps", steps = "profile.size", below = [[1000, 10], [2000, 20]], otherwise = 40 },
]
"""


@pytest.mark.parametrize(
    ("city", "size", "total"),
    [("تبريز", "۱٬۲۰۰", 23), ("NEW\u00a0YORK ", "1,999", 25), ("۷", "2 000", 49), ("x", "٩٩٩", 11)],
)
def test_a_choice_and_a_step_read_all_spellings(city, size, total):
    event = happened("profile_updated", fields={"city": city, "size": size})
    assert scored(compile_model(CHOICE), [event]).total == total * 1_000_000


def test_two_choices_in_two_spellings_are_refused():
    text = CHOICE.replace('"New York"', '"تبريز"')
    with pytest.raises(ModelError, match="the same"):
        compile_model(text)
    compile_model(text, PLAIN_COMPARISON.folding)


def test_a_text_to_compare_with_must_be_visible():
    with pytest.raises(ValueError, match="wants a text"):
        OPERATORS["contains"].parse("\u200c")


# Publications keep the comparison that they were made with


@pytest.mark.parametrize(
    ("operator", "operand", "value", "plain", "newest"),
    [
        ("equals", "تبریز", "تبريز", False, True),
        ("greater_than", 300_000, "۵۰۰۰۰۰", False, True),
        ("greater_than", 1000, "1,200", False, True),
        ("longer_than", 3, "\u200b\u200babc ", True, False),
        ("is_set", True, "\u200b", True, False),
        ("matches", "^a b$", "a\u00a0b", False, True),
        ("equals", "saas", " SaaS ", True, True),
    ],
)
def test_a_comparison_keeps_its_version(operator, operand, value, plain, newest):
    assert OPERATORS[operator].parse(operand, PLAIN_COMPARISON)(value) is plain
    assert OPERATORS[operator].parse(operand, NEWEST_COMPARISON)(value) is newest


@pytest.mark.parametrize("operand", ["yes", "Yes ", "ON", "y", "true", "1", True, 1])
def test_a_flag_equals_each_of_its_words_but_not_in_publications_of_before(operand):
    """A profile keeps `yes` in a flag as true."""
    for value in (True, False):
        equals, in_list, differs = (
            OPERATORS[name].parse([operand, "no such word"] if name == "in_list" else operand)(value)
            for name in ("equals", "in_list", "not_equals")
        )
        assert (equals, in_list, differs) == (value, value, not value)
    recorded = OPERATORS["equals"].parse(operand, SPELLING_COMPARISON)(True)
    assert recorded is (str(operand).lower() == "true")


@pytest.mark.parametrize("value", ["yes", "1", 1, 1.0, None, [], ["yes"]])
def test_what_is_no_flag_is_compared_as_before(value):
    for operand in ("yes", "no", "on", 1, "true"):
        of_before = OPERATORS["equals"].parse(operand, SPELLING_COMPARISON)(value)
        assert OPERATORS["equals"].parse(operand)(value) is of_before


def test_a_choice_by_a_flag_takes_its_words():
    text = """
model = "m"
[groups.g]
rules = [ { name = "Consent", choose = "profile.email_consent", points = { yes = 7, no = 2, "1" = 9 }, otherwise = 1 } ]
"""
    for consent, total in (("yes", 7), (True, 7), ("off", 2), (False, 2)):
        event = happened("profile_updated", fields={"email_consent": consent})
        assert scored(compile_model(text), [event]).total == total * 1_000_000
        assert scored(compile_model(text, SPELLING_COMPARISON.folding), [event]).total == 1_000_000


def test_a_model_of_an_unknown_version_is_refused():
    with pytest.raises(ModelError, match="newer"):
        compile_model(CHOICE, NEWEST_COMPARISON.folding + 1)


HOSTILE = {
    "flags": "🇩", "marks out of order": "\u0315\u0300\u0316\u0323\u0327\u0334", "long ligatures": "\ufdfa",
    "invisible": "\u200b", "joined": "👩\u200d", "space": " ", "digits": "1", "groups": ",111", "mixed": "ي\u200c۵é ",
}  # fmt: skip


@pytest.mark.parametrize("each", HOSTILE.values(), ids=HOSTILE)
def test_64_kb_of_anything_are_compared_at_once(each):
    text = "a" + each * (65_536 // len(each.encode())) + "b"
    began = time.process_time()
    fold_text(text), is_longer(text, 10**6), number_of(text)
    OPERATORS["matches"].parse("x$")(text)
    assert time.process_time() - began < 1, (
        "what takes time with the square of the length takes several seconds"
    )


def test_the_beginning_of_a_very_long_text_is_compared():
    assert fold_text("a" * (LONGEST_TEXT + 5)) == "a" * LONGEST_TEXT
    assert len(fold_text("\ufdfa" * LONGEST_TEXT)) <= LONGEST_TEXT


def test_of_many_marks_in_a_row_the_first_are_read():
    """To sort them takes time with the square of their number."""
    assert len(unify_spelling("a" + "\u0315\u0300" * 1_000)) <= 1 + MOST_MARKS_OF_LETTER
    assert fold_text("Cafe\u0301" + "\u0315" * 20) == fold_text("Caf\u00e9" + "\u0315" * 20)
