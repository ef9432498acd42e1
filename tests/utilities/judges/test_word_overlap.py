from utilities.judges.word_overlap import nearest, shared_words


def test_shared_words_are_those_of_the_first_text_in_its_order():
    assert shared_words("Tell me about the Zoe of Renault", "Renault builds the Zoe.") == "zoe, renault"
    assert shared_words("What about drones?", "An aspirin a day.") == ""


def test_words_of_scripts_without_spaces_are_shared_too():
    assert shared_words("\u7535\u52a8\u6c7d\u8f66", "\u7535\u52a8\u6c7d\u8f66\u5f88\u597d") != ""


def test_the_nearest_passage_lacks_the_fewest_words_and_says_which():
    passages = ["Tesla is the brand behind Model S.", "Renault is the brand behind the electric vehicle Zoe."]
    assert nearest("The electric vehicle Zoe carries the badge of Renault.", passages) == (
        passages[1],
        "carries, badge",
    )
    assert nearest("Renault is behind the Zoe.", passages)[1] == ""


def test_of_equally_near_passages_the_first_is_taken_and_long_lists_are_cut():
    assert nearest("Apples fall.", ["Pears rise.", "Plums sink."])[0] == "Pears rise."
    claim = " ".join(f"word{chr(97 + k)}" for k in range(20))
    assert len(nearest(claim, ["nothing"])[1].split(", ")) == 12
