// A tokenizer's files and a text from bytes, with a zero byte after each: tokenizer.json (or vocab.txt, where it does not begin with
// a brace), tokenizer_config.json (none where empty), the text. Refused with std::runtime_error, or the text with
// std::invalid_argument, or every piece has its place in the text.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "models/text_tokenizer.h"
#include "models/utf8.h"

namespace {

namespace fs = std::filesystem;
using qkv::models::Piece;
using qkv::models::TextTokenizer;

void require(bool fact) {
  if (!fact) std::abort();
}

// A folder that ends with the process.
struct Folder {
  Folder() {
    std::string name = fs::temp_directory_path() / "qkv-tokenizer-fuzz-XXXXXX";
    require(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  void put(const char* name, std::string_view bytes, bool wanted) const {
    if (wanted)
      std::ofstream(path / name, std::ios::binary) << bytes;
    else
      fs::remove(path / name);
  }
  fs::path path;
};

void check(const TextTokenizer& tokenizer, std::string_view text, std::size_t most) {
  std::vector<Piece> pieces;
  try {
    pieces = tokenizer.encode(text, most);
    require(qkv::models::is_utf8(text));
  } catch (const std::invalid_argument&) {
    require(!qkv::models::is_utf8(text));
    return;
  }
  require(pieces.size() >= 2 && pieces.size() <= std::max<std::size_t>(most, 2));
  require(pieces.front().special && pieces.back().special);
  std::size_t before = 0;
  std::vector<int> ids, again;
  for (const Piece& piece : pieces) {
    require(piece.id >= 0 && piece.id < tokenizer.size());
    require(piece.begin <= piece.end && piece.end <= text.size());
    require(qkv::models::is_utf8(text.substr(piece.begin, piece.end - piece.begin)));
    require(piece.begin >= before);
    before = piece.begin;
    ids.push_back(piece.id);
  }
  tokenizer.encode(text, most, again);
  require(ids == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  std::string_view left(reinterpret_cast<const char*>(data), size);
  const auto part = [&] {
    const std::string_view first = left.substr(0, left.find('\0'));
    left.remove_prefix(std::min(first.size() + 1, left.size()));
    return first;
  };
  const std::string_view vocabulary = part(), settings = part(), text = left;
  const bool whole = vocabulary.starts_with('{');
  folder.put("tokenizer.json", vocabulary, whole);
  folder.put("vocab.txt", vocabulary, !whole);
  folder.put("tokenizer_config.json", settings, !settings.empty());
  try {
    const auto tokenizer = qkv::models::load_text_tokenizer(folder.path);
    check(*tokenizer, text, 1000);
    check(*tokenizer, text, size % 8);
  } catch (const std::runtime_error&) {
  }
  return 0;
}
