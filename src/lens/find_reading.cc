#include "lens/find_reading.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "lens/piece_map.h"
#include "lens/report.h"

namespace qkv::lens {
namespace {

using layers::AttentionRecord;

// mean[i] += part[i] / count
void add_share(std::vector<float>& mean, const std::vector<float>& part, int count) {
  mean.resize(part.size(), 0.0F);
  for (std::size_t i = 0; i < part.size(); ++i) mean[i] += part[i] / static_cast<float>(count);
}

// Rows of a record: [heads] of the one query.
std::vector<std::vector<float>> rows_of(const AttentionRecord& record, std::int64_t query) {
  std::vector<std::vector<float>> rows;
  const auto keys = static_cast<std::ptrdiff_t>(record.keys);
  for (int head = 0; head < record.heads; ++head) {
    const std::vector<float> all = head_weights(record, head);
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(query) * keys;
    rows.emplace_back(first, first + keys);
  }
  return rows;
}

FindLayer layer_of(const AttentionRecord& words, const AttentionRecord& picture,
                   const PieceMap& map, std::int64_t query) {
  FindLayer layer;
  for (const std::vector<float>& row : rows_of(words, query)) {
    std::vector<float> shares(map.words().size());
    map.add_read(row, 1, shares);
    add_share(layer.mean.words, shares, words.heads);
    layer.heads.push_back({std::move(shares), {}});
  }
  std::size_t head = 0;
  for (std::vector<float>& row : rows_of(picture, query)) {
    add_share(layer.mean.patches, row, picture.heads);
    layer.heads[head++].patches = std::move(row);
  }
  return layer;
}

// Whether a patch shows some of the picture, and not only the border around it.
std::vector<bool> patches_inside(const FindRun& run, std::int64_t side) {
  const models::finder::Frame& frame = run.frame;
  const float patch = static_cast<float>(run.image) / static_cast<float>(side);
  const auto meets = [&](std::int64_t place, float start, std::int64_t pixels) {
    const float from = static_cast<float>(place) * patch;
    return from + patch > start && from < start + frame.scale * static_cast<float>(pixels);
  };
  std::vector<bool> inside;
  for (std::int64_t y = 0; y < side; ++y)
    for (std::int64_t x = 0; x < side; ++x)
      inside.push_back(meets(x, frame.left, frame.width) && meets(y, frame.top, frame.height));
  return inside;
}

}  // namespace

std::vector<const AttentionRecord*> finder_records(const layers::AttentionTape& tape,
                                                   std::string_view block, std::string_view what) {
  std::vector<const AttentionRecord*> records;
  for (const AttentionRecord& record : tape) {
    if (record.where.starts_with(std::string(block) + ".") &&
        record.where.ends_with("." + std::string(what)))
      records.push_back(&record);
  }
  if (records.empty())
    throw std::invalid_argument("the run has no attention " + std::string(block) + ".N." +
                                std::string(what) + " to look at");
  return records;
}

std::int64_t patch_side(const AttentionRecord& picture) {
  return std::llround(std::sqrt(static_cast<double>(picture.keys)));
}

std::vector<float> cover_of(const FindRun& run, const models::finder::Object& object,
                            std::int64_t side) {
  const models::finder::Frame& frame = run.frame;
  const float patch = static_cast<float>(run.image) / static_cast<float>(side);
  // of one pixel of the picture, in patches
  const float area = frame.scale * frame.scale / (patch * patch);
  const auto place = [&](std::int64_t pixel, float start) {
    const float at = (start + frame.scale * (static_cast<float>(pixel) + 0.5F)) / patch;
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(at), 0, side - 1);
  };
  std::vector<double> sums(static_cast<std::size_t>(side * side));
  for (std::int64_t y = 0; y < frame.height; ++y) {
    const std::int64_t row = place(y, frame.top) * side;
    for (std::int64_t x = 0; x < frame.width; ++x)
      if (object.mask[static_cast<std::size_t>(y * frame.width + x)] != 0)
        sums[static_cast<std::size_t>(row + place(x, frame.left))] += static_cast<double>(area);
  }
  std::vector<float> cover;
  for (const double sum : sums) cover.push_back(std::min(1.0F, static_cast<float>(sum)));
  return cover;
}

FindReadings read_run(const FindRun& run) {
  const std::vector<const AttentionRecord*> words = finder_records(*run.tape, "decoder", "words");
  const std::vector<const AttentionRecord*> picture =
      finder_records(*run.tape, "decoder", "picture");
  const PieceMap map(run.prompt, run.pieces);
  if (words.front()->keys != map.pieces())
    throw std::invalid_argument("expected the run of a prompt of " + std::to_string(map.pieces()) +
                                " pieces, got one of " + std::to_string(words.front()->keys));
  FindReadings report;
  report.prompt = run.prompt;
  report.words = map.words();
  report.prompt_words = map.sentence_words();
  report.side = patch_side(*picture.front());
  report.inside = patches_inside(run, report.side);
  const auto ask = [&](int object, float score, std::int64_t row) -> FindAsker& {
    FindAsker& asker = report.asked.emplace_back();
    asker.object = object;
    asker.score = score;
    for (std::size_t i = 0; i < words.size(); ++i)
      asker.layers.push_back(layer_of(*words[i], *picture[i], map, row));
    return asker;
  };
  ask(-1, run.answer->presence, 0);
  for (int i = 0; i < static_cast<int>(run.answer->objects.size()); ++i) {
    const models::finder::Object& object = run.answer->objects[static_cast<std::size_t>(i)];
    ask(i, object.score, object.query + 1).cover = cover_of(run, object, report.side);
  }
  return report;
}

OnObject on_object(const FindReadings& report, const FindAsker& asker, const FindReading& reading) {
  OnObject found;
  int inside = 0;
  for (std::size_t i = 0; i < asker.cover.size(); ++i) {
    found.share += static_cast<double>(reading.patches[i]) * static_cast<double>(asker.cover[i]);
    if (!report.inside[i]) continue;
    found.chance += static_cast<double>(asker.cover[i]);
    ++inside;
  }
  if (inside > 0) found.chance /= inside;
  return found;
}

}  // namespace qkv::lens
