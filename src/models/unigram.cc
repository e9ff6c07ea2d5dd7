#include "models/unigram.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>

#include "models/tokenizer_file.h"
#include "models/utf8.h"
#include "models/wordpiece_text.h"

namespace qkv::models {
namespace {

using nlohmann::json;

// ---- a SentencePiece model as bytes: protobuf's wire format of what sentencepiece_model.proto calls ModelProto

void put_varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}

void put_number(std::string& to, unsigned field, std::uint64_t value) {
  put_varint(to, field << 3);
  put_varint(to, value);
}

void put_float(std::string& to, unsigned field, float value) {
  put_varint(to, field << 3 | 5);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) to += static_cast<char>(bits >> shift);
}

void put_bytes(std::string& to, unsigned field, std::string_view bytes) {
  put_varint(to, field << 3 | 2);
  put_varint(to, bytes.size());
  to += bytes;
}

enum class PieceType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4 };

void put_piece(std::string& model, std::string_view text, float score, PieceType type) {
  std::string piece;
  put_bytes(piece, 1, text);
  put_float(piece, 2, score);
  put_number(piece, 3, static_cast<std::uint64_t>(type));
  put_bytes(model, 1, piece);
}

void put_settings(std::string& model, std::string_view unknown, std::string_view charsmap) {
  std::string trainer, normalizer;
  put_number(trainer, 3, 1);  // model_type UNIGRAM
  put_bytes(trainer, 45, unknown);
  put_bytes(model, 2, trainer);
  put_bytes(normalizer, 2, charsmap);
  put_number(normalizer, 3, 1);  // ▁ before each text, which here is a word
  put_number(normalizer, 4, 1);  // no white space at the ends
  put_number(normalizer, 5, 1);  // a space is written ▁
  put_bytes(model, 3, normalizer);
}

std::optional<std::string> from_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    if ((count += 6) < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count);
  }
  return bytes;
}

// ---- what tokenizer.json may say

constexpr const char* kMetaspace = "\xE2\x96\x81";  // ▁

std::string type_of(const json& part) {
  return part.is_object() && part.contains("type") && part["type"].is_string()
             ? part["type"].get<std::string>()
             : part.dump();
}

// The steps of a Sequence, or the one there is.
std::vector<json> steps_of(const JsonFile& file, const char* key, const char* list) {
  const json* part = file.find(key);
  if (part == nullptr) return {};
  if (type_of(*part) != "Sequence") return {*part};
  if (!part->contains(list) || !(*part)[list].is_array())
    file.fail(key, std::string("expected a list of ") + list);
  return (*part)[list].get<std::vector<json>>();
}

// The map of characters that SentencePiece was trained with; empty where text stays as it is.
std::string charsmap_of(const JsonFile& file) {
  std::string map;
  for (const json& step : steps_of(file, "normalizer", "normalizers")) {
    const std::string type = type_of(step);
    if (type == "Precompiled" && map.empty() && step.contains("precompiled_charsmap") &&
        step["precompiled_charsmap"].is_string()) {
      const auto bytes = from_base64(step["precompiled_charsmap"].get<std::string>());
      if (!bytes) file.fail("normalizer", "precompiled_charsmap is not base64");
      map = *bytes;
    } else if (type == "Replace" && step.contains("pattern") &&
               step["pattern"] == json{{"Regex", " {2,}"}}) {
      // Words are taken apart at white space, whatever there is of it.
    } else {
      file.fail("normalizer", "expected Precompiled, got " + type);
    }
  }
  return map;
}

void check_words(const JsonFile& file) {
  bool metaspace = false;
  for (const json& step : steps_of(file, "pre_tokenizer", "pretokenizers")) {
    const std::string type = type_of(step);
    if (type == "Metaspace") {
      metaspace = step.value("replacement", std::string(kMetaspace)) == kMetaspace &&
                  step.value("prepend_scheme", std::string("always")) == "always" &&
                  step.value("add_prefix_space", true);
    } else if (type != "WhitespaceSplit") {
      file.fail("pre_tokenizer", "expected WhitespaceSplit and Metaspace, got " + type);
    }
  }
  if (!metaspace) file.fail("pre_tokenizer", "expected a Metaspace that begins every word with ▁");
}

}  // namespace

struct Unigram::Impl {
  sentencepiece::SentencePieceProcessor processor;
  std::vector<std::string> spellings;  // by id
  int begin_id = 0, end_id = 0;
  int model_max_length = 0;

  void read(const JsonFile& file);

  // Calls take(id, spelling, begin, end) for each piece until it returns false.
  template <class Take>
  void cut(std::string_view text, const Take& take) const;
};

void Unigram::Impl::read(const JsonFile& file) {
  const json& model = *file.find("model");
  if (model.value("byte_fallback", false))
    file.fail("model.byte_fallback", "true is not supported");
  const auto vocabulary = model.find("vocab");
  if (vocabulary == model.end() || !vocabulary->is_array() || vocabulary->empty() ||
      vocabulary->size() > kMostPieces)
    file.fail("model.vocab", "expected a list of pieces and scores");
  const auto unknown = model.find("unk_id");
  if (unknown == model.end() || !unknown->is_number_unsigned() ||
      unknown->get<std::uint64_t>() >= vocabulary->size())
    file.fail("model.unk_id", "expected the id of a piece");
  std::map<std::string, PieceType> added;
  if (const json* tokens = file.find("added_tokens"); tokens != nullptr && tokens->is_array())
    for (const json& token : *tokens)
      if (token.is_object()) added[token.value("content", "")] = PieceType::user_defined;

  std::string bytes;
  std::map<std::string, int> marks;
  for (const json& entry : *vocabulary) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
        !std::isfinite(entry[1].get<float>()))
      file.fail("model.vocab", "expected a piece and its score, got " + entry.dump());
    const auto& text = entry[0].get_ref<const std::string&>();
    const int id = static_cast<int>(spellings.size());
    const auto special = added.find(text);
    PieceType type = special == added.end() ? PieceType::normal : special->second;
    if (special != added.end()) marks[text] = id;
    if (id == unknown->get<int>()) type = PieceType::unknown;
    put_piece(bytes, text, entry[1].get<float>(), type);
    spellings.push_back(text);
  }
  put_settings(bytes, spellings[unknown->get<std::size_t>()], charsmap_of(file));
  check_words(file);
  if (const auto status = processor.LoadFromSerializedProto(bytes); !status.ok())
    file.fail("model", "SentencePiece does not take it: " + status.ToString());

  const TextMarks names = template_marks(file);
  const auto required = [&](const std::string& name) {
    const auto found = marks.find(name);
    if (found == marks.end())
      file.fail("post_processor.single", "'" + name + "' is none of the added tokens with a piece");
    return found->second;
  };
  begin_id = required(names.begin);
  end_id = required(names.end);
}

// Word by word: no piece reaches beyond one.
template <class Take>
void Unigram::Impl::cut(std::string_view text, const Take& take) const {
  if (!is_utf8(text)) throw std::invalid_argument("tokenizer: the text is not valid UTF-8");
  const std::vector<Character> characters = characters_of(text);
  for (std::size_t i = 0; i < characters.size();) {
    if (is_white_space(characters[i].code)) {
      ++i;
      continue;
    }
    const std::size_t begin = characters[i].begin;
    while (i < characters.size() && !is_white_space(characters[i].code)) ++i;
    const std::string_view word = text.substr(begin, characters[i - 1].end - begin);
    const auto pieces = processor.EncodeAsImmutableProto(word);
    for (const auto& piece : pieces.pieces()) {
      const std::size_t from = std::min<std::size_t>(piece.begin(), word.size());
      const std::size_t to = std::clamp<std::size_t>(piece.end(), from, word.size());
      if (!take(static_cast<int>(piece.id()), begin + from, begin + to)) return;
    }
  }
}

Unigram::Unigram(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Unigram::Unigram(Unigram&&) noexcept = default;
Unigram& Unigram::operator=(Unigram&&) noexcept = default;
Unigram::~Unigram() = default;

Unigram Unigram::load(const JsonFile& tokenizer, const std::filesystem::path& folder) {
  auto impl = std::make_unique<Impl>();
  try {
    impl->read(tokenizer);
  } catch (const json::exception& error) {  // a value of another type
    throw std::runtime_error((folder / "tokenizer.json").string() + ": " + error.what());
  }
  const std::filesystem::path settings = folder / "tokenizer_config.json";
  if (std::filesystem::exists(settings)) impl->model_max_length = max_length_of(JsonFile(settings));
  return Unigram(std::move(impl));
}

std::vector<Piece> Unigram::encode(std::string_view text, std::size_t most) const {
  std::vector<Piece> pieces;
  const auto put = [&](int id, std::size_t begin, std::size_t end, bool special) {
    pieces.push_back({id, impl_->spellings[static_cast<std::size_t>(id)], begin, end, special});
  };
  put(impl_->begin_id, 0, 0, true);
  impl_->cut(text, [&](int id, std::size_t begin, std::size_t end) {
    if (pieces.size() + 1 >= most) return false;
    put(id, begin, end, false);
    return true;
  });
  put(impl_->end_id, text.size(), text.size(), true);
  return pieces;
}

void Unigram::encode(std::string_view text, std::size_t most, std::vector<int>& ids) const {
  const std::size_t before = ids.size();
  ids.push_back(impl_->begin_id);
  impl_->cut(text, [&](int id, std::size_t, std::size_t) {
    if (ids.size() - before + 1 >= most) return false;
    ids.push_back(id);
    return true;
  });
  ids.push_back(impl_->end_id);
}

int Unigram::size() const { return static_cast<int>(impl_->spellings.size()); }
int Unigram::model_max_length() const { return impl_->model_max_length; }

}  // namespace qkv::models
