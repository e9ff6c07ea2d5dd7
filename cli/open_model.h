// What the commands that run the translation model share: opening it and checking text before it is used.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "models/translator.h"

namespace qkv::cli {

inline constexpr const char* kBundledModel = "translate-en-zh";

// The seed of the weights before training that pages show beside the trained ones (models/initial.h).
inline constexpr std::uint64_t kUntrainedSeed = 1;

// A folder, or the name of a bundled model. Throws Failure (model).
models::Translator open_model(const std::string& name_or_folder);

// Throws Failure (input) if the text, called `name` in the message, is empty or not UTF-8.
void check_text(std::string_view text, const std::string& name);
// The second half of it: "" is allowed.
void check_utf8(std::string_view text, const std::string& name);

// The language that a sentence in `language` is translated to, unless the user says otherwise.
std::string other_language(const std::string& language);

// The characters of the text that the vocabulary lacks, one after another without repeats; empty if it knows all.
std::string unknown_characters(const models::Tokenizer& tokenizer, std::string_view text,
                               std::span<const models::Piece> pieces);

// A message of the translator without the name of its function.
std::string without_prefix(const std::string& message);

}  // namespace qkv::cli
