// config.json of a finder's folder, checked. The names are those of training/finder/model.py's Shape.
#pragma once

#include <cstdint>
#include <filesystem>

namespace qkv::models::finder {

struct Config {
  int image = 0;  // pixels a side of the square that the model sees
  int patch = 0;  // pixels a side of the finest patches; a token is four of them wide
  int fine = 0;   // channels of the map at 1/patch
  int middle = 0;
  int width = 0;  // of tokens, words and queries
  int heads = 0;
  int picture_layers = 0;
  int picture_ffn = 0;
  int vocabulary = 0;
  int piece = 0;  // width of the table of pieces
  int words = 0;  // pieces of a prompt at most, the end included
  int text_layers = 0;
  int text_ffn = 0;
  int decoder_layers = 0;
  int decoder_ffn = 0;
  int queries = 0;
  int pixel = 0;  // width of a pixel's vector, which masks are products with

  std::int64_t side() const { return image / (4 * patch); }  // tokens
  std::int64_t tokens() const { return side() * side(); }
  std::int64_t fine_side() const { return image / patch; }
  std::int64_t mask_side() const { return 2 * fine_side(); }

  // Throws std::runtime_error naming the file and the key.
  static Config load(const std::filesystem::path& folder);
};

}  // namespace qkv::models::finder
