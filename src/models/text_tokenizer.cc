#include "models/text_tokenizer.h"

#include "models/json_file.h"
#include "models/unigram.h"
#include "models/wordpiece.h"

namespace qkv::models {

std::unique_ptr<const TextTokenizer> load_text_tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer.json";
  if (!std::filesystem::exists(path))
    return std::make_unique<WordPiece>(WordPiece::load_vocabulary(folder));
  const JsonFile file(path);
  const nlohmann::json* model = file.find("model");
  if (model != nullptr && model->is_object() && model->contains("type") &&
      (*model)["type"] == "Unigram")
    return std::make_unique<Unigram>(Unigram::load(file, folder));
  return std::make_unique<WordPiece>(WordPiece::load(file, folder));
}

}  // namespace qkv::models
