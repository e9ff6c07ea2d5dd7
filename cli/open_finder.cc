#include "cli/open_finder.h"

#include <filesystem>
#include <new>
#include <system_error>

#include "cli/failure.h"
#include "cli/open_model.h"
#include "cli/output.h"
#include "models/model_path.h"
#include "picture/decode.h"
#include "picture/resize.h"

namespace qkv::cli {
namespace {

namespace fs = std::filesystem;

fs::path vocabulary_of(const fs::path& folder) {
  return fs::exists(folder / "source.spm") ? folder : models::find_model(kBundledModel);
}

}  // namespace

std::vector<models::Piece> OpenFinder::read(const std::string& prompt) const {
  std::vector<models::Piece> pieces = tokenizer.encode(prompt, "");
  if (const std::string unknown = unknown_characters(tokenizer, prompt, pieces); !unknown.empty())
    warn("note: the model does not know these characters and reads all of them alike: " + unknown);
  const models::finder::Config& config = finder.config();
  if (std::ssize(pieces) > config.words) {
    warn("note: PROMPT is longer than the model reads; its end was not read");
    pieces.erase(pieces.begin() + (config.words - 1), pieces.end() - 1);
  }
  for (const models::Piece& piece : pieces)
    if (piece.id >= config.vocabulary)
      throw Failure(Exit::model, "the model cannot be used: it knows " +
                                     std::to_string(config.vocabulary) + " pieces, and \"" +
                                     piece.text + "\" is number " + std::to_string(piece.id) +
                                     " of the vocabulary");
  return pieces;
}

OpenFinder open_finder(const std::string& name_or_folder) {
  try {
    const fs::path folder = models::find_model(name_or_folder);
    return {models::finder::Finder::load(folder), models::Tokenizer::load(vocabulary_of(folder))};
  } catch (const std::bad_alloc&) {
    throw Failure(Exit::model, "model \"" + name_or_folder + "\": not enough memory to load it");
  } catch (const std::exception& error) {
    throw Failure(Exit::model, std::string("the model cannot be loaded: ") + error.what());
  }
}

picture::Image open_picture(const std::string& path) {
  try {
    picture::Image image = picture::read(path);
    if (image.damaged) warn("note: " + path + " is damaged; what could be read of it is used");
    return image;
  } catch (const picture::Error& error) {
    throw Failure(Exit::input, path + " " + error.what());
  } catch (const std::system_error& error) {
    throw Failure(Exit::failure, "cannot read " + path + ": " + error.code().message());
  }
}

std::vector<float> in_square(const picture::Image& image, const models::finder::Frame& frame,
                             const models::finder::Config& config) {
  return picture::in_square(image, {frame.scale, frame.left, frame.top}, config.image,
                            models::finder::kAround);
}

}  // namespace qkv::cli
