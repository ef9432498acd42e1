"""What is found for a claim, and which folders of documents are refused."""

import json

import pytest

from utilities.errors import UserError
from utilities.judges import evidence as module
from utilities.judges.evidence import WORDS, Evidence, Passage, bundled_evidence, read_evidence, terms


def passages(*texts):
    return [Passage(f"s{number}", text) for number, text in enumerate(texts)]


def found(query, *texts, k=3):
    return [passage.source for passage in Evidence(passages(*texts)).search(query, k)]


def test_the_passage_with_the_rarer_word_comes_first():
    texts = ["The river is long.", "The capital of France is Paris.", "The capital of Peru is Lima.", "Paris is old."]
    assert found("The capital of Peru is Paris?", *texts, k=2) == ["s2", "s1"]


def test_among_equals_the_earlier_passage_comes_first_however_many_tie():
    texts = [f"ant number{number}" for number in range(50)]
    assert found("ant", *texts, k=4) == ["s0", "s1", "s2", "s3"]
    assert found("ant number30", *texts, k=3) == ["s30", "s0", "s1"]


def test_what_shares_no_word_is_not_found():
    assert found("zebra", "an ant", "a bee") == []
    assert found("ant zebra", "an ant", "a bee") == ["s0"]
    assert found("", "an ant") == []
    assert found("?!", "an ant", "...") == []


def test_no_more_is_found_than_there_is_or_than_was_asked_for():
    assert found("ant", "an ant", "the ant", k=9) == ["s0", "s1"]
    assert found("ant", "an ant", k=0) == []
    assert Evidence([]).search("ant", 3) == []


def test_equal_passages_are_kept_once_and_empty_ones_never():
    kept = Evidence(passages("An ant.", "an  ANT.", " \n", "A bee.")).passages
    assert kept == (Passage("s0", "An ant."), Passage("s3", "A bee."))


def test_case_and_accents_and_vowel_signs_make_no_difference():
    assert terms("Élan STRASSE Straße") == ["elan", "strasse", "strasse"]
    assert terms("أَحْمَد") == terms("احمد")
    assert terms("مـــصر") == terms("مصر")


def test_arabic_is_searched_by_words():
    assert found("عاصمة مصر", "باريس عاصمة فرنسا", "القاهرة عاصمة مصر", k=1) == ["s1"]


def test_chinese_is_searched_by_characters_and_pairs():
    assert terms("北京是A1城") == ["北", "京", "是", "北京", "京是", "a1", "城"]
    texts = ["京都在日本北部以南。", "北京是中国的首都。", "东京是日本的首都。"]
    assert found("中国首都北京", *texts, k=1) == ["s1"]


def test_texts_are_parted_at_blank_lines_and_headings_are_said_again(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "cars.md").write_text("# Cars\nThey roll.\n\nThey stop.\n## Fuel ##\nPetrol\nor power.\n")
    (tmp_path / "a.txt").write_text("\ufeffFirst.\n\n\n# no heading here\nSecond.", encoding="utf-8")
    assert read_evidence(tmp_path).passages == (
        Passage("a.txt", "First."),
        Passage("a.txt", "# no heading here"),
        Passage("a.txt", "Second."),
        Passage("notes/cars.md", "Cars: They roll."),
        Passage("notes/cars.md", "Cars: They stop."),
        Passage("notes/cars.md", "Fuel: Petrol or power."),
    )


def test_a_long_paragraph_is_parted_at_sentences(tmp_path):
    lines = [f"Fact {number} is wrapped\nover two lines here." for number in range(40)]  # 8 words each
    (tmp_path / "long.txt").write_text("\n".join(lines))
    parts = [passage.text for passage in read_evidence(tmp_path).passages]
    assert [len(part.split()) for part in parts] == [120, 120, 80]
    assert parts[1].startswith("Fact 15 is wrapped over") and parts[1].endswith("here.")
    assert " ".join(parts) == " ".join(" ".join(lines).split())


def test_a_sentence_without_an_end_is_parted_at_words(tmp_path):
    (tmp_path / "a.txt").write_text(" ".join(f"w{number}" for number in range(250)))
    (tmp_path / "b.txt").write_text("中" * 250 + "。", encoding="utf-8")
    lengths = {}
    for source, text in read_evidence(tmp_path).passages:
        lengths.setdefault(source, []).append(len(text.split()) if source == "a.txt" else len(text))
    assert lengths == {"a.txt": [WORDS, WORDS, 10], "b.txt": [WORDS, 11]}  # the two equal pieces are kept once


def test_rows_of_json_lines_say_their_source_or_are_known_by_their_line(tmp_path):
    rows = [{"text": "An ant.", "source": "zoo/ant"}, {"text": "A bee."}]
    (tmp_path / "rows.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    assert read_evidence(tmp_path).passages == (Passage("zoo/ant", "An ant."), Passage("rows.jsonl:3", "A bee."))


@pytest.mark.parametrize("line", ["not json", "[1]", '{"source": "x"}', '{"text": 5}', '{"text": "x", "source": 5}'])
def test_a_row_that_is_none_is_named_with_its_line(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text('{"text": "An ant."}\n' + line + "\n")
    with pytest.raises(UserError, match=r"rows\.jsonl, line 2: expected a JSON object with a text in 'text'"):
        read_evidence(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"An ant.\x00", r"a\.txt is a binary file; accepted is UTF-8 text as \.txt, \.md or \.jsonl"),
        ("a.md", b"caf\xe9", r"a\.md is not UTF-8 text \(byte 3\)"),
        ("b.jsonl", b"\x89PNG\x00", r"b\.jsonl is not UTF-8 text \(byte 0\)"),
        ("paper.pdf", b"%PDF-1.7 \xff\x00", r"paper\.pdf: no file of this kind is read; accepted is UTF-8 text"),
        ("README", b"An ant.", r"README: no file of this kind is read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_left_out(tmp_path, name, content, message):
    (tmp_path / "good.txt").write_text("An ant.")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).write_bytes(content)
    with pytest.raises(UserError, match=f"evidence .*deep/{message}"):
        read_evidence(tmp_path)


def test_hidden_files_are_left_alone(tmp_path):
    (tmp_path / "good.txt").write_text("An ant.")
    (tmp_path / ".DS_Store").write_bytes(b"\x00\xff")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_bytes(b"\x00\xff")
    assert len(read_evidence(tmp_path).passages) == 1


def test_a_folder_without_a_passage_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no passage; accepted is a folder with UTF-8 text"):
        read_evidence(tmp_path)
    (tmp_path / "blank.txt").write_text(" \n\n")
    with pytest.raises(UserError, match="holds no passage"):
        read_evidence(tmp_path)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"evidence .*nowhere does not exist; accepted is a folder"):
        read_evidence(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("An ant.")
    with pytest.raises(UserError, match=r"evidence .*a\.txt is no folder"):
        read_evidence(tmp_path / "a.txt")


def test_the_bundled_evidence_is_read_once_from_the_task_data(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "evidence.jsonl").write_text('{"source": "capital/Peru", "text": "Lima is the capital."}\n')
    monkeypatch.setattr(module, "bundled", lambda name: tmp_path if name == "tasks" else None)
    bundled_evidence.cache_clear()
    try:
        assert bundled_evidence().search("lima", 3) == [Passage("capital/Peru", "Lima is the capital.")]
        assert bundled_evidence() is bundled_evidence()
    finally:
        bundled_evidence.cache_clear()
