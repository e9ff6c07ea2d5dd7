#include "models/finder/answer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace qkv::models::finder {
namespace {

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

bool same_object(std::span<const float> a, std::span<const float> b, float most) {
  std::int64_t both = 0, either = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    both += a[i] > 0 && b[i] > 0;
    either += a[i] > 0 || b[i] > 0;
  }
  return static_cast<float>(both) > most * static_cast<float>(either);
}

// The logits with nothing far outside the box, where a like thing may lie that the query does not mean.
std::vector<float> inside(std::span<const float> logits, const Box& box, std::int64_t side) {
  constexpr float kBeyond = 0.15f;   // how much wider and higher than its box a mask may be,
                                     // besides one place of the map on each side
  constexpr float kOutside = -4.0f;  // the logits there
  const float place = 1 / static_cast<float>(side);
  const auto reached = [&](std::int64_t i, float middle, float size) {
    return std::abs((static_cast<float>(i) + 0.5f) * place - middle) <=
           size * (1 + kBeyond) / 2 + place;
  };
  std::vector<float> kept(logits.begin(), logits.end());
  for (std::int64_t y = 0; y < side; ++y)
    for (std::int64_t x = 0; x < side; ++x)
      if (!reached(y, box.y, box.height) || !reached(x, box.x, box.width))
        kept[y * side + x] = std::min(kept[y * side + x], kOutside);
  return kept;
}

// For every pixel along one side of the picture: the two places of the map it lies between, and how far from the first. A place is
// `wide` pixels of what the model saw.
struct Between {
  std::int64_t first;
  std::int64_t second;
  float part;
};
std::vector<Between> places(std::int64_t count, float scale, float start, float wide,
                            std::int64_t side) {
  std::vector<Between> all;
  for (std::int64_t i = 0; i < count; ++i) {
    const float at = std::clamp((start + scale * (static_cast<float>(i) + 0.5f)) / wide - 0.5f,
                                0.0f, static_cast<float>(side - 1));
    const auto first = static_cast<std::int64_t>(at);
    all.push_back({first, std::min(first + 1, side - 1), at - static_cast<float>(first)});
  }
  return all;
}

// Bilinear between the logits, 1 where the sum is positive.
std::vector<std::uint8_t> enlarge(std::span<const float> logits, const Config& config,
                                  const Frame& frame) {
  const std::int64_t side = config.mask_side();
  const float wide = static_cast<float>(config.image) / static_cast<float>(side);
  const auto rows = places(frame.height, frame.scale, frame.top, wide, side);
  const auto columns = places(frame.width, frame.scale, frame.left, wide, side);
  std::vector<std::uint8_t> mask;
  mask.reserve(rows.size() * columns.size());
  for (const Between& y : rows)
    for (const Between& x : columns) {
      const float* above = logits.data() + y.first * side;
      const float* below = logits.data() + y.second * side;
      const float up = above[x.first] + (above[x.second] - above[x.first]) * x.part;
      const float down = below[x.first] + (below[x.second] - below[x.first]) * x.part;
      mask.push_back(up + (down - up) * y.part > 0 ? 1 : 0);
    }
  return mask;
}

}  // namespace

Frame Frame::fit(std::int64_t width, std::int64_t height, int image) {
  if (width < 1 || height < 1)
    throw std::invalid_argument("Frame: expected a picture with pixels, got " +
                                std::to_string(width) + "×" + std::to_string(height));
  const auto side = static_cast<float>(image), w = static_cast<float>(width),
             h = static_cast<float>(height);
  const float scale = side / std::max(w, h);
  return {width, height, scale, (side - scale * w) / 2, (side - scale * h) / 2};
}

PixelBox in_picture(const Box& box, const Config& config, const Frame& frame) {
  // [from, to] along one axis, from a middle and a size in fractions of the square
  const auto range = [&](float middle, float size, float start, std::int64_t most) {
    const auto side = static_cast<float>(config.image), end = static_cast<float>(most);
    const auto at = [&](float place) {
      return std::clamp((place * side - start) / frame.scale, 0.0f, end);
    };
    return std::pair{at(middle - size / 2), at(middle + size / 2)};
  };
  const auto [left, right] = range(box.x, box.width, frame.left, frame.width);
  const auto [top, bottom] = range(box.y, box.height, frame.top, frame.height);
  return {left, top, right - left, bottom - top};
}

Answer answer(const Output& output, const Config& config, const Frame& frame,
              const Thresholds& thresholds) {
  if (frame.width < 1 || frame.height < 1)
    throw std::invalid_argument("answer: expected a frame with pixels, got " +
                                std::to_string(frame.width) + "×" + std::to_string(frame.height));
  Answer found;
  found.presence = sigmoid(output.presence);
  found.present = found.presence >= thresholds.presence;
  if (!found.present) return found;

  std::vector<int> order(output.score.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return output.score[a] > output.score[b]; });
  const std::int64_t side = config.mask_side();
  const auto area = static_cast<std::size_t>(side * side);
  std::vector<std::vector<float>> taken;  // the logits of each object that was found
  for (const int query : order) {
    const float score = sigmoid(output.score[query]);
    if (score < thresholds.score) break;
    const Box& box = output.boxes[query];
    std::vector<float> logits = inside(
        std::span(output.masks).subspan(static_cast<std::size_t>(query) * area, area), box, side);
    if (std::none_of(logits.begin(), logits.end(), [](float v) { return v > 0; })) continue;
    if (std::any_of(taken.begin(), taken.end(), [&](const std::vector<float>& other) {
          return same_object(logits, other, thresholds.same);
        }))
      continue;
    std::vector<std::uint8_t> mask = enlarge(logits, config, frame);
    if (std::find(mask.begin(), mask.end(), 1) == mask.end()) continue;  // beside the picture
    found.objects.push_back({query, score, box, std::move(mask)});
    taken.push_back(std::move(logits));
  }
  return found;
}

}  // namespace qkv::models::finder
