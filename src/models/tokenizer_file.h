// What every kind of tokenizer.json and tokenizer_config.json says alike.
#pragma once

#include <string>

#include "models/json_file.h"

namespace qkv::models {

constexpr int kMostPieces = 1 << 21;  // no vocabulary is larger than this

// What stands before and after a text.
struct TextMarks {
  std::string begin, end;
};
// From post_processor, of type TemplateProcessing. Throws std::runtime_error where it is anything but mark, text, mark.
TextMarks template_marks(const JsonFile& tokenizer);

// model_max_length of tokenizer_config.json; 0 if it says none.
int max_length_of(const JsonFile& config);

}  // namespace qkv::models
