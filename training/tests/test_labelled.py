import torch

from training.translate import generate, labelled_sets, tokenizer
from training.translate.model import Marian, Shape


def small(tmp_path):
    made = generate.pairs(11, 600)
    tokenizer.train([p.en for p in made], [p.zh for p in made], tmp_path / "sp", size=2000)
    t = tokenizer.Tokenizer(tmp_path / "sp.model")
    torch.manual_seed(1)
    return t, Marian(Shape(len(t), d_model=16, ffn=16, heads=4, encoder_layers=1, decoder_layers=1)).eval()


def test_hand_labelled_sets_are_read_and_scored(tmp_path):
    (tmp_path / "coreference.en.tsv").write_text(
        "id\tsentence\tpronoun\tpronoun_start\tantecedent\tantecedent_start\tdistractor\tkind\tnumber\tentity\n"
        "1\tThe fox saw the hen and it ran.\tit\t24\tfox\t4\then\tfirst\tsingular\tanimal\n")
    (tmp_path / "alignment.tsv").write_text("id\tenglish\tchinese\tlinks\n1\tThe fox ran .\t狐狸 跑 了 。\t1-0 2-1 3-3\n")
    (tmp_path / "syntax.en.tsv").write_text(
        "id\tsentence\tdependent\tdependent_start\thead\thead_start\trelation\n1\tI eat rice.\trice\t6\teat\t2\tobject\n")
    t, model = small(tmp_path)
    read = labelled_sets.coreference(model, t, tmp_path, "coreference")
    assert read["en"]["count"] == 1 and read["en"]["first_noun"] == 100 and read["en"]["right"] in (0, 100) and "zh" not in read
    assert labelled_sets.alignment(model, t, tmp_path)["en-zh"]["words"] == 3
    assert list(labelled_sets.examples(tmp_path)) == [("syntax", "I eat rice.", "en", [((6, 10), [(2, 5)])])]
    assert "thefoxran" in labelled_sets.sentences(tmp_path)


def test_joined_tokens_keep_their_spans():
    text, spans = labelled_sets.joined("Tom 's dog , it 's here .".split(), "en")
    assert text == "Tom's dog, it's here." and [text[a:b] for a, b in spans][:3] == ["Tom", "'s", "dog"]
    assert labelled_sets.joined("我 爱 苹果 。".split(), "zh")[0] == "我爱苹果。"
