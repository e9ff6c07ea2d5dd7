// The data of a finder's runs for the page: docs/page.md lists the fields, page/find_data.js reads them.
#include <cmath>
#include <stdexcept>

#include "lens/page.h"
#include "lens/page_parts.h"
#include "qkv/isa.h"

namespace qkv::lens {
namespace {

using layers::AttentionRecord;
using models::finder::Object;

// A record of more weights than this carries neither weights nor outputs: the page computes them from q, k and lse. The decoder's
// layers stay below it; of the encoder's, 6 heads over 256 patches are 393216.
constexpr std::int64_t kMostWeights = 30000;

PageJson layers_of(const std::vector<const AttentionRecord*>& records) {
  PageJson list = PageJson::array();
  for (const AttentionRecord* record : records) {
    const bool few = record->heads * record->queries * record->keys <= kMostWeights;
    const auto carried = [few](int /*head*/) { return few; };
    list.push_back(page_layer(*record, {}, carried, carried));
  }
  return list;
}

// How many pixels in a row are not the object's, then how many are, and so on, of the mask at the size of the page's picture.
PageJson run_lengths(const Object& object, const models::finder::Frame& frame,
                     const PagePicture& picture) {
  PageJson runs = PageJson::array();
  std::uint8_t value = 0;
  std::int64_t count = 0;
  for (std::int64_t y = 0; y < picture.height; ++y) {
    const std::int64_t row = y * frame.height / picture.height;
    for (std::int64_t x = 0; x < picture.width; ++x) {
      const std::int64_t column = x * frame.width / picture.width;
      const std::uint8_t pixel =
          object.mask[static_cast<std::size_t>(row * frame.width + column)] != 0 ? 1 : 0;
      if (pixel != value) {
        runs.push_back(count);
        count = 0;
        value = pixel;
      }
      ++count;
    }
  }
  runs.push_back(count);
  return runs;
}

PageJson asked(const FindRun& run, const PagePicture& picture) {
  const PieceMap map(run.prompt, run.pieces);
  const auto of = [&](std::string_view what) {
    return layers_of(finder_records(*run.tape, "decoder", what));
  };
  const std::int64_t side = patch_side(*finder_records(*run.tape, "decoder", "picture").front());
  PageJson objects = PageJson::array();
  for (const Object& object : run.answer->objects)
    objects.push_back({{"query", object.query},
                       {"score", static_cast<double>(object.score)},
                       {"mask", run_lengths(object, run.frame, picture)},
                       {"cover", base64(cover_of(run, object, side))}});
  PageJson scores = PageJson::array();
  for (const float score : run.output->score)
    scores.push_back(1 / (1 + std::exp(-static_cast<double>(score))));
  return {{"prompt", page_side(run.prompt, run.language, run.pieces, map)},
          {"presence", static_cast<double>(run.answer->presence)},
          {"present", run.answer->present},
          {"objects", std::move(objects)},
          {"scores", std::move(scores)},
          {"chosen", run.output->chosen},
          {"queries", of("self")},
          {"words", of("words")},
          {"patches", of("picture")}};
}

}  // namespace

std::string page_data(std::span<const FindRun> runs, const PagePicture& picture) {
  if (runs.empty()) throw std::invalid_argument("expected one prompt at least, got none");
  if (picture.width < 1 || picture.height < 1 || picture.png.empty())
    throw std::invalid_argument("expected a picture in PNG for the page, got " +
                                std::to_string(picture.width) + "×" +
                                std::to_string(picture.height) + " pixels in " +
                                std::to_string(picture.png.size()) + " bytes");
  const FindRun& first = runs.front();
  PageJson prompts = PageJson::array();
  for (const FindRun& run : runs) prompts.push_back(asked(run, picture));
  return page_text({{"schema", 1},
                    {"kind", "find"},
                    {"version", version()},
                    {"isa", isa()},
                    {"picture",
                     {{"png", base64(picture.png)},
                      {"width", picture.width},
                      {"height", picture.height},
                      {"seen_width", first.frame.width},
                      {"seen_height", first.frame.height},
                      {"image", first.image},
                      {"left", static_cast<double>(first.frame.left)},
                      {"top", static_cast<double>(first.frame.top)},
                      {"scale", static_cast<double>(first.frame.scale)}}},
                    {"encoder", layers_of(finder_records(*first.looked, "picture", "self"))},
                    {"prompts", std::move(prompts)}});
}

}  // namespace qkv::lens
