// Words of a sentence, in English or Chinese, and which of them are pronouns.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lens/unicode.h"

namespace qkv::lens {

enum class WordKind { word, punctuation, target, end };
// What JSON calls it.
std::string_view kind_name(WordKind kind);

// One word, or one of the two marks a translation model adds to a sentence: the language to translate to, and the end of
// the sentence (where heads rest when they find nothing: the sink).
struct Word {
  std::string text;
  Span at;  // bytes of the sentence; empty for target and end
  WordKind kind = WordKind::word;
  bool pronoun = false;

  bool special() const { return kind == WordKind::target || kind == WordKind::end; }
};

// he, she, it, they and their forms; 他 她 它 牠 祂 and their plurals. First and second persons do not count: they stand for
// nobody in the sentence. Any case.
bool is_pronoun(std::string_view word);

// The words and punctuation marks of a text, in order, white space left out: ICU's word break (UAX #29, with its
// dictionary for Chinese), then
//   - English clitics stand alone (it's → it 's), and so do Chinese pronouns (它的 → 它 的, 我想 → 我 想; but 其他, 吉他);
//   - where `pieces` (byte ranges of a model's pieces) has a Han piece across one of ICU's borders, the border moves to the
//     piece's ends (ICU: 很好|吃, model: 很|好吃), because what the model reads as one cannot be read in halves;
//   - a phrase that is nowhere a word of its own becomes one wherever it occurs, unless it cuts a word that is not Chinese.
std::vector<Word> split_words(std::string_view text, std::span<const Span> pieces = {},
                              std::span<const std::string_view> phrases = {});

// The sentences of a text: cut behind . ! ? … 。！？ as ICU does, but not before a small letter and not between a Chinese
// closing quotation mark and a Han character. White space around them is left out.
std::vector<Span> split_sentences(std::string_view text);

}  // namespace qkv::lens
