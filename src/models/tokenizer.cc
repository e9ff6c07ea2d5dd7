#include "models/tokenizer.h"

#include <sentencepiece_processor.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <stdexcept>
#include <utility>

#include "models/json_file.h"
#include "models/utf8.h"

namespace qkv::models {
namespace {

using sentencepiece::SentencePieceProcessor;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // ▁, how SentencePiece writes a space

void load_processor(const std::filesystem::path& path, SentencePieceProcessor& processor) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error(path.string() + ": cannot be read");
  const std::string bytes((std::istreambuf_iterator<char>(stream)),
                          std::istreambuf_iterator<char>());
  const auto status = bytes.empty() ? sentencepiece::util::Status(
                                          sentencepiece::util::StatusCode::kDataLoss, "empty file")
                                    : processor.LoadFromSerializedProto(bytes);
  if (!status.ok())
    throw std::runtime_error(path.string() +
                             ": is not a SentencePiece model: " + status.ToString());
}

// "<0x4F>", how SentencePiece spells a byte of a character that it has no piece for.
bool is_byte(std::string_view piece) {
  return piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with(">");
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Where a text begins and ends without the white space around it, which Python's str.strip() would remove.
std::pair<std::size_t, std::size_t> stripped(std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto is_space = [](UChar32 c) { return u_isUWhiteSpace(c) || (c >= 0x1c && c <= 0x1f); };
  auto first = std::int32_t{0}, last = static_cast<std::int32_t>(text.size());
  for (std::int32_t next = first; first < last; first = next) {
    UChar32 character;
    U8_NEXT(bytes, next, last, character);
    if (!is_space(character)) break;
  }
  for (std::int32_t before = last; first < last; last = before) {
    UChar32 character;
    U8_PREV(bytes, first, before, character);
    if (!is_space(character)) break;
  }
  return {static_cast<std::size_t>(first), static_cast<std::size_t>(last)};
}

// Moves the ends of [begin, end) inwards over blanks, but not to nothing.
void trim(std::string_view text, std::size_t& begin, std::size_t& end) {
  std::size_t first = begin, last = end;
  while (first < last && is_blank(text[first])) ++first;
  while (last > first && is_blank(text[last - 1])) --last;
  if (first < last) begin = first, end = last;
}

// The bytes of a character come as one piece each; SentencePiece gives its place to the last of them alone.
void spread_bytes(std::vector<Piece>& pieces) {
  for (std::size_t i = pieces.size(); i-- > 1;) {
    Piece& before = pieces[i - 1];
    if (is_byte(pieces[i].text) && is_byte(before.text) && before.begin == before.end &&
        pieces[i].end > pieces[i].begin) {
      before.begin = pieces[i].begin;
      before.end = pieces[i].end;
    }
  }
}

}  // namespace

struct Tokenizer::Impl {
  SentencePieceProcessor source;
  SentencePieceProcessor target;
  std::map<std::string, int, std::less<>> ids;
  std::vector<std::string> spellings;  // by id; empty where the vocabulary has a gap
  std::vector<bool> special;           // by id: left out of decoded text
  std::vector<std::string> language_tokens;
  std::string unknown = "<unk>";
  int unknown_id = 0;
  int end_id = 0;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  auto impl = std::make_unique<Impl>();
  load_processor(folder / "source.spm", impl->source);
  load_processor(folder / "target.spm", impl->target);

  const JsonFile vocabulary(folder / "vocab.json");
  for (const auto& [piece, id] : vocabulary.root().items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= (1u << 24))
      vocabulary.fail(piece, "expected an id, got " + id.dump());
    const auto number = id.get<std::size_t>();
    if (number >= impl->spellings.size()) impl->spellings.resize(number + 1);
    if (!impl->spellings[number].empty())
      vocabulary.fail(piece, "has the id " + id.dump() + " of '" + impl->spellings[number] + "'");
    impl->spellings[number] = piece;
    impl->ids.emplace(piece, static_cast<int>(number));
    if (piece.starts_with(">>") && piece.ends_with("<<")) impl->language_tokens.push_back(piece);
  }

  std::string end = "</s>", pad = "<pad>";
  if (std::filesystem::exists(folder / "tokenizer_config.json")) {
    const JsonFile config(folder / "tokenizer_config.json");
    if (config.boolean("separate_vocabs", false))
      config.fail("separate_vocabs", "true is not supported");
    const auto token = [&](const char* key, std::string& value) {
      const nlohmann::json* found = config.find(key);
      if (found == nullptr) return;
      if (found->is_object() && found->contains("content"))
        found = &(*found)["content"];  // an AddedToken
      if (!found->is_string()) config.fail(key, "expected a string, got " + found->dump());
      value = found->get<std::string>();
    };
    token("unk_token", impl->unknown);
    token("eos_token", end);
    token("pad_token", pad);
  }
  const auto required = [&](const std::string& piece) {
    const auto found = impl->ids.find(piece);
    if (found == impl->ids.end()) vocabulary.fail(piece, "is missing");
    return found->second;
  };
  impl->unknown_id = required(impl->unknown);
  impl->end_id = required(end);
  impl->special.resize(impl->spellings.size());
  for (std::size_t id = 0; id < impl->spellings.size(); ++id) {
    const std::string& piece = impl->spellings[id];
    impl->special[id] = piece == end || piece == pad || piece == impl->unknown ||
                        (piece.starts_with(">>") && piece.ends_with("<<"));
  }
  return Tokenizer(std::move(impl));
}

std::vector<Piece> Tokenizer::encode(std::string_view text, std::string_view language_token) const {
  if (!is_utf8(text)) throw std::invalid_argument("tokenizer: the text is not valid UTF-8");
  std::vector<Piece> pieces;
  if (!language_token.empty()) {
    const int id = id_of(language_token);
    if (id < 0)
      throw std::invalid_argument("tokenizer: the vocabulary has no '" +
                                  std::string(language_token) + "'");
    pieces.push_back({id, std::string(language_token), 0, 0, true});
  }
  const auto encoded = impl_->source.EncodeAsImmutableProto(text);
  for (const auto& piece : encoded.pieces()) {
    const int id = id_of(piece.piece());
    Piece& made = pieces.emplace_back();
    made.id = id < 0 ? impl_->unknown_id : id;
    made.text = piece.piece();
    made.begin = std::min<std::size_t>(piece.begin(), text.size());
    made.end = std::clamp<std::size_t>(piece.end(), made.begin, text.size());
  }
  spread_bytes(pieces);
  for (Piece& piece : pieces) trim(text, piece.begin, piece.end);
  pieces.push_back({impl_->end_id, spelling(impl_->end_id), text.size(), text.size(), true});
  return pieces;
}

std::string Tokenizer::decode(std::span<const int> ids, std::vector<Piece>* pieces) const {
  std::vector<std::string> spellings;
  for (const int id : ids)
    if (id >= 0 && id < static_cast<int>(impl_->special.size()) && !impl_->special[id])
      spellings.push_back(spelling(id));
  const auto decoded = impl_->target.DecodePiecesAsImmutableProto(spellings);

  // The pieces' places are in SentencePiece's text, of which a ▁ that it kept becomes a space and the ends are trimmed.
  const std::string& raw = decoded.text();
  std::string text;
  std::vector<std::size_t> place(raw.size() + 1);  // where byte i of `raw` went
  for (std::size_t i = 0; i < raw.size();) {
    const bool space = raw.compare(i, kSpace.size(), kSpace) == 0;
    const std::size_t width = space ? kSpace.size() : 1;
    for (std::size_t j = 0; j < width; ++j) place[i + j] = text.size();
    text += space ? ' ' : raw[i];
    i += width;
  }
  place[raw.size()] = text.size();
  const auto ends = stripped(text);
  const std::size_t from = ends.first, to = ends.second;
  const std::string result = text.substr(from, to - from);
  if (pieces == nullptr) return result;

  const auto moved = [&](std::size_t at) {
    return std::clamp(place[std::min(at, raw.size())], from, to) - from;
  };
  pieces->clear();
  std::size_t next = 0, reached = 0;
  for (const int id : ids) {
    Piece& made = pieces->emplace_back();
    made.id = id;
    made.text = spelling(id);
    made.begin = made.end = reached;
    if (id < 0 || id >= static_cast<int>(impl_->special.size()) || impl_->special[id]) {
      made.special = id != impl_->unknown_id;
      continue;
    }
    if (next >= decoded.pieces_size()) continue;
    const auto piece = decoded.pieces(static_cast<int>(next++));
    made.begin = moved(piece.begin());
    made.end = std::max(made.begin, moved(piece.end()));
    reached = std::max(reached, made.end);
  }
  spread_bytes(*pieces);
  for (Piece& piece : *pieces) trim(result, piece.begin, piece.end);
  return result;
}

const std::string& Tokenizer::spelling(int id) const {
  const bool known =
      id >= 0 && id < static_cast<int>(impl_->spellings.size()) && !impl_->spellings[id].empty();
  return known ? impl_->spellings[id] : impl_->unknown;
}

int Tokenizer::id_of(std::string_view piece) const {
  const auto found = impl_->ids.find(piece);
  return found == impl_->ids.end() ? -1 : found->second;
}

const std::vector<std::string>& Tokenizer::language_tokens() const {
  return impl_->language_tokens;
}
int Tokenizer::unknown_id() const { return impl_->unknown_id; }
int Tokenizer::end_id() const { return impl_->end_id; }

}  // namespace qkv::models
