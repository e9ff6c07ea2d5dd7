#include "lens/alignment.h"

namespace qkv::lens {

Alignment align_words(std::string_view source_text, std::span<const models::Piece> source_pieces,
                      std::string_view target_text, std::span<const models::Piece> target_pieces,
                      std::span<const float> piece_weights) {
  const PieceMap source(source_text, source_pieces);
  const PieceMap target(target_text, target_pieces);
  return {.source = source.words(),
          .source_words = source.sentence_words(),
          .target = target.words(),
          .target_words = target.sentence_words(),
          .weights = to_words(target, source, piece_weights)};
}

}  // namespace qkv::lens
