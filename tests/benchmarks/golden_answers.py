"""Made-up answers for golden_hard.py: the same in every process, right, wrong, and on the border between the two."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

ENGLISH = (
    "The harbour of Mirel is quiet at night. A ferry brings bread and lamps to it. Who lights them? Nobody knows!",
    "It rains. The fox sleeps in its den; the moth does not.",
    "I think Mr. Wu left at 5 p.m. on Friday, e.g. after the storm. He said: \"Come back soon.\" So we wait...",
    "hello",
    "A list:\n- one\n- two\n* three\n\nIt ends here",
)  # fmt: skip
OTHERS = {
    "de": "Der Hafen ist am Abend sehr still, und die Leute gehen langsam nach Hause.",
    "fr": "Le port est très calme le soir et les gens rentrent lentement chez eux.",
    "es": "El puerto está muy tranquilo por la noche y la gente vuelve despacio a casa.",
    "it": "Il porto è molto tranquillo la sera e la gente torna lentamente a casa.",
    "pt": "O porto está muito tranquilo à noite e as pessoas voltam devagar para casa.",
    "ru": "Вечером в гавани очень тихо, и люди медленно идут домой.",
    "bg": "Вечер пристанището е много тихо и хората бавно се прибират у дома.",
    "fi": "Satama on illalla hyvin hiljainen, ja ihmiset kävelevät hitaasti kotiin.",
    "vi": "Buổi tối bến cảng rất yên tĩnh và mọi người chậm rãi đi về nhà.",
    "sw": "Bandari ni tulivu sana jioni na watu wanarudi nyumbani polepole.",
    "ar": "الميناء هادئ جدا في المساء والناس يعودون ببطء إلى بيوتهم.",
    "fa": "بندر در شب بسیار آرام است و مردم آهسته به خانه برمی‌گردند.",
    "ur": "شام کو بندرگاہ بہت پرسکون ہوتی ہے اور لوگ آہستہ آہستہ گھر جاتے ہیں۔",
    "hi": "शाम को बंदरगाह बहुत शांत होता है और लोग धीरे-धीरे घर लौटते हैं।",
    "mr": "संध्याकाळी बंदर खूप शांत असते आणि लोक हळूहळू घरी जातात.",
    "ne": "साँझ बन्दरगाह धेरै शान्त हुन्छ र मानिसहरू बिस्तारै घर फर्कन्छन्।",
    "bn": "সন্ধ্যায় বন্দর খুব শান্ত থাকে এবং মানুষ ধীরে ধীরে বাড়ি ফেরে।",
    "ta": "மாலையில் துறைமுகம் மிகவும் அமைதியாக இருக்கிறது.",
    "te": "సాయంత్రం ఓడరేవు చాలా నిశ్శబ్దంగా ఉంటుంది.",
    "kn": "ಸಂಜೆ ಬಂದರು ತುಂಬಾ ಶಾಂತವಾಗಿರುತ್ತದೆ.",
    "ml": "വൈകുന്നേരം തുറമുഖം വളരെ ശാന്തമാണ്.",
    "gu": "સાંજે બંદર ખૂબ શાંત હોય છે અને લોકો ધીમે ધીમે ઘરે જાય છે.",
    "pa": "ਸ਼ਾਮ ਨੂੰ ਬੰਦਰਗਾਹ ਬਹੁਤ ਸ਼ਾਂਤ ਹੁੰਦੀ ਹੈ।",
    "th": "ตอนเย็นท่าเรือเงียบมากและผู้คนค่อยๆ เดินกลับบ้าน",
    "ko": "저녁에는 항구가 매우 조용하고 사람들은 천천히 집으로 돌아갑니다.",
    "ja": "夕方の港はとても静かで、人々はゆっくり家に帰ります。",
}
Edit = Callable[[dict[str, Any], str], list[str]]


def around(make: Callable[[int], str], n: int) -> list[str]:
    """Texts with exactly as many things as asked, one more, and one fewer."""
    return [make(n), make(n + 1), make(max(0, n - 1))]


def paragraphs(k: dict[str, Any], text: str) -> list[str]:
    """Paragraphs whose n-th begins as asked, in several disguises."""
    n, nth, word = k["num_paragraphs"], k["nth_paragraph"], k["first_word"]
    made = []
    for first in (word, word.upper() + ",", f'"{word}" ', f"'{word}'s", "other", word + "s"):
        parts = [text] * n
        parts[nth - 1] = f"{first} {text}"
        made.append("\n\n".join(parts))
    return [*made, made[0] + "\n\n", "\n\n\n\n" + made[0], made[0] + "\n\nmore"]


# instruction -> texts that follow it (the first one, if the text allows) or nearly do
EDITS: dict[str, Edit] = {
    "change_case:capital_word_frequency": lambda k, t: [
        *around(lambda n: f"{t} {'LAMP ' * n}end.", k["capital_frequency"]),
        f"{t} U.S. DON'T NASA's A-B **BOLD** I. CAN'T, X2 {'É' * 3}",
    ],
    "change_case:english_capital": lambda k, t: [t.upper(), t, "123 45", "DER HAFEN IST AM ABEND SEHR STILL."],
    "change_case:english_lowercase": lambda k, t: [t.lower(), t, "...", OTHERS["fr"].lower()],
    "combination:repeat_prompt": lambda k, t: [
        f"{k['prompt_to_repeat']}\n\n{t}",
        f" {k['prompt_to_repeat'].upper()} {t}",
        f"Sure. {k['prompt_to_repeat']} {t}",
    ],
    "combination:two_responses": lambda k, t: [
        f"{t}\n******\nAnother.",
        f"{t}******{t}",
        f"******{t}******B",
        f"{t}******\n******B",
        f"A******{t}******C",
    ],
    "detectable_content:number_placeholders": lambda k, t: around(lambda n: t + " [x]" * n, k["num_placeholders"]),
    "detectable_content:postscript": lambda k, t: [
        f"{t}\n{k['postscript_marker']} Bye.",
        f"{t} p. s. bye",
        f"{t}\nP. P. S. bye",
        f"{t}\nPS bye",
        f"{t}\nP.P.S bye",
    ],
    "detectable_format:constrained_response": lambda k, t: [
        f"{t} My answer is no.",
        "My answer is yes",
        "my answer is no.",
    ],
    "detectable_format:json_format": lambda k, t: [
        json.dumps({"a": t}),
        f"```json\n{json.dumps([t])}\n```",
        '```\n{"a": 1,}\n```',
        "12",
        '```JSON\n"x"```',
    ],
    "detectable_format:multiple_sections": lambda k, t: around(
        lambda n: "\n".join(f"{k['section_spliter']} {i + 1}\n{t}" for i in range(n)), k["num_sections"]
    ),
    "detectable_format:number_bullet_lists": lambda k, t: [
        *around(lambda n: "\n".join(["Points:", *["* a point"] * n]), k["num_bullets"]),
        "\n".join(["- a"] * k["num_bullets"]),
        "\n".join([" **a**", "* b", "-c"]),
    ],
    "detectable_format:number_highlighted_sections": lambda k, t: [
        *around(lambda n: t + " *high*" * n, k["num_highlights"]),
        t + " **high** and so" * k["num_highlights"],
        t + " ** ** * * *\n*",
        "*a* **b** ***c***",
    ],
    "detectable_format:title": lambda k, t: [f"<<Storm>>\n{t}", f"<< >>\n{t}", f"<<a\nb>> {t}", f"<<<Deep>>> {t}"],
    "keywords:existence": lambda k, t: [
        f"{t} {' '.join(k['keywords'])}",
        f"{t} {' '.join(k['keywords']).upper()}",
        " ".join(k["keywords"][1:]),
    ],
    "keywords:forbidden_words": lambda k, t: [
        t,
        f"{t} {k['forbidden_words'][0]}",
        f"{t} {k['forbidden_words'][-1].upper()}.",
        f"x{k['forbidden_words'][0]}x",
    ],
    "keywords:frequency": lambda k, t: around(lambda n: f"{t} " + f"{k['keyword']} " * n, k["frequency"]),
    "keywords:letter_frequency": lambda k, t: [
        *around(lambda n: k["letter"] * n, k["let_frequency"]),
        t,
        k["letter"].upper() * k["let_frequency"],
    ],
    "language:response_language": lambda k, t: [
        OTHERS.get(k["language"], t),
        t,
        "1 2 3",
        f"Sure:\n{OTHERS.get(k['language'], t)}",
    ],
    "length_constraints:nth_paragraph_first_word": lambda k, t: paragraphs(k, t),
    "length_constraints:number_paragraphs": lambda k, t: [
        *around(lambda n: "\n***\n".join([t] * n), k["num_paragraphs"]),
        "***" + "***".join([t] * k["num_paragraphs"]) + "***",
        f"{t} *** *** {t}",
    ],
    "length_constraints:number_sentences": lambda k, t: [
        *around(lambda n: "It rains again. " * n, k["num_sentences"]),
        t,
    ],
    "length_constraints:number_words": lambda k, t: [*around(lambda n: "rain, " * n, k["num_words"]), t],
    "punctuation:no_comma": lambda k, t: [t.replace(",", ""), f"{t},"],
    "startend:end_checker": lambda k, t: [
        f"{t} {k['end_phrase']}",
        f'"{t} {k["end_phrase"].upper()}"',
        f"{t} {k['end_phrase']} Bye.",
    ],
    "startend:quotation": lambda k, t: [f'"{t}"', f' "{t}" \n', f'"{t}', '"', f"“{t}”"],
}


def responses(row: dict[str, Any], number: int, most: int = 24) -> list[str]:
    """Made-up answers to an IFEval prompt: the same in every process."""
    base = ENGLISH[number % len(ENGLISH)]
    made = [base, "", "   ", row["prompt"]]
    obedient = base
    asked = [
        (i, {a: b for a, b in k.items() if b}) for i, k in zip(row["instruction_id_list"], row["kwargs"], strict=True)
    ]
    for instruction, settings in asked:
        made += EDITS[instruction](settings, base)
        obedient = EDITS[instruction](settings, obedient)[0]
    framed = [f"Sure, here it is:\n{obedient}", f"{obedient}\nI hope this helps!", f"Sure:\n**{obedient}**\nBye."]
    # what is dropped is drawn, so that over many prompts every kind of answer is kept
    drawn = random.Random(number).sample(made, min(len(made), most - 4))
    return [obedient, *framed, *drawn]


def generated(name: str, doc: dict[str, Any], number: int) -> list[str]:
    """Made-up answers to one item of the other generative benchmarks."""
    if name == "ifeval":
        return responses(doc, number)
    if name.startswith("bbh"):
        right = doc["target"]
        return [
            f"First this, then that. So the answer is {right}.", f" {right}", f"the answer is {right}. the answer is X",
            f"So the answer is {right}", "Quite so. the answer is Yes.", "", f"A.\n\nthe answer is {right}.",
            f"the answer is {right}.\nmore", "I do not know.",
        ]  # fmt: skip
    if name.startswith("gpqa"):
        right, some = doc["answer"], doc["choice2"]
        return [
            f"The answer is {right}.", f"(A) or (B)? I say {right}", f"It is clearly {some.upper()}.", "", "Hm",
            "answer: B", f"The answer is {right[1]}. </s> (D)", f"It is {doc['choice1']}, not {doc['choice4']}",
        ]  # fmt: skip
    body = doc["canonical_solution"]
    return [
        body, f"{body}\n\ndef other():\n    pass", f"{body}```\nIt works.", f"{body}\n# done\nprint(1)", "    pass", "",
        f"{body}\nprint(2)\n```", f"{body}\nif True: pass", f"{body}\n\nclass A: pass",
    ]  # fmt: skip
