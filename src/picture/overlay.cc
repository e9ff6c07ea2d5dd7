#include "picture/overlay.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace qkv::picture {
namespace {

// 3×5 dots each, row by row from the top, the highest bit of three on the left.
struct Glyph {
  char character;
  std::array<std::uint8_t, 5> rows;
};
constexpr Glyph kGlyphs[] = {
    {'0', {7, 5, 5, 5, 7}}, {'1', {2, 6, 2, 2, 7}}, {'2', {7, 1, 7, 4, 7}}, {'3', {7, 1, 7, 1, 7}},
    {'4', {5, 5, 7, 1, 1}}, {'5', {7, 4, 7, 1, 7}}, {'6', {7, 4, 7, 5, 7}}, {'7', {7, 1, 1, 2, 2}},
    {'8', {7, 5, 7, 5, 7}}, {'9', {7, 5, 7, 1, 7}}, {'%', {5, 1, 2, 4, 5}}, {'.', {0, 0, 0, 0, 2}},
    {' ', {0, 0, 0, 0, 0}},
};
constexpr std::int64_t kGlyphWidth = 3, kGlyphHeight = 5;

const Glyph* glyph_of(char character) {
  const auto* found = std::find_if(std::begin(kGlyphs), std::end(kGlyphs),
                                   [&](const Glyph& g) { return g.character == character; });
  return found == std::end(kGlyphs) ? nullptr : found;
}

// Dots of a label and widths of an outline, in pixels: readable at any size of the picture.
std::int64_t thickness(const Image& image) {
  return std::max<std::int64_t>(1, std::max(image.width, image.height) / 256);
}

void fill(Image& image, std::int64_t x, std::int64_t y, std::int64_t width, std::int64_t height,
          const Colour& colour) {
  for (std::int64_t v = std::max<std::int64_t>(y, 0); v < std::min(y + height, image.height); ++v)
    for (std::int64_t u = std::max<std::int64_t>(x, 0); u < std::min(x + width, image.width); ++u)
      std::copy(colour.begin(), colour.end(), image.rgb.data() + (v * image.width + u) * 3);
}

bool is_dark(const Colour& c) { return 299 * c[0] + 587 * c[1] + 114 * c[2] < 128'000; }  // luma

void paint_mask(Image& image, const Painted& object) {
  const std::int64_t reach = thickness(image);
  const auto inside = [&](std::int64_t x, std::int64_t y) {
    return x >= 0 && y >= 0 && x < image.width && y < image.height &&
           object.mask[y * image.width + x] != 0;
  };
  for (std::int64_t y = 0; y < image.height; ++y)
    for (std::int64_t x = 0; x < image.width; ++x) {
      if (!inside(x, y)) continue;
      const bool edge = !inside(x - reach, y) || !inside(x + reach, y) || !inside(x, y - reach) ||
                        !inside(x, y + reach);
      std::uint8_t* pixel = image.rgb.data() + (y * image.width + x) * 3;
      for (int c = 0; c < 3; ++c)
        pixel[c] = edge ? object.colour[c]
                        : static_cast<std::uint8_t>((pixel[c] + object.colour[c] + 1) / 2);
    }
}

// Where a label as wide as this stands on a mask: its middle column, and the first row of the mask below it.
std::pair<std::int64_t, std::int64_t> place_of(const Image& image,
                                               std::span<const std::uint8_t> mask,
                                               std::int64_t width) {
  std::int64_t sum = 0, count = 0;
  for (std::int64_t i = 0; i < std::ssize(mask); ++i)
    if (mask[i] != 0) {
      sum += i % image.width;
      ++count;
    }
  const std::int64_t middle = count > 0 ? sum / count : 0;
  for (std::int64_t i = 0; i < std::ssize(mask); ++i)
    if (mask[i] != 0 && std::abs(i % image.width - middle) <= width / 2)
      return {middle, i / image.width};
  return {middle, 0};
}

void paint_label(Image& image, const Painted& object) {
  std::vector<const Glyph*> glyphs;
  for (const char character : object.label)
    if (const Glyph* glyph = glyph_of(character)) glyphs.push_back(glyph);
  if (glyphs.empty()) return;

  const std::int64_t dot = 2 * thickness(image), margin = dot;
  const std::int64_t width = std::ssize(glyphs) * (kGlyphWidth + 1) * dot - dot + 2 * margin;
  const std::int64_t height = kGlyphHeight * dot + 2 * margin;
  const auto [x, y] = place_of(image, object.mask, width);
  const auto within = [](std::int64_t at, std::int64_t most) {
    return std::max<std::int64_t>(0, std::min(at, most));
  };
  const std::int64_t left = within(x - width / 2, image.width - width);
  const std::int64_t top = within(y - height, image.height - height);

  fill(image, left, top, width, height, object.colour);
  const Colour ink = is_dark(object.colour) ? Colour{255, 255, 255} : Colour{0, 0, 0};
  for (std::int64_t i = 0; i < std::ssize(glyphs); ++i)
    for (std::int64_t v = 0; v < kGlyphHeight; ++v)
      for (std::int64_t u = 0; u < kGlyphWidth; ++u)
        if ((glyphs[i]->rows[v] >> (kGlyphWidth - 1 - u) & 1) != 0)
          fill(image, left + margin + (i * (kGlyphWidth + 1) + u) * dot, top + margin + v * dot,
               dot, dot, ink);
}

}  // namespace

Colour distinct_colour(int n) {
  // HSV to RGB with saturation 0.85, value 1 (Smith 1978): channel = 1 − 0.85·max(0, min(k, 4 − k, 1)), k = (n + hue/60°) mod 6
  const double hue = std::fmod(n * 137.50776, 360.0) / 60;
  Colour colour{};
  const double offsets[] = {5, 3, 1};
  for (int c = 0; c < 3; ++c) {
    const double k = std::fmod(offsets[c] + hue, 6.0);
    colour[c] = static_cast<std::uint8_t>(
        std::lround(255 * (1 - 0.85 * std::clamp(std::min(k, 4 - k), 0.0, 1.0))));
  }
  return colour;
}

void paint(Image& image, std::span<const Painted> objects) {
  for (const Painted& object : objects)
    if (std::ssize(object.mask) != image.width * image.height)
      throw std::invalid_argument("paint: expected a mask of " +
                                  std::to_string(image.width * image.height) + " pixels, got " +
                                  std::to_string(object.mask.size()));
  for (const Painted& object : objects) paint_mask(image, object);
  for (const Painted& object : objects) paint_label(image, object);  // above every mask
}

}  // namespace qkv::picture
