#include "models/tokenizer_file.h"

namespace qkv::models {

using nlohmann::json;

TextMarks template_marks(const JsonFile& tokenizer) {
  const json* post = tokenizer.find("post_processor");
  const json* single = post != nullptr && post->is_object() && post->contains("single")
                           ? &(*post)["single"]
                           : nullptr;
  const auto fail = [&] {
    tokenizer.fail("post_processor.single",
                   "expected a mark such as [CLS], the text, a mark such as [SEP], got " +
                       (single == nullptr ? "none" : single->dump()));
  };
  if (single == nullptr || !single->is_array() || single->size() != 3) fail();
  const auto name = [&](std::size_t i, const char* kind) {
    const json& step = (*single)[i];
    if (!step.is_object() || !step.contains(kind) || !step[kind].is_object()) fail();
    return step[kind].value("id", std::string());
  };
  name(1, "Sequence");
  return {name(0, "SpecialToken"), name(2, "SpecialToken")};
}

int max_length_of(const JsonFile& config) {
  const json* length = config.find("model_max_length");
  if (length == nullptr) return 0;
  // transformers writes 10^30 where there is no limit
  if (!length->is_number() || length->get<double>() < 2)
    config.fail("model_max_length", "expected a number of at least 2, got " + length->dump());
  return length->get<double>() < kMostPieces ? static_cast<int>(length->get<double>()) : 0;
}

}  // namespace qkv::models
