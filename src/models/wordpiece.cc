#include "models/wordpiece.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "models/json_file.h"
#include "models/tokenizer_file.h"
#include "models/utf8.h"
#include "models/wordpiece_text.h"

namespace qkv::models {
namespace {

using nlohmann::json;

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};
using Ids = std::unordered_map<std::string, int, TextHash, std::equal_to<>>;

// A token that is found in the text before it is cut into words.
struct AddedToken {
  std::u32string text;
  int id = 0;
  bool lstrip = false, rstrip = false;  // takes the white space on that side with it
  bool normalized = false;              // looked for in the normalised text
};

std::u32string code_points(std::string_view text) {
  std::u32string all;
  for (const Character& each : characters_of(text)) all += each.code;
  return all;
}

void append_utf8(std::string& to, char32_t c) {
  const auto byte = [&](char32_t bits) { to += static_cast<char>(bits); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) {
    byte(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      byte(0xe0 | c >> 12);
    } else {
      byte(0xf0 | c >> 18);
      byte(0x80 | (c >> 12 & 0x3f));
    }
    byte(0x80 | (c >> 6 & 0x3f));
  }
  byte(0x80 | (c & 0x3f));
}

}  // namespace

struct WordPiece::Impl {
  TextRules rules;
  Ids first;                           // pieces at the start of a word
  Ids later;                           // pieces within one, without the prefix
  std::vector<std::string> spellings;  // by id
  std::string prefix = "##";
  std::size_t longest = 1;  // bytes of the longest piece
  std::size_t most_characters = 100;
  std::vector<AddedToken> added;
  std::string unknown = "[UNK]", cls = "[CLS]", sep = "[SEP]";
  int unknown_id = 0, cls_id = 0, sep_id = 0;
  int model_max_length = 0;

  void put(const std::string& piece, int id) {
    if (static_cast<std::size_t>(id) >= spellings.size())
      spellings.resize(static_cast<std::size_t>(id) + 1);
    spellings[static_cast<std::size_t>(id)] = piece;
    longest = std::max(longest, piece.size());
    first[piece] = id;
    if (piece.size() > prefix.size() && piece.starts_with(prefix))
      later[piece.substr(prefix.size())] = id;
  }

  void read_vocabulary_text(const std::filesystem::path& path);
  void read_tokenizer(const JsonFile& file);
  void read_settings(const std::filesystem::path& path);
  void read_added(const JsonFile& file, const json& token, int id);
  void finish(const std::filesystem::path& folder, const std::filesystem::path& vocabulary);

  // Calls take(id, begin, end) for each piece until it returns false.
  template <class Take>
  void cut(std::string_view text, const Take& take) const;
  template <class Take>
  bool cut_plain(std::vector<Character> part, const Take& take) const;
  template <class Take>
  bool cut_word(const Character* word, std::size_t count, const Take& take) const;
  template <class Part, class Take>
  bool split_added(std::vector<Character> text, bool in_normalised, const Part& part,
                   const Take& take) const;
};

void WordPiece::Impl::read_vocabulary_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error(path.string() + ": cannot be read");
  int id = 0;
  for (std::string line; std::getline(stream, line); ++id) {
    if (line.ends_with('\r')) line.pop_back();
    const std::string where = path.string() + ": line " + std::to_string(id + 1);
    if (id >= kMostPieces) throw std::runtime_error(where + ": too many pieces");
    if (!is_utf8(line)) throw std::runtime_error(where + ": is not valid UTF-8");
    put(line, id);
  }
  if (id == 0) throw std::runtime_error(path.string() + ": is empty");
}

void WordPiece::Impl::read_added(const JsonFile& file, const json& token, int id) {
  const auto flag = [&](const char* key) {
    const auto found = token.find(key);
    return found != token.end() && found->is_boolean() && found->get<bool>();
  };
  const auto content = token.find("content");
  if (content == token.end() || !content->is_string() ||
      content->get_ref<const std::string&>().empty())
    file.fail("added_tokens", "expected an object with content, got " + token.dump());
  const auto& text = content->get_ref<const std::string&>();
  if (flag("single_word"))
    file.fail("added_tokens", "single_word is not supported, got " + token.dump());
  put(text, id);
  const std::u32string code = code_points(text);
  std::erase_if(added, [&](const AddedToken& known) { return known.text == code; });
  added.push_back({code, id, flag("lstrip"), flag("rstrip"), flag("normalized")});
}

void WordPiece::Impl::read_tokenizer(const JsonFile& file) {
  const auto part = [&](const char* key) -> const json& {
    static const json kNothing = json::object();
    const json* found = file.find(key);
    if (found != nullptr && !found->is_object()) file.fail(key, "expected an object");
    return found == nullptr ? kNothing : *found;
  };
  const auto type_is = [&](const char* key, std::initializer_list<const char*> known) {
    const json& value = part(key);
    const std::string type = value.empty() ? "" : value.value("type", std::string());
    if (std::find(known.begin(), known.end(), type) == known.end())
      file.fail(std::string(key) + ".type",
                std::string("expected ") + *known.begin() + ", got \"" + type + "\"");
  };
  const json& model = part("model");
  // Files of the first versions do not say the type.
  if (model.contains("type") || !model.contains("continuing_subword_prefix"))
    type_is("model", {"WordPiece"});
  type_is("normalizer", {"BertNormalizer"});
  type_is("pre_tokenizer", {"BertPreTokenizer"});
  prefix = model.value("continuing_subword_prefix", prefix);
  const auto limit = model.find("max_input_chars_per_word");
  if (limit != model.end()) {
    if (!limit->is_number_unsigned())
      file.fail("model.max_input_chars_per_word", "expected a number, got " + limit->dump());
    most_characters = limit->get<std::size_t>();
  }
  unknown = model.value("unk_token", unknown);
  const auto vocabulary = model.find("vocab");
  if (vocabulary == model.end() || !vocabulary->is_object())
    file.fail("model.vocab", "expected an object of pieces and ids");
  first.reserve(vocabulary->size());
  later.reserve(vocabulary->size());
  for (const auto& [piece, id] : vocabulary->items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMostPieces)
      file.fail("model.vocab", "'" + piece + "': expected an id, got " + id.dump());
    put(piece, id.get<int>());
  }

  const json& normalizer = part("normalizer");
  rules.clean = normalizer.value("clean_text", true);
  rules.chinese = normalizer.value("handle_chinese_chars", true);
  rules.lower_case = normalizer.value("lowercase", true);
  rules.strip_accents = rules.lower_case;
  if (const auto strip = normalizer.find("strip_accents");
      strip != normalizer.end() && strip->is_boolean())
    rules.strip_accents = strip->get<bool>();

  if (const json* tokens = file.find("added_tokens"); tokens != nullptr && tokens->is_array())
    for (const json& token : *tokens) {
      const auto id = token.is_object() ? token.find("id") : token.end();
      if (!token.is_object() || id == token.end() || !id->is_number_unsigned() ||
          id->get<std::uint64_t>() >= kMostPieces)
        file.fail("added_tokens", "expected an object with an id, got " + token.dump());
      read_added(file, token, id->get<int>());
    }

  const json& post = part("post_processor");
  if (post.value("type", std::string()) == "TemplateProcessing") {
    const TextMarks marks = template_marks(file);
    cls = marks.begin;
    sep = marks.end;
  } else {
    type_is("post_processor", {"TemplateProcessing", "BertProcessing"});
    cls = post.value("cls", json::array({cls}))[0].get<std::string>();
    sep = post.value("sep", json::array({sep}))[0].get<std::string>();
  }
}

void WordPiece::Impl::read_settings(const std::filesystem::path& path) {
  const JsonFile file(path);
  rules.lower_case = file.boolean("do_lower_case", rules.lower_case);
  rules.chinese = file.boolean("tokenize_chinese_chars", rules.chinese);
  if (file.find("strip_accents") != nullptr) {
    rules.strip_accents = file.boolean("strip_accents", true);
  } else if (file.find("do_lower_case") != nullptr) {
    rules.strip_accents = rules.lower_case;
  }
  const auto token = [&](const char* key, std::string* value) {
    const json* found = file.find(key);
    if (found == nullptr) return;
    const json* text = found;
    if (found->is_object() && found->contains("content")) text = &(*found)["content"];
    if (!text->is_string()) file.fail(key, "expected a string, got " + found->dump());
    const auto known = first.find(text->get_ref<const std::string&>());
    if (known != first.end())
      read_added(file, found->is_object() ? *found : json{{"content", *text}}, known->second);
    if (value != nullptr) *value = text->get<std::string>();
  };
  token("unk_token", &unknown);
  token("cls_token", &cls);
  token("sep_token", &sep);
  token("pad_token", nullptr);
  token("mask_token", nullptr);
  if (const json* decoder = file.find("added_tokens_decoder");
      decoder != nullptr && decoder->is_object())
    for (const auto& [id, description] : decoder->items()) {
      const bool digits =
          !id.empty() && id.size() < 8 && id.find_first_not_of("0123456789") == std::string::npos;
      if (!digits || !description.is_object())
        file.fail("added_tokens_decoder", "expected ids and objects, got " + id);
      read_added(file, description, std::stoi(id));
    }
  model_max_length = max_length_of(file);
}

void WordPiece::Impl::finish(const std::filesystem::path& folder,
                             const std::filesystem::path& vocabulary) {
  const std::filesystem::path settings = folder / "tokenizer_config.json";
  if (std::filesystem::exists(settings)) read_settings(settings);
  const auto required = [&](const std::string& piece) {
    const auto found = first.find(piece);
    if (found == first.end())
      throw std::runtime_error(vocabulary.string() + ": '" + piece + "' is missing");
    return found->second;
  };
  unknown_id = required(unknown);
  cls_id = required(cls);
  sep_id = required(sep);
  // What transformers calls the special tokens of a BERT, where nothing says otherwise.
  for (const char* name : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    const auto found = first.find(std::string_view(name));
    const std::u32string code = code_points(name);
    if (found != first.end() && std::none_of(added.begin(), added.end(),
                                             [&](const auto& known) { return known.text == code; }))
      added.push_back({code, found->second, false, false, false});
  }
  for (AddedToken& token : added)
    if (token.normalized) {
      std::vector<Character> text;
      for (const char32_t c : token.text) text.push_back({c, 0, 0});
      token.text.clear();
      for (const Character& each : normalised(std::move(text), rules)) token.text += each.code;
    }
  std::erase_if(added, [](const AddedToken& token) { return token.text.empty(); });
  std::stable_sort(added.begin(), added.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.text.size() > b.text.size();  // of several that fit, the longest
  });
}

// Cuts one word, or says that it is unknown.
template <class Take>
bool WordPiece::Impl::cut_word(const Character* word, std::size_t count, const Take& take) const {
  const std::uint32_t begin = word[0].begin, end = word[count - 1].end;
  if (count > most_characters) return take(unknown_id, begin, end);
  std::string bytes;
  std::vector<std::size_t> places;  // of each character in `bytes`
  for (std::size_t i = 0; i < count; ++i) {
    places.push_back(bytes.size());
    append_utf8(bytes, word[i].code);
  }
  places.push_back(bytes.size());
  struct Found {
    int id;
    std::uint32_t begin, end;
  };
  std::vector<Found> found;
  for (std::size_t from = 0; from < count;) {
    const Ids& ids = from == 0 ? first : later;
    std::size_t to = count;
    while (to > from && places[to] - places[from] > longest) --to;
    auto piece = ids.end();
    for (; to > from; --to) {
      piece = ids.find(std::string_view(bytes).substr(places[from], places[to] - places[from]));
      if (piece != ids.end()) break;
    }
    if (piece == ids.end()) return take(unknown_id, begin, end);
    found.push_back({piece->second, word[from].begin, word[to - 1].end});
    from = to;
  }
  return std::all_of(found.begin(), found.end(),
                     [&](const Found& each) { return take(each.id, each.begin, each.end); });
}

// Words end at white space; a punctuation mark is a word.
template <class Take>
bool WordPiece::Impl::cut_plain(std::vector<Character> part, const Take& take) const {
  for (std::size_t i = 0; i < part.size();) {
    if (is_white_space(part[i].code)) {
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    if (!is_bert_punctuation(part[i].code))
      while (end < part.size() && !is_white_space(part[end].code) &&
             !is_bert_punctuation(part[end].code))
        ++end;
    if (!cut_word(part.data() + i, end - i, take)) return false;
    i = end;
  }
  return true;
}

// Takes the added tokens out of the text and hands what lies between them to `part`.
template <class Part, class Take>
bool WordPiece::Impl::split_added(std::vector<Character> text, bool in_normalised, const Part& part,
                                  const Take& take) const {
  std::size_t done = 0;
  const auto between = [&](std::size_t end) {
    if (end <= done) return true;
    return part(std::vector<Character>(text.begin() + static_cast<std::ptrdiff_t>(done),
                                       text.begin() + static_cast<std::ptrdiff_t>(end)));
  };
  for (std::size_t i = 0; i < text.size();) {
    const auto fits = [&](const AddedToken& token) {
      return token.normalized == in_normalised && token.text.size() <= text.size() - i &&
             std::equal(token.text.begin(), token.text.end(),
                        text.begin() + static_cast<std::ptrdiff_t>(i),
                        [](char32_t c, const Character& each) { return c == each.code; });
    };
    const auto token = std::find_if(added.begin(), added.end(), fits);
    if (token == added.end()) {
      ++i;
      continue;
    }
    std::size_t begin = i, end = i + token->text.size();
    while (token->lstrip && begin > done && is_white_space(text[begin - 1].code)) --begin;
    while (token->rstrip && end < text.size() && is_white_space(text[end].code)) ++end;
    if (!between(begin) || !take(token->id, text[i].begin, text[i + token->text.size() - 1].end))
      return false;
    i = done = end;
  }
  return between(text.size());
}

template <class Take>
void WordPiece::Impl::cut(std::string_view text, const Take& take) const {
  if (!is_utf8(text)) throw std::invalid_argument("tokenizer: the text is not valid UTF-8");
  split_added(
      characters_of(text), false,
      [&](std::vector<Character> part) {
        return split_added(
            normalised(std::move(part), rules), true,
            [&](std::vector<Character> plain) { return cut_plain(std::move(plain), take); }, take);
      },
      take);
}

WordPiece::WordPiece(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WordPiece::WordPiece(WordPiece&&) noexcept = default;
WordPiece& WordPiece::operator=(WordPiece&&) noexcept = default;
WordPiece::~WordPiece() = default;

WordPiece WordPiece::load(const JsonFile& tokenizer, const std::filesystem::path& folder) {
  auto impl = std::make_unique<Impl>();
  const std::filesystem::path path = folder / "tokenizer.json";
  try {
    impl->read_tokenizer(tokenizer);
  } catch (const json::exception& error) {  // a value of another type
    throw std::runtime_error(path.string() + ": " + error.what());
  }
  impl->finish(folder, path);
  return WordPiece(std::move(impl));
}

WordPiece WordPiece::load_vocabulary(const std::filesystem::path& folder) {
  auto impl = std::make_unique<Impl>();
  const std::filesystem::path path = folder / "vocab.txt";
  impl->read_vocabulary_text(path);
  impl->finish(folder, path);
  return WordPiece(std::move(impl));
}

std::vector<Piece> WordPiece::encode(std::string_view text, std::size_t most) const {
  std::vector<Piece> pieces;
  const auto spelled = [&](int id) { return impl_->spellings[static_cast<std::size_t>(id)]; };
  pieces.push_back({impl_->cls_id, spelled(impl_->cls_id), 0, 0, true});
  impl_->cut(text, [&](int id, std::uint32_t begin, std::uint32_t end) {
    if (pieces.size() + 1 >= most) return false;
    pieces.push_back({id, spelled(id), begin, end, false});
    return true;
  });
  pieces.push_back({impl_->sep_id, spelled(impl_->sep_id), text.size(), text.size(), true});
  return pieces;
}

void WordPiece::encode(std::string_view text, std::size_t most, std::vector<int>& ids) const {
  const std::size_t before = ids.size();
  ids.push_back(impl_->cls_id);
  impl_->cut(text, [&](int id, std::uint32_t, std::uint32_t) {
    if (ids.size() - before + 1 >= most) return false;
    ids.push_back(id);
    return true;
  });
  ids.push_back(impl_->sep_id);
}

int WordPiece::size() const { return static_cast<int>(impl_->spellings.size()); }
int WordPiece::model_max_length() const { return impl_->model_max_length; }

}  // namespace qkv::models
