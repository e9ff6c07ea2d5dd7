#include "cli/open_model.h"

#include <cstdio>
#include <new>
#include <set>

#include "cli/failure.h"
#include "lens/unicode.h"
#include "models/model_path.h"

namespace qkv::cli {

models::Translator open_model(const std::string& name_or_folder) {
  try {
    return models::Translator::load(models::find_model(name_or_folder));
  } catch (const std::bad_alloc&) {
    throw Failure(Exit::model, "model \"" + name_or_folder + "\": not enough memory to load it");
  } catch (const std::exception& error) {
    throw Failure(Exit::model, std::string("the model cannot be loaded: ") + error.what());
  }
}

void check_utf8(std::string_view text, const std::string& name) {
  const auto at = lens::find_invalid_utf8(text);
  if (!at) return;
  char byte[8];
  std::snprintf(byte, sizeof byte, "0x%02X",
                static_cast<unsigned>(static_cast<unsigned char>(text[*at])));
  throw Failure(Exit::input,
                name + " is not valid UTF-8: byte " + std::to_string(*at + 1) + " is " + byte);
}

void check_text(std::string_view text, const std::string& name) {
  check_utf8(text, name);
  if (lens::trim(text).empty())
    throw Failure(Exit::input, name + " is empty; expected a sentence in English or Chinese");
}

std::string other_language(const std::string& language) { return language == "zh" ? "en" : "zh"; }

std::string unknown_characters(const models::Tokenizer& tokenizer, std::string_view text,
                               std::span<const models::Piece> pieces) {
  std::set<std::string> seen;
  std::string all;
  for (const models::Piece& piece : pieces) {
    if (piece.special || piece.id != tokenizer.unknown_id() || piece.begin >= piece.end) continue;
    const std::string unknown(lens::trim(text.substr(piece.begin, piece.end - piece.begin)));
    if (unknown.empty() || !seen.insert(unknown).second) continue;
    if (seen.size() > 20) return all + " …";
    all += (all.empty() ? "" : " ") + unknown;
  }
  return all;
}

std::string without_prefix(const std::string& message) {
  const std::string prefix = "translate: ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

}  // namespace qkv::cli
