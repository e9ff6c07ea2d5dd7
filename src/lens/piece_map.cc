#include "lens/piece_map.h"

#include <algorithm>
#include <string>

namespace qkv::lens {
namespace {

using models::Piece;

// The pieces without the white space at their ends, which SentencePiece counts to the word behind it.
std::vector<Span> spans_of(std::string_view text, std::span<const Piece> pieces) {
  std::vector<Span> spans;
  for (const Piece& piece : pieces) {
    Span span = {std::min(piece.begin, text.size()), std::min(piece.end, text.size())};
    while (span.begin < span.end) {
      std::size_t next = span.begin;
      if (!is_space(next_code_point(text, next))) break;
      span.begin = next;
    }
    spans.push_back(span);
  }
  return spans;
}

std::vector<Word> piece_words(std::string_view text, std::span<const Piece> pieces) {
  const std::vector<Word> whole = split_words(text);
  const std::vector<Span> spans = spans_of(text, pieces);
  std::vector<Word> words;
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    if (pieces[p].special) continue;
    Word word = {.text = pieces[p].text, .at = spans[p]};
    if (is_punctuation(text.substr(word.at.begin, word.at.end - word.at.begin)))
      word.kind = WordKind::punctuation;
    for (const Word& w : whole) {
      if (w.pronoun && word.at.begin < w.at.end && w.at.begin < word.at.end) word.pronoun = true;
    }
    words.push_back(word);
  }
  return words;
}

}  // namespace

Word special_word(const Piece& piece) {
  Word word;
  const std::string& text = piece.text;
  if (text.size() > 4 && text.starts_with(">>") && text.ends_with("<<")) {
    word.kind = WordKind::target;
    word.text = "⟨to " + text.substr(2, text.size() - 4) + "⟩";
  } else {
    word.kind = WordKind::end;
    word.text = "⟨end⟩";
  }
  word.at = {piece.begin, piece.begin};
  return word;
}

PieceMap::PieceMap(std::string_view text, std::span<const Piece> pieces, Unit unit,
                   std::span<const std::string_view> phrases)
    : words_of_(pieces.size()) {
  const std::vector<Span> spans = spans_of(text, pieces);
  words_ = unit == Unit::pieces ? piece_words(text, pieces) : split_words(text, spans, phrases);
  sentence_words_ = static_cast<int>(words_.size());

  int next_piece_word = 0;
  std::size_t first =
      0;  // words before it end before every later piece: pieces come in the order of the text
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    if (pieces[p].special) {
      words_of_[p] = {{static_cast<int>(words_.size()), 1.0F}};
      words_.push_back(special_word(pieces[p]));
      continue;
    }
    if (unit == Unit::pieces) {
      words_of_[p] = {{next_piece_word++, 1.0F}};
      continue;
    }
    if (sentence_words_ == 0) continue;
    const auto count = static_cast<std::size_t>(sentence_words_);
    while (first + 1 < count && words_[first].at.end <= spans[p].begin) ++first;
    float total = 0;
    for (std::size_t w = first; w < count && words_[w].at.begin < spans[p].end; ++w) {
      const std::size_t begin = std::max(words_[w].at.begin, spans[p].begin);
      const std::size_t end = std::min(words_[w].at.end, spans[p].end);
      if (begin >= end) continue;
      const auto characters_in_it =
          static_cast<float>(count_code_points(text.substr(begin, end - begin)));
      words_of_[p].push_back({static_cast<int>(w), characters_in_it});
      total += characters_in_it;
    }
    for (Part& part : words_of_[p]) part.share /= total;
    if (words_of_[p].empty()) words_of_[p] = {{static_cast<int>(first), 1.0F}};
  }

  pieces_of_.resize(words_.size());
  for (std::size_t p = 0; p < words_of_.size(); ++p) {
    for (const Part& part : words_of_[p]) {
      pieces_of_[static_cast<std::size_t>(part.index)].push_back({static_cast<int>(p), part.share});
    }
  }
  for (std::vector<Part>& parts : pieces_of_) {
    float total = 0;
    for (const Part& part : parts) total += part.share;
    for (Part& part : parts) part.share /= total;
  }
}

void PieceMap::add_read(std::span<const float> piece_row, float factor,
                        std::span<float> row) const {
  for (std::size_t p = 0; p < words_of_.size(); ++p) {
    for (const Part& part : words_of_[p]) {
      row[static_cast<std::size_t>(part.index)] += factor * part.share * piece_row[p];
    }
  }
}

std::vector<float> PieceMap::to_words(std::span<const float> piece_weights) const {
  return lens::to_words(*this, *this, piece_weights);
}

std::vector<float> to_words(const PieceMap& query_map, const PieceMap& key_map,
                            std::span<const float> piece_weights) {
  const std::size_t queries = query_map.words().size();
  const std::size_t keys = key_map.words().size();
  const auto key_pieces = static_cast<std::size_t>(key_map.pieces());
  std::vector<float> weights(queries * keys, 0.0F);
  for (std::size_t w = 0; w < queries; ++w) {
    for (const PieceMap::Part& part : query_map.pieces_of(static_cast<int>(w))) {
      key_map.add_read(
          piece_weights.subspan(static_cast<std::size_t>(part.index) * key_pieces, key_pieces),
          part.share, std::span(weights).subspan(w * keys, keys));
    }
  }
  return weights;
}

}  // namespace qkv::lens
