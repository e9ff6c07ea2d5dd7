// What commands that find objects in pictures share: the model with the vocabulary of its prompts, and pictures in the shape it
// takes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/finder/answer.h"
#include "models/finder/finder.h"
#include "models/tokenizer.h"
#include "picture/image.h"

namespace qkv::cli {

inline constexpr const char* kBundledFinder = "finder";

struct OpenFinder {
  models::finder::Finder finder;
  models::Tokenizer tokenizer;

  // The pieces of a prompt, the end included; a note on standard error tells of characters that the vocabulary lacks, and of a
  // prompt that is longer than the model reads. Throws Failure (model) for a vocabulary larger than the model's.
  std::vector<models::Piece> read(const std::string& prompt) const;
};

// A folder, or the name of a bundled model. The vocabulary is the folder's own (source.spm, target.spm, vocab.json) or else that of
// the bundled translator, which bundled finders are trained with. Throws Failure (model).
OpenFinder open_finder(const std::string& name_or_folder);

// Throws Failure: failure if the file cannot be read, input if it is no picture.
picture::Image open_picture(const std::string& path);

// What Finder::look takes.
std::vector<float> in_square(const picture::Image& image, const models::finder::Frame& frame,
                             const models::finder::Config& config);

}  // namespace qkv::cli
