#include "models/finder/config.h"

#include <string>
#include <utility>

#include "models/json_file.h"

namespace qkv::models::finder {

Config Config::load(const std::filesystem::path& folder) {
  const JsonFile file(folder / "config.json");
  if (const std::string type = file.string("model_type"); type != "qkv-finder")
    file.fail("model_type", "expected \"qkv-finder\", got \"" + type + "\"");
  constexpr int kMost = 1 << 16;  // no size of this model is larger
  Config c;
  for (const auto& [key, value] : {std::pair{"image", &c.image},
                                   {"patch", &c.patch},
                                   {"fine", &c.fine},
                                   {"middle", &c.middle},
                                   {"width", &c.width},
                                   {"heads", &c.heads},
                                   {"picture_layers", &c.picture_layers},
                                   {"picture_ffn", &c.picture_ffn},
                                   {"vocabulary", &c.vocabulary},
                                   {"piece", &c.piece},
                                   {"words", &c.words},
                                   {"text_layers", &c.text_layers},
                                   {"text_ffn", &c.text_ffn},
                                   {"decoder_layers", &c.decoder_layers},
                                   {"decoder_ffn", &c.decoder_ffn},
                                   {"queries", &c.queries},
                                   {"pixel", &c.pixel}})
    *value = file.integer(key, 1, kMost);
  if (c.patch > kMost / 4 || c.image % (4 * c.patch) != 0 || c.image > 4096)
    file.fail("image", "expected a multiple of 4·patch = " + std::to_string(4 * c.patch) +
                           " up to 4096, got " + std::to_string(c.image));
  if (c.width % c.heads != 0 || c.width / c.heads > 1024)
    file.fail("heads", "expected a divisor of width " + std::to_string(c.width) +
                           " that leaves heads at most 1024 wide, got " + std::to_string(c.heads));
  if (c.queries > c.tokens())
    file.fail("queries", "expected at most one for each of the " + std::to_string(c.tokens()) +
                             " tokens, got " + std::to_string(c.queries));
  return c;
}

}  // namespace qkv::models::finder
