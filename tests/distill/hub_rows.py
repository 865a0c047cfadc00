"""One row of every hub dataset that a card names, and the examples (texts of the student, label) that it becomes.

The rows have the columns of the hub as of October 2026.
"""

from __future__ import annotations

from typing import Any

GLUE_PAIR = {"sentence1": "One.", "sentence2": "Two.", "label": 1, "idx": 0}
ARC = {
    "id": "M1",
    "question": "Why?",
    "choices": {"text": ["air", "sun", "sea"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
ARC_EXAMPLES = [(("Why?", "air"), 0), (("Why?", "sun"), 1), (("Why?", "sea"), 0)]
WORD_PROBLEM = [(("Question: 1 + 1?\nAnswer:",), ("2",))]
LILA = {"input": "1 + 1?", "output_program": "print(1+1)", "output_answer": "2", "split": "train", "dataset": "x.json"}
DOLLY = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay hi.\n\n### Response:\n"
)
MINILLM = {"prompt": DOLLY, "output": ["Yes.", "Sure."]}
MINILLM_EXAMPLES = [((MINILLM["prompt"],), ("Yes.", "Sure."))]

HUB: dict[str, tuple[dict[str, Any], list[tuple[tuple[str, ...], Any]]]] = {
    "glue/cola": ({"sentence": "They sleep.", "label": 1, "idx": 0}, [(("They sleep.",), 1)]),
    "glue/sst2": ({"sentence": "a fine film ", "label": 1, "idx": 0}, [(("a fine film",), 1)]),
    "glue/mrpc": (GLUE_PAIR, [(("One.", "Two."), 1)]),
    "glue/stsb": ({**GLUE_PAIR, "label": 3.8}, [(("One.", "Two."), 3.8)]),
    "glue/qqp": ({"question1": "A?", "question2": "B?", "label": 0, "idx": 0}, [(("A?", "B?"), 0)]),
    "glue/mnli": ({"premise": "P.", "hypothesis": "H.", "label": 2, "idx": 0}, [(("P.", "H."), 2)]),
    "glue/qnli": ({"question": "Q?", "sentence": "S.", "label": 0, "idx": 0}, [(("Q?", "S."), 0)]),
    "glue/rte": (GLUE_PAIR, [(("One.", "Two."), 1)]),
    "superglue/boolq": ({"question": "is it", "passage": "It is.", "idx": 0, "label": 1}, [(("is it", "It is."), 1)]),
    "superglue/cb": ({"premise": "P.", "hypothesis": "H", "idx": 0, "label": 1}, [(("P.", "H"), 1)]),
    "superglue/copa": (
        {"premise": "It fell.", "choice1": "Wind.", "choice2": "Tea.", "question": "cause", "idx": 0, "label": 0},
        [(("It fell. What is the cause?", "Wind."), 1), (("It fell. What is the cause?", "Tea."), 0)],
    ),
    "superglue/wic": (
        {
            "word": "place",
            "sentence1": "Know your place.",
            "sentence2": "A place to eat.",
            "start1": 10,
            "start2": 2,
            "end1": 15,
            "end2": 7,
            "idx": 0,
            "label": 0,
        },
        [(("place: Know your place.", "A place to eat."), 0)],
    ),
    "superglue/wsc": (
        {
            "text": "Ann told Eve that she won.",
            "span1_index": 0,
            "span2_index": 4,
            "span1_text": "Ann",
            "span2_text": "she",
            "idx": 0,
            "label": 1,
        },
        [(("*Ann* told Eve that #she# won.", "she is Ann"), 1)],
    ),
    "reasoning/winogrande": (
        {"sentence": "A hit B since _ was mad.", "option1": "A", "option2": "B", "answer": "1"},
        [(("A hit B since A was mad.",), 1), (("A hit B since B was mad.",), 0)],
    ),
    "reasoning/hellaswag": (
        {
            "ind": 4,
            "activity_label": "Roof",
            "ctx_a": "A man.",
            "ctx_b": "he",
            "ctx": "A man. he",
            "endings": ["a", "b", "c", "d"],
            "source_id": "x",
            "split": "train",
            "split_type": "indomain",
            "label": "3",
        },
        [(("A man. he", ending), int(ending == "d")) for ending in "abcd"],
    ),
    "reasoning/piqa": (
        {"goal": "Boil.", "sol1": "Heat.", "sol2": "Cool.", "label": 0},
        [(("Boil.", "Heat."), 1), (("Boil.", "Cool."), 0)],
    ),
    "reasoning/siqa": (
        {"context": "C.", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "2"},
        [(("C. Q?", "a"), 0), (("C. Q?", "b"), 1), (("C. Q?", "c"), 0)],
    ),
    "reasoning/openbookqa": (
        {"id": "7", "question_stem": "Why?", "choices": ARC["choices"], "answerKey": "B"},
        ARC_EXAMPLES,
    ),
    "reasoning/arc-easy": (ARC, ARC_EXAMPLES),
    "reasoning/arc-challenge": (ARC, ARC_EXAMPLES),
    "reasoning/singleeq": (LILA, WORD_PROBLEM),
    "reasoning/addsub": (LILA, WORD_PROBLEM),
    "reasoning/multiarith": ({"question": " 1 + 1?", "final_ans": "2"}, WORD_PROBLEM),
    "reasoning/gsm8k": (
        {"question": "1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
        [(("Question: 1 + 1?\nAnswer:",), ("1 + 1 = <<1+1=2>>2\n#### 2",))],
    ),
    "instruction/dolly": (
        {"instruction": "Say hi.", "context": "", "response": "Hi.", "category": "open_qa"},
        [((DOLLY,), ("Hi.",))],
    ),
    "world/colour": ({"object": "milk", "label": "white", "share": 0.9}, [(("milk",), 9)]),
    "world/colour-share": ({"object": "milk", "colour": "white", "share": 0.9}, [(("milk", "white"), 0.9)]),
    "world/size": ({"object1": "sun", "object2": "pea", "label": "more"}, [(("sun", "pea"), 2)]),
    "world/weight": ({"object1": "sun", "object2": "pea", "label": "more"}, [(("sun", "pea"), 2)]),
    "world/speed": ({"object1": "pea", "object2": "hare", "label": "less"}, [(("pea", "hare"), 0)]),
    "world/statements": (
        {"statement1": "He ate a pea.", "statement2": "He ate the sun.", "label": "1"},
        [(("He ate a pea.",), 1), (("He ate the sun.",), 0)],
    ),
    "world/statement": ({"statement": "He ate the sun.", "label": "senseless"}, [(("He ate the sun.",), 0)]),
    "world/counting": ({"sentence": "A bird has [MASK] legs.", "label": "two"}, [(("A bird has [MASK] legs.",), 3)]),
    "world/captions": (
        {"idx": 0, "premise": "A man rides.", "hypothesis": "He sits.", "label": "entailment"},
        [(("A man rides.", "He sits."), 0)],
    ),
    "world/emotions": (
        {"text": "I love it, oddly.", "labels": [18, 26], "id": "e"},
        [(("I love it, oddly.",), (18, 26))],
    ),
    "world/grammar": (
        {"one": "They eat.", "other": "They eats.", "label": "1", "paradigm": "agreement"},
        [(("They eat.",), 1), (("They eats.",), 0)],
    ),
    "instruction/self-instruct": (MINILLM, MINILLM_EXAMPLES),
    "instruction/vicuna": (MINILLM, MINILLM_EXAMPLES),
    "instruction/s-ni": (MINILLM, MINILLM_EXAMPLES),
    "instruction/unni": (MINILLM, MINILLM_EXAMPLES),
}
